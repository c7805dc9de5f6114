"""Ports 587, 465 and 2525: mail from the users of this server, to anybody (RFC 6409, RFC 8314).

Promises   A client logs in first, and sends as an address of its own account: in the envelope and in the From field.
           From, Date and Message-ID are added where they are missing, Bcc is taken out; nothing else is touched.
           A From field that readers might understand in different ways is refused, not interpreted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from mailserver.accounts import Sending, SourceDown
from mailserver.mail import Address, Content, MailParameters, Reply, parse_mailbox
from mailserver.mail.trace import date_time
from mailserver.message.addresses import plain_mailboxes
from mailserver.message.header import Field
from mailserver.sessions.smtp.head import Head
from mailserver.sessions.smtp.session import SMTPSession
from mailserver.smtp.events import Hello, Mail

log = logging.getLogger(__name__)

R = TypeVar("R")

_BLIND = frozenset({b"bcc", b"resent-bcc"})


class SubmissionSession(SMTPSession):
    """One connection."""

    submission = True
    _allowed = Sending()

    def _may_log_in(self) -> bool:
        return self._rooms.authenticator.offered(self._channel)

    async def _refuse_sender(self, sender: Address | None) -> Reply | None:
        if self._account is None:
            if self._may_log_in():
                return Reply.of(530, "5.7.0", "Authentication is required here")
            return Reply.of(530, "5.7.0", "Begin with STARTTLS, then authenticate")
        try:
            if await self._owns([sender or self._account]):  # an account may end meanwhile
                self._allowed = await self._ask(partial(self._rooms.senders.sending, self._account))
                return None
        except SourceDown as error:
            return self._not_known(error)
        return Reply.of(553, "5.7.1", f"The sender address does not belong to the account {self._account}")

    async def _on_hello(self, event: Hello) -> Reply:
        reply = await super()._on_hello(event)
        longest = self._rooms.policy.future_release
        until = datetime.fromtimestamp(self._rooms.clock.wall() + longest, UTC)
        self.engine.future_release = f"{longest:.0f} {until:%Y-%m-%dT%H:%M:%SZ}"
        return reply

    def _parameters(self, mail: Mail) -> MailParameters:
        """Held for later delivery is what users send (RFC 4865). A time that has passed already is now."""
        asked = super()._parameters(mail)
        now = self._rooms.clock.wall()
        until = mail.hold_until if mail.hold_for is None else now + mail.hold_for
        if until is None or until <= now:
            return asked
        if until > now + self._rooms.policy.future_release:
            raise ValueError("The message cannot be held for so long")
        if asked.deliver_by is not None and until > asked.deliver_by.time:
            raise ValueError("The message would be held beyond the time of BY")
        return replace(asked, release=until, hold=mail.hold)

    @property
    def _highest_priority(self) -> int:
        return self._rooms.policy.highest_priority

    async def _owns(self, addresses: Sequence[Address]) -> bool:
        """Raises SourceDown."""
        account, senders = self._account, self._rooms.senders
        if account is None:
            return False
        return await self._ask(lambda: all(senders.may_send_as(account, address) for address in addresses))

    async def _ask(self, question: Callable[[], R]) -> R:
        """Of the directory. Raises SourceDown."""
        return await self._rooms.router.lookups.run(question) if self._rooms.senders.blocking else question()

    # How much it may send

    async def _refuse_message(self) -> Reply | None:
        most = self._allowed.messages_per_day
        refusal = None
        if self._account is not None and most is not None:
            refusal = await self._rooms.sending.ask(self._account, most)
        return refusal or await super()._refuse_message()

    @property
    def _most_recipients(self) -> int:
        return min(super()._most_recipients, self._allowed.recipients or super()._most_recipients)

    async def _count_message(self) -> Reply | None:
        most = self._allowed.messages_per_day
        if self._account is None or most is None:
            return None
        return await self._rooms.sending.count(self._account, most)

    async def _take_back_message(self) -> None:
        most = self._allowed.messages_per_day
        if self._account is not None and most is not None:
            await self._rooms.sending.take_back(self._account, most)

    def _not_known(self, error: SourceDown) -> Reply:
        log.error("session=%s the sender cannot be looked up: %s", self._channel.id, error)
        return Reply.of(451, "4.3.0", "Your addresses cannot be looked up now, try again later")

    async def _refuse_header(self, head: Head) -> Reply | None:
        header = head.octets[: head.end]
        ends = header.count(b"\r\n")
        if b"\0" in header or not ends == header.count(b"\r") == header.count(b"\n"):
            return Reply.of(550, "5.6.0", "The header holds a NUL, or a CR or LF that ends no line")
        authors = head.named(b"from")
        if len(authors) > 1:
            return Reply.of(550, "5.6.0", "The message has more than one From field")
        try:
            named = [address for field in authors for address in _mailboxes(field)]
        except ValueError:
            return Reply.of(550, "5.6.0", "The From field is no plain list of addresses, as: Name <user@example.org>")
        try:
            if await self._owns(named):
                return None
        except SourceDown as error:
            return self._not_known(error)
        return Reply.of(
            550, "5.7.1", f"The From field names an address that does not belong to the account {self._account}"
        )

    def _prepared(self, head: Head, content: Content, sender: Address | None) -> tuple[bytes, Content]:
        blind = [field for field in head.fields if field.name.lower() in _BLIND]
        top = self._missing_fields(head, sender or self._account)
        return top, self._without(blind, head, content) if blind else content

    def _missing_fields(self, head: Head, author: Address | None) -> bytes:
        """RFC 6409 §8."""
        missing = ""
        if not head.named(b"from"):
            missing += f"From: {author}\r\n"
        if not head.named(b"date"):
            missing += f"Date: {date_time(self._rooms.clock.wall())}\r\n"
        if not head.named(b"message-id"):
            stamp = f"{self._rooms.clock.wall():.6f}".replace(".", "")
            missing += f"Message-ID: <{stamp}.{self._channel.id}@{self._rooms.hostname}>\r\n"
        return missing.encode()

    def _without(self, taken_out: list[Field], head: Head, content: Content) -> Content:
        """A new content without these fields. Raises OSError."""
        kept = Content(directory=self._rooms.spool)
        try:
            position = 0
            for field in taken_out:
                kept.write(head.octets[position : field.start])
                position = field.end
            for chunk in content.chunks(position):
                kept.write(chunk)
        except BaseException:
            kept.close()
            raise
        return kept


def _mailboxes(field: Field) -> list[Address]:
    """Whom the field names. Raises ValueError, of which AddressError and UnicodeDecodeError."""
    return [parse_mailbox(each.decode()) for each in plain_mailboxes(field.value)]
