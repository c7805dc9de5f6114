"""The sections of further sources of the directory.

One section for each source; which keys it may have, and which it must have, depends on its kind: `KEYS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from mailserver.config.fields import Count, Duration, FilePath, Section
from mailserver.config.network import parse_domain_name
from mailserver.config.queries import ADDRESS, DOMAIN, RENEWAL, parse_filter, parse_query
from mailserver.sasl import SchemeError, parse_hash

REQUIRED, OPTIONAL = True, False

_NAMES = {"default_domain": OPTIONAL, "default_scheme": OPTIONAL}
_SERVED = dict.fromkeys(
    ("domains", "password_file", "timeout", "connections", "cache", "cache_while_down", "cache_entries"), OPTIONAL
)
KEYS: Mapping[str, Mapping[str, bool]] = {
    "passwd": {"file": REQUIRED, **_NAMES},
    "sql": {
        "file": OPTIONAL,
        "database": OPTIONAL,
        "account_query": REQUIRED,
        **dict.fromkeys(("domain_query", "alias_query", "renew_query"), OPTIONAL),
        **_NAMES,
        **_SERVED,
    },
    "ldap": {
        **dict.fromkeys(("server", "base", "account_filter"), REQUIRED),
        **dict.fromkeys(
            ("starttls", "ca_file", "bind_dn", "alias_filter", "domain_filter", "default_domain"), OPTIONAL
        ),
        **{f"{name}_attribute": OPTIONAL for name in ("address", "quota", "forward", "disabled", "member")},
        **_SERVED,
    },
}
"""What says something with each kind of source."""


def parse_scheme(text: str) -> str:
    """A scheme that hashes may have. Raises ValueError."""
    try:
        parse_hash(f"{{{text}}}")
    except SchemeError as error:
        if "does not check" in str(error):
            raise ValueError('is not a scheme that this server checks; write one as "CRYPT" or "SSHA512"') from None
    return text.upper()


def parse_database(text: str) -> str:
    """Where PostgreSQL is, as a URL without a password. Raises ValueError."""
    try:
        url = urlsplit(text)
        password, _ = url.password, url.port
    except ValueError:
        raise ValueError('is not a URL; write it as "postgresql://user@host:5432/database"') from None
    if url.scheme not in ("postgresql", "postgres"):
        raise ValueError('is not the URL of a PostgreSQL; write it as "postgresql://user@host:5432/database"')
    if password is not None or "password" in parse_qs(url.query):
        raise ValueError("has a password in it; write that into a file and name it in password_file")
    return text


def parse_ldap(text: str) -> str:
    """Where an LDAP server is. Raises ValueError."""
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        host = None
    if not host or url.scheme not in ("ldap", "ldaps") or url.path not in ("", "/") or url.username:
        raise ValueError('is not the URL of an LDAP server; write it as "ldaps://ldap.example.org"')
    return text


class DirectorySource(Section, validate_default=True):
    """Domains and accounts beside those of the accounts file, which is asked first. One section for each source."""

    kind: Literal["passwd", "sql", "ldap"] = Field(
        description="what is asked: a file as Dovecot's passwd-file; a database, SQLite or PostgreSQL; an LDAP server"
    )
    file: FilePath | None = Field(
        default=None,
        description="passwd: the file, one line a user, read again when it changes; sql: an SQLite database",
    )
    default_domain: Annotated[str, AfterValidator(parse_domain_name)] | None = Field(
        default=None, description="all: the domain of users whose names have none; absent: that is a fault"
    )
    default_scheme: Annotated[str, AfterValidator(parse_scheme)] | None = Field(
        default=None, description="passwd, sql: the scheme of hashes that name none; absent: CRYPT, as in Dovecot"
    )
    database: Annotated[str, AfterValidator(parse_database)] | None = Field(
        default=None, description="sql: where PostgreSQL is, without a password. Needs `mailserver[postgres]`"
    )
    password_file: FilePath | None = Field(
        default=None, description="sql, ldap: file with the password for the server; absent: none is sent"
    )
    domains: tuple[Annotated[str, AfterValidator(parse_domain_name)], ...] | None = Field(
        default=None, min_length=1, description="sql, ldap: domains whose accounts are there, known without asking"
    )
    domain_query: Annotated[str, AfterValidator(partial(parse_query, known=DOMAIN))] | None = Field(
        default=None,
        description="sql: gives a row if the domain `:domain` is ours; columns catch_all and postmaster count",
    )
    account_query: Annotated[str, AfterValidator(partial(parse_query, known=ADDRESS))] | None = Field(
        default=None,
        description="sql: gives a row if `:address` (or `:local`, `:domain`; in lower case) is an account's: a column "
        "password, and address, quota, quota_messages, forward, keep_copy, disabled, send_as, messages_per_day and "
        "recipients, as they are in accounts.toml",
    )
    alias_query: Annotated[str, AfterValidator(partial(parse_query, known=ADDRESS))] | None = Field(
        default=None, description="sql: gives rows with a column member if `:address` leads to others"
    )
    renew_query: Annotated[str, AfterValidator(partial(parse_query, known=RENEWAL))] | None = Field(
        default=None,
        description="sql: changes the hash `:former` of `:address` to `:password`; absent: hashes stay as they are",
    )
    server: Annotated[str, AfterValidator(parse_ldap)] | None = Field(
        default=None, description="ldap: the server, as a URL with ldap: or ldaps:. Needs `mailserver[ldap]`"
    )
    starttls: bool | None = Field(
        default=None,
        strict=True,
        description="ldap: whether ldap: begins TLS; absent: it does; false: it need not be, for this machine only",
    )
    ca_file: FilePath | None = Field(
        default=None, description="ldap: PEM file of who vouches for the server; absent: whom the system trusts"
    )
    bind_dn: str | None = Field(default=None, min_length=1, description="ldap: who searches; absent: nobody by name")
    base: str | None = Field(default=None, description="ldap: below which entry is searched")
    account_filter: Annotated[str, AfterValidator(parse_filter)] | None = Field(
        default=None, description="ldap: finds the one entry of the account that has `:address`; users bind as that"
    )
    alias_filter: Annotated[str, AfterValidator(parse_filter)] | None = Field(
        default=None, description="ldap: finds the entries of an alias `:address`"
    )
    domain_filter: Annotated[str, AfterValidator(parse_filter)] | None = Field(
        default=None, description="ldap: finds an entry if the domain `:domain` is ours"
    )
    address_attribute: str | None = Field(
        default=None, description="ldap: has the account's own address, one value; absent: mail"
    )
    quota_attribute: str | None = Field(default=None, description='ldap: has the quota, in octets or as "5 GiB"')
    forward_attribute: str | None = Field(default=None, description="ldap: has addresses that get the account's mail")
    disabled_attribute: str | None = Field(
        default=None, description='ldap: "refuse", "keep", or true: nobody logs in, and mail is refused'
    )
    member_attribute: str | None = Field(
        default=None, description="ldap: has the addresses that an alias leads to; absent: mail"
    )
    timeout: Duration | None = Field(default=None, description="sql, ldap: for one answer, and to connect; absent: 5 s")
    connections: Count | None = Field(
        default=None, description="sql, ldap: at the same time, in each process; absent: 4"
    )
    cache: Duration | None = Field(default=None, description="sql, ldap: how long an answer holds; absent: 10 s")
    cache_while_down: Duration | None = Field(
        default=None, description="sql, ldap: how long it holds while the server is down; absent: 1 h"
    )
    cache_entries: Count | None = Field(
        default=None, description="sql, ldap: answers that are remembered; absent: 10000"
    )

    @field_validator("*")
    @classmethod
    def _fits_the_kind(cls, value: Any, info: ValidationInfo) -> Any:
        kind, key = info.data.get("kind"), str(info.field_name)
        if kind is None or key == "kind":
            return value
        if value is None and KEYS[kind].get(key) is REQUIRED:
            meaning = str(cls.model_fields[key].description).partition(": ")[2]
            raise ValueError(f'is missing, and kind = "{kind}" needs it; add it: {meaning}')
        if value is not None and key not in KEYS[kind]:
            kinds = " or ".join(f'"{name}"' for name, known in KEYS.items() if key in known)
            raise ValueError(f'says nothing with kind = "{kind}", only with {kinds}; leave it out')
        return value
