"""Which servers take the mail of a domain (RFC 5321 §5, RFC 7505).

Promises   Servers come in the order in which to try them: by preference, equal ones shuffled each time. When this
           server's name is among the exchangers of a domain, only better ones are given: mail makes no circle.
           At most `HOST_LIMIT` hosts, and of each `ADDRESSES_PER_HOST` addresses.
On failure `Unroutable` with a temporary reply (the DNS does not answer now) or a permanent one.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mailserver.delivery.routes import ByMX, LMTPServer, LMTPSocket, Smarthost
from mailserver.mail import Reply
from mailserver.mail.address import domain_in_ascii
from mailserver.ports import DNSFailure, NoSuchDomain, Resolver

ADDRESSES_PER_HOST = 4  # so that one host with many addresses does not hide the others
HOST_LIMIT = 10

NO_DOMAIN = Reply.of(550, "5.1.2", "The domain does not exist")
NO_MAIL_TAKEN = Reply.of(556, "5.1.10", "The domain takes no mail (null MX)")
NO_ADDRESS = Reply.of(550, "5.4.4", "The domain names no server that can be reached")
LOOP = Reply.of(554, "5.4.6", "The domain's mail comes back to this server, which has no such domain")

Deliverable = ByMX | Smarthost | LMTPServer | LMTPSocket
"""The ways to go that lead to another server."""


class Unroutable(Exception):
    """No server can be named; `reply` is what became of the recipients by that."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Host:
    """A server by its name, or by an IP address. Of several those with the lowest `preference` come first."""

    name: str
    preference: int = 0


@dataclass(frozen=True, slots=True)
class Site:
    """The servers that take the mail of some domains. `key` names them: what has the same servers has the same."""

    key: str
    transport: Deliverable
    hosts: tuple[Host, ...] = ()

    def by_preference(self) -> list[list[str]]:
        """Names as they are to be tried this time: the best ones, shuffled, then those after them."""
        hosts = list(self.hosts)
        random.shuffle(hosts)  # which of many equal ones are within the limit is chance as well
        hosts = sorted(hosts, key=lambda host: host.preference)[:HOST_LIMIT]
        return [[host.name for host in equal] for _, equal in groupby(hosts, lambda host: host.preference)]


async def exchangers(resolver: Resolver, domain: str, *, hostname: str) -> tuple[Host, ...]:
    """The servers of a domain or an address literal in brackets; never empty. Raises Unroutable."""
    if domain.startswith("["):
        return (Host(domain[1:-1].removeprefix("IPv6:")),)
    ascii_domain = domain_in_ascii(domain)
    if ascii_domain is None:
        raise Unroutable(NO_DOMAIN)
    try:
        records = await resolver.mx(ascii_domain)
    except DNSFailure as error:
        raise Unroutable(_unknown_now(error)) from error
    except NoSuchDomain as error:
        raise Unroutable(NO_DOMAIN) from error
    if not records:
        return (Host(ascii_domain),)  # the implicit MX
    if not any(record.host for record in records):
        raise Unroutable(NO_MAIL_TAKEN)
    own = min((record.preference for record in records if record.host == hostname.lower()), default=None)
    hosts = tuple(
        Host(record.host, record.preference)
        for record in records
        if record.host and (own is None or record.preference < own)
    )
    if not hosts:
        raise Unroutable(LOOP)
    return hosts


async def addresses(resolver: Resolver, host: str) -> Sequence[str]:
    """At most `ADDRESSES_PER_HOST`, and perhaps none, when the name is not there. Raises Unroutable: not known now."""
    if _is_address(host):
        return [host]
    try:
        found = await resolver.addresses(host)
    except DNSFailure as error:
        raise Unroutable(_unknown_now(error)) from error
    except NoSuchDomain:
        return []
    return found[:ADDRESSES_PER_HOST]


def _unknown_now(error: DNSFailure) -> Reply:
    return Reply.of(451, "4.4.3", f"The domain cannot be looked up now: {error}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
