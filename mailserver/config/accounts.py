"""What must hold between the domains, accounts and aliases of an accounts file.

Works on the parsed but not yet validated file, so that one wrong value does not hide other faults; what is of the
wrong type is passed over here, because the model has told it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from mailserver.config.network import parse_domain_name
from mailserver.config.words import Location, key_path
from mailserver.mail import Address, AddressError, parse_mailbox

Key = tuple[str, str]


_DETAIL = re.compile(r"[-+_=]")
ALWAYS = ("postmaster", "abuse")
"""Local parts that each domain has."""


def account_faults(raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Addresses that are malformed, of no domain of ours or given twice; what leads nowhere, or in circles."""
    domains: set[str] = set()
    owners: dict[Key, Location] = {}
    targets: set[Key] = set()
    for name in _table(raw, "domain"):
        try:
            domain = parse_domain_name(name)
        except ValueError as error:
            yield ("domain", name), str(error)
            continue
        if domain in domains:
            yield ("domain", name), "is given twice, case does not count; keep one"
        domains.add(domain)
    for kind in ("account", "alias"):
        for name in _table(raw, kind):
            address = yield from _taken(name, (kind, name), domains, owners)
            if address is not None:
                targets.add(address.key)
    for name, alias_at, alias in _listed(raw, "account", "aliases"):
        yield from _taken(alias, ("account", name, "aliases", alias_at), domains, owners, shown=f'"{alias}" ')
    caught = set()
    for name, domain in _table(raw, "domain").items():
        target = domain.get("catch_all") if isinstance(domain, dict) else None
        if isinstance(target, str):
            caught.add(name.lower())
            yield from _leads_nowhere(target, ("domain", name, "catch_all"), targets)
    for kind, list_name in (("alias", "members"), ("account", "forward")):
        for name, at, text in _listed(raw, kind, list_name):
            yield from _member_faults(text, (kind, name, list_name, at), domains - caught, owners)
    yield from _circles(raw)


def _member_faults(
    text: str, location: Location, closed: set[str], owners: Mapping[Key, Location]
) -> Iterator[tuple[Location, str]]:
    """`closed`: domains of ours that take mail for known addresses only."""
    try:
        address = parse_mailbox(text)
    except AddressError as error:
        yield location, f'"{text}" is not a mail address: {error}; write it as "name@example.org"'
        return
    local, domain = address.key
    if domain not in closed or local in ALWAYS:
        return
    users = {local, *(local[: each.start()] for each in _DETAIL.finditer(local))}
    if not any((user, domain) in owners for user in users):
        yield location, f'there is no "{address}" here; add that account or alias first'


def _circles(raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Aliases that lead to themselves, however far round; and accounts that forward to themselves."""
    leads: dict[Key, list[Key]] = {}
    names: dict[Key, str] = {}
    for name, _, member in _listed(raw, "alias", "members"):
        if (key := _key(name)) is not None and (to := _key(member)) is not None:
            names[key] = name
            leads.setdefault(key, []).append(to)
    for key, name in names.items():
        seen: set[Key] = set()
        waiting = list(leads[key])
        while waiting:
            at = waiting.pop()
            if at not in seen:
                seen.add(at)
                waiting += leads.get(at, ())
        if key in seen:
            yield ("alias", name, "members"), "leads back to itself; take that member out"
    for name, place, target in _listed(raw, "account", "forward"):
        if _key(name) == _key(target) is not None:
            yield ("account", name, "forward", place), "is the account itself; keep_copy = true keeps its mail here"


def _key(text: str) -> Key | None:
    try:
        return parse_mailbox(text).key
    except AddressError:
        return None


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


def _leads_nowhere(target: str, location: Location, targets: set[Key]) -> Iterator[tuple[Location, str]]:
    try:
        address = parse_account_address(target)
    except ValueError as error:
        yield location, f'"{target}" {error}'
        return
    if address.key not in targets:
        yield location, f'there is no account "{address}"; name an account, or the header of an [alias] section'


def _listed(raw: Mapping[str, Any], kind: str, name: str) -> Iterator[tuple[str, int, str]]:
    """The texts in the list `name` of each section of this kind: the section's name, the place, the text."""
    for section_name, section in _table(raw, kind).items():
        listed = section.get(name) if isinstance(section, dict) else None
        for i, text in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(text, str):
                yield section_name, i, text


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = raw.get(name)
    return table if isinstance(table, dict) else {}
