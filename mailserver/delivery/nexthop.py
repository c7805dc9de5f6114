"""Which servers take the mail of a domain (RFC 5321 §5, RFC 7505).

Promises   At most `ADDRESS_LIMIT` addresses, in the order in which to try them: by preference, equal ones shuffled.
           When this server is itself an exchanger of the domain, only better ones are given: mail makes no circle.
On failure `Unroutable` with a temporary reply (the DNS does not answer now) or a permanent one.
"""

from __future__ import annotations

import ipaddress
import random
from dataclasses import dataclass

from mailserver.mail import Reply
from mailserver.mail.address import domain_in_ascii
from mailserver.ports import DNSFailure, NoSuchDomain, Resolver

ADDRESS_LIMIT = 10
ADDRESSES_PER_HOST = 4  # so that one host with many addresses does not hide the others
HOST_LIMIT = 10

NO_DOMAIN = Reply.of(550, "5.1.2", "The domain does not exist")
NO_MAIL_TAKEN = Reply.of(556, "5.1.10", "The domain takes no mail (null MX)")
NO_ADDRESS = Reply.of(550, "5.4.4", "The domain names no server that can be reached")
LOOP = Reply.of(554, "5.4.6", "The domain's mail comes back to this server, which has no such domain")


class Unroutable(Exception):
    """No server can be named; `reply` is what became of the recipients by that."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Target:
    """One address to connect to. `host` is the name that it belongs to, or the address itself."""

    host: str
    address: str
    port: int


async def find_targets(resolver: Resolver, domain: str, *, port: int, hostname: str) -> list[Target]:
    """For a domain or an address literal in brackets; never empty. Raises Unroutable."""
    if domain.startswith("["):
        address = domain[1:-1].removeprefix("IPv6:")
        return [Target(address, address, port)]
    ascii_domain = domain_in_ascii(domain)
    if ascii_domain is None:
        raise Unroutable(NO_DOMAIN)
    try:
        hosts = await _exchangers(resolver, ascii_domain, hostname.lower())
    except DNSFailure as error:
        raise Unroutable(_unknown_now(error)) from error
    except NoSuchDomain as error:
        raise Unroutable(NO_DOMAIN) from error
    return await find_addresses(resolver, hosts[:HOST_LIMIT], port=port)


async def _exchangers(resolver: Resolver, domain: str, hostname: str) -> list[str]:
    records = list(await resolver.mx(domain))
    if not records:
        return [domain]  # the implicit MX
    if not any(record.host for record in records):
        raise Unroutable(NO_MAIL_TAKEN)
    random.shuffle(records)
    records.sort(key=lambda record: record.preference)
    own = [record.preference for record in records if record.host == hostname]
    hosts = [record.host for record in records if record.host and (not own or record.preference < own[0])]
    if not hosts:
        raise Unroutable(LOOP)
    return hosts


async def find_addresses(resolver: Resolver, hosts: list[str], *, port: int) -> list[Target]:
    """Hosts by name or by IP address; never empty. Raises Unroutable."""
    targets: list[Target] = []
    failure: DNSFailure | None = None
    for host in hosts:
        try:
            found = [host] if _is_address(host) else await resolver.addresses(host)
        except DNSFailure as error:
            failure = error
        except NoSuchDomain:
            pass
        else:
            targets += [Target(host, address, port) for address in found[:ADDRESSES_PER_HOST]]
        if len(targets) >= ADDRESS_LIMIT:
            break
    if targets:
        return targets[:ADDRESS_LIMIT]
    raise Unroutable(NO_ADDRESS if failure is None else _unknown_now(failure))


def _unknown_now(error: DNSFailure) -> Reply:
    return Reply.of(451, "4.4.3", f"The domain cannot be looked up now: {error}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
