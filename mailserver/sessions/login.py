"""Logging in, the same for SMTP, POP3 and IMAP.

Promises   A password is taken only on an encrypted channel, or from this machine where the configuration says so.
           Unknown and known users get the same answer in the same time. Hashing runs in a worker thread.
           Each failure from one source makes its next answer slower; other sources are not touched.
On failure `LoginRefused`: `temporary` when the directory cannot be asked now, `malformed` when the client does not
           speak the mechanism. Its text may be shown to the client.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, Protocol

from mailserver.mail import Address
from mailserver.policy.failures import Failures
from mailserver.ports import Channel, Clock, Workers
from mailserver.sasl import SERVER_MECHANISMS, Challenge, Credentials, Malformed, Mechanism, mechanism

log = logging.getLogger(__name__)


class LoginRefused(Exception):
    """`temporary`: nothing is wrong with the credentials as far as is known; try later.

    `malformed`: what the client sent is not of the mechanism, so nothing was tried.
    """

    def __init__(self, text: str, *, temporary: bool = False, malformed: bool = False) -> None:
        super().__init__(text)
        self.temporary = temporary
        self.malformed = malformed


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

    def mechanisms(self, channel: Channel) -> tuple[str, ...]:
        """What AUTH may name on this channel now."""
        return SERVER_MECHANISMS if self.offered(channel) else ()

    def begin(self, channel: Channel, name: str) -> Exchange | None:
        """An exchange of this mechanism, in upper case; None: it is not offered here."""
        machine = mechanism(name) if name in self.mechanisms(channel) else None
        return Exchange(self, channel, machine) if machine is not None else None

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


class Exchange:
    """One authentication by a SASL mechanism. Each `step` gets what the client said."""

    def __init__(self, authenticator: Authenticator, channel: Channel, machine: Mechanism) -> None:
        self._authenticator = authenticator
        self._channel = channel
        self._machine = machine

    async def step(self, response: bytes | None) -> bytes | Address:
        """A challenge, or the account that is logged in. None: the client sent no initial response.

        Raises LoginRefused; then the exchange is over.
        """
        match self._machine.step(response):
            case Challenge(data):
                return data
            case Credentials(user, password, authorize_as):
                return await self._authenticator.login(self._channel, user, password, authorize_as)
            case Malformed(reason):
                raise LoginRefused(f"the response is malformed: {reason}", malformed=True)
