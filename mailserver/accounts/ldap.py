"""An LDAP server as a source of the directory, by the filters of its section; users log in by binding (RFC 4511 §4.2).

    account_filter   the entry of the account that has an address; attributes tell its own address, quota and so on
    alias_filter     entries whose member_attribute has the addresses that an alias leads to
    domain_filter    an entry if the domain is ours

Promises   Passwords go to the server alone, in nothing but a bind as the user. Nothing is written there.
           A user who does not exist costs the questions that one who does costs; what the server itself takes to check
           a hash is added for users who exist.
On failure SourceDown when the server cannot be asked now, refuses a search, or says what makes no sense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from mailserver.accounts.ldapclient import Entry, LDAPConnection
from mailserver.accounts.model import Account, Alias, Domain, Key, SourceDown
from mailserver.accounts.pool import Pool
from mailserver.accounts.rows import account_of, alias_of
from mailserver.config.directory import DirectorySource
from mailserver.mail import Address

MAIL = "mail"  # attributes where a section does not say otherwise
MOST_ENTRIES = 100  # of one alias
NOBODY = ("postmaster", "example.invalid")

R = TypeVar("R")


class LDAPSource:
    """`settings` are of the kind "ldap"."""

    blocking = True

    def __init__(self, settings: DirectorySource, pool: Pool[LDAPConnection], name: str) -> None:
        self.name = name
        self._settings = settings
        self._pool = pool
        self._domains = {domain: Domain(domain) for domain in settings.domains or ()}
        named = {
            "address": settings.address_attribute or MAIL,
            "quota": settings.quota_attribute,
            "forward": settings.forward_attribute,
            "disabled": settings.disabled_attribute,
        }
        self._attributes = {meaning: attribute for meaning, attribute in named.items() if attribute}

    def domain(self, name: str) -> Domain | None:
        if name in self._domains or self._settings.domain_filter is None or not _may_be_asked(name):
            return self._domains.get(name)
        entries = self._search(self._settings.domain_filter, ("", name), {}, 1)
        return Domain(name) if entries else None

    def find(self, key: Key) -> Account | Alias | None:
        entry = self._entry(key)
        if entry is not None:
            return self._account(entry, key)
        if self._settings.alias_filter is None or not _may_be_asked(*key):
            return None
        named = {"member": self._settings.member_attribute or MAIL}
        entries = self._search(self._settings.alias_filter, key, named, MOST_ENTRIES + 1)
        if len(entries) > MOST_ENTRIES:
            raise SourceDown(f"{self.name}: more than {MOST_ENTRIES} entries are the alias {'@'.join(key)}")
        rows = [_row(entry, named) for entry in entries]
        return self._sensible(key, lambda: alias_of(rows, key)) if rows else None

    def caretaker(self, domain: str) -> Address | None:
        return None

    def verify(self, account: Account, password: str) -> bool:
        key = account.address.key
        entry = self._entry(key)
        if entry is None:
            return False
        current = self._account(entry, key)
        if current.disabled is not None or current.address.key != key:
            return False
        return self._run(lambda connection: connection.is_password(entry.name, password))

    def refuse(self, key: Key, password: str) -> None:
        self._entry(key)
        nobody = ",".join(filter(None, ("cn=nobody", self._settings.base)))
        self._run(lambda connection: connection.is_password(nobody, password))

    def reload(self) -> None:
        """Nothing is remembered here."""

    def try_out(self) -> list[str]:
        """Binds, and makes each search for somebody who is not there."""
        for text in (self._settings.domain_filter, self._settings.account_filter, self._settings.alias_filter):
            if text is not None:
                self._search(text, NOBODY, {}, 1)
        return []

    def _entry(self, key: Key) -> Entry | None:
        if not _may_be_asked(*key) or self._settings.account_filter is None:
            return None
        entries = self._search(self._settings.account_filter, key, self._attributes, 2)
        if len(entries) > 1:
            raise SourceDown(f"{self.name}: account_filter finds {'@'.join(key)} more than once")
        return entries[0] if entries else None

    def _account(self, entry: Entry, key: Key) -> Account:
        row = _row(entry, self._attributes)
        if "address" not in row:
            raise SourceDown(f"{self.name}: {entry.name} has no {self._attributes['address']}")
        return self._sensible(key, lambda: account_of(row, key, self._settings.default_domain))

    def _search(self, text: str, key: Key, named: Mapping[str, str], most: int) -> list[Entry]:
        values = {"address": "@".join(key), "local": key[0], "domain": key[1]}
        base = self._settings.base or ""
        return self._run(lambda connection: connection.search(base, text, values, list(named.values()), most))

    def _run(self, work: Callable[[LDAPConnection], R]) -> R:
        try:
            return self._pool.run(work)
        except SourceDown as error:
            raise SourceDown(f"{self.name}: {error}") from error

    def _sensible(self, key: Key, read: Callable[[], R]) -> R:
        try:
            return read()
        except ValueError as error:
            raise SourceDown(f"{self.name}: what is told of {'@'.join(key)} cannot be used: {error}") from error


def _row(entry: Entry, named: Mapping[str, str]) -> dict[str, object]:
    return {meaning: entry.attributes[name] for meaning, name in named.items() if name in entry.attributes}


def _may_be_asked(*texts: str) -> bool:
    return all(text.isprintable() for text in texts)
