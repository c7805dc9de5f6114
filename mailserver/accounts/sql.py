"""A database as a source of the directory, by the queries of its section.

    domain_query    a row if the domain is ours; may tell catch_all and postmaster
    account_query   a row if the address is an account's; tells password, and may tell address, quota and more (`rows`)
    alias_query     a row, or several, with the member or members of an alias
    renew_query     keeps another hash of the same password; without it hashes stay as they are

Promises   No value is ever pasted into a query. Passwords are asked for when somebody logs in and at no other time.
On failure SourceDown when the database cannot be asked now, does not take a query, or says what makes no sense.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from mailserver.accounts.databases import Answer, Database
from mailserver.accounts.model import Account, Alias, Domain, Key, SourceDown
from mailserver.accounts.passwords import refuse_password, renewed, verify_password
from mailserver.accounts.pool import Pool
from mailserver.accounts.rows import MOST_MEMBERS, Row, account_of, alias_of, domain_of, password_of
from mailserver.config.directory import DirectorySource
from mailserver.mail import Address

log = logging.getLogger(__name__)

CRYPT = "CRYPT"  # the scheme where none is named, as in Dovecot
NOBODY = ("postmaster", "example.invalid")

R = TypeVar("R")


class SQLSource:
    """`settings` are of the kind "sql"."""

    blocking = True

    def __init__(self, settings: DirectorySource, pool: Pool[Database], name: str) -> None:
        self.name = name
        self._settings = settings
        self._pool = pool
        self._domains = {domain: Domain(domain) for domain in settings.domains or ()}
        self._scheme = settings.default_scheme or CRYPT
        self._seen: deque[str] = deque(maxlen=1)  # a hash, for the time that refusing a user takes who does not exist
        self._renewing = threading.Lock()

    def domain(self, name: str) -> Domain | None:
        if name in self._domains or self._settings.domain_query is None or not _may_be_asked(name):
            return self._domains.get(name)
        rows = self._rows(self._settings.domain_query, {"domain": name}, 1)
        return self._sensible(name, lambda: domain_of(rows[0], name)) if rows else None

    def find(self, key: Key) -> Account | Alias | None:
        row = self._account(key)
        if row is not None:
            return self._sensible("@".join(key), lambda: account_of(row, key, self._settings.default_domain))
        if self._settings.alias_query is None or not _may_be_asked(*key):
            return None
        rows = self._rows(self._settings.alias_query, _values(key), MOST_MEMBERS + 1)
        return self._sensible("@".join(key), lambda: alias_of(rows, key)) if rows else None

    def caretaker(self, domain: str) -> Address | None:
        found = self.domain(domain) if domain else None
        return found.caretaker if found is not None else None

    def verify(self, account: Account, password: str) -> bool:
        row = self._account(account.address.key)
        name = str(account.address)
        stored = self._sensible(name, lambda: password_of(row)) if row is not None else ""
        if row is None or not stored:
            self._refuse(password)
            return False
        self._seen.append(stored)
        if not verify_password(stored, password, default=self._scheme):
            return False
        current = self._sensible(name, lambda: account_of(row, account.address.key, self._settings.default_domain))
        if current.disabled is not None or current.address.key != account.address.key:
            return False
        if self._settings.renew_query is not None and self._renewing.acquire(blocking=False):
            try:
                self._renew(self._settings.renew_query, account.address, stored, password)
            finally:
                self._renewing.release()
        return True

    def refuse(self, key: Key, password: str) -> None:
        self._account(key)
        self._refuse(password)

    def _refuse(self, password: str) -> None:
        refuse_password(password, next(iter(self._seen), ""), default=self._scheme)

    def reload(self) -> None:
        """Nothing is remembered here."""

    def try_out(self) -> list[str]:
        """Each query is asked for somebody who is not there; what would change something is only explained."""
        settings = self._settings
        for query, values, column in (
            (settings.domain_query, {"domain": NOBODY[1]}, None),
            (settings.account_query, _values(NOBODY), "password"),
            (settings.alias_query, _values(NOBODY), "member"),
        ):
            if query is not None:
                columns = self._ask(query, values, 1).columns
                if column is not None and column not in columns:
                    told = ", ".join(columns) or "nothing"
                    raise SourceDown(f"a query tells {told}, but no column {column}; name one so, with AS: {query}")
        if settings.renew_query is not None:
            values = _values(NOBODY) | {"password": "{ARGON2ID}", "former": "{ARGON2ID}"}
            self._ask(f"EXPLAIN {settings.renew_query}", values, 1)
        return []

    def _account(self, key: Key) -> Row | None:
        if not _may_be_asked(*key) or self._settings.account_query is None:
            return None
        rows = self._rows(self._settings.account_query, _values(key), 2)
        if len(rows) > 1:
            raise SourceDown(f"{self.name}: account_query tells of {'@'.join(key)} more than once")
        return rows[0] if rows else None

    def _renew(self, query: str, address: Address, stored: str, password: str) -> None:
        """The login that is under way does not hang on it. The scheme is named: other programs may read it too."""
        new = renewed(stored, password, default=self._scheme)
        if new is None:
            return
        values = _values(address.key) | {"password": f"{{ARGON2ID}}{new}", "former": stored}
        try:
            changed = self._ask(query, values, 1).changed
        except SourceDown as error:
            log.warning("the password of %s is not renewed: %s", address, error)
            return
        if changed == 1:
            log.info("the password of %s is kept as argon2id now", address)
        else:
            log.warning("the password of %s is not renewed: renew_query changed %d rows", address, changed)

    def _rows(self, query: str, values: dict[str, str], most: int) -> Sequence[Row]:
        return self._ask(query, values, most).rows

    def _ask(self, query: str, values: dict[str, str], most: int) -> Answer:
        try:
            return self._pool.run(lambda database: database.ask(query, values, most))
        except SourceDown as error:
            raise SourceDown(f"{self.name}: {error}") from error

    def _sensible(self, what: str, read: Callable[[], R]) -> R:
        try:
            return read()
        except ValueError as error:
            raise SourceDown(f"{self.name}: what is told of {what} cannot be used: {error}") from error


def _values(key: Key) -> dict[str, str]:
    return {"address": "@".join(key), "local": key[0], "domain": key[1]}


def _may_be_asked(*texts: str) -> bool:
    """Nobody has NUL or half a character in a name, and databases choke on them."""
    return all(text.isprintable() for text in texts)
