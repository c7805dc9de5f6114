"""The accounts file as a source of the directory.

Promises   Lookups never wait for the disk but to take over a changed file, within a second or two of the change.
On failure ConfigurationError from the constructor. Later a file that is broken, gone or without a domain is logged,
           each problem on its line, and what was read before stays in force: an empty file would refuse all own mail.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mailserver.accounts.model import Account, Alias, Domain, Key, Sending
from mailserver.accounts.passwords import scram_keys, verify_password
from mailserver.config.loader import ConfigurationError, load_accounts
from mailserver.config.model import Account as Section
from mailserver.config.model import Accounts
from mailserver.mail import Address, parse_mailbox
from mailserver.mail.address import domain_in_ascii

log = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the file's modification time."""

SETTLE_TIME = 1.0
"""Seconds for which the file must lie still: an editor that writes in place is not caught in the middle."""


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
    """Raises ConfigurationError when the file cannot be used at first."""

    blocking = False

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.name = str(path)
        self._path = path
        self._monotonic = monotonic
        self._lock = threading.Lock()  # held by the one that looks whether the file has changed
        self._stamp = _stamp(path)
        self._snapshot = Snapshot(load_accounts(path))
        self._next_check = monotonic() + CHECK_INTERVAL

    def domain(self, name: str) -> Domain | None:
        return self.current().domains.get(name)

    def find(self, key: Key) -> Account | Alias | None:
        return self.current().found.get(key)

    def caretaker(self, domain: str) -> Address | None:
        caretakers = self.current().caretakers
        return caretakers.get(domain) or caretakers.get("")

    def verify(self, account: Account, password: str) -> bool:
        return verify_password(account.password, password)

    def current(self) -> Snapshot:
        """What is in force now."""
        if self._monotonic() >= self._next_check and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._snapshot

    def reload(self) -> None:
        """Reads the file now, whether it seems to have changed or not."""
        with self._lock:
            self._stamp = _stamp(self._path)
            self._take_over()

    def _look(self) -> None:
        stamp = _stamp(self._path)
        if stamp is not None and stamp != self._stamp and abs(time.time() - stamp[0] / 1e9) < SETTLE_TIME:
            return  # to be looked at again at the next lookup
        self._next_check = self._monotonic() + CHECK_INTERVAL
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._take_over()

    def _take_over(self) -> None:
        try:
            accounts = load_accounts(self._path)
            if self._snapshot.domains and not accounts.domain:
                raise ConfigurationError(
                    [f"{self._path}: has no domain any more; if that is meant, start the server again"]
                )
            self._snapshot = Snapshot(accounts)
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
