"""The accounts file as a source of the directory.

Promises   Lookups never wait for the disk but to take over a changed file, within a second or two of the change.
On failure ConfigurationError from the constructor. Later a file that is broken, gone or without a domain is logged,
           each problem on its line, and what was read before stays in force: an empty file would refuse all own mail.
           Hashes that cannot be renewed in the file stay as they are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mailserver.accounts.editor import AccountsFile, EditError
from mailserver.accounts.model import Account, Alias, Domain, Key, Sending
from mailserver.accounts.passwords import Decoys, refuse_password, renewed, scram_keys, verify_password
from mailserver.accounts.watched import Watched
from mailserver.config.loader import ConfigurationError, load_accounts
from mailserver.config.model import Account as Section
from mailserver.config.model import Accounts
from mailserver.mail import Address, parse_mailbox
from mailserver.mail.address import domain_in_ascii

log = logging.getLogger(__name__)

RENEWAL_SHARE = 10
"""One part in so many of the time, at most, goes into renewing hashes: a file of 10,000 accounts takes two seconds."""


def key_of(address: Address) -> Key:
    """With the domain in A-labels, as sources have it."""
    local, domain = address.key
    return local, domain_in_ascii(domain) or domain


class Snapshot:
    """One reading of the file, never changed after it was made."""

    def __init__(self, accounts: Accounts) -> None:
        self.found: dict[Key, Account | Alias] = {}
        self.caretakers: dict[str, Address] = {}  # "" has the first account of all
        stored = []
        for name, section in accounts.account.items():
            account = _account(name, section)
            stored.append(account.password)
            for known in (account.address, *map(parse_mailbox, section.aliases)):
                self.found[known.key] = account
            if account.disabled is None:
                self.caretakers.setdefault(account.address.domain, account.address)
                self.caretakers.setdefault("", account.address)
        for name, alias in accounts.alias.items():
            address = parse_mailbox(name)
            self.found[address.key] = Alias(address, tuple(map(parse_mailbox, alias.members)))
        self.domains = {
            name.lower(): Domain(name.lower(), parse_mailbox(domain.catch_all) if domain.catch_all else None)
            for name, domain in accounts.domain.items()
        }
        keys = [scram_keys(each) for each in stored]
        self.decoys = Decoys(stored)
        self.scram = bool(keys) and all(keys)
        self.iterations = sorted(each.iterations for each in keys if each is not None)


def _account(name: str, section: Section) -> Account:
    return Account(
        address=parse_mailbox(name),
        password=section.password,
        quota=section.limits,
        send_as=frozenset(key_of(parse_mailbox(each)) for each in section.send_as),
        forward=tuple(map(parse_mailbox, section.forward)),
        keep_copy=section.keep_copy,
        disabled=section.disabled,
        sending=Sending(section.messages_per_day, section.recipients),
    )


class FileSource:
    """Raises ConfigurationError when the file cannot be used at first. `scram`: renewed passwords get its keys."""

    blocking = False

    def __init__(self, path: Path, *, scram: bool = False, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.name = str(path)
        self._path = path
        self._scram = scram
        self._monotonic = monotonic
        self._renewing = threading.Lock()
        self._next_renewal = 0.0
        self._writable = True
        self._watched = Watched(path, self._read, monotonic=monotonic)

    def domain(self, name: str) -> Domain | None:
        return self.current().domains.get(name)

    def find(self, key: Key) -> Account | Alias | None:
        return self.current().found.get(key)

    def caretaker(self, domain: str) -> Address | None:
        caretakers = self.current().caretakers
        return caretakers.get(domain) or caretakers.get("")

    def verify(self, account: Account, password: str) -> bool:
        if not verify_password(account.password, password):
            return False
        # One at a time and not all the time, as the file is checked as a whole: the others wait for a later login.
        begun = self._monotonic()
        if self._writable and begun >= self._next_renewal and self._renewing.acquire(blocking=False):
            try:
                self._renew(account, password)
                self._next_renewal = begun + (self._monotonic() - begun) * RENEWAL_SHARE
            finally:
                self._renewing.release()
        return True

    def refuse(self, key: Key, password: str) -> None:
        refuse_password(password, self.current().decoys.of(key))

    def current(self) -> Snapshot:
        """What is in force now."""
        return self._watched.current()

    def reload(self) -> None:
        self._watched.reload()

    def _read(self, former: Snapshot | None) -> Snapshot:
        accounts = load_accounts(self._path)
        if former is not None and former.domains and not accounts.domain:
            raise ConfigurationError(
                [f"{self._path}: has no domain any more; if that is meant, start the server again"]
            )
        return Snapshot(accounts)

    def _renew(self, account: Account, password: str) -> None:
        """The login that is under way does not hang on it."""
        stored = renewed(account.password, password, scram=self._scram)
        if stored is None:
            return
        try:
            AccountsFile(self._path).renew_password(account.address, account.password, stored)
        except EditError as error:  # the account was changed meanwhile, or the file is broken
            log.info("the password of %s is not renewed: %s", account.address, error)
        except OSError as error:
            self._writable = False
            log.warning("%s cannot be written, so hashes of old schemes stay in it: %s", self._path, error)
        else:
            log.info("the password of %s is kept as argon2id now", account.address)
