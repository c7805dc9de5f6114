"""What a client may do on port 25, and on the submission ports.

Promises   `250` after the data means that every recipient's copy is on disk, in its mailbox or in the queue.
           Recipients are answered at RCPT: unknown users and relaying for strangers are refused there.
           A submission client logs in first, sends as an address of its own account, and may relay.
On failure A disk that is full or fails gives 4xx, and the client keeps the message. Too many bad commands, or silence,
           end the session with 421.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mailserver.config.model import Limits
from mailserver.delivery.intake import Intake
from mailserver.delivery.router import Refused, Route, Router
from mailserver.mail import Address, Content, Envelope, Recipient, Reply
from mailserver.mail.trace import Arrival, date_time
from mailserver.message.header import fields, header_end
from mailserver.policy.connections import Refusal
from mailserver.ports import Channel, Clock
from mailserver.sessions.login import Authenticator, Exchange, LoginRefused
from mailserver.smtp import events
from mailserver.smtp.server import Limits as EngineLimits
from mailserver.smtp.server import ServerConnection

log = logging.getLogger(__name__)

HEADER_LIMIT = 256 * 1024  # octets looked at for trace and origin fields
REFUSED_RECIPIENTS = 100  # in one session
HARVEST_DELAY = 1.0  # seconds for each refused recipient, once they are many
RECEIVED_LIMIT = 50  # RFC 5321 §6.3 asks for at least 100 hops in theory; loops show long before


class Senders(Protocol):
    """The part of the directory that knows who may send as whom."""

    def may_send_as(self, account: Address, sender: Address) -> bool: ...


@dataclass(frozen=True, slots=True)
class SMTPRooms:
    """What all SMTP and submission sessions of the server share."""

    hostname: str
    limits: Limits
    spool: Path  # large bodies lie there, nameless, while they arrive
    router: Router
    intake: Intake
    senders: Senders
    authenticator: Authenticator
    clock: Clock


@dataclass(slots=True)
class _Transaction:
    """One mail transaction: MAIL to the end of its data (RFC 5321 §3.3)."""

    mail: events.Mail
    recipients: list[Recipient]
    routes: list[Route]
    attempts: int = 0
    content: Content | None = None
    spool_error: OSError | None = None


def refuse(hostname: str, refusal: Refusal) -> bytes:
    """The greeting of a client that is turned away (RFC 5321 §3.1)."""
    return Reply(421, f"{hostname} {refusal.value}").to_bytes()


class SMTPSession:
    """Port 25: mail for the mailboxes of this server, from anybody."""

    submission = False

    def __init__(self, channel: Channel, rooms: SMTPRooms, *, tls_available: bool) -> None:
        self._channel = channel
        self._rooms = rooms
        self._tls_available = tls_available
        self.engine = ServerConnection(
            rooms.hostname,
            EngineLimits(command_line=rooms.limits.command_line, message_size=rooms.limits.message_size),
            starttls=tls_available and channel.tls is None,
            auth=(),
        )
        self._hello: events.Hello | None = None
        self._account: Address | None = None
        self._exchange: Exchange | None = None
        self._transaction: _Transaction | None = None
        self._errors = 0
        self._refused = 0
        self._transactions = 0
        self._handlers: dict[type, Callable[[Any], Awaitable[Reply | None]]] = {
            events.Hello: self._on_hello,
            events.Mail: self._on_mail,
            events.Rcpt: self._on_rcpt,
            events.Data: self._on_data,
            events.BodyChunk: self._on_chunk,
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
            events.Rejected: self._on_rejected,
        }

    # The pump's side

    @property
    def idle_timeout(self) -> float:
        return self._rooms.limits.smtp_timeout

    @property
    def awaits_login(self) -> bool:
        return self.submission and self._account is None

    async def opened(self) -> None:
        self.engine.greet(Reply(220, "ESMTP ready"))

    async def handle(self, event: events.Event) -> None:
        reply = await self._handlers[type(event)](event)
        if reply is not None:
            self.engine.reply(reply)
        if self.engine.closed:
            self._channel.close()

    def timed_out(self) -> None:
        self.engine.reply(Reply.of(421, "4.4.2", f"{self._rooms.hostname} you were silent for too long"))

    def lost(self) -> None:
        self._end_transaction()

    # Commands

    async def _on_hello(self, event: events.Hello) -> Reply:
        self._end_transaction()
        self._hello = event
        self.engine.auth = self._rooms.authenticator.mechanisms(self._channel) if self._may_log_in() else ()
        return Reply(250, f"greets {event.domain}")

    async def _on_mail(self, event: events.Mail) -> Reply:
        refusal = self._refuse_sender(event.sender)
        if refusal is not None:
            return refusal
        self._transactions += 1
        self._transaction = _Transaction(event, [], [])
        return Reply.of(250, "2.1.0", "Sender ok")

    async def _on_rcpt(self, event: events.Rcpt) -> Reply:
        transaction = self._transaction
        assert transaction is not None, "the engine takes RCPT only after MAIL"
        transaction.attempts += 1
        if transaction.attempts > self._rooms.limits.recipients:
            return Reply.of(452, "4.5.3", "Too many recipients; send the message again to the others")
        route = self._rooms.router.route(event.address, may_relay=self._account is not None)
        if isinstance(route, Refused):
            return await self._refuse_recipient(event.address, route.reply)
        transaction.recipients.append(Recipient(event.address))
        transaction.routes.append(route)
        return Reply.of(250, "2.1.5", "Recipient ok")

    async def _refuse_recipient(self, address: Address, reply: Reply) -> Reply:
        """Who tries many names to find those that exist is slowed, then sent away."""
        log.info("session=%s recipient=%r refused: %s", self._channel.id, str(address), reply)
        self._refused += 1
        if self._refused > REFUSED_RECIPIENTS:
            return Reply.of(421, "4.7.0", f"{self._rooms.hostname} too many recipients that are not here")
        if self._refused > self._rooms.limits.errors:
            await self._rooms.clock.sleep(HARVEST_DELAY)
        return reply

    async def _on_data(self, event: events.Data) -> Reply:
        transaction = self._transaction
        assert transaction is not None, "the engine takes DATA only after RCPT"
        transaction.content = Content(directory=self._rooms.spool)
        return Reply(354, "Send the message, end it with <CRLF>.<CRLF>")

    async def _on_chunk(self, event: events.BodyChunk) -> None:
        transaction = self._transaction
        assert transaction is not None and transaction.content is not None, "chunks come after DATA"
        if transaction.spool_error is None:
            try:
                transaction.content.write(event.data)
            except OSError as error:
                transaction.spool_error = error

    async def _on_end(self, event: events.BodyEnd) -> Reply:
        transaction = self._transaction
        assert transaction is not None and transaction.content is not None, "the end comes after DATA"
        try:
            return event.fault or await self._accept(transaction, transaction.content)
        finally:
            self._end_transaction()

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
        self._errors += 1
        if self._errors > self._rooms.limits.errors:
            return Reply.of(421, "4.7.0", f"{self._rooms.hostname} too many bad commands")
        return event.reply

    async def _on_starttls(self, event: events.StartTLS) -> None:
        self._end_transaction()
        self._hello = None
        self._account = None
        self._exchange = None
        self.engine.reply(Reply.of(220, "2.0.0", "Go ahead with TLS"))
        self._channel.start_tls()

    # Authentication (RFC 4954)

    def _may_log_in(self) -> bool:
        return False

    async def _on_auth(self, event: events.Auth) -> Reply | None:
        self._exchange = self._rooms.authenticator.begin(self._channel, event.mechanism)
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

    def _refuse_sender(self, sender: Address | None) -> Reply | None:
        return None

    async def _accept(self, transaction: _Transaction, content: Content) -> Reply:
        if transaction.spool_error is not None:
            log.error("session=%s the body cannot be spooled: %s", self._channel.id, transaction.spool_error)
            return Reply.of(452, "4.3.1", "No room for the message now, try again later")
        head = content.head(HEADER_LIMIT)
        names = [field.name.lower() for field in fields(head[: header_end(head)])]
        if names.count(b"received") > RECEIVED_LIMIT:
            return Reply.of(554, "5.4.6", "The message goes in circles: too many Received fields")
        envelope = Envelope(
            transaction.mail.sender, tuple(transaction.recipients), transaction.mail.body, transaction.mail.smtputf8
        )
        return await self._rooms.intake.accept(
            envelope, content, self._arrival(), transaction.routes, prepend=self._missing_fields(names)
        )

    def _missing_fields(self, names: list[bytes]) -> bytes:
        """Header fields to put on top, in CRLF form."""
        return b""

    def _arrival(self) -> Arrival:
        assert self._hello is not None, "no transaction without EHLO"
        tls = self._channel.tls
        protocol = "ESMTP" if self._hello.extended else "SMTP"
        if self._hello.extended:  # RFC 3848
            protocol += "S" * (tls is not None) + "A" * (self._account is not None)
        id = f"{self._channel.id}.{self._transactions}"
        return Arrival(self._hello.domain, self._channel.peer, protocol, id, str(tls or ""))

    def _end_transaction(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None and transaction.content is not None:
            transaction.content.close()


class SubmissionSession(SMTPSession):
    """Ports 587 and 465: mail from the users of this server, to anybody (RFC 6409, RFC 8314)."""

    submission = True

    def _may_log_in(self) -> bool:
        return self._rooms.authenticator.offered(self._channel)

    def _refuse_sender(self, sender: Address | None) -> Reply | None:
        if self._account is None:
            if self._may_log_in():
                return Reply.of(530, "5.7.0", "Authentication is required here")
            return Reply.of(530, "5.7.0", "Begin with STARTTLS, then authenticate")
        if self._rooms.senders.may_send_as(self._account, sender or self._account):  # an account may end meanwhile
            return None
        return Reply.of(553, "5.7.1", f"The sender address does not belong to the account {self._account}")

    def _missing_fields(self, names: list[bytes]) -> bytes:
        """RFC 6409 §8: Date and Message-ID are added where the client left them out; nothing else is touched."""
        missing = ""
        if b"date" not in names:
            missing += f"Date: {date_time(self._rooms.clock.wall())}\r\n"
        if b"message-id" not in names:
            stamp = f"{self._rooms.clock.wall():.6f}".replace(".", "")
            missing += f"Message-ID: <{stamp}.{self._channel.id}@{self._rooms.hostname}>\r\n"
        return missing.encode()
