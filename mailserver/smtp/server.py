"""The server's end of SMTP (RFC 5321) as a state machine without input or output.

Theory of operation

    Octets go in by `receive_data`, which only stores them. `next_event` takes the next command from them, looks it up
    in `syntax.COMMANDS`, and looks up (state, kind of event) in `TRANSITIONS`: what has no entry there is out of order.
    It then gives one event, and nothing more until that event was answered by `reply` (or by `challenge`, within
    AUTH). So a command is never read under a state that the answer before it might still change: what stands in the
    buffer after DATA becomes content only by a 354, and is commands again after a 4xx or 5xx. The answer commits the
    transition: a positive one always, a negative one only for the events in `ENDING`, which end something either way.

    Between a 354 and the end of the content the octets belong to a `BodyReader`, and events are chunks of it.

    What the client does wrong becomes a `Rejected` event with the reply that it deserves; the session sends that reply
    and may count. Nothing that a client sends raises.

    STARTTLS: a positive answer drops all octets that came before the handshake, and all that the client said (RFC 3207
    §4.2; CVE-2011-0411). AUTH: offered are the mechanisms in `auth`; once 235 was said no second AUTH is taken.

Promises   `buffered` stays below the longest line allowed plus what one `receive_data` call brings, as long as events
           are answered. Any split of the input gives the same events, the cuts between body chunks excepted.
On failure ProtocolMisuse is raised for an answer that cannot be given: a fault of the caller, never of the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from mailserver.mail import Reply
from mailserver.sasl import encode_base64
from mailserver.smtp.body import BodyReader
from mailserver.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    Data,
    Event,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rejected,
    Reset,
    StartTLS,
    Verify,
)
from mailserver.smtp.lines import LineBuffer, Overlong
from mailserver.smtp.misuse import ProtocolMisuse
from mailserver.smtp.syntax import (
    COMMANDS,
    HTTP_VERBS,
    NOT_IMPLEMENTED,
    Refusal,
    parse_bdat,
    parse_response,
    refusal,
    split_command,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Octets, lines with their CRLF. RFC 5321 §4.5.3.1 asks for 512 at the least, RFC 4954 §4 for 12288 in AUTH."""

    command_line: int = 2048
    auth_line: int = 12288
    message_size: int = 50 * 2**20


class State(Enum):
    CONNECTED = auto()  # not greeted yet; what comes meanwhile waits
    REFUSED = auto()  # greeted with 554: only QUIT is left, §3.1
    START = auto()
    READY = auto()  # EHLO or HELO was accepted
    MAIL = auto()  # a transaction with a sender
    RCPT = auto()  # and with one recipient at least
    BODY = auto()
    AUTH = auto()  # a challenge awaits its response
    CLOSED = auto()


TRANSITIONS: Mapping[tuple[State, type[Event]], State] = {
    (State.REFUSED, Quit): State.CLOSED,
    #
    (State.START, Hello): State.READY,
    (State.START, Reset): State.START,  # these need no EHLO, §4.1.4
    (State.START, Noop): State.START,
    (State.START, Verify): State.START,
    (State.START, Help): State.START,
    (State.START, Quit): State.CLOSED,
    #
    (State.READY, Hello): State.READY,
    (State.READY, Mail): State.MAIL,
    (State.READY, StartTLS): State.START,
    (State.READY, Auth): State.READY,
    (State.READY, Reset): State.READY,
    (State.READY, Noop): State.READY,
    (State.READY, Verify): State.READY,
    (State.READY, Help): State.READY,
    (State.READY, Quit): State.CLOSED,
    #
    (State.MAIL, Hello): State.READY,  # as RSET, §4.1.4
    (State.MAIL, Rcpt): State.RCPT,
    (State.MAIL, Reset): State.READY,
    (State.MAIL, Noop): State.MAIL,
    (State.MAIL, Verify): State.MAIL,
    (State.MAIL, Help): State.MAIL,
    (State.MAIL, Quit): State.CLOSED,
    #
    (State.RCPT, Hello): State.READY,
    (State.RCPT, Rcpt): State.RCPT,
    (State.RCPT, Data): State.BODY,
    (State.RCPT, Reset): State.READY,
    (State.RCPT, Noop): State.RCPT,
    (State.RCPT, Verify): State.RCPT,
    (State.RCPT, Help): State.RCPT,
    (State.RCPT, Quit): State.CLOSED,
    #
    (State.BODY, BodyEnd): State.READY,
    #
    (State.AUTH, AuthResponse): State.READY,
    (State.AUTH, AuthCancelled): State.READY,
    (State.AUTH, Rejected): State.READY,
}

ENDING = frozenset({BodyEnd, AuthResponse, AuthCancelled, Rejected, Quit})

OUT_OF_ORDER: Mapping[State, Reply] = {
    State.REFUSED: Reply.of(503, "5.5.1", "There is no service here: send QUIT"),
    State.START: Reply.of(503, "5.5.1", "Send EHLO first"),
    State.READY: Reply.of(503, "5.5.1", "Send MAIL first"),
    State.MAIL: Reply.of(503, "5.5.1", "Not allowed within a mail transaction"),
    State.RCPT: Reply.of(503, "5.5.1", "Not allowed within a mail transaction"),
}

NO_RECIPIENTS = Reply.of(554, "5.5.1", "No valid recipients")
TOO_LONG = Reply.of(500, "5.5.2", "The line is too long")
AUTH_TOO_LONG = Reply.of(500, "5.5.6", "The line is too long for an authentication exchange")
CANCELLED = Reply.of(501, "5.7.0", "Authentication cancelled")


class ServerConnection:
    """One connection. The engine writes hostname and EHLO keywords itself; all other words are the session's.

    `starttls` and `auth` say what is offered now; the session sets them as the connection changes. `secure` is set
    once STARTTLS was accepted; for a connection encrypted from its start leave `starttls` off.
    """

    def __init__(self, hostname: str, limits: Limits, *, starttls: bool = False, auth: tuple[str, ...] = ()) -> None:
        self.hostname = hostname
        self.limits = limits
        self.starttls = starttls
        self.auth = auth
        self.secure = False
        self.authenticated = False
        self._state = State.CONNECTED
        self._pending: Event | None = None
        self._input = LineBuffer()
        self._output: list[bytes] = []
        self._body: BodyReader | None = None

    # Octets

    def receive_data(self, data: bytes) -> None:
        if self._state is not State.CLOSED:
            self._input.append(data)

    def data_to_send(self) -> bytes:
        """Drains what is to be written."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    @property
    def buffered(self) -> int:
        """Octets received and not yet given out in an event."""
        return len(self._input) + (self._body.held if self._body else 0)

    @property
    def closed(self) -> bool:
        """The last reply was said (QUIT, 421 or a fatal fault): flush, then close."""
        return self._state is State.CLOSED

    # Answers

    def greet(self, reply: Reply) -> None:
        """The first words: 220 with the hostname before its text; 554 refuses all service (§3.1), 421 closes."""
        if self._state is not State.CONNECTED:
            raise ProtocolMisuse("the greeting was said already")
        self._write(self._named(reply))
        if reply.code == 421:
            self._close()
        else:
            self._state = State.START if reply.positive else State.REFUSED

    def reply(self, reply: Reply) -> None:
        """Answers the pending event. 421 may be said at any time, and closes (§3.8). After the end nothing is said.

        Raises ProtocolMisuse.
        """
        event = self._pending
        if self._state is State.CLOSED:
            return
        if reply.code == 421:
            self._write(reply)
            self._close()
            return
        if event is None:
            raise ProtocolMisuse("there is nothing to answer")
        if isinstance(event, Data) and reply.positive != (reply.code == 354):
            raise ProtocolMisuse("DATA is answered by 354, 4xx or 5xx")
        self._write(self._introduced(reply, event) if isinstance(event, Hello) and reply.positive else reply)
        self._pending = None
        if reply.positive or type(event) in ENDING:
            self._commit(event, reply)

    def challenge(self, data: bytes) -> None:
        """Answers Auth or AuthResponse with a challenge (RFC 4954 §4). Raises ProtocolMisuse."""
        if self._state is State.CLOSED:
            return
        if not isinstance(self._pending, Auth | AuthResponse):
            raise ProtocolMisuse("there is no authentication exchange")
        self._output.append(b"334 " + encode_base64(data) + b"\r\n")
        self._pending = None
        self._state = State.AUTH

    def _commit(self, event: Event, reply: Reply) -> None:
        state = TRANSITIONS.get((self._state, type(event)), self._state)
        match event:
            case Data():
                self._body = BodyReader(self.limits.message_size)
            case BodyEnd():
                self._body = None
            case StartTLS():
                self._input.clear()
                self.secure, self.authenticated = True, False
            case Auth() | AuthResponse() if reply.positive:
                self.authenticated = True
            case Rejected(fatal=True):
                state = State.CLOSED
        self._state = state
        if state is State.CLOSED:
            self._close()

    def _close(self) -> None:
        self._state = State.CLOSED
        self._pending = self._body = None
        self._input.clear()

    def _named(self, reply: Reply) -> Reply:
        """With the hostname as its first word, and without the enhanced code that RFC 2034 §4 forbids here."""
        named = f"{reply.text} ".startswith(f"{self.hostname} ")
        text = reply.text if named else f"{self.hostname} {reply.text}"
        return Reply(reply.code, text)

    def _introduced(self, reply: Reply, hello: Hello) -> Reply:
        named = self._named(reply)
        return Reply(named.code, "\n".join([named.text, *self._keywords()])) if hello.extended else named

    def _keywords(self) -> list[str]:
        """What EHLO offers, in this moment."""
        keywords = ["PIPELINING", f"SIZE {self.limits.message_size}", "8BITMIME", "ENHANCEDSTATUSCODES"]
        if self.starttls and not self.secure:
            keywords.append("STARTTLS")
        if self.auth and not self.authenticated:
            keywords.append("AUTH " + " ".join(self.auth))
        return [*keywords, "HELP"]

    def _write(self, reply: Reply) -> None:
        self._output.append(reply.to_bytes())

    # Events

    def next_event(self) -> Event | None:
        """What the client did next. None: more octets are needed, or the last event awaits its answer."""
        if self._pending is not None or self._state in (State.CONNECTED, State.CLOSED):
            return None
        event = self._read_body(self._body) if self._body is not None else self._read_line()
        if not isinstance(event, BodyChunk):
            self._pending = event
        return event

    def _read_body(self, body: BodyReader) -> BodyChunk | BodyEnd | None:
        if not body.ended():
            content = body.feed(self._input.take_all())
            self._input.append(body.rest)
            if content:
                return BodyChunk(content)
        return BodyEnd(body.size, body.fault) if body.ended() else None

    def _read_line(self) -> Event | None:
        exchange = self._state is State.AUTH
        with_secret = exchange or self._input.begins_with(b"AUTH ")  # RFC 4954 §4: the initial response counts
        line = self._input.line(self.limits.auth_line if with_secret else self.limits.command_line)
        if line is None:
            return None
        if isinstance(line, Overlong):
            return Rejected(AUTH_TOO_LONG if exchange else TOO_LONG, fatal=line is Overlong.ENDLESS)
        try:
            return self._response(line) if exchange else self._command(line)
        except Refusal as fault:
            return Rejected(fault.reply, fault.fatal)

    def _response(self, line: bytes) -> Event:
        return AuthCancelled(CANCELLED) if line == b"*" else AuthResponse(parse_response(line))

    def _command(self, line: bytes) -> Event:
        """Raises Refusal."""
        verb, argument = split_command(line)
        command = COMMANDS.get(verb)
        if command is None:
            raise self._unknown(verb, argument)
        if (self._state, command.event) not in TRANSITIONS:
            out_of_order = OUT_OF_ORDER[self._state]
            raise Refusal(NO_RECIPIENTS if (self._state, command.event) == (State.MAIL, Data) else out_of_order)
        self._check_offered(command.event)
        event = command.parse(argument)
        if isinstance(event, Mail) and (event.size or 0) > self.limits.message_size:
            raise refusal(
                552, "5.3.4", f"The message is larger than {self.limits.message_size} octets"
            )  # RFC 1870 §6.1
        if isinstance(event, Auth) and event.mechanism not in self.auth:
            raise refusal(504, "5.5.4", "The mechanism is not supported")
        return event

    def _check_offered(self, kind: type[Event]) -> None:
        if kind is StartTLS and self.secure:
            raise refusal(503, "5.5.1", "TLS is active already")
        if kind is StartTLS and not self.starttls:
            raise refusal(502, "5.5.1", "STARTTLS is not available")
        if kind is Auth and self.authenticated:
            raise refusal(503, "5.5.1", "Authenticated already")
        if kind is Auth and not self.auth:
            if self.starttls and not self.secure:
                raise refusal(538, "5.7.11", "Encryption is required: send STARTTLS first")
            raise refusal(502, "5.5.1", "AUTH is not available")

    def _unknown(self, verb: str, argument: str) -> Refusal:
        if verb in HTTP_VERBS:
            return refusal(554, "5.5.1", "This is SMTP", fatal=True)
        if verb == "BDAT":
            # Not offered, but what follows such a line is data: no command may be seen in it.
            size = parse_bdat(argument)
            if size > self.limits.message_size:
                return refusal(552, "5.3.4", "The message is too large", fatal=True)
            self._input.discard(size)
            return refusal(502, "5.5.1", "BDAT is not available")
        if verb in NOT_IMPLEMENTED:
            return refusal(502, "5.5.1", "The command is not implemented")
        return refusal(500, "5.5.1", "The command is unknown")
