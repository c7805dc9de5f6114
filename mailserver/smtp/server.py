"""The server's end of SMTP (RFC 5321) as a state machine without input or output.

Theory of operation

    Octets go in by `receive_data`, which only stores them. `next_event` takes the next command from them, looks it up
    in `syntax.COMMANDS`, and looks up (state, kind of event) in `TRANSITIONS`: what has no entry there is out of order.
    It then gives one event, and nothing more until that event was answered by `reply` (or by `challenge`, within
    AUTH). So a command is never read under a state that the answer before it might still change: what stands in the
    buffer after DATA becomes content only by a 354, and is commands again after a 4xx or 5xx. The answer commits the
    transition: a positive one always, a negative one only for the events in `ENDING`, which end something either way.

    Between a 354 and the end of the content the octets belong to a `BodyReader`, and events are chunks of it. BDAT
    (RFC 3030) does not ask for leave: its octets follow its line whatever is answered. The first one makes a `Data`
    event as DATA does; then a `ChunkReader` takes what each announces. Where it is refused they are dropped.

    LMTP (RFC 2033) is SMTP with LHLO in place of EHLO, and after the content one answer for each recipient
    (`reply_each`), as PRDR has it where the client asks for it.

    What the client does wrong becomes a `Rejected` event with the reply that it deserves; the session sends that reply
    and may count. Nothing that a client sends raises.

    STARTTLS with more behind it ends the session; a positive answer drops all octets that still come before the
    handshake, and all that the client said (RFC 3207 §4.2; CVE-2011-0411). AUTH: offered are the mechanisms in `auth`;
    once 235 was said no second AUTH is taken.

Promises   `buffered` stays below the longest line allowed plus what one `receive_data` call brings, as long as events
           are answered. Any split of the input gives the same events, the cuts between body chunks excepted.
On failure ProtocolMisuse is raised for an answer that cannot be given: a fault of the caller, never of the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailserver.mail import Body, Reply
from mailserver.sasl import encode_base64
from mailserver.smtp.body import STRICTNESS, BodyReader, ChunkReader, Strictness
from mailserver.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    ChunkEnd,
    Data,
    Etrn,
    Event,
    Hello,
    Mail,
    Noop,
    Rcpt,
    Rejected,
    Reset,
    StartTLS,
    XClient,
)
from mailserver.smtp.lines import LineBuffer, Overlong
from mailserver.smtp.misuse import ProtocolMisuse
from mailserver.smtp.states import ENDING, OUT_OF_ORDER, TRANSITIONS, State
from mailserver.smtp.syntax import (
    COMMANDS,
    HTTP_VERBS,
    NOT_IMPLEMENTED,
    XCLIENT_NAMES,
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
    recipients: int = 1000
    """Of one message; told by LIMITS (RFC 9422), and for the session to see to, as `transactions`."""
    transactions: int = 1000
    strictness: Strictness = STRICTNESS


NO_RECIPIENTS = Reply.of(554, "5.5.1", "No valid recipients")
TOO_LONG = Reply.of(500, "5.5.2", "The line is too long")
AUTH_TOO_LONG = Reply.of(500, "5.5.6", "The line is too long for an authentication exchange")
DISCARDED = 4
"""Times the largest message, that a chunk which nobody wants may have: it is read to its end. A larger one ends all."""
PLAIN: frozenset[type[Event]] = frozenset({Rcpt, BodyEnd, Reset, Noop})
"""After these only the state is another one."""
CANCELLED = Reply.of(501, "5.7.0", "Authentication cancelled")


class ServerConnection:
    """One connection. The engine writes hostname and EHLO keywords itself; all other words are the session's.

    `starttls` and `auth` say what is offered now; the session sets them as the connection changes. `secure` is set
    once STARTTLS was accepted; for a connection encrypted from its start leave `starttls` off.
    """

    def __init__(
        self,
        hostname: str,
        limits: Limits,
        *,
        starttls: bool = False,
        auth: tuple[str, ...] = (),
        lmtp: bool = False,
        xclient: bool = False,
        encrypted: bool = False,
        etrn: bool = False,
    ) -> None:
        """`xclient`: the client may speak for others. `encrypted`: from its start. `etrn`: it is offered."""
        self.hostname = hostname
        self.lmtp = lmtp
        self.xclient = xclient
        self.encrypted = encrypted
        self.etrn = etrn
        self.limits = limits
        self.starttls = starttls
        self.auth = auth
        self.secure = False
        self.authenticated = False
        self._state = State.CONNECTED
        self._pending: Event | None = None
        self._input = LineBuffer()
        self._output: list[bytes] = []
        self._body: BodyReader | ChunkReader | None = None
        self._mail: Mail | None = None  # of the transaction
        self._chunk = (0, False)  # octets that follow the last BDAT, and whether it is the last chunk
        self.future_release = ""  # what FUTURERELEASE offers, in the words of RFC 4865; empty: it is not offered
        self._chunk_announced = False  # the current line began with BDAT

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
        return len(self._input) + (self._body.held if self._body is not None else 0)

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
        if isinstance(event, Data):
            self._answer_data(event, reply)
        else:
            self._write(self._introduced(reply, event) if isinstance(event, Hello) and reply.positive else reply)
        self._pending = None
        if reply.positive or type(event) in ENDING:
            self._commit(event, reply)

    def reply_each(self, replies: Sequence[Reply]) -> None:
        """Answers the end of the content for each recipient (RFC 2033 §4.2), or by PRDR; at least one reply.

        Raises ProtocolMisuse.
        """
        if self._state is not State.CLOSED and not isinstance(self._pending, BodyEnd):
            raise ProtocolMisuse("the content has not ended")
        for reply in replies[:-1]:
            self._write(reply)
        self.reply(replies[-1])

    def _answer_data(self, event: Data, reply: Reply) -> None:
        if reply.positive != (reply.code == 354):
            raise ProtocolMisuse("DATA is answered by 354, 4xx or 5xx")
        if not event.chunked:
            self._write(reply)
        elif not reply.positive:
            self._input.discard(self._chunk[0])
            self._write(reply)

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
        kind = type(event)
        state = TRANSITIONS.get((self._state, kind), self._state)
        match event:
            case _ if kind in PLAIN:
                pass
            case Mail():
                self._mail = event
            case Data(chunked=False):
                self._body = BodyReader(self.limits.message_size, self.limits.strictness)
            case Data(chunked=True):
                binary = self._mail is not None and self._mail.body is Body.BINARY
                self._body = ChunkReader(self.limits.message_size, self.limits.strictness, binary=binary)
                self._body.begin(self._chunk[0], last=self._chunk[1])
            case ChunkEnd() if not reply.positive:
                state = State.READY
            case XClient():
                self.authenticated = False
            case StartTLS():
                self._input.clear()
                self.secure, self.authenticated = True, False
            case Auth() | AuthResponse() if reply.positive:
                self.authenticated = True
            case Rejected(fatal=True):
                state = State.CLOSED
        self._state = state
        if state not in (State.BODY, State.CHUNKS):
            self._body = None
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
        keywords = ["PIPELINING", f"SIZE {self.limits.message_size}", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8"]
        keywords += ["DSN", "CHUNKING", "BINARYMIME", "DELIVERBY", "MT-PRIORITY"]
        if self.starttls and not self.secure:
            keywords.append("STARTTLS")
        if self.auth and not self.authenticated:
            keywords.append("AUTH " + " ".join(self.auth))
        if self.secure or self.encrypted:
            keywords.append("REQUIRETLS")
        if self.etrn:
            keywords.append("ETRN")
        if self.future_release:
            keywords.append(f"FUTURERELEASE {self.future_release}")
        if self.xclient:
            keywords.append("XCLIENT " + " ".join(XCLIENT_NAMES))
        keywords.append(f"LIMITS MAILMAX={self.limits.transactions} RCPTMAX={self.limits.recipients}")
        return [*keywords, *([] if self.lmtp else ["PRDR"]), "HELP"]

    def _write(self, reply: Reply) -> None:
        self._output.append(reply.to_bytes())

    # Events

    def next_event(self) -> Event | None:
        """What the client did next. None: more octets are needed, or the last event awaits its answer."""
        if self._pending is not None or self._state in (State.CONNECTED, State.CLOSED):
            return None
        if self._state is State.BODY:
            event: Event | None = self._read_body()
        else:
            event = self._read_line() if len(self._input) else None
        if not isinstance(event, BodyChunk):
            self._pending = event
        return event

    def _read_body(self) -> BodyChunk | ChunkEnd | BodyEnd | None:
        body = self._body
        if isinstance(body, ChunkReader):
            if content := body.feed(self._input.take(body.remaining)):
                return BodyChunk(content)
            if body.ended():
                return (
                    BodyEnd(body.size, body.fault, body.line_ends)
                    if body.last
                    else ChunkEnd(self._chunk[0], body.fault)
                )
        elif body is not None:
            if not body.ended():
                content = body.feed(self._input.take_all())
                self._input.append(body.rest)
                if content:
                    return BodyChunk(content)
            if body.ended():
                return BodyEnd(body.size, body.fault, body.line_ends)
        return None

    def _read_line(self) -> Event | None:
        exchange = self._state is State.AUTH
        beginning = self._input.beginning
        with_secret = exchange or beginning == b"AUTH "  # RFC 4954 §4: the initial response counts
        if not self._input.within_line:
            self._chunk_announced = not exchange and beginning.startswith(b"BDAT")
        line = self._input.line(self.limits.auth_line if with_secret else self.limits.command_line)
        if line is None:
            return None
        if isinstance(line, Overlong):
            fatal = line is Overlong.ENDLESS or self._chunk_announced
            return Rejected(AUTH_TOO_LONG if exchange else TOO_LONG, fatal)
        try:
            return self._response(line) if exchange else self._command(line)
        except Refusal as fault:
            return Rejected(fault.reply, fault.fatal)

    def _response(self, line: bytes) -> Event:
        return AuthCancelled(CANCELLED) if line == b"*" else AuthResponse(parse_response(line))

    def _command(self, line: bytes) -> Event | None:
        """Raises Refusal."""
        try:
            verb, argument = split_command(line)
        except Refusal as fault:  # where the octets of a chunk end is not known then
            raise Refusal(fault.reply, fatal=fault.fatal or self._chunk_announced) from None
        if verb == "BDAT":
            return self._bdat(argument)
        command = COMMANDS.get(verb)
        if command is None or (command.event is Hello and (verb == "LHLO") is not self.lmtp):
            raise self._unknown(verb)
        if command.event is XClient and not self.xclient:
            raise refusal(550, "5.7.1", "Only known proxies may use XCLIENT")
        if (self._state, command.event) not in TRANSITIONS:
            raise Refusal(self._out_of_order(command.event))
        self._check_offered(command.event)
        event = command.parse(argument)
        if isinstance(event, Mail) and (event.size or 0) > self.limits.message_size:
            raise refusal(
                552, "5.3.4", f"The message is larger than {self.limits.message_size} octets"
            )  # RFC 1870 §6.1
        if isinstance(event, Mail) and event.requiretls and not (self.secure or self.encrypted):
            raise refusal(530, "5.7.0", "REQUIRETLS needs an encrypted connection: send STARTTLS first")  # RFC 8689 §3
        if isinstance(event, Mail) and not (event.hold_for is event.hold_until is None or self.future_release):
            raise refusal(555, "5.5.4", "Messages are not held here")
        if isinstance(event, Rcpt) and event.needs_smtputf8 and not (self._mail and self._mail.smtputf8):
            raise refusal(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8 in MAIL")
        if isinstance(event, StartTLS) and len(self._input):  # nobody waited for the answer: it may be an injection
            raise refusal(554, "5.5.1", "Nothing may follow STARTTLS before TLS begins", fatal=True)
        if isinstance(event, Auth) and event.mechanism not in self.auth:
            raise refusal(504, "5.5.4", "The mechanism is not supported")
        return event

    def _bdat(self, argument: str) -> Event | None:
        """The octets of the chunk are on their way, whatever is answered. Raises Refusal."""
        size, last = self._chunk = parse_bdat(argument)
        if size > DISCARDED * self.limits.message_size:
            raise refusal(552, "5.3.4", "The message is too large", fatal=True)
        if self._state is State.CHUNKS and isinstance(self._body, ChunkReader):
            self._body.begin(size, last=last)
            self._state = State.BODY
            return self._read_body()
        if self._state is State.RCPT:
            return Data(chunked=True)
        self._input.discard(size)
        raise Refusal(self._out_of_order(Data))

    def _out_of_order(self, kind: type[Event]) -> Reply:
        if (self._state, kind) == (State.MAIL, Data):
            return NO_RECIPIENTS
        if self._state is State.START and self.lmtp:
            return Reply.of(503, "5.5.1", "Send LHLO first")
        return OUT_OF_ORDER[self._state]

    def _check_offered(self, kind: type[Event]) -> None:
        if kind is StartTLS and self.secure:
            raise refusal(503, "5.5.1", "TLS is active already")
        if kind is StartTLS and not self.starttls:
            raise refusal(502, "5.5.1", "STARTTLS is not available")
        if kind is Data and self._mail is not None and self._mail.body is Body.BINARY:
            raise refusal(503, "5.5.1", "BINARYMIME is sent by BDAT")  # RFC 3030 §3
        if kind is Etrn and not self.etrn:
            raise refusal(502, "5.5.1", "ETRN is not available")
        if kind is Auth and self.authenticated:
            raise refusal(503, "5.5.1", "Authenticated already")
        if kind is Auth and not self.auth:
            if self.starttls and not self.secure:
                raise refusal(538, "5.7.11", "Encryption is required: send STARTTLS first")
            raise refusal(502, "5.5.1", "AUTH is not available")

    def _unknown(self, verb: str) -> Refusal:
        if verb in HTTP_VERBS:
            return refusal(554, "5.5.1", "This is SMTP", fatal=True)
        if verb in NOT_IMPLEMENTED:
            return refusal(502, "5.5.1", "The command is not implemented")
        return refusal(500, "5.5.1", "The command is unknown")
