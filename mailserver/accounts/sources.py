"""Makes the further sources of the directory from their sections of the configuration.

Promises   A source that another program serves need not be there when the server starts.
On failure ConfigurationError for a file that cannot be used, and for a library that is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mailserver.accounts.cached import Cached, FurtherSource
from mailserver.accounts.databases import postgres, sqlite
from mailserver.accounts.ldap import LDAPSource
from mailserver.accounts.ldapclient import Server, check_library
from mailserver.accounts.passwd import PasswdSource
from mailserver.accounts.pool import Pool
from mailserver.accounts.sql import SQLSource
from mailserver.config.directory import DirectorySource

# Where a section does not say otherwise.
TIMEOUT = 5.0  # seconds
CONNECTIONS = 4
FRESH = 10.0  # seconds
STALE = 3600.0  # seconds
ENTRIES = 10_000


def open_sources(sections: Sequence[DirectorySource]) -> tuple[FurtherSource, ...]:
    """In the order in which they are asked."""
    return tuple(map(open_source, sections))


def open_source(section: DirectorySource) -> FurtherSource:
    if section.kind == "sql":
        return _cached(section, _sql(section))
    if section.kind == "ldap":
        return _cached(section, _ldap(section))
    assert section.file is not None
    return PasswdSource(section.file, default_domain=section.default_domain, default_scheme=section.default_scheme)


def _sql(section: DirectorySource) -> FurtherSource:
    timeout = section.timeout or TIMEOUT
    if section.file is not None:
        name = str(section.file)
        connect = sqlite(section.file, writable=section.renew_query is not None, timeout=timeout)
    else:
        url = section.database or ""
        name = f"postgresql://{url.rpartition('@')[2].removeprefix('postgresql://')}"
        connect = postgres(url, password=partial(_secret, section.password_file), timeout=timeout)
    return SQLSource(section, Pool(connect, size=section.connections or CONNECTIONS, timeout=timeout), name)


def _ldap(section: DirectorySource) -> FurtherSource:
    check_library()
    timeout = section.timeout or TIMEOUT
    url = section.server or ""
    server = Server(
        url=url,
        starttls=section.starttls is not False and url.startswith("ldap:"),
        ca_file=section.ca_file,
        bind_dn=section.bind_dn,
        password=partial(_secret, section.password_file),
        timeout=timeout,
    )
    return LDAPSource(section, Pool(server.connect, size=section.connections or CONNECTIONS, timeout=timeout), url)


def _cached(section: DirectorySource, source: FurtherSource) -> FurtherSource:
    return Cached(
        source,
        fresh=section.cache or FRESH,
        stale=section.cache_while_down or STALE,
        most=section.cache_entries or ENTRIES,
    )


def _secret(file: Path | None) -> str | None:
    """Raises OSError."""
    return file.read_text(encoding="utf-8").rstrip("\r\n") if file is not None else None
