"""The client's end of SMTP (RFC 5321) and LMTP (RFC 2033), without input or output.

Commands are methods; each queues octets for `data_to_send`, and each is answered by one `ReplyReceived`, in the order
of the commands; in LMTP the end of the content by one for each recipient that was taken, in their order. The first
answer, the greeting, needs no command. Several commands may be queued before their answers are read when the server
offers PIPELINING, DATA or BDAT as the last of them; that choice is the caller's. To get an answer:

    while (event := client.next_event()) is None:
        await connection.write(client.data_to_send(), timeout)
        data = await connection.read(timeout)
        if not data: ...                                        # the remote hung up
        client.receive_data(data)

AUTH is one command with one answer, however many challenges lie between: `next_event` queues the responses itself.

Promises   No line sent holds a control character; a body never a bare CR or LF, its dots are stuffed. What a remote
           sends is bounded by `replies`. All octets that follow the go-ahead to STARTTLS, and all that the server
           offered before it, are forgotten (RFC 3207 §4.2; CVE-2011-0411).
On failure ProtocolError from `next_event`: the remote broke the protocol, drop the connection. ProtocolMisuse or
           ValueError from a command: the caller's fault, nothing was queued.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from mailserver.mail import NOTHING_ASKED, Address, Body, DeliverBy, MailParameters, Recipient, Reply
from mailserver.mail.orcpt import in_eight_bits, in_seven_bits, is_utf8_type
from mailserver.sasl import ClientMechanism, decode_base64, encode_base64
from mailserver.smtp.body import BodyWriter
from mailserver.smtp.misuse import ProtocolMisuse
from mailserver.smtp.replies import ProtocolError, ReplyReader, parse_extensions, with_enhanced

COMMAND_LIMIT = 512  # RFC 5321 §4.5.3.1.4, with the CRLF

_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f]")


def xtext(text: str) -> str:
    """RFC 3461 §4: printable ASCII, all else as hexadecimal."""
    return "".join(
        chr(octet) if 33 <= octet <= 126 and octet not in b"+=" else f"+{octet:02X}" for octet in text.encode()
    )


def _words(*texts: str | None) -> str:
    """Those that there are."""
    return " ".join(filter(None, texts))


def _by(by: DeliverBy | None, seconds: int) -> str:
    """RFC 2852 §4, which has room for nine digits."""
    if by is None:
        return ""
    return f"BY={max(-999_999_999, min(seconds, 999_999_999))};{'R' if by.returned else 'N'}{'T' * by.trace}"


class Command(StrEnum):
    """What a reply answers."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    LHLO = "LHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    LAST = "BDAT LAST"
    BODY = "end of data"
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"


ALONE = frozenset(Command) - {Command.MAIL, Command.RCPT, Command.RSET, Command.BODY, Command.BDAT, Command.LAST}
"""Nothing is sent after these until they are answered (RFC 2920 §3.1)."""

ENDS = frozenset({Command.BODY, Command.LAST})
"""The content is complete: what LMTP answers for each recipient."""

INTERMEDIATE = {Command.DATA: 354, Command.AUTH: 334}


@dataclass(frozen=True, slots=True)
class ReplyReceived:
    """`command` None: nothing was asked, the server takes its leave with 421 (§3.8)."""

    command: Command | None
    reply: Reply


class ClientConnection:
    """One connection. After `starttls` was answered by 220 do the handshake, then say `ehlo` again.

    Transactions may follow each other: `mail` again after the content was answered, or after `rset`.
    """

    def __init__(self, *, lmtp: bool = False) -> None:
        self._lmtp = lmtp
        self.extensions: dict[str, str] = {}
        """What the last EHLO found: keyword in upper case, and its parameters."""
        self.secure = False
        self._outstanding: deque[Command] = deque([Command.GREETING])
        self._input = ReplyReader()
        self._output: list[bytes] = []
        self._body: BodyWriter | None = None
        self._mechanism: ClientMechanism | None = None
        self._initial: bytes | None = None
        self._broken: ProtocolError | None = None
        self._utf8 = False  # the transaction may have addresses in UTF-8
        self._taken = 0  # recipients of the transaction; in LMTP those that the end of its content is still to answer

    # Octets

    def receive_data(self, data: bytes) -> None:
        if self._broken is None:
            self._input.append(data)

    def data_to_send(self) -> bytes:
        """Drains what is to be written."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    @property
    def outstanding(self) -> int:
        """How many replies are awaited. The end of an LMTP content counts once, until all before it is answered."""
        more = self._taken - 1 if self._lmtp and self._outstanding and self._outstanding[0] in ENDS else 0
        return len(self._outstanding) + max(more, 0)

    @property
    def in_body(self) -> bool:
        """The content has begun and is not complete."""
        return self._body is not None

    # What the server offers

    @property
    def size_limit(self) -> int | None:
        """The largest message it takes, in octets (RFC 1870 §5); None when it does not say."""
        limit = self.extensions.get("SIZE", "")
        return (int(limit) or None) if limit.isascii() and limit.isdigit() and len(limit) <= 20 else None

    @property
    def shortest_time(self) -> int | None:
        """The least time in which it delivers or returns a message (RFC 2852 §3), in seconds; None: it does not."""
        if "DELIVERBY" not in self.extensions:
            return None
        shortest = self.extensions["DELIVERBY"].partition(",")[0]
        return int(shortest) if shortest.isascii() and shortest.isdigit() and len(shortest) <= 9 else 0

    @property
    def recipient_limit(self) -> int | None:
        """RCPTMAX of LIMITS (RFC 9422 §4.2)."""
        for limit in self.extensions.get("LIMITS", "").split():
            name, _, value = limit.partition("=")
            if name.upper() == "RCPTMAX" and value.isascii() and value.isdigit() and len(value) <= 6:
                return int(value) or None
        return None

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The authentication mechanisms, in upper case."""
        return tuple(dict.fromkeys(self.extensions.get("AUTH", "").upper().split()))

    # Commands

    def ehlo(self, name: str) -> None:
        """LHLO in LMTP."""
        command = Command.LHLO if self._lmtp else Command.EHLO
        self._command(command, f"{command} {name}")

    def helo(self, name: str) -> None:
        if self._lmtp:
            raise ProtocolMisuse("LMTP has no HELO")
        self._command(Command.HELO, f"HELO {name}")

    def starttls(self) -> None:
        self._command(Command.STARTTLS, "STARTTLS", alone=True)

    def auth(self, mechanism: ClientMechanism) -> None:
        """RFC 4954 §4. An initial response too long for a command line is sent after an empty challenge."""
        initial = mechanism.initial
        line = f"AUTH {mechanism.name}"
        if initial is not None:
            full = f"{line} {encode_base64(initial).decode() or '='}"
            if len(full) + 2 <= COMMAND_LIMIT:
                line, initial = full, None
        self._command(Command.AUTH, line, alone=True)
        self._mechanism, self._initial = mechanism, initial

    def mail(
        self,
        sender: Address | None,
        asked: MailParameters = NOTHING_ASKED,
        *,
        size: int | None = None,
        seconds: int = 0,
    ) -> None:
        """`size` and what is `asked` are told to a server that offers SIZE, 8BITMIME, BINARYMIME, SMTPUTF8, DSN,
        REQUIRETLS, DELIVERBY and MT-PRIORITY; `seconds` are left until the time of `deliver_by`.

        Whether to send it such a message at all is the caller's question. Raises ValueError for an address that is not
        ASCII when SMTPUTF8 is not told.
        """
        parameters = {
            "SIZE": "" if size is None else f"SIZE={size}",
            "8BITMIME": f"BODY={asked.body}" if asked.body is Body.EIGHT_BIT else "",
            "BINARYMIME": f"BODY={asked.body}" if asked.body is Body.BINARY else "",
            "DSN": _words(asked.ret and f"RET={asked.ret}", asked.envid and f"ENVID={xtext(asked.envid)}"),
            "REQUIRETLS": "REQUIRETLS" if asked.requiretls else "",
            "DELIVERBY": _by(asked.deliver_by, seconds),
            "MT-PRIORITY": f"MT-PRIORITY={asked.priority}" if asked.priority else "",
            "SMTPUTF8": "SMTPUTF8" if asked.smtputf8 else "",
        }
        offered = (text for keyword, text in parameters.items() if keyword in self.extensions)
        self._utf8 = asked.smtputf8 and "SMTPUTF8" in self.extensions
        self._command(Command.MAIL, _words(f"MAIL FROM:<{sender if sender is not None else ''}>", *offered))

    def rcpt(self, recipient: Recipient) -> None:
        """What its sender wants to be told of it is told to a server that offers DSN.

        Raises ValueError for an address that is not ASCII when MAIL did not tell SMTPUTF8.
        """
        line = f"RCPT TO:<{recipient.address}>"
        if "DSN" in self.extensions:
            notify, orcpt = recipient.notify, recipient.orcpt
            line += f" NOTIFY={','.join(sorted(notify))}" if notify is not None else ""
            line += f" ORCPT={self._named(orcpt)}" if orcpt is not None else ""
        self._command(Command.RCPT, line)

    def _named(self, orcpt: str) -> str:
        if not is_utf8_type(orcpt):
            return xtext(orcpt)
        return in_eight_bits(orcpt) if self._utf8 else in_seven_bits(orcpt)

    def bdat(self, chunk: bytes, *, last: bool = False) -> None:
        """A chunk of the content as it is (RFC 3030); each has its answer.

        After one that was refused nothing goes on but by `rset`.
        """
        self._command(Command.LAST if last else Command.BDAT, f"BDAT {len(chunk)}{' LAST' if last else ''}")
        self._output.append(chunk)

    def data(self) -> None:
        self._command(Command.DATA, "DATA")

    def body(self, chunk: bytes) -> None:
        """The next octets of the content, cut anywhere; only after DATA was answered by 354."""
        self._output.append(self._writer().feed(chunk))

    def end_body(self) -> None:
        """The content is complete; the answer is the server's word for the whole message.

        A server that wants content though it took no recipient gets an empty one (RFC 2920 §3.1); in LMTP it has no
        answer then.
        """
        self._output.append(self._writer().end())
        self._body = None
        if self._taken or not self._lmtp:
            self._outstanding.append(Command.BODY)

    def rset(self) -> None:
        self._command(Command.RSET, "RSET")

    def noop(self) -> None:
        self._command(Command.NOOP, "NOOP")

    def quit(self) -> None:
        self._command(Command.QUIT, "QUIT")

    def _command(self, command: Command, line: str, *, alone: bool = False) -> None:
        if _UNSENDABLE.search(line):
            raise ValueError("a command must not hold control characters")
        octets = line.encode("utf-8" if self._utf8 else "ascii") + b"\r\n"
        if self._body is not None:
            raise ProtocolMisuse("the body is not complete")
        if self._outstanding and (alone or self._outstanding[-1] in ALONE):
            raise ProtocolMisuse("a reply must be awaited first")
        self._output.append(octets)
        self._outstanding.append(command)

    def _writer(self) -> BodyWriter:
        if self._body is None:
            raise ProtocolMisuse("DATA was not answered by 354")
        return self._body

    # Events

    def next_event(self) -> ReplyReceived | None:
        """The next answer; None: more octets are needed, and what `data_to_send` gives may have to be sent for them.

        Raises ProtocolError, and the same one from then on.
        """
        if self._broken is not None:
            raise self._broken
        try:
            return self._next_reply()
        except ProtocolError as error:
            self._broken = error
            self._input.clear()
            raise

    def _next_reply(self) -> ReplyReceived | None:
        while (reply := self._input.next()) is not None:
            if not self._outstanding:
                if reply.code != 421:
                    raise ProtocolError("a reply that nothing asked for")
                return ReplyReceived(None, with_enhanced(reply))
            command = self._outstanding[0]
            if 300 <= reply.code < 400 and INTERMEDIATE.get(command) != reply.code:
                raise ProtocolError(f"{reply.code} in answer to {command}")
            if reply.code == 334:
                self._respond(reply.text)
                continue
            if self._lmtp and command in ENDS and self._taken > 1:
                self._taken -= 1
                return ReplyReceived(command, with_enhanced(reply))
            self._outstanding.popleft()
            return ReplyReceived(command, self._settle(command, reply))
        return None

    def _settle(self, command: Command, reply: Reply) -> Reply:
        """Does what the final reply to a command means for this side."""
        match command:
            case Command.GREETING | Command.EHLO | Command.HELO | Command.LHLO:
                extended = command in (Command.EHLO, Command.LHLO) and reply.positive
                self.extensions = parse_extensions(reply.text.split("\n")[1:] if extended else [])
                self._taken = 0
                return reply if reply.positive else with_enhanced(reply)
            case Command.STARTTLS if reply.positive:
                self._input.clear()
                self.extensions = {}
                self.secure = True
            case Command.AUTH:
                self._mechanism = self._initial = None
            case Command.RCPT if reply.positive:
                self._taken += 1
            case Command.RSET | Command.BODY | Command.LAST:
                self._taken = 0
            case Command.MAIL if reply.positive:
                self._taken = 0
            case Command.BDAT if not reply.positive:
                self._taken = 0  # the transaction is over, and chunks that are on their way have one answer each
            case Command.DATA if reply.positive:
                if reply.code != 354:
                    raise ProtocolError(f"{reply.code} in answer to {command}")
                self._body = BodyWriter()
            case _:
                pass
        return with_enhanced(reply)

    def _respond(self, challenge: str) -> None:
        """Answers a challenge, or gives the exchange up with `*`; the server's final reply tells the caller."""
        mechanism, initial, self._initial = self._mechanism, self._initial, None
        if mechanism is None:
            raise ProtocolError("a challenge after the exchange was given up")
        try:
            octets = decode_base64(challenge.encode())
            response = encode_base64(mechanism.respond(octets) if initial is None else initial)
        except ValueError:
            self._mechanism = None
            response = b"*"
        self._output.append(response + b"\r\n")
