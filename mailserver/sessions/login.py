"""Logging in, the same for SMTP, POP3 and IMAP.

Promises   A password is taken only on an encrypted channel, or from this machine where the configuration says so.
           Unknown and known users get the same answer in the same time. Hashing runs in a worker thread.
           Each failure from one source makes its next answer slower; other sources are not touched.
On failure `LoginRefused`: `temporary` when the directory cannot be asked now. Its text may be shown to the client.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, Protocol

from mailserver.mail import Address
from mailserver.policy.failures import Failures
from mailserver.ports import Channel, Clock, Workers

log = logging.getLogger(__name__)


class LoginRefused(Exception):
    """`temporary`: nothing is wrong with the credentials as far as is known; try later."""

    def __init__(self, text: str, *, temporary: bool = False) -> None:
        super().__init__(text)
        self.temporary = temporary


class Passwords(Protocol):
    """The part of the directory that checks passwords; blocking."""

    def authenticate(self, username: str, password: str) -> Address | None:
        """The account's own address, or None. Takes the same time for unknown users. Raises OSError."""


@dataclass(slots=True)
class Authenticator:
    """One for the whole server; sessions ask it."""

    directory: Passwords
    workers: Workers
    clock: Clock
    failures: Failures
    without_tls: Literal["never", "loopback"] = "never"

    def offered(self, channel: Channel) -> bool:
        """May a password be sent on this channel?"""
        return channel.tls is not None or (self.without_tls == "loopback" and channel.loopback)

    async def login(self, channel: Channel, username: str, password: str, authorize_as: str = "") -> Address:
        """The account's address. `authorize_as`, the SASL authorisation identity, is empty or names the same account.

        Raises LoginRefused.
        """
        if not self.offered(channel):
            raise LoginRefused("encryption is required before a password is sent")
        try:
            account = await self.workers.run(self.directory.authenticate, username, password)
            if account is not None and authorize_as and authorize_as != username:
                account = None
        except OSError as error:
            log.error("session=%s login: the directory cannot be read: %s", channel.id, error)
            raise LoginRefused("accounts cannot be looked up now", temporary=True) from error
        if account is None:
            self.failures.note(channel.peer, self.clock.monotonic())
            log.warning("session=%s peer=%s login refused user=%r", channel.id, channel.peer, username[:100])
            await self.clock.sleep(self.failures.delay(channel.peer, self.clock.monotonic()))
            raise LoginRefused("authentication failed")
        self.failures.forget(channel.peer)
        log.info("session=%s peer=%s login user=%s", channel.id, channel.peer, account)
        return account
