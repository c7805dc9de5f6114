"""One SMTP or LMTP session with another server, over a connection and the client engine.

Promises   Each stage ends by its timeout (RFC 5321 §4.5.3.2), also when the remote sends octet by octet. Nothing after
           the final dot is tried twice: an answer that is lost there leaves the message to the next attempt. No final
           dot is sent when the message may be another process's by now.
On failure `SessionFailed`: the message was not taken by this server, another address of the next hop may be tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import floor

from mailserver.delivery.retry import TIME_OVER
from mailserver.mail import (
    Action,
    Address,
    Body,
    Content,
    DeliverBy,
    DeliveryStatus,
    Envelope,
    Notify,
    Recipient,
    Reply,
)
from mailserver.ports import Clock, ConnectFailure, Connection, Workers
from mailserver.sasl import choose
from mailserver.smtp.client import ClientConnection
from mailserver.smtp.replies import ProtocolError

# Seconds, RFC 5321 §4.5.3.2; TLS has none there.
GREETING = HELLO = MAIL = RCPT = 300.0
HANDSHAKE = 60.0
DATA = 120.0
BLOCK = 180.0
CONTENT = 7200.0  # for all blocks together, so that a slow reader does not hold a connection for days
END_OF_DATA = 600.0

RECIPIENTS = 100  # in one transaction: every server takes as many (§4.5.3.1.8)

STALE = Reply.of(451, "4.3.2", "Another process works on the message now")


class SessionFailed(Exception):
    """The session ended before the message was handed over. `said`: `reply` is the remote's own."""

    def __init__(self, reply: Reply, *, said: bool = False) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.said = said


class TLSFailed(SessionFailed):
    """The handshake failed; in clear the same server may still take the message."""


class _AnswerLost(SessionFailed):
    """After the final dot: the server may have taken the message, so nothing more is tried in this attempt.

    `before`: the answers that came, for the first recipients.
    """

    def __init__(self, reply: Reply, *, said: bool, before: Sequence[Reply]) -> None:
        super().__init__(reply, said=said)
        self.before = before


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is sent: `header` on top of `content`, `body` what it needs. `utf8_header`: its own header is in UTF-8."""

    envelope: Envelope
    header: bytes
    content: Content
    body: Body
    utf8_header: bool = False

    @property
    def sender(self) -> Address | None:
        return self.envelope.sender

    @property
    def size(self) -> int:
        return len(self.header) + self.content.size


class Conversation:
    """`name`: the remote's host name, for TLS and for reports. `may_send`: the messages are still ours to send."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        workers: Workers,
        clock: Clock,
        *,
        may_send: Callable[[], bool] = lambda: True,
        lmtp: bool = False,
    ) -> None:
        self._connection = connection
        self._name = name
        self._workers = workers
        self._clock = clock
        self._may_send = may_send
        self._lmtp = lmtp
        self._client = ClientConnection(lmtp=lmtp)
        self._answered = self._answered_now = False
        self._broken_off = False
        self._unfinished = False
        """A transaction was begun and is to be forgotten by RSET."""
        self.messages = 0
        """How many transactions there were."""

    @property
    def answered(self) -> bool:
        """The remote said something, since the last transaction began."""
        return self._answered_now

    @property
    def offers_tls(self) -> bool:
        return "STARTTLS" in self._client.extensions

    @property
    def offers_requiretls(self) -> bool:
        return "REQUIRETLS" in self._client.extensions

    @property
    def broken(self) -> bool:
        """Nothing more can be sent here: the connection ended."""
        return self._broken_off

    # Stages

    async def greet(self, hostname: str) -> None:
        """Waits for the greeting and says EHLO. Raises SessionFailed."""
        self._expect(await self._answer(GREETING))
        await self.hello(hostname)

    async def hello(self, hostname: str) -> None:
        """EHLO, or HELO for a server that knows no better (§3.2). Raises SessionFailed."""
        self._client.ehlo(hostname)
        reply = await self._answer(HELLO)
        if reply.permanent and not self._lmtp:
            self._client.helo(hostname)
            reply = await self._answer(HELLO)
        self._expect(reply)
        if hostname.lower() in reply.text.lower().split(maxsplit=1)[:1]:
            raise SessionFailed(Reply.of(554, "5.4.6", f"Mail makes a circle: {self._name} is this server itself"))

    async def handshake(self, *, verify: bool) -> None:
        """TLS from here on. Raises TLSFailed."""
        try:
            await self._connection.start_tls(self._name, HANDSHAKE, verify=verify)
        except ConnectFailure as error:
            self._broken_off = True
            raise TLSFailed(Reply.of(454, "4.7.0", f"No encryption with {self._name}: {error}")) from error

    async def start_tls(self, hostname: str, *, verify: bool) -> None:
        """STARTTLS, the handshake, and EHLO again. A server that does not want to leaves the session in clear.

        Raises SessionFailed, of which TLSFailed.
        """
        self._client.starttls()
        if (await self._answer(HELLO)).positive:
            await self.handshake(verify=verify)
            await self.hello(hostname)

    async def log_in(self, user: str, password: str) -> None:
        """Any failure is temporary: it is the administrator's to mend, not the sender's. Raises SessionFailed."""
        try:
            mechanism = choose(self._client.mechanisms, user, password)
        except ValueError as error:
            raise SessionFailed(Reply.of(454, "4.7.0", f"The login at {self._name} is misconfigured")) from error
        if mechanism is None:
            raise SessionFailed(Reply.of(454, "4.7.0", f"{self._name} offers no login that is known here"))
        self._client.auth(mechanism)
        reply = await self._answer(HELLO)
        if not reply.positive:
            text = f"{self._name} refused the login of this server: {reply}"
            raise SessionFailed(Reply.of(454, "4.7.0", text))

    async def send(self, mail: Outgoing, recipients: Sequence[Recipient]) -> list[DeliveryStatus]:
        """One transaction: a status for each recipient, in order. Raises SessionFailed."""
        refusal = self._unfit(mail)
        if refusal is not None:
            return [DeliveryStatus(recipient.address, Action.FAILED, refusal) for recipient in recipients]
        sendable = [recipient for recipient in recipients if self._spelled(recipient.address) is not None]
        if len(sendable) < len(recipients):
            done = {status.recipient: status for status in (await self.send(mail, sendable) if sendable else [])}
            unsendable = self._not_ascii()
            return [
                done.get(recipient.address) or DeliveryStatus(recipient.address, Action.FAILED, unsendable)
                for recipient in recipients
            ]
        self._answered_now = False
        self.messages += 1
        limit = min(self._client.recipient_limit or RECIPIENTS, RECIPIENTS)
        statuses: list[DeliveryStatus] = []
        for start in range(0, len(recipients), limit):
            try:
                if self._broken_off:
                    raise SessionFailed(Reply.of(451, "4.4.2", f"{self._name}: the connection broke"))
                statuses += await self._transaction(mail, recipients[start : start + limit])
            except SessionFailed as failure:
                if not statuses:
                    raise
                self._broken_off = True  # those before it were served: only the others are tried again, and later
                host = self._name if failure.said else None
                left = recipients[start:]
                statuses += [DeliveryStatus.of_reply(each.address, failure.reply, host) for each in left]
                break
        in_time = self._client.shortest_time is not None
        return [
            replace(status, passed_on=self._takes_dsn, in_time=in_time) if status.reply.positive else status
            for status in statuses
        ]

    async def quit(self) -> None:
        """Takes leave without waiting for the answer, where the remote waits for a command."""
        if self._broken_off or self._client.outstanding or self._client.in_body:
            return
        try:
            self._client.quit()
            await self._connection.write(self._client.data_to_send(), 1.0)
        except ConnectFailure:
            pass  # the message is settled; how the session ends does not matter

    # The transaction

    def _unfit(self, mail: Outgoing) -> Reply | None:
        limit = self._client.size_limit
        if limit is not None and mail.size > limit:
            return Reply.of(552, "5.3.4", f"{self._name} takes messages of at most {limit} octets")
        # RFC 6152 §3, RFC 3030 §3: neither sent as it is nor converted, which would break signatures.
        if mail.body is Body.BINARY and not {"CHUNKING", "BINARYMIME"} <= self._client.extensions.keys():
            return Reply.of(554, "5.6.3", f"{self._name} takes no binary content, and the message has some")
        if mail.body is Body.EIGHT_BIT and "8BITMIME" not in self._client.extensions:
            return Reply.of(554, "5.6.3", f"{self._name} takes no 8-bit content, and the message has some")
        if (by := mail.envelope.parameters.deliver_by) is not None and by.returned:
            left = by.time - self._clock.wall()
            if left <= 0:
                return TIME_OVER
            if self._client.shortest_time is None or self._client.shortest_time > left:  # RFC 2852 §4.1.4.1
                text = f"{self._name} does not promise to deliver the message in time or to return it"
                return Reply.of(554, "5.3.3", text)
        if not self._takes_utf8 and (mail.utf8_header or (mail.sender and self._spelled(mail.sender) is None)):
            return self._not_ascii()
        return None

    @property
    def _takes_dsn(self) -> bool:
        return "DSN" in self._client.extensions

    @property
    def _takes_utf8(self) -> bool:
        return "SMTPUTF8" in self._client.extensions

    def _spelled(self, address: Address) -> Address | None:
        """As this server can be told it; None: it cannot (RFC 6531 §3.2)."""
        return address if self._takes_utf8 else address.in_ascii()

    def _not_ascii(self) -> Reply:
        return Reply.of(
            553, "5.6.7", f"{self._name} takes ASCII addresses and headers only, and the message has others"
        )

    async def _transaction(self, mail: Outgoing, recipients: Sequence[Recipient]) -> list[DeliveryStatus]:
        """In two writes where the server offers PIPELINING (RFC 2920): up to DATA, and the content."""
        replies, go_ahead = await self._envelope(mail, recipients)
        taken = sum(reply.positive for reply in replies)
        finals: list[Reply] = []
        host: str | None = self._name
        try:
            if taken or go_ahead is not None:
                finals = await self._content(mail, taken, go_ahead)
        except _AnswerLost as lost:
            self._broken_off = True
            finals, host = [*lost.before, *[lost.reply] * (taken - len(lost.before))], self._name if lost.said else None
        self._unfinished = not any(reply.positive for reply in finals)
        answers = iter(finals)
        return [
            DeliveryStatus.of_reply(recipient.address, next(answers), host)
            if reply.positive
            else DeliveryStatus.of_reply(recipient.address, reply, self._name)
            for recipient, reply in zip(recipients, replies, strict=True)
        ]

    async def _envelope(self, mail: Outgoing, recipients: Sequence[Recipient]) -> tuple[list[Reply], Reply | None]:
        """The answers to the RCPTs, and that to DATA where it was sent already."""
        told = [self._told(each, mail) for each in recipients]
        pipelining = "PIPELINING" in self._client.extensions
        sender = self._spelled(mail.sender) if mail.sender is not None else None
        smtputf8 = mail.utf8_header or any(
            address.needs_smtputf8 for address in (*(each.address for each in told), *filter(None, [sender]))
        )
        asked = replace(mail.envelope.parameters, body=mail.body, smtputf8=smtputf8)
        reset, self._unfinished = self._unfinished, True
        if reset:
            self._client.rset()
        if reset and not pipelining:
            await self._answer(MAIL)
        self._client.mail(sender, asked, size=mail.size, seconds=self._seconds_left(asked.deliver_by))
        early_data = pipelining and mail.body is not Body.BINARY
        if pipelining:
            for recipient in told:
                self._client.rcpt(recipient)
        if early_data:
            self._client.data()
        if reset and pipelining:
            await self._answer(MAIL)
        accepted = await self._answer(MAIL)
        if accepted.temporary:
            raise SessionFailed(accepted, said=True)
        replies: list[Reply] = []
        for recipient in told if pipelining or accepted.positive else ():
            if not pipelining:
                self._client.rcpt(recipient)
            replies.append(await self._answer(RCPT))
        go_ahead = await self._answer(DATA) if early_data else None
        return replies if accepted.positive else [accepted] * len(recipients), go_ahead

    def _told(self, recipient: Recipient, mail: Outgoing) -> Recipient:
        """As this server is told of it: where it does not know of the time, to tell of delays (RFC 2852 §4.1.4.2)."""
        told = replace(recipient, address=self._spelled(recipient.address) or recipient.address)
        by = mail.envelope.parameters.deliver_by
        if by is None or self._client.shortest_time is not None or recipient.wants(Notify.NEVER):
            return told
        return replace(told, notify=(told.notify or frozenset({Notify.FAILURE})) | {Notify.DELAY})

    def _seconds_left(self, by: DeliverBy | None) -> int:
        """None are left, or the time is over, only where the message is not to be returned (RFC 2852 §4)."""
        if by is None:
            return 0
        left = floor(by.time - self._clock.wall())
        return max(left, 1) if by.returned else left

    async def _content(self, mail: Outgoing, taken: int, go_ahead: Reply | None) -> list[Reply]:
        """The answers that count for the recipients that were taken: one for each of them."""
        if mail.body is Body.BINARY:
            return await self._binary_content(mail, taken)
        if go_ahead is None:
            self._client.data()
            go_ahead = await self._answer(DATA)
        if not go_ahead.positive:
            return [go_ahead] * taken
        if taken:
            await self._write_content(mail)
        self._client.end_body()  # without recipients an empty content ends the transaction (RFC 2920 §3.1)
        return await self._finals(taken) if taken or not self._lmtp else []

    async def _write_content(self, mail: Outgoing) -> None:
        deadline = self._clock.monotonic() + CONTENT
        chunks = chain(filter(None, [mail.header]), mail.content.chunks())
        try:
            while chunk := _next(chunks) if mail.content.in_memory else await self._workers.run(_next, chunks):
                self._client.body(chunk)
                await self._connection.write(self._client.data_to_send(), BLOCK)
                if self._clock.monotonic() > deadline:
                    raise ConnectFailure("the remote is too slow to read")
        except ConnectFailure as error:
            raise await self._cut_off(error) from error
        if not self._may_send():
            raise SessionFailed(STALE)

    async def _binary_content(self, mail: Outgoing, taken: int) -> list[Reply]:
        """RFC 3030: each chunk has its answer."""
        deadline = self._clock.monotonic() + CONTENT
        chunks = chain(filter(None, [mail.header]), mail.content.chunks())
        while chunk := await self._workers.run(_next, chunks):
            self._client.bdat(chunk)
            reply = await self._answer(BLOCK)
            if not reply.positive:
                return [reply] * taken
            if self._clock.monotonic() > deadline:
                raise self._broken(ConnectFailure("the remote is too slow to read"))
        if not self._may_send():
            raise SessionFailed(STALE)
        self._client.bdat(b"", last=True)
        return await self._finals(taken)

    async def _finals(self, taken: int) -> list[Reply]:
        """The word for the whole message, or in LMTP for each recipient (RFC 2033 §4.2). Raises _AnswerLost."""
        replies: list[Reply] = []
        try:
            while len(replies) < (taken if self._lmtp else 1):
                replies.append(await self._answer(END_OF_DATA))
        except SessionFailed as failure:
            reply = failure.reply
            if not failure.said:
                reply = replace(reply, text=f"{reply.text}; all of the message was sent, so it may come twice")
            raise _AnswerLost(reply, said=failure.said, before=replies) from failure
        return replies if self._lmtp else replies * taken

    async def _cut_off(self, error: ConnectFailure) -> SessionFailed:
        """A server that refuses before the content has ended (552, say) may hang up after its reply.

        The reply may have come as early as the go-ahead.
        """
        self._client.end_body()  # which nobody sends; what was said is the answer to it
        self._broken_off = True
        try:
            self._client.receive_data(await self._connection.read(0.0))
        except ConnectFailure:
            pass
        try:
            event = self._client.next_event()
        except ProtocolError:
            event = None
        if event is None or event.reply.positive:
            return self._broken(error)
        return SessionFailed(event.reply, said=True)

    # Answers

    async def _answer(self, timeout: float) -> Reply:
        """The reply to the oldest command. Raises SessionFailed: no reply, 421, or something that is no SMTP."""
        deadline = self._clock.monotonic() + timeout
        try:
            while (event := self._client.next_event()) is None:
                if output := self._client.data_to_send():
                    await self._connection.write(output, timeout)
                data = await self._connection.read(max(deadline - self._clock.monotonic(), 0.0))
                if not data:
                    raise ConnectFailure("the remote closed the connection")
                self._client.receive_data(data)
        except ConnectFailure as error:
            raise self._broken(error) from error
        except ProtocolError as error:
            raise SessionFailed(Reply.of(451, "4.5.0", f"{self._name} does not speak SMTP: {error}")) from error
        self._answered = self._answered_now = True
        if event.reply.code == 421:
            raise SessionFailed(event.reply, said=True)
        return event.reply

    def _expect(self, reply: Reply) -> None:
        if not reply.positive:
            raise SessionFailed(reply, said=True)

    def _broken(self, error: ConnectFailure) -> SessionFailed:
        """4.4.1 before its first word: it is not there; 4.4.2 later."""
        return SessionFailed(Reply.of(451, "4.4.2" if self._answered else "4.4.1", f"{self._name}: {error}"))


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")
