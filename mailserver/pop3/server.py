"""The server's end of a POP3 connection.

    octets -> receive_data -> next_event -> (the session acts) -> ok | error | continuation
                                                                | multiline, send_content..., end_content
                                                                -> data_to_send -> octets

Promises   An event is given only after the one before it was answered; the answer commits the change of state.
           Any split of the same input gives the same events. Content is dot-stuffed over the borders of its chunks.
           At STLS all input that is not yet consumed is dropped (RFC 2595 §4).
           Not more than one line is looked at; an endless one is refused and thrown away as it comes.
On failure Bad input becomes `Rejected`. An answer that no event asked for is a fault of the caller: RuntimeError.
Lines      end in CRLF; a bare LF is taken as well, since people type commands by hand (RFC 1939 §3, RFC 2449 §3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum, auto

from mailserver.pop3.events import (
    UTF8,
    Auth,
    AuthResponse,
    Capa,
    Dele,
    Event,
    Lang,
    List,
    Mechanisms,
    Noop,
    Pass,
    Quit,
    Rejected,
    Retr,
    Rset,
    StartTLS,
    Stat,
    Top,
    Uidl,
    User,
)
from mailserver.sasl import decode_base64, encode_base64

CRLF = b"\r\n"
SASL_LINE = 12288  # octets of one line of a SASL exchange, as in RFC 4954 §4
STATUS_LINE = 512  # octets of a status line with its end, RFC 1939 §3


class State(Enum):
    """Where the connection is (RFC 1939 §3). AUTHORIZATION has two more to itself."""

    AUTHORIZATION = auto()
    NAMED = auto()  # after USER: PASS may follow
    EXCHANGE = auto()  # after AUTH: the next line is a response to a challenge
    TRANSACTION = auto()
    UPDATE = auto()  # after QUIT: nothing more is read


AFTER_OK: Mapping[State, Mapping[type[Event], State]] = {
    State.AUTHORIZATION: {
        Capa: State.AUTHORIZATION,
        StartTLS: State.AUTHORIZATION,
        User: State.NAMED,
        Auth: State.TRANSACTION,
        Mechanisms: State.AUTHORIZATION,
        UTF8: State.AUTHORIZATION,
        Lang: State.AUTHORIZATION,
        Quit: State.UPDATE,
    },
    State.NAMED: {
        Capa: State.NAMED,
        StartTLS: State.AUTHORIZATION,
        User: State.NAMED,
        Auth: State.TRANSACTION,
        Mechanisms: State.NAMED,
        UTF8: State.NAMED,
        Lang: State.NAMED,
        Quit: State.UPDATE,
        Pass: State.TRANSACTION,
    },
    State.EXCHANGE: {
        AuthResponse: State.TRANSACTION,
    },
    State.TRANSACTION: {
        Capa: State.TRANSACTION,
        Lang: State.TRANSACTION,
        Stat: State.TRANSACTION,
        List: State.TRANSACTION,
        Uidl: State.TRANSACTION,
        Retr: State.TRANSACTION,
        Top: State.TRANSACTION,
        Dele: State.TRANSACTION,
        Noop: State.TRANSACTION,
        Rset: State.TRANSACTION,
        Quit: State.UPDATE,
    },
    State.UPDATE: {},
}
"""What may be asked in each state, and where a positive answer leads."""

AFTER_ERROR: Mapping[State, Mapping[type[Event], State]] = {
    State.AUTHORIZATION: {},
    State.NAMED: {
        User: State.AUTHORIZATION,
        Pass: State.AUTHORIZATION,
        Auth: State.AUTHORIZATION,
    },
    State.EXCHANGE: {
        AuthResponse: State.AUTHORIZATION,
        Rejected: State.AUTHORIZATION,
    },
    State.TRANSACTION: {
        Quit: State.UPDATE,  # some deletion failed; the connection ends all the same
    },
    State.UPDATE: {},
}
"""Where a negative answer leads; what is absent stays where it is."""


def _numbers(make: Callable[..., Event]) -> Callable[..., Event]:
    return lambda *groups: make(*map(int, groups))


def _number_or_none(make: Callable[[int | None], Event]) -> Callable[..., Event]:
    return lambda group: make(None if group is None else int(group))


def _text(make: Callable[[str], Event]) -> Callable[..., Event]:
    return lambda argument: make(argument.decode())


def _auth(mechanism: bytes | None, initial: bytes | None) -> Event:
    if mechanism is None:
        return Mechanisms()
    if initial is not None:
        initial = b"" if initial == b"=" else decode_base64(initial)
    return Auth(mechanism.decode().upper(), initial)


_NOTHING = re.compile(rb"")
_MSG = re.compile(rb"([0-9]{1,20})")
_OPTIONAL_MSG = re.compile(rb"(?:([0-9]{1,20}))?")
_MSG_N = re.compile(rb"([0-9]{1,20}) ([0-9]{1,20})")
_STRING = re.compile(rb"(.+)", re.DOTALL)
_OPTIONAL_MECHANISM = re.compile(rb"(?:([A-Za-z0-9_-]{1,20})(?: ([A-Za-z0-9+/=]+))?)?")
_OPTIONAL_RANGE = re.compile(rb"(\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,20})?")  # RFC 4647 §2.1


def _lang(wanted: bytes | None) -> Event:
    return Lang(None if wanted is None else wanted.decode())


GRAMMAR: Mapping[bytes, tuple[re.Pattern[bytes], Callable[..., Event], str]] = {
    b"USER": (_STRING, _text(User), "USER name"),
    b"PASS": (_STRING, _text(Pass), "PASS password"),  # spaces are part of the password, RFC 1939 §7
    b"AUTH": (_OPTIONAL_MECHANISM, _auth, "AUTH mechanism, and the initial response in base64"),
    b"STLS": (_NOTHING, StartTLS, "STLS alone"),
    b"CAPA": (_NOTHING, Capa, "CAPA alone"),
    b"UTF8": (_NOTHING, UTF8, "UTF8 alone"),
    b"LANG": (_OPTIONAL_RANGE, _lang, "LANG, and a language or *"),
    b"STAT": (_NOTHING, Stat, "STAT alone"),
    b"LIST": (_OPTIONAL_MSG, _number_or_none(List), "LIST, and a message number"),
    b"UIDL": (_OPTIONAL_MSG, _number_or_none(Uidl), "UIDL, and a message number"),
    b"RETR": (_MSG, _numbers(Retr), "RETR and a message number"),
    b"TOP": (_MSG_N, _numbers(Top), "TOP, a message number and how many lines"),
    b"DELE": (_MSG, _numbers(Dele), "DELE and a message number"),
    b"NOOP": (_NOTHING, Noop, "NOOP alone"),
    b"RSET": (_NOTHING, Rset, "RSET alone"),
    b"QUIT": (_NOTHING, Quit, "QUIT alone"),
}
"""For each keyword the grammar of what follows it, what makes the event of its groups (ValueError: malformed), and how
it is written.
"""

_UNPRINTABLE = re.compile(rb"[\x00-\x1f\x7f]")
_DOT_LINE = re.compile(rb"\n\.")


class ServerConnection:
    """`line_limit`: octets of a command line with its end; at least 255 (RFC 2449 §4)."""

    def __init__(self, *, line_limit: int) -> None:
        self.state = State.AUTHORIZATION
        self._line_limit = line_limit
        self._input = bytearray()
        self._skipping = False  # inside a line that was refused for its length
        self._pending: Event | None = None
        self._output = bytearray()
        self.answer = ""
        """How the last one began: "+OK", "-ERR", or "+" for a challenge."""
        self._tail = CRLF  # the last two octets of the content being sent

    # Input

    def receive_data(self, data: bytes) -> None:
        if self.state is not State.UPDATE:
            self._input += data

    @property
    def buffered(self) -> int:
        """Octets received and not yet consumed."""
        return len(self._input)

    def next_event(self) -> Event | None:
        """None: more octets are needed, or the last event awaits its answer."""
        if self._pending is not None or self.state is State.UPDATE:
            return None
        self._pending = self._read()
        return self._pending

    def _read(self) -> Event | None:
        if self._skipping:
            end = self._input.find(b"\n")
            if end < 0:
                self._input.clear()
                return None
            del self._input[: end + 1]
            self._skipping = False
        exchange = self.state is State.EXCHANGE
        limit = SASL_LINE if exchange or self._input[:5].upper() == b"AUTH " else self._line_limit
        end = self._input.find(b"\n", 0, limit)
        if end < 0:
            if len(self._input) < limit:
                return None
            self._skipping = True
            return Rejected("line too long")
        line = bytes(self._input[:end]).removesuffix(b"\r")
        del self._input[: end + 1]
        return _response(line) if exchange else self._command(line)

    def _command(self, line: bytes) -> Event:
        event = _parse(line)
        if type(event) in AFTER_OK[self.state] or isinstance(event, Rejected):
            return event
        if self.state is State.TRANSACTION:
            return Rejected("you are logged in already")
        return Rejected("give USER first" if isinstance(event, Pass) else "log in first")

    # Answers

    def greet(self, text: str) -> None:
        """The one line that no command asked for."""
        self._status("+OK", text)

    def ok(self, text: str = "") -> None:
        """The positive answer of one line. After STLS, what was received in clear is forgotten."""
        self._status("+OK", text)
        if isinstance(self._answered(AFTER_OK), StartTLS):
            self._input.clear()

    def error(self, text: str, code: str | None = None) -> None:
        """The negative answer; `code` is a response code without its brackets, as "IN-USE" (RFC 2449 §8)."""
        self._status("-ERR", text if code is None else f"[{code}] {text}")
        self._answered(AFTER_ERROR)

    def continuation(self, data: bytes) -> None:
        """A challenge: the answer to `Auth` or `AuthResponse` that asks for one more response (RFC 5034 §4)."""
        if not isinstance(self._pending, Auth | AuthResponse):
            raise RuntimeError("no authentication exchange is going on")
        self._output += b"+ " + encode_base64(data) + CRLF
        self.answer = "+"
        self._pending = None
        self.state = State.EXCHANGE

    def multiline(self, text: str = "") -> None:
        """Begins a positive answer of several lines; `end_content` ends it."""
        self._status("+OK", text)
        self._tail = CRLF

    def send_content(self, chunk: bytes) -> None:
        """Octets with CRLF line ends, cut anywhere. Lines that begin with a dot get a second one (RFC 1939 §3).

        So do those that follow a bare LF, for that ends a line to most clients: no content can fake the end.
        """
        stuffed = self._tail + chunk
        if _DOT_LINE.search(stuffed):  # it finds out faster than `replace` does
            stuffed = stuffed.replace(b"\n.", b"\n..")
        self._tail = stuffed[-2:]
        self._output += memoryview(stuffed)[2:]

    def end_content(self) -> None:
        """The line of one dot. Content without a last line end gets one."""
        self._output += b".\r\n" if self._tail == CRLF else b"\r\n.\r\n"
        self._answered(AFTER_OK)

    def data_to_send(self) -> bytes:
        """What is to be written; each octet once."""
        data = bytes(self._output)
        self._output.clear()
        return data

    @property
    def unsent(self) -> int:
        """Octets that `data_to_send` would give."""
        return len(self._output)

    def _status(self, status: str, text: str) -> None:
        self.answer = status
        line = f"{status} {text}".rstrip().encode("ascii", "replace")
        self._output += _UNPRINTABLE.sub(b"?", line)[: STATUS_LINE - len(CRLF)] + CRLF

    def _answered(self, transitions: Mapping[State, Mapping[type[Event], State]]) -> Event:
        event, self._pending = self._pending, None
        if event is None:
            raise RuntimeError("no event awaits an answer")
        self.state = transitions[self.state].get(type(event), self.state)
        return event


def _parse(line: bytes) -> Event:
    if b"\0" in line or b"\r" in line:
        return Rejected("invalid character")
    keyword, _, argument = line.partition(b" ")
    if (command := GRAMMAR.get(keyword.upper())) is None:
        return Rejected("unknown command")
    grammar, make, usage = command
    try:
        if match := grammar.fullmatch(argument):
            return make(*match.groups())
    except ValueError:
        pass
    return Rejected(f"write {usage}")


def _response(line: bytes) -> Event:
    """`*` gives the exchange up (RFC 5034 §4)."""
    if line == b"*":
        return Rejected("authentication cancelled")
    try:
        return AuthResponse(decode_base64(line))
    except ValueError:
        return Rejected("the response is not base64")
