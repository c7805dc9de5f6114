"""The IMAP server engine (RFC 3501, RFC 3502, RFC 4469, RFC 7888): octets in, events out, answers in, octets out.

Theory     The receiver gives lines and literal octets; what they mean depends on the mode, for which there is one
           method each. A command is put together in its wire form until a line ends without a literal, then parsed as a
           whole. The messages of an APPEND alone are not kept: they pass through as chunks. A command that is refused
           while its literal is on the way without asking (RFC 7888) is read to its end and dropped.
Promises   One event at a time: while one awaits its answer there is no next. Memory is bounded by the limits.
           The state changes only when an answer is given, as the table says.
           A positive answer to STARTTLS or COMPRESS drops all input received before it.
On failure A malformed command is a `Rejected` event; nothing that a client sends raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from mailserver.imap import responses
from mailserver.imap.appending import Appending
from mailserver.imap.commands import (
    Authenticate,
    Close,
    Command,
    Compress,
    Login,
    Logout,
    Select,
    StartTLS,
    Stretch,
    Unauthenticate,
    Unselect,
    append_onward,
    ends_in_url,
    lookup,
    parse,
    uses_numbers,
)
from mailserver.imap.events import (
    Answered,
    AppendNext,
    AppendPart,
    AppendStarted,
    AuthResponse,
    Event,
    IdleEnded,
    LiteralChunk,
    Rejected,
    Request,
    Woken,
)
from mailserver.imap.limits import Limits
from mailserver.imap.patterns import SEPARATOR, exchanged
from mailserver.imap.receiver import Announcement, Line, Octets, Receiver
from mailserver.imap.states import State
from mailserver.imap.syntax import Fault, Reader
from mailserver.sasl import decode_base64, encode_base64

TRANSITIONS: Mapping[tuple[type[Command], bool], State] = {
    (Login, True): State.AUTHENTICATED,
    (Authenticate, True): State.AUTHENTICATED,
    (Select, True): State.SELECTED,
    (Select, False): State.AUTHENTICATED,  # RFC 3501 §6.3.1: a failed SELECT leaves none selected
    (Close, True): State.AUTHENTICATED,
    (Unselect, True): State.AUTHENTICATED,
    (Unauthenticate, True): State.NOT_AUTHENTICATED,  # RFC 8437 §5
    (Logout, True): State.LOGOUT,
}

_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]{1,200}(?= |\r?\n)')


class ServerConnection:
    """See the top of the module.

    An event is answered by `done`, `reject`, `accept`, `challenge` or `idling`; `untagged`, `status` and `send` may
    come before.
    """

    def __init__(self, limits: Limits, separator: str = SEPARATOR) -> None:
        """`separator` stands between the parts of a mailbox name as clients write and see it."""
        self.state = State.NOT_AUTHENTICATED
        self.separator = separator
        self.utf8 = False
        """The client has enabled UTF-8: strings and mailbox names are in it from now on, both ways."""
        self.uid_only = False
        """Commands that name messages by their numbers are refused (RFC 9586)."""
        self._limits = limits
        self._receiver = Receiver(limits.line)
        self.unsent = 0
        """Octets that `data_to_send` would give."""
        self._output: list[bytes] = []
        self._woken = False
        self._mode: Callable[[Line | Octets], Answered | LiteralChunk | None] = self._read_command
        self._pending: Answered | None = None
        self._command: Command | None = None
        self._tag = ""
        self._streams = False  # the command being read passes its message through
        self._append: Appending | None = None
        self._refusal: Rejected | None = None
        self._forget_command()

    def _forget_command(self) -> None:
        self._pieces: list[bytes] = []  # of the command being read, in its wire form
        self._line_octets = 0
        self._literal_octets = 0
        self._discarded = 0

    # octets in and out

    def receive_data(self, data: bytes) -> None:
        if self.state is not State.LOGOUT:
            self._receiver.feed(data)

    def data_to_send(self) -> bytes:
        data = b"".join(self._output)
        self._output.clear()
        self.unsent = 0
        return data

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def buffered(self) -> int:
        return self._receiver.buffered

    def next_event(self) -> Event | None:
        event = self._next()
        if event is None and self._woken and self._pending is None and self.state is not State.LOGOUT:
            self._woken = False
            return Woken()
        return event

    def _next(self) -> Answered | LiteralChunk | None:
        while self._pending is None and self.state is not State.LOGOUT:
            if self._append is not None and self._append.waiting:
                self._pending = self._append.next()
                return self._pending
            item = self._receiver.next()
            if item is None:
                return None
            event = self._mode(item)
            if event is not None:
                if not isinstance(event, LiteralChunk):
                    self._pending = event
                return event
        return None

    def wake(self) -> None:
        """`Woken` is the next event when all that the client sent is answered."""
        self._woken = True

    # answers

    def send(self, data: bytes) -> None:
        """Octets as they are: pieces of responses that the caller has put together."""
        self._output.append(data)
        self.unsent += len(data)

    def untagged(self, data: bytes) -> None:
        self.send(b"* " + data + b"\r\n")

    def mailbox(self, name: str) -> bytes:
        """A mailbox's name, to stand in an answer."""
        return responses.mailbox(exchanged(name, self.separator), utf8=self.utf8)

    def status(self, status: str, text: str, code: str | None = None) -> None:
        """An untagged OK, NO or BAD."""
        self.send(responses.status_line("*", status, text, code))

    def bye(self, text: str, code: str | None = None) -> None:
        """Takes no more commands. The caller closes the connection."""
        self.status("BYE", text, code)
        self._leave()

    def done(self, tag: str, status: str, text: str, code: str | None = None) -> None:
        """The tagged answer, which ends the command. `tag` must be that of the event. After BYE nothing is said."""
        if self.state is State.LOGOUT:
            return
        pending = self._pending
        assert pending is not None and pending.tag == tag
        self._pending = None
        self.send(responses.status_line(tag, status, text, code))
        self._mode = self._read_command
        append, self._append = self._append, None
        if append is not None:
            if append.announced is not None and not append.announced.waits:
                self._discard(append.announced.size)
        elif self._command is not None:
            self._commit(self._command, status == "OK")
        self._command = None

    def _commit(self, command: Command, positive: bool) -> None:
        self.state = TRANSITIONS.get((type(command), positive), self.state)
        if isinstance(command, StartTLS | Compress) and positive:
            self._receiver.clear()
        if isinstance(command, Unauthenticate) and positive:
            self.utf8 = self.uid_only = False
        if self.state is State.LOGOUT:
            self._leave()

    def reject(self, event: Rejected) -> None:
        """Answers a `Rejected` event as it asks."""
        if event.fatal:
            self.bye(event.text, event.code)
        elif event.tag is None:
            self._pending = None
            self.status(event.status, event.text, event.code)
        else:
            self._command = None
            self.done(event.tag, event.status, event.text, event.code)

    def accept(self) -> None:
        """Answers `AppendStarted`, `AppendNext` or `AppendPart`: let it come."""
        append = self._append
        assert isinstance(self._pending, AppendStarted | AppendNext | AppendPart) and append is not None
        self._pending = None
        if append.waiting:
            return
        assert append.announced is not None
        if append.announced.waits:
            self.send(b"+ OK\r\n")
        self._mode = self._read_message
        self._receiver.expect(append.announced.size)

    def challenge(self, data: bytes) -> None:
        """Asks the client for the next step of AUTHENTICATE; its answer comes as `AuthResponse` or `Rejected`."""
        self._pending = None
        self.send(b"+ " + encode_base64(data) + b"\r\n")
        self._mode = self._read_auth_response

    def idling(self) -> None:
        """Answers IDLE: its end comes as `IdleEnded` or `Rejected`."""
        self._pending = None
        self.send(b"+ idling\r\n")
        self._mode = self._read_idle_end

    def _leave(self) -> None:
        self.state = State.LOGOUT
        self._pending = None
        self._receiver.clear()

    # modes: what the next line or octets mean

    def _read_command(self, item: Line | Octets) -> Answered | LiteralChunk | None:
        self._pieces.append(item.data)
        if isinstance(item, Octets):
            return None
        self._line_octets += len(item.data)
        announced = item.announcement
        try:
            if item.overlong or self._line_octets > self._limits.line + 2:
                raise Fault("the command is too long")
            return self._request() if announced is None else self._take_literal(announced)
        except Fault as fault:
            return self._refuse(fault, announced)

    def _request(self) -> Answered | None:
        command = parse(self._behind_tag(self._joined(announced=False)), self.state)
        self._check_names(command)
        if isinstance(command, Stretch):
            return self._start_append(command, None)
        self._forget_command()
        self._command = command
        return Request(self._tag, command)

    def _check_names(self, command: Command | Stretch) -> None:
        """Raises Fault."""
        if self.uid_only and uses_numbers(command):
            raise Fault("message numbers are not allowed with UIDONLY", code="UIDREQUIRED")

    def _joined(self, *, announced: bool) -> bytes:
        """What was read so far, without the line's end or the announcement of a literal."""
        data = b"".join(self._pieces)
        if announced:
            return data[: data.rindex(b"{")]
        return data[:-2] if data.endswith(b"\r\n") else data[:-1]

    def _behind_tag(self, data: bytes) -> Reader:
        match = _TAG.match(data)
        if match is None:
            raise Fault("a tag is expected")
        self._tag = match[0].decode()
        reader = Reader(data, match.end(), self.separator, utf8=self.utf8)
        reader.space()
        return reader

    def _take_literal(self, announced: Announcement) -> Answered | LiteralChunk | None:
        """A line ended with the announcement of a literal. Raises Fault when it is not to be read."""
        first = len(self._pieces) == 1
        if first:
            # what is wrong already need not wait for the literal
            self._streams = lookup(self._behind_tag(self._pieces[0]), self.state).head is not None
        if self._streams and (first or not ends_in_url(self._pieces[-1])):
            stretch = self._first_stretch(announced)
            if stretch is not None:
                return self._start_append(stretch, announced)
        self._take_string(announced)
        return None

    def _take_string(self, announced: Announcement) -> None:
        """A literal that is part of the command. Raises Fault."""
        limit = self._limits.before_login if self.state is State.NOT_AUTHENTICATED else self._limits.literal
        self._literal_octets += announced.size
        if self._literal_octets > limit:
            raise Fault("the literal is too big", code="TOOBIG")
        if announced.waits:
            self.send(b"+ OK\r\n")
        self._receiver.expect(announced.size)

    def _first_stretch(self, announced: Announcement) -> Stretch | None:
        """APPEND or REPLACE up to its first message literal; None when what is announced is only a word's value."""
        reader = self._behind_tag(self._joined(announced=True))
        grammar = lookup(reader, self.state)
        stretch = grammar.head(reader, announced.size) if grammar.head is not None else None
        reader.end()
        if stretch is not None:
            self._check_names(stretch)
        return stretch

    def _start_append(self, stretch: Stretch, announced: Announcement | None) -> Answered | None:
        self._append = Appending(self._tag, stretch, announced, self._line_octets, self._limits)
        self._forget_command()
        return self._append.next()

    def _read_message(self, item: Line | Octets) -> Answered | LiteralChunk | None:
        assert self._append is not None
        if isinstance(item, Octets):
            self._append.has_nul = self._append.has_nul or 0 in item.data
            return LiteralChunk(item.data)
        self._mode = self._read_onward
        return self._read_onward(item)

    def _read_onward(self, item: Line | Octets) -> Answered | LiteralChunk | None:
        """What stands between two message literals, or behind the last one."""
        append = self._append
        assert append is not None
        self._pieces.append(item.data)
        if isinstance(item, Octets):
            return None
        self._line_octets += len(item.data)
        announced = item.announcement
        try:
            if item.overlong or self._line_octets > self._limits.line + 2:
                raise Fault("the command is too long")
            append.refuse_nul()
            if announced is not None and ends_in_url(item.data):
                self._take_string(announced)
                return None
            reader = Reader(self._joined(announced=announced is not None), utf8=self.utf8)
            size = None if announced is None else announced.size
            stretch = append_onward(reader, append.command, append.before, size)
            reader.end()
            append.go_on(stretch, announced, self._line_octets)
        except Fault as fault:
            return self._refuse(fault, announced)
        self._forget_command()
        return append.next()

    def _read_auth_response(self, item: Line | Octets) -> Answered | LiteralChunk | None:
        assert isinstance(item, Line)
        self._mode = self._read_command
        if item.text == b"*":
            return Rejected(self._tag, "authentication cancelled")
        try:
            if item.overlong:
                raise Fault("the response is too long")
            return AuthResponse(self._tag, decode_base64(item.text))
        except Fault as fault:
            return Rejected(self._tag, fault.text)
        except ValueError:
            return Rejected(self._tag, "malformed base64")

    def _read_idle_end(self, item: Line | Octets) -> Answered | LiteralChunk | None:
        assert isinstance(item, Line)
        self._mode = self._read_command
        if item.text.upper() == b"DONE":
            return IdleEnded(self._tag)
        return self._refuse(Fault("DONE expected"), item.announcement)

    def _read_refused(self, item: Line | Octets) -> Answered | LiteralChunk | None:
        if isinstance(item, Octets):
            return None
        announced = item.announcement
        if announced is not None and not announced.waits:
            return self._discard(announced.size)
        refusal, self._refusal = self._refusal, None
        self._mode = self._read_command
        self._forget_command()
        return refusal

    # refusing

    def _refuse(self, fault: Fault, announced: Announcement | None) -> Answered | LiteralChunk | None:
        """The command is over, but for literals that come without asking."""
        tag: str | None = self._tag
        if self._pieces and self._append is None:
            match = _TAG.match(self._pieces[0])
            tag = match[0].decode() if match else None
        refusal = Rejected(tag, fault.text, fault.status, fault.code, loses_saved=fault.loses_saved)
        self._forget_command()
        self._append = None
        self._mode = self._read_command
        if announced is None or announced.waits:
            return refusal
        self._refusal = refusal
        return self._discard(announced.size)

    def _discard(self, size: int) -> Rejected | None:
        """Drops the literal that comes and what follows of its command; gives up where that is too much."""
        self._discarded += size
        before_login = self.state is State.NOT_AUTHENTICATED
        limit = self._limits.discard_before_login if before_login else self._limits.discard
        if self._discarded > limit:
            return Rejected(None, "the literal is far too big", code="TOOBIG", fatal=True)
        self._mode = self._read_refused
        self._receiver.expect(size)
        return None
