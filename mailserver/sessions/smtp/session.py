"""An SMTP session: what a client may do on port 25; submission and LMTP differ from it in a few places.

Promises   `250` after the data means that every recipient's copy is on disk, in its mailbox or in the queue.
           Recipients are answered at RCPT: unknown users, full mailboxes and relaying for strangers are refused there.
On failure A disk that is full or fails gives 4xx, and the client keeps the message. Too many bad commands, too many
           messages, or silence end the session with 421.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mailserver import metrics
from mailserver.delivery.intake import Outcome
from mailserver.delivery.retry import TIME_OVER
from mailserver.delivery.router import Local, Refused, Route
from mailserver.mail import UNLIMITED, Address, Content, DeliverBy, Envelope, MailParameters, Recipient, Reply
from mailserver.mail.trace import Arrival
from mailserver.policy.connections import Refusal
from mailserver.ports import Channel
from mailserver.queue import QueueError
from mailserver.sessions.login import Exchange, LoginRefused
from mailserver.sessions.smtp.head import Head
from mailserver.sessions.smtp.patience import Patience
from mailserver.sessions.smtp.rooms import SMTPRooms
from mailserver.smtp import events
from mailserver.smtp.body import Strictness
from mailserver.smtp.server import Limits as EngineLimits
from mailserver.smtp.server import ServerConnection
from mailserver.store import StoreError

log = logging.getLogger(__name__)

CLASSES = {number: f"{number}xx" for number in range(2, 6)}
"""Of replies, as they are counted."""

DISK_RESERVE = 16 * 2**20  # octets that stay free for what is on its way already

SENDER_OK = Reply.of(250, "2.1.0", "Sender ok")
RECIPIENT_OK = Reply.of(250, "2.1.5", "Recipient ok")
GO_ON = Reply(354, "Send the message, end it with <CRLF>.<CRLF>")
TOO_MANY_RECIPIENTS = Reply.of(452, "4.5.3", "Too many recipients; send the message again to the others")
NO_ROOM = Reply.of(452, "4.3.1", "No room for the message now, try again later")
MAILBOX_FULL = Reply.of(452, "4.2.2", "The mailbox is full")
MAILBOX_TOO_SMALL = Reply.of(552, "5.2.2", "The message is larger than all that the mailbox may hold")


@dataclass(slots=True)
class _Transaction:
    """One mail transaction: MAIL to the end of its data (RFC 5321 §3.3)."""

    mail: events.Mail
    recipients: list[Recipient]
    routes: list[Route]
    parameters: MailParameters
    attempts: int = 0
    content: Content | None = None
    spool_error: OSError | None = None


def refuse(hostname: str, refusal: Refusal) -> bytes:
    """The greeting of a client that is turned away (RFC 5321 §3.1)."""
    return Reply(421, f"{hostname} {refusal.value}").to_bytes()


class SMTPSession:
    """Port 25: mail for the mailboxes of this server, from anybody."""

    submission = False
    lmtp = False

    def __init__(self, channel: Channel, rooms: SMTPRooms, *, tls_available: bool) -> None:
        self._channel = channel
        self._rooms = rooms
        self._tls_available = tls_available
        self.engine = ServerConnection(
            rooms.hostname,
            EngineLimits(
                command_line=rooms.limits.command_line,
                message_size=rooms.limits.message_size,
                recipients=rooms.limits.recipients,
                transactions=rooms.limits.transactions,
                strictness=Strictness(
                    bare_lf=rooms.policy.bare_lf == "refuse",
                    bare_cr_and_nul=rooms.policy.bare_cr_and_nul == "refuse",
                    long_lines=rooms.policy.long_lines == "refuse",
                ),
            ),
            starttls=tls_available and channel.tls is None,
            auth=(),
            lmtp=self.lmtp,
            xclient=channel.peer in rooms.proxies,
            encrypted=channel.tls is not None,
            etrn=bool(rooms.policy.etrn) and not self.lmtp,
        )
        self._hello: events.Hello | None = None
        self._account: Address | None = None
        self._exchange: Exchange | None = None
        self._transaction: _Transaction | None = None
        self._patience = Patience(rooms.hostname, rooms.limits, rooms.clock)
        self._handlers: dict[type, Callable[[Any], Awaitable[Reply | None]]] = {
            events.Hello: self._on_hello,
            events.Mail: self._on_mail,
            events.Rcpt: self._on_rcpt,
            events.Data: self._on_data,
            events.BodyChunk: self._on_chunk,
            events.ChunkEnd: self._on_chunk_end,
            events.BodyEnd: self._on_end,
            events.Reset: self._on_reset,
            events.Noop: self._on_noop,
            events.Verify: self._on_verify,
            events.Help: self._on_help,
            events.Quit: self._on_quit,
            events.StartTLS: self._on_starttls,
            events.Auth: self._on_auth,
            events.AuthResponse: self._on_auth_response,
            events.AuthCancelled: self._on_auth_cancelled,
            events.Etrn: self._on_etrn,
            events.XClient: self._on_xclient,
            events.Rejected: self._on_rejected,
        }

    # The pump's side

    @property
    def idle_timeout(self) -> float:
        return self._rooms.limits.smtp_timeout

    @property
    def deadline(self) -> float:
        content = self._transaction.content if self._transaction is not None else None
        return self._patience.deadline(content.size if content is not None else 0)

    @property
    def awaits_login(self) -> bool:
        return self.submission and self._account is None

    @property
    def amid_message(self) -> bool:
        return self._transaction is not None and self._transaction.content is not None

    async def opened(self) -> None:
        """Whoever speaks before the greeting is no mail server (RFC 5321 §4.3.1: the client waits for it)."""
        pause = self._rooms.policy.greeting_pause
        if pause and not (self.submission or self.lmtp):
            await self._rooms.clock.sleep(pause)
            if self.engine.buffered:
                log.warning("session=%s peer=%s spoke before the greeting", self._channel.id, self._channel.peer)
                self.engine.greet(Reply(421, f"{self._rooms.hostname} you spoke before the greeting"))
                self._channel.close()
                return
        self.engine.greet(Reply(220, "LMTP ready" if self.lmtp else "ESMTP ready"))

    async def handle(self, event: events.Event) -> None:
        kind = type(event)
        reply = self._patience.idling(event) or await self._handlers[kind](event)
        if reply is not None:
            self.engine.reply(reply)
            metrics.COMMANDS.add(self._channel.protocol, kind.__name__, CLASSES[reply.code // 100])
        if self.engine.closed:
            self._channel.close()

    def timed_out(self) -> None:
        self.engine.reply(Reply.of(421, "4.4.2", f"{self._rooms.hostname} you took too long"))

    def lost(self) -> None:
        self._end_transaction()

    # Commands

    async def _on_hello(self, event: events.Hello) -> Reply:
        self._end_transaction()
        self._hello = event
        self.engine.auth = self._rooms.authenticator.mechanisms(self._channel) if self._may_log_in() else ()
        return Reply(250, f"greets {event.domain}")

    async def _on_mail(self, event: events.Mail) -> Reply:
        refusal = await self._refuse_sender(event.sender)
        if refusal is not None:
            return refusal
        if not await self._disk_has(event.size or 0):
            return NO_ROOM
        try:
            parameters = self._parameters(event)
        except ValueError as error:
            return Reply.of(501, "5.5.4", str(error))
        if (too_much := await self._refuse_message()) is not None:
            return too_much
        if (farewell := self._patience.begun()) is not None:
            return farewell
        self._transaction = _Transaction(event, [], [], parameters)
        if parameters.priority != event.priority:
            return Reply.of(250, "2.3.6", f"{parameters.priority} is the priority that the message gets")
        return SENDER_OK

    async def _on_rcpt(self, event: events.Rcpt) -> Reply:
        transaction = self._transaction
        assert transaction is not None, "the engine takes RCPT only after MAIL"
        transaction.attempts += 1
        if transaction.attempts > self._rooms.limits.recipients:
            return self._patience.surplus(transaction.attempts, TOO_MANY_RECIPIENTS)
        if not self.lmtp:
            if len(transaction.recipients) >= self._most_recipients:
                return TOO_MANY_RECIPIENTS
            if (too_much := self._rooms.sending.recipient(self._channel.peer, self._account)) is not None:
                return too_much
        may_relay, sender = self._account is not None, transaction.mail.sender
        route = await self._rooms.router.admit(event.address, may_relay=may_relay, sender=sender)
        if isinstance(route, Refused):
            log.info("session=%s recipient=%r refused: %s", self._channel.id, str(event.address), route.reply)
            return await self._patience.refused(route.reply)
        if isinstance(route, Local) and route.quota != UNLIMITED:
            refusal = await self._refuse_full(route, transaction.mail.size or 1)
            if refusal is not None:
                log.info("session=%s recipient=%r refused: %s", self._channel.id, str(event.address), refusal)
                return refusal
        transaction.recipients.append(Recipient(event.address, None, event.notify, event.orcpt))
        transaction.routes.append(route)
        return RECIPIENT_OK

    async def _refuse_full(self, route: Local, octets: int) -> Reply | None:
        """By the size that the client declares; what really comes is counted when it is delivered."""
        if not route.quota.allows(octets, 1):
            return MAILBOX_TOO_SMALL
        try:
            room = await self._rooms.workers.run(self._rooms.has_room, route.account, route.quota, octets)
        except (StoreError, OSError) as error:
            log.error("session=%s the mailbox cannot be looked at: %s", self._channel.id, error)
            return None  # delivery will tell
        return None if room else MAILBOX_FULL

    async def _disk_has(self, octets: int) -> bool:
        free = self._rooms.space.recent()
        try:
            if free is None:
                free = await self._rooms.workers.run(self._rooms.space.look)
            return octets + DISK_RESERVE <= free
        except OSError as error:
            log.error("session=%s the disk cannot be looked at: %s", self._channel.id, error)
            return True

    async def _on_data(self, event: events.Data) -> Reply:
        transaction = self._transaction
        assert transaction is not None, "the engine takes DATA and BDAT only after RCPT"
        transaction.content = Content(directory=self._rooms.spool)
        return GO_ON

    async def _on_chunk(self, event: events.BodyChunk) -> None:
        transaction = self._transaction
        assert transaction is not None and transaction.content is not None, "chunks come after DATA"
        if transaction.spool_error is None:
            try:
                transaction.content.write(event.data)
            except OSError as error:
                transaction.spool_error = error

    async def _on_chunk_end(self, event: events.ChunkEnd) -> Reply:
        if event.fault is not None:
            self._end_transaction()
            return event.fault
        return Reply.of(250, "2.0.0", f"{event.size} octets received")

    async def _on_end(self, event: events.BodyEnd) -> Reply | None:
        transaction = self._transaction
        assert transaction is not None and transaction.content is not None, "the end comes after DATA"
        transaction.content.line_ends = event.line_ends
        try:
            fault = event.fault or self._spool_fault(transaction)
            outcome = self._all(transaction, fault) if fault else await self._accept(transaction, transaction.content)
        finally:
            self._end_transaction()
        metrics.MESSAGES.add(self._channel.protocol, CLASSES[outcome.reply.code // 100])
        if self.lmtp:
            self.engine.reply_each(outcome.each)
        elif transaction.mail.prdr and len(set(outcome.each)) > 1:
            first = Reply(353, "Each recipient is answered for itself")
            self.engine.reply_each([first, *outcome.each, outcome.reply])
        else:
            return outcome.reply
        return None

    @staticmethod
    def _all(transaction: _Transaction, reply: Reply) -> Outcome:
        return Outcome(reply, (reply,) * len(transaction.recipients))

    async def _on_reset(self, event: events.Reset) -> Reply:
        self._end_transaction()
        return Reply.of(250, "2.0.0", "Forgotten")

    async def _on_noop(self, event: events.Noop) -> Reply:
        return Reply.of(250, "2.0.0", "Ok")

    async def _on_verify(self, event: events.Verify) -> Reply:
        return Reply.of(252, "2.5.2", "Cannot verify; send mail and see")  # the same for all: RFC 5321 §7.3

    async def _on_help(self, event: events.Help) -> Reply:
        return Reply.of(214, "2.0.0", "Commands are those of RFC 5321; your postmaster will help")

    async def _on_quit(self, event: events.Quit) -> Reply:
        return Reply.of(221, "2.0.0", f"{self._rooms.hostname} closes")

    async def _on_rejected(self, event: events.Rejected) -> Reply:
        return self._patience.bad(event.reply)

    async def _on_starttls(self, event: events.StartTLS) -> None:
        self._end_transaction()
        self._hello = None
        self._account = None
        self._exchange = None
        self.engine.reply(Reply.of(220, "2.0.0", "Go ahead with TLS"))
        self._channel.start_tls()

    async def _on_etrn(self, event: events.Etrn) -> Reply:
        """RFC 1985 §5.3. Whoever asks learns how many messages wait, so it is for configured domains only."""
        if event.domain not in self._rooms.policy.etrn:
            return Reply.of(459, "4.7.1", f"ETRN is not allowed for {event.domain}")
        try:
            count = await self._rooms.flush(event.domain, event.subdomains)
        except QueueError as error:
            log.error("session=%s ETRN: %s", self._channel.id, error)
            return Reply.of(458, "4.3.0", "The queue cannot be started now")
        if not count:
            return Reply.of(251, "2.0.0", f"No messages wait for {event.domain}")
        return Reply.of(253, "2.0.0", f"{count} messages for {event.domain} are sent now")

    async def _on_xclient(self, event: events.XClient) -> Reply:
        """What is told of the client's address counts from now on, in the log, in trace fields and for limits.

        A login that a proxy tells of does not count: who submits mail proves it here.
        """
        address = event.attributes.get("ADDR")
        if address is not None:
            try:
                ip = ipaddress.ip_address(address.removeprefix("IPV6:").removeprefix("IPv6:"))
            except ValueError:
                ip = None
            if ip is None or "%" in str(ip):  # any text may stand in a zone
                return Reply.of(501, "5.5.4", "ADDR is no address")
            self._channel.speak_for(str(ip))
            if (ban := self._rooms.guard.ban_refusal(str(ip))) is not None:
                return Reply.of(421, "4.7.0", f"{self._rooms.hostname} {ban.value}")
        self._end_transaction()
        self._hello = self._account = self._exchange = None
        self.engine.auth = ()
        return Reply(220, f"{self._rooms.hostname} ESMTP ready")

    # Authentication (RFC 4954)

    def _may_log_in(self) -> bool:
        return False

    async def _on_auth(self, event: events.Auth) -> Reply | None:
        self._exchange = self._rooms.authenticator.begin(self._channel, event.mechanism, "submission")
        if self._exchange is None:  # it was offered, and is no longer
            return Reply.of(504, "5.5.4", "The mechanism is not supported")
        return await self._step(event.initial)

    async def _on_auth_response(self, event: events.AuthResponse) -> Reply | None:
        return await self._step(event.data)

    async def _on_auth_cancelled(self, event: events.AuthCancelled) -> Reply:
        self._exchange = None
        return event.reply

    async def _step(self, response: bytes | None) -> Reply | None:
        assert self._exchange is not None, "a response follows AUTH"
        try:
            outcome = await self._exchange.step(response)
        except LoginRefused as refusal:
            self._exchange = None
            if refusal.temporary:
                return Reply.of(454, "4.7.0", str(refusal))
            code, enhanced = (501, "5.5.2") if refusal.malformed else (535, "5.7.8")
            return await self._on_rejected(events.Rejected(Reply.of(code, enhanced, str(refusal))))
        if isinstance(outcome, bytes):
            self.engine.challenge(outcome)
            return None
        self._exchange, self._account = None, outcome
        return Reply.of(235, "2.7.0", "Authenticated")

    # The transaction

    async def _refuse_sender(self, sender: Address | None) -> Reply | None:
        return None

    async def _refuse_message(self) -> Reply | None:
        """There were enough of them."""
        return None if self.lmtp else self._rooms.sending.message(self._channel.peer, self._account)

    @property
    def _most_recipients(self) -> int:
        return self._rooms.limits.recipients

    def _parameters(self, mail: events.Mail) -> MailParameters:
        """What is asked for the message, as far as it is granted. Raises ValueError: it cannot be."""
        now = self._rooms.clock.wall()
        by = None if mail.by is None else DeliverBy(now + mail.by.seconds, mail.by.returned, mail.by.trace)
        return MailParameters(
            body=mail.body,
            smtputf8=mail.smtputf8,
            ret=mail.ret,
            envid=mail.envid,
            requiretls=mail.requiretls,
            deliver_by=by,
            priority=min(mail.priority, self._highest_priority),
        )

    @property
    def _highest_priority(self) -> int:
        """Strangers may only step back (RFC 6710 §4.1)."""
        return 0

    def _spool_fault(self, transaction: _Transaction) -> Reply | None:
        if transaction.spool_error is None:
            return None
        log.error("session=%s the body cannot be spooled: %s", self._channel.id, transaction.spool_error)
        return NO_ROOM

    async def _accept(self, transaction: _Transaction, content: Content) -> Outcome:
        head = Head.of(content, self._rooms.limits.header)
        refusal = head.refusal or await self._refuse_header(head)
        if refusal is not None:
            return self._all(transaction, refusal)
        mail, asked = transaction.mail, transaction.parameters
        if asked.deliver_by is not None and asked.deliver_by.gives_up(self._rooms.clock.wall()):
            return self._all(transaction, TIME_OVER)
        envelope = Envelope(mail.sender, tuple(transaction.recipients), asked)
        try:
            prepend, prepared = self._prepared(head, content, mail.sender)
        except OSError as error:
            log.error("session=%s the message cannot be spooled: %s", self._channel.id, error)
            return self._all(transaction, NO_ROOM)
        try:
            if (too_much := await self._count_message()) is not None:
                return self._all(transaction, too_much)
            outcome = await self._rooms.intake.accept(
                envelope,
                prepared,
                self._arrival(smtputf8=mail.smtputf8),
                head.without_loops(transaction.routes),
                prepend=prepend,
                each=self.lmtp or mail.prdr,
            )
            if not outcome.reply.positive:
                await self._take_back_message()
            return outcome
        finally:
            if prepared is not content:
                prepared.close()

    async def _refuse_header(self, head: Head) -> Reply | None:
        return None

    async def _count_message(self) -> Reply | None:
        """Just before it is taken in; why it may not be."""
        return None

    async def _take_back_message(self) -> None:
        """It could not be taken in."""

    def _prepared(self, head: Head, content: Content, sender: Address | None) -> tuple[bytes, Content]:
        """Header fields to put on top, in CRLF form, and the content to go on with. Raises OSError."""
        return b"", content

    def _arrival(self, *, smtputf8: bool) -> Arrival:
        assert self._hello is not None, "no transaction without EHLO"
        tls = self._channel.tls
        protocol = "LMTP" if self.lmtp else "ESMTP" if self._hello.extended else "SMTP"
        if smtputf8:
            protocol = "UTF8LMTP" if self.lmtp else "UTF8SMTP"  # RFC 6531 §4.3
        if self._hello.extended:  # RFC 3848
            protocol += "S" * (tls is not None) + "A" * (self._account is not None)
        id = f"{self._channel.id}.{self._patience.messages}"
        login = str(self._account or "")
        return Arrival(self._hello.domain, self._channel.peer, protocol, id, str(tls or ""), login)

    def _end_transaction(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None and transaction.content is not None:
            transaction.content.close()
