"""Looks up addresses and passwords in the accounts file.

An address leads to a mailbox by the first of these that applies: it is an account; it is an alias; without its
detail, as "+lists", it is one of both (RFC 5233); its domain has a catch-all; it is the postmaster, who is always there
(RFC 5321 §4.5.1): then the first account of the domain, or of the file, has it. Case of the local part does not count.

Promises   All methods may be called from any thread. Lookups never wait for the disk but to take over a changed file.
           A wrong password, an unknown user and a malformed name take the same time.
On failure ConfigurationError from the constructor. Later a file that is broken, gone or without a domain is logged,
           each problem on its line, and what was read before stays in force: an empty file would refuse all own mail.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mailserver.accounts.passwords import generate_password, hash_password, scram_keys, verify_password
from mailserver.accounts.tokens import Tokens
from mailserver.config.loader import ConfigurationError, load_accounts
from mailserver.config.model import Account, Accounts
from mailserver.mail import Address, AddressError, Quota, parse_mailbox
from mailserver.mail.address import domain_in_ascii
from mailserver.sasl import ScramKeys

log = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the file's modification time."""

SETTLE_TIME = 1.0
"""Seconds for which the file must lie still: an editor that writes in place is not caught in the middle."""

POSTMASTER = "postmaster"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The address leads to this account."""

    account: Address
    quota: Quota


@dataclass(frozen=True, slots=True)
class Unknown:
    """The domain is ours, but there is no such user."""


@dataclass(frozen=True, slots=True)
class NotLocal:
    """The domain is not ours."""


Resolution = Mailbox | Unknown | NotLocal


class _Snapshot:
    """One reading of the file, never changed after it was made."""

    def __init__(self, accounts: Accounts, separator: str) -> None:
        self._separator = separator
        self.domains = frozenset(name.lower() for name in accounts.domain)
        self._passwords: dict[Address, str] = {}
        self.allowances: dict[Address, frozenset[tuple[str, str]]] = {}
        """What accounts may send from besides their own addresses, by key; the local part is "*" for all."""
        self._direct: dict[tuple[str, str], Mailbox] = {}
        self._postmaster: dict[str, Mailbox] = {}  # "" is the first account of all
        for name, account in accounts.account.items():
            address = parse_mailbox(name)
            mailbox = Mailbox(address, account.limits)
            self._passwords[address] = account.password
            self.allowances[address] = frozenset(_key(parse_mailbox(each)) for each in account.send_as)
            for known in (address, *_aliases(account)):
                self._direct[known.key] = mailbox
            self._postmaster.setdefault(address.domain, mailbox)
            self._postmaster.setdefault("", mailbox)
        keys = [scram_keys(stored) for stored in self._passwords.values()]
        self.scram = bool(keys) and all(keys)
        self.iterations = sorted(each.iterations for each in keys if each is not None)
        self._catch_all = {
            name.lower(): self._direct[parse_mailbox(domain.catch_all).key]
            for name, domain in accounts.domain.items()
            if domain.catch_all is not None
        }

    def resolve(self, address: Address) -> Resolution:
        local, domain = _key(address)
        if not domain:
            return self._bare_postmaster() if local == POSTMASTER else NotLocal()
        if domain not in self.domains:
            return NotLocal()
        return (
            self._direct.get((local, domain))
            or self._direct.get((self._without_detail(local), domain))
            or self._catch_all.get(domain)
            or (self._fallback_postmaster(domain) if local == POSTMASTER else Unknown())
        )

    def _without_detail(self, local: str) -> str:
        return local.partition(self._separator)[0] if self._separator else local

    def user(self, username: str) -> tuple[Address, str] | None:
        """The account and its password's hash; by the account's address or an alias, nothing looser."""
        try:
            mailbox = self._direct.get(parse_mailbox(username).key)
        except AddressError:
            return None
        return (mailbox.account, self._passwords[mailbox.account]) if mailbox else None

    def _bare_postmaster(self) -> Resolution:
        named = (self._direct.get((POSTMASTER, domain)) for domain in self._postmaster if domain)
        return next(filter(None, named), None) or self._fallback_postmaster("")

    def _fallback_postmaster(self, domain: str) -> Resolution:
        return self._postmaster.get(domain) or self._postmaster.get("") or Unknown()


def _key(address: Address) -> tuple[str, str]:
    """With the domain in A-labels, as the file has it."""
    local, domain = address.key
    return local, domain_in_ascii(domain) or domain


def _aliases(account: Account) -> Iterator[Address]:
    return map(parse_mailbox, account.aliases)


class Directory:
    """The accounts of one file. Raises ConfigurationError when the file cannot be used at first."""

    def __init__(
        self,
        path: Path,
        *,
        tokens: Tokens | None = None,
        separator: str = "+",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`separator` stands before the detail of a subaddress; empty: there are none."""
        self._path = path
        self._separator = separator
        self._tokens = tokens
        self._monotonic = monotonic
        self._lock = threading.Lock()  # held by the one that looks whether the file has changed
        self._stamp = _stamp(path)
        self._snapshot = _Snapshot(load_accounts(path), separator)
        self._next_check = monotonic() + CHECK_INTERVAL
        self._nobody = hash_password(generate_password())

    def resolve(self, address: Address) -> Resolution:
        return self._current().resolve(address)

    def domains(self) -> frozenset[str]:
        """The domains whose mail is taken here, in lower case."""
        return self._current().domains

    def may_send_as(self, account: Address, sender: Address) -> bool:
        """An account sends from each address that leads to it, and from those that it is allowed."""
        local, domain = _key(sender)
        allowed = self._current().allowances.get(account, frozenset())
        if not allowed.isdisjoint({(local, domain), ("*", domain)}):
            return True
        match self.resolve(sender):
            case Mailbox(account=owner):
                return owner == account and bool(sender.domain)
        return False

    def authenticate(self, username: str, password: str) -> Address | None:
        """The account's own address when the password is right; blocking, some 50 ms."""
        account, stored = self._current().user(username) or (None, self._nobody)
        return account if verify_password(stored, password) else None

    def account_of(self, username: str) -> Address | None:
        """The account that somebody of this name logs in to."""
        found = self._current().user(username)
        return found[0] if found else None

    def scram_iterations(self) -> Sequence[int]:
        """Those of all accounts, ascending."""
        return self._current().iterations

    def offers_scram(self) -> bool:
        """Whether all accounts have keys: a client takes the best that is offered, and could not fall back."""
        return self._current().scram

    def scram_keys(self, username: str) -> tuple[Address, ScramKeys] | None:
        """Of an account; None: there is none of that name, or it has no keys."""
        account, stored = self._current().user(username) or (None, "")
        keys = scram_keys(stored)
        return (account, keys) if account is not None and keys is not None else None

    @property
    def offers_tokens(self) -> bool:
        """Whether there is an issuer whose tokens are taken."""
        return self._tokens is not None

    def by_token(self, username: str, token: str) -> Address | None:
        """The account that the token is for, if it is good and `username` leads there too or is empty. Blocking."""
        address = self._tokens.address(token) if self._tokens is not None else None
        owner = self._current().user(address) if address else None
        user = self._current().user(username) if username else owner
        return owner[0] if owner is not None and user is not None and owner[0] == user[0] else None

    def _current(self) -> _Snapshot:
        if self._monotonic() >= self._next_check and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._snapshot

    def _look(self) -> None:
        stamp = _stamp(self._path)
        if stamp is not None and stamp != self._stamp and abs(time.time() - stamp[0] / 1e9) < SETTLE_TIME:
            return  # to be looked at again at the next lookup
        self._next_check = self._monotonic() + CHECK_INTERVAL
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            accounts = load_accounts(self._path)
            if self._snapshot.domains and not accounts.domain:
                raise ConfigurationError(
                    [f"{self._path}: has no domain any more; if that is meant, start the server again"]
                )
            self._snapshot = _Snapshot(accounts, self._separator)
        except ConfigurationError as error:
            for problem in error.problems:
                log.error("accounts not taken over, the former ones stay: %s", problem)
        else:
            log.info("accounts taken over from %s", self._path)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Differs whenever the file was changed or replaced; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
