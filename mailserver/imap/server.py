"""The IMAP server engine (RFC 3501, RFC 3502, RFC 7888): octets in, events out, answers in, octets out.

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
from dataclasses import dataclass

from mailserver.imap import responses
from mailserver.imap.commands import (
    Append,
    Authenticate,
    Close,
    Command,
    Compress,
    Login,
    Logout,
    Select,
    StartTLS,
    Unselect,
    append_next,
    lookup,
    parse,
)
from mailserver.imap.events import (
    AppendEnded,
    AppendNext,
    AppendStarted,
    AuthResponse,
    Event,
    IdleEnded,
    LiteralChunk,
    Rejected,
    Request,
)
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
    (Logout, True): State.LOGOUT,
}

HEAD_COST = 64

_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]{1,200}(?= |\r?\n)')


@dataclass(frozen=True, slots=True)
class Limits:
    """`line`: octets of all lines of a command; `literal`: of all its literals but the message of an APPEND.

    `before_login`: of all its literals while nobody is logged in. `discard`: octets of refused literals of one command
    that are read and dropped before the connection is given up.
    """

    line: int = 65536
    literal: int = 65536
    message: int = 50 * 2**20
    before_login: int = 4096
    discard_before_login: int = 2**20

    @property
    def appended(self) -> int:
        """Octets of all messages of an APPEND."""
        return 10 * self.message

    @property
    def append_heads(self) -> int:
        """Octets of what stands before the messages of an APPEND, for each `HEAD_COST` more: this is kept in memory."""
        return 10 * self.line

    @property
    def discard(self) -> int:
        return 4 * self.message


class ServerConnection:
    """See the top of the module.

    An event is answered by `done`, `reject`, `accept`, `challenge` or `idling`; `untagged`, `status` and `send` may
    come before.
    """

    def __init__(self, limits: Limits, separator: str = SEPARATOR) -> None:
        """`separator` stands between the parts of a mailbox name as clients write and see it."""
        self.state = State.NOT_AUTHENTICATED
        self.separator = separator
        self._limits = limits
        self._receiver = Receiver(limits.line)
        self.unsent = 0
        """Octets that `data_to_send` would give."""
        self._output: list[bytes] = []
        self._mode: Callable[[Line | Octets], Event | None] = self._read_command
        self._pending: Event | None = None
        self._command: Command | None = None
        self._tag = ""
        self._streams = False  # the command being read passes its message through
        self._announced: Announcement | None = None  # of its message
        self._appended = self._heads = 0  # octets of the messages and of what stands before them
        self._has_nul = False
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
    def buffered(self) -> int:
        return self._receiver.buffered

    def next_event(self) -> Event | None:
        while self._pending is None and self.state is not State.LOGOUT:
            item = self._receiver.next()
            if item is None:
                return None
            event = self._mode(item)
            if event is not None:
                if not isinstance(event, LiteralChunk):
                    self._pending = event
                return event
        return None

    # answers

    def send(self, data: bytes) -> None:
        """Octets as they are: pieces of responses that the caller has put together."""
        self._output.append(data)
        self.unsent += len(data)

    def untagged(self, data: bytes) -> None:
        self.send(b"* " + data + b"\r\n")

    def mailbox(self, name: str) -> bytes:
        """A mailbox's name, to stand in an answer."""
        return responses.mailbox(exchanged(name, self.separator))

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
        assert pending is not None and not isinstance(pending, LiteralChunk) and pending.tag == tag
        self._pending = None
        self.send(responses.status_line(tag, status, text, code))
        self._mode = self._read_command
        if isinstance(pending, AppendStarted | AppendNext):
            announced = self._announced
            if announced is not None and not announced.waits:
                self._discard(announced.size)
        elif self._command is not None:
            self._commit(self._command, status == "OK")
        self._command = None

    def _commit(self, command: Command, positive: bool) -> None:
        self.state = TRANSITIONS.get((type(command), positive), self.state)
        if isinstance(command, StartTLS | Compress) and positive:
            self._receiver.clear()
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
        """Answers `AppendStarted` or `AppendNext`: let the message come."""
        announced = self._announced
        assert isinstance(self._pending, AppendStarted | AppendNext) and announced is not None
        self._pending = None
        if announced.waits:
            self.send(b"+ OK\r\n")
        self._has_nul = False
        self._mode = self._read_message
        self._receiver.expect(announced.size)

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

    def _read_command(self, item: Line | Octets) -> Event | None:
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

    def _request(self) -> Request:
        data = b"".join(self._pieces)
        reader = self._behind_tag(data[:-2] if data.endswith(b"\r\n") else data[:-1])
        command = parse(reader, self.state)
        self._forget_command()
        self._command = command
        return Request(self._tag, command)

    def _behind_tag(self, data: bytes) -> Reader:
        match = _TAG.match(data)
        if match is None:
            raise Fault("a tag is expected")
        self._tag = match[0].decode()
        reader = Reader(data, match.end(), self.separator)
        reader.space()
        return reader

    def _take_literal(self, announced: Announcement) -> Event | None:
        """A line ended with the announcement of a literal. Raises Fault when it is not to be read."""
        if len(self._pieces) == 1:
            # what is wrong already need not wait for the literal
            self._streams = lookup(self._behind_tag(self._pieces[0]), self.state).head is not None
        if self._streams and (head := self._append_head(announced)) is not None:
            return self._start_append(head, announced)
        limit = self._limits.before_login if self.state is State.NOT_AUTHENTICATED else self._limits.literal
        self._literal_octets += announced.size
        if self._literal_octets > limit:
            raise Fault("the literal is too big", code="TOOBIG")
        if announced.waits:
            self.send(b"+ OK\r\n")
        self._receiver.expect(announced.size)
        return None

    def _append_head(self, announced: Announcement) -> Append | None:
        """APPEND or REPLACE up to its message literal; None when the announced literal is the mailbox name."""
        data = b"".join(self._pieces)
        reader = self._behind_tag(data[: data.rindex(b"{")])
        grammar = lookup(reader, self.state)
        head = grammar.head(reader, announced.size) if grammar.head is not None else None
        reader.end()
        return head

    def _start_append(self, head: Append, announced: Announcement) -> Event:
        self._appended = self._heads = 0
        self._announce(announced)
        self._forget_command()
        self._command = head
        return AppendStarted(self._tag, head)

    def _announce(self, announced: Announcement) -> None:
        if announced.size > self._limits.message:
            raise Fault("the message is too big", status="NO", code="TOOBIG")
        if announced.size == 0:
            raise Fault("the message is empty", status="NO")  # RFC 3502: so an APPEND is cancelled
        self._appended += announced.size
        if self._appended > self._limits.appended:
            raise Fault("the messages are too big together", status="NO", code="TOOBIG")
        self._announced = announced

    def _read_message(self, item: Line | Octets) -> Event | None:
        if isinstance(item, Octets):
            self._has_nul = self._has_nul or 0 in item.data
            return LiteralChunk(item.data)
        try:
            if item.overlong:
                raise Fault("the command is too long")
            if self._has_nul:
                # RFC 3516 §4.4: a NUL in what was announced as binary is no error, but there is no place for it
                code = "UNKNOWN-CTE" if isinstance(self._command, Append) and self._command.binary else None
                raise Fault("a message must not have NUL", status="NO", code=code)
            assert isinstance(self._command, Append)
            if item.announcement is not None and self._command.replaced is None:
                return self._next_message(item, item.announcement)
            if item.text:
                raise Fault("unexpected text after the message")
        except Fault as fault:
            return self._refuse(fault, item.announcement)
        self._mode = self._read_command
        return AppendEnded(self._tag)

    def _next_message(self, line: Line, announced: Announcement) -> Event:
        self._heads += len(line.data) + HEAD_COST
        if self._heads > self._limits.append_heads:
            raise Fault("too many messages", status="NO", code="LIMIT")
        assert isinstance(self._command, Append)
        reader = Reader(line.data[: line.data.rindex(b"{")])
        if reader.looking_at(b"  "):
            reader.space()  # imapclient puts two between messages
        head = append_next(reader, self._command.mailbox, announced.size)
        reader.end()
        self._announce(announced)
        self._command = head
        return AppendNext(self._tag, head)

    def _read_auth_response(self, item: Line | Octets) -> Event | None:
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

    def _read_idle_end(self, item: Line | Octets) -> Event | None:
        assert isinstance(item, Line)
        self._mode = self._read_command
        if item.text.upper() == b"DONE":
            return IdleEnded(self._tag)
        return self._refuse(Fault("DONE expected"), item.announcement)

    def _read_refused(self, item: Line | Octets) -> Event | None:
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

    def _refuse(self, fault: Fault, announced: Announcement | None) -> Event | None:
        """The command is over, but for literals that come without asking."""
        tag: str | None = self._tag
        if self._pieces:
            match = _TAG.match(self._pieces[0])
            tag = match[0].decode() if match else None
        refusal = Rejected(tag, fault.text, fault.status, fault.code, loses_saved=fault.loses_saved)
        self._forget_command()
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
