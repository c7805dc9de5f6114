"""Logging in, the same for SMTP, POP3 and IMAP.

Promises   A password is taken only on an encrypted channel, or from this machine where the configuration says so.
           Unknown and known users get the same answer in the same time. Hashing runs in a worker thread; an address
           that tries many passwords at once keeps no other address waiting for them.
           Each failure from one source makes its next answer slower; other sources are not touched. Who is banned is
           told so before the password is looked at, whether it is right or wrong.
           What was typed as a name is written down, in the log and for bans, where it looks like a user's name: else
           it may be a password in the wrong field.
On failure `LoginRefused`: `temporary` when the directory cannot be asked now, or too many log in at once; `malformed`
           when the client does not speak the mechanism. Its text may be shown to the client.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from mailserver import metrics
from mailserver.accounts import Visit, login_key
from mailserver.accounts.file import key_of
from mailserver.config.apppasswords import Service
from mailserver.mail import Address
from mailserver.policy.failures import LONGEST_DELAY, Failures
from mailserver.policy.guard import Guard
from mailserver.policy.networks import network_of
from mailserver.ports import Channel, ClientCertificate, Clock, Crowded, FairWorkers
from mailserver.sasl import (
    BINDINGS,
    EXTERNAL,
    OAUTHBEARER,
    SCRAM,
    SCRAM_PLUS,
    SERVER_MECHANISMS,
    XOAUTH2,
    Binding,
    Challenge,
    Credentials,
    Failed,
    Lookup,
    Malformed,
    Mechanism,
    OAuth,
    Proven,
    Scram,
    ScramKeys,
    Token,
    Vouched,
    mechanism,
)

log = logging.getLogger(__name__)

R = TypeVar("R")

NO_NAME = "?"
"""What is written down of a name that may be a password."""


class LoginRefused(Exception):
    """`temporary`: nothing is wrong with the credentials as far as is known; try later.

    `malformed`: what the client sent is not of the mechanism, so nothing was tried.
    `authorization`: the credentials are good, and not to act as another user with.
    """

    def __init__(
        self, text: str, *, temporary: bool = False, malformed: bool = False, authorization: bool = False
    ) -> None:
        super().__init__(text)
        self.temporary = temporary
        self.malformed = malformed
        self.authorization = authorization


class Passwords(Protocol):
    """The part of the directory that knows passwords; blocking."""

    def authenticate(self, username: str, password: str, visit: Visit) -> Address | None:
        """The account's own address, or None. Takes the same time for unknown users. Raises OSError."""

    def account_of(self, username: str) -> Address | None:
        """The account that somebody of this name logs in to. Raises OSError."""

    def offers_scram(self) -> bool:
        """Whether every account may use SCRAM. From memory."""

    def scram_iterations(self) -> Sequence[int]:
        """Those of all accounts; there are some where SCRAM is offered."""

    def scram_keys(self, username: str) -> tuple[Address, ScramKeys] | None:
        """The account's own address and its keys, or None. Raises OSError."""

    @property
    def offers_tokens(self) -> bool:
        """Whether there is an issuer whose tokens are taken."""

    def by_certificate(self, certificate: ClientCertificate, authorize_as: str) -> Address | None:
        """The account that the certificate opens, if it is the one to act as. Raises OSError."""

    def by_token(self, username: str, token: str) -> Address | None:
        """The account that the token is for, if it is good and that is the user's; an empty name is anybody's."""


@dataclass(slots=True)
class Authenticator:
    """One for the whole server; sessions ask it. `secret`: what SCRAM pretends of unknown users hangs on it."""

    directory: Passwords
    workers: FairWorkers
    clock: Clock
    failures: Failures
    without_tls: Literal["never", "loopback"] = "never"
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    openid_configuration: str | None = None
    """Where clients whose token is refused learn how to get one."""
    guard: Guard | None = None

    def offered(self, channel: Channel) -> bool:
        """May a client log in on this channel?"""
        return channel.tls is not None or (self.without_tls == "loopback" and channel.loopback)

    def mechanisms(self, channel: Channel) -> tuple[str, ...]:
        """What AUTH may name on this channel now, the best first."""
        if not self.offered(channel):
            return ()
        left_out = set() if self.directory.offers_tokens else {OAUTHBEARER, XOAUTH2}
        if channel.client_certificate is None:
            left_out |= {EXTERNAL}
        if not self.directory.offers_scram():
            left_out |= {SCRAM, SCRAM_PLUS}
        elif self._binding(channel) is None:
            left_out |= {SCRAM_PLUS}
        return tuple(name for name in SERVER_MECHANISMS if name not in left_out)

    def begin(self, channel: Channel, name: str, service: Service) -> Exchange | None:
        """An exchange of this mechanism, in upper case; None: it is not offered here."""
        if name not in self.mechanisms(channel):
            return None
        machine = mechanism(name, self._binding(channel), configuration=self.openid_configuration)
        return Exchange(self, channel, machine, service) if machine is not None else None

    def _binding(self, channel: Channel) -> Binding | None:
        return channel.binding if any(map(channel.binding, BINDINGS)) else None

    async def login(
        self, channel: Channel, username: str, password: str, service: Service, authorize_as: str = ""
    ) -> Address:
        """The account's address. `authorize_as`, the SASL authorisation identity, is empty or names the same account.

        Raises LoginRefused.
        """
        if not self.offered(channel):
            raise LoginRefused("encryption is required before a password is sent")
        await self._let_in(channel, username, password)
        visit = Visit(service, channel.peer)
        account = await self._ask(channel, lambda: self.directory.authenticate(username, password, visit))
        return await self.decide(channel, username, authorize_as, account, password=password)

    async def keys(self, channel: Channel, username: str) -> tuple[Address | None, ScramKeys]:
        """Whom it would be, and the keys to prove it with; None, with keys that nothing fits, for unknown users."""
        await self._let_in(channel, username)
        name = _canonical(username)
        await self.clock.sleep(self.failures.delay(channel.peer, self.clock.monotonic(), name))
        self.failures.note(channel.peer, self.clock.monotonic(), name)  # also for those who ask and never come back
        found = await self._ask(channel, lambda: self.directory.scram_keys(username))
        return found or (None, ScramKeys.decoy(self.secret, name.encode(), self.directory.scram_iterations()))

    async def by_token(self, channel: Channel, claim: Token) -> Address | None:
        """Raises LoginRefused when it cannot be known now."""
        account = await self._ask(channel, lambda: self.directory.by_token(claim.user, claim.token))
        await self._let_in(channel, claim.user or str(account or ""), claim.token)  # a token may name the user alone
        return account

    async def _let_in(self, channel: Channel, username: str, password: str | None = None) -> None:
        """Raises LoginRefused for those who are banned; unknown sources wait while many guess at the account."""
        if self.guard is None:
            return
        if self.guard.watches(channel.peer):
            name = await self._account_name(channel, username)
            refusal = await self.guard.refuse_login(channel.peer, name, _guess(name, username, password))
            if refusal is not None:
                metrics.LOGINS.add(channel.protocol, "banned")
                log.info("session=%s peer=%s login refused user=%r: banned", channel.id, channel.peer, _shown(username))
                await self.clock.sleep(LONGEST_DELAY)
                raise LoginRefused(refusal.value, temporary=True)
        siege = self.failures.siege(_canonical(username), self.clock.monotonic())
        if siege and not await self.guard.is_known(channel.peer, await self._account_name(channel, username)):
            await self.clock.sleep(siege)

    async def _account_name(self, channel: Channel, username: str) -> str:
        """Of the account that it leads to; else as it was written. Raises LoginRefused when it cannot be known now."""
        account = await self.account_of(channel, username)
        return _noted(username) if account is None else _name(account)

    async def account_of(self, channel: Channel, username: str) -> Address | None:
        """As the directory's. Raises LoginRefused when it cannot be known now."""
        return await self._ask(channel, lambda: self.directory.account_of(username))

    async def by_certificate(self, channel: Channel, authorize_as: str) -> Address | None:
        """Raises LoginRefused when it cannot be known now."""
        certificate = channel.client_certificate
        if certificate is None:
            return None
        account = await self._ask(channel, lambda: self.directory.by_certificate(certificate, authorize_as))
        await self._let_in(channel, authorize_as or str(account or ""), certificate.fingerprint)
        return account

    async def decide(
        self,
        channel: Channel,
        username: str,
        authorize_as: str,
        account: Address | None,
        *,
        noted: bool = False,
        password: str | None = None,
        typed: bool = True,
    ) -> Address:
        """The account, if there is one and it is the one to act as. Raises LoginRefused, after a while.

        `noted`: the attempt was counted when it began. `password`: what was sent to prove it, if something was.
        Not `typed`: the name stands in a certificate.
        """
        name = _canonical(username)
        allowed = account
        if authorize_as and account is not None:
            other = await self.account_of(channel, authorize_as)
            allowed = account if other == account else None
        if allowed is None:
            if not noted:
                self.failures.note(channel.peer, self.clock.monotonic(), name)
            if name:
                self.failures.note_account(name, self.clock.monotonic())
            metrics.LOGINS.add(channel.protocol, "refused")
            shown = _shown(username) if typed else username[:100]
            log.warning("session=%s peer=%s login refused user=%r", channel.id, channel.peer, shown)
            if self.guard is not None:
                try:
                    name_of_account = await self._account_name(channel, username)
                except LoginRefused:  # who failed is noted, whatever the directory does meanwhile
                    name_of_account = _noted(username)
                await self.guard.failed(channel.peer, name_of_account, _guess(name_of_account, username, password))
            await self.clock.sleep(self.failures.delay(channel.peer, self.clock.monotonic(), name))
            raise LoginRefused("authentication failed", authorization=account is not None)
        self.failures.forget(channel.peer, self.clock.monotonic(), name)
        if self.guard is not None:
            await self.guard.succeeded(channel.peer, _name(allowed))
        metrics.LOGINS.add(channel.protocol, "ok")
        log.info("session=%s peer=%s login user=%s", channel.id, channel.peer, allowed)
        return allowed

    async def _ask(self, channel: Channel, question: Callable[[], R]) -> R:
        try:
            return await self.workers.run_for(network_of(channel.peer), question)
        except Crowded as error:
            metrics.LOGINS.add(channel.protocol, "crowded")
            log.warning("session=%s peer=%s login: too many wait to log in", channel.id, channel.peer)
            raise LoginRefused("too many log in at this moment; try again later", temporary=True) from error
        except OSError as error:
            metrics.LOGINS.add(channel.protocol, "failed")
            log.error("session=%s login: the directory cannot be read: %s", channel.id, error)
            raise LoginRefused("accounts cannot be looked up now", temporary=True) from error
        except Exception as error:
            metrics.LOGINS.add(channel.protocol, "failed")
            log.exception("session=%s login: the directory failed", channel.id)
            raise LoginRefused("accounts cannot be looked up now", temporary=True) from error


def _canonical(username: str) -> str:
    """The same for all spellings of a name that lead to the same account, if there is one."""
    key = login_key(username)
    return username if key is None else "@".join(key)


def _name(account: Address) -> str:
    return "@".join(key_of(account))


def _is_address(username: str) -> bool:
    """It looks like one whose domain is of the DNS. Users have no other names, but where a domain is one word."""
    key = login_key(username)
    above, _, top = key[1].rpartition(".") if key is not None else ("", "", "")
    return above != "" and (top.isalpha() or top.startswith("xn--"))


def _shown(username: str) -> str:
    """As it may stand in the log."""
    return username[:100] if _is_address(username) else NO_NAME


def _noted(username: str) -> str:
    """As it may stand in the file of bans."""
    return _canonical(username) if _is_address(username) else NO_NAME


def _guess(noted: str, username: str, password: str | None) -> str | None:
    """What is known again when it comes again. All names that are not written down are one there, and not here."""
    return f"{username}\0{password}" if noted == NO_NAME and password is not None else password


class Exchange:
    """One authentication by a SASL mechanism. Each `step` gets what the client said."""

    def __init__(self, authenticator: Authenticator, channel: Channel, machine: Mechanism, service: Service) -> None:
        self._authenticator = authenticator
        self._channel = channel
        self._machine = machine
        self._service: Service = service
        self._claim = Lookup("", "")
        self._sent: str | None = None  # to prove it: the same again is nobody who guesses
        self._account: Address | None = None  # whom it will be when the claim is proven

    async def step(self, response: bytes | None) -> bytes | Address:
        """A challenge, or the account that is logged in. None: the client sent no initial response.

        Raises LoginRefused; then the exchange is over.
        """
        outcome = self._machine.step(response)
        if isinstance(outcome, Lookup) and isinstance(self._machine, Scram):
            self._claim = outcome
            self._account, keys = await self._authenticator.keys(self._channel, outcome.user)
            outcome = self._machine.supply(keys)
        elif isinstance(outcome, Token) and isinstance(self._machine, OAuth):
            self._claim, self._sent = Lookup(outcome.user, ""), outcome.token
            account = await self._authenticator.by_token(self._channel, outcome)
            if account is not None:
                return await self._decide(account)
            outcome = self._machine.refuse()
        match outcome:
            case Challenge(data):
                return data
            case Vouched(authorize_as):
                shown = self._channel.client_certificate
                self._claim = Lookup(authorize_as or (shown.subject if shown is not None else ""), "")
                self._sent = shown.fingerprint if shown is not None else None
                return await self._decide(await self._authenticator.by_certificate(self._channel, authorize_as))
            case Credentials(user, password, authorize_as):
                return await self._authenticator.login(self._channel, user, password, self._service, authorize_as)
            case Proven():
                return await self._decide(self._account)
            case Failed():
                return await self._decide(None)
            case Malformed(reason):
                raise LoginRefused(f"the response is malformed: {reason}", malformed=True)
        raise AssertionError(f"no answer to {outcome}")

    async def _decide(self, account: Address | None) -> Address:
        claim, shown = self._claim, self._channel.client_certificate
        return await self._authenticator.decide(
            self._channel,
            claim.user,
            claim.authorize_as,
            account,
            noted=isinstance(self._machine, Scram),
            password=self._sent,
            typed=shown is None or claim.user != shown.subject,
        )
