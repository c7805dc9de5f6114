"""What must hold between the domains, accounts and aliases of an accounts file.

Works on the parsed but not yet validated file, so that one wrong value does not hide other faults; what is of the
wrong type is passed over here, because the model has told it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from mailserver.config.network import parse_domain_name
from mailserver.config.words import Location, key_path
from mailserver.mail import Address, AddressError, parse_mailbox

Key = tuple[str, str]


def account_faults(raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Addresses that are malformed, of no domain of ours or given twice; catch-alls that lead nowhere."""
    domains: set[str] = set()
    owners: dict[Key, Location] = {}
    accounts: set[Key] = set()
    for name in _table(raw, "domain"):
        try:
            domain = parse_domain_name(name)
        except ValueError as error:
            yield ("domain", name), str(error)
            continue
        if domain in domains:
            yield ("domain", name), "is given twice, case does not count; keep one"
        domains.add(domain)
    for name in _table(raw, "account"):
        address = yield from _taken(name, ("account", name), domains, owners)
        if address is not None:
            accounts.add(address.key)
    for name, alias_at, alias in _aliases(raw):
        yield from _taken(alias, ("account", name, "aliases", alias_at), domains, owners, shown=f'"{alias}" ')
    for name, domain in _table(raw, "domain").items():
        target = domain.get("catch_all") if isinstance(domain, dict) else None
        if isinstance(target, str):
            yield from _leads_nowhere(target, ("domain", name, "catch_all"), accounts)


def parse_account_address(text: str) -> Address:
    """An address as this version can serve it: ASCII, at a domain name. Raises ValueError with the remedy."""
    try:
        address = parse_mailbox(text)
    except AddressError as error:
        raise ValueError(f'is not a mail address: {error}; write it as "name@example.org"') from None
    if not address.local:
        raise ValueError('has nothing before the @; write it as "name@example.org"')
    if not address.local.isascii():
        raise ValueError("has letters beyond ASCII before the @; this version does not serve such addresses")
    try:
        parse_domain_name(address.domain)
    except ValueError as error:
        raise ValueError(f"has a domain that {error}") from None
    return address


def _taken(
    text: str, location: Location, domains: set[str], owners: dict[Key, Location], *, shown: str = ""
) -> Generator[tuple[Location, str], None, Address | None]:
    """Enters an address among the owners; yields what is wrong with it and returns it if it is an address."""
    try:
        address = parse_account_address(text)
    except ValueError as error:
        yield location, f"{shown}{error}"
        return None
    if address.domain not in domains:
        yield location, f'the domain {address.domain} is not declared; add a section [domain."{address.domain}"]'
    if address.key in owners:
        yield location, f"{address} is taken by {key_path(owners[address.key])}; an address leads to one account"
    owners.setdefault(address.key, location)
    return address


def _leads_nowhere(target: str, location: Location, accounts: set[Key]) -> Iterator[tuple[Location, str]]:
    try:
        address = parse_account_address(target)
    except ValueError as error:
        yield location, f'"{target}" {error}'
        return
    if address.key not in accounts:
        yield location, f'there is no account "{address}"; name one of the accounts, not an alias'


def _aliases(raw: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    for name, account in _table(raw, "account").items():
        aliases = account.get("aliases") if isinstance(account, dict) else None
        for i, alias in enumerate(aliases if isinstance(aliases, list) else []):
            if isinstance(alias, str):
                yield name, i, alias


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = raw.get(name)
    return table if isinstance(table, dict) else {}
