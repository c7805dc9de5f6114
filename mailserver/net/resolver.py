"""The domain name system through dnspython, in threads of its own.

Promises   An answer within `LIFETIME` seconds or DNSFailure. Answers are cached for their TTL.
On failure SERVFAIL, timeouts and broken answers are temporary (DNSFailure), NXDOMAIN is permanent (NoSuchDomain).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from mailserver.ports import MX, DNSFailure, NoSuchDomain, Workers

log = logging.getLogger(__name__)

LIFETIME = 15.0
CACHED_ANSWERS = 10_000


def parse_server(text: str) -> tuple[str, int]:
    """ "127.0.0.1:53" or "[::1]:53" as address and port."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class ThreadResolver:
    """The Resolver port. `servers` as "ADDRESS:PORT"; none: those of the system."""

    def __init__(self, workers: Workers, servers: Sequence[str] = ()) -> None:
        self._workers = workers
        try:
            self._resolver = dns.resolver.Resolver(configure=not servers)
        except dns.resolver.NoResolverConfiguration as error:
            log.error("no DNS server is known, mail for other servers waits: %s", error)
            self._resolver = dns.resolver.Resolver(configure=False)
        if servers:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(*parse_server(server)) for server in servers]
        self._resolver.lifetime = LIFETIME
        self._resolver.cache = dns.resolver.LRUCache(CACHED_ANSWERS)

    async def mx(self, domain: str) -> Sequence[MX]:
        answer = await self._workers.run(self._ask, domain, "MX")
        return [MX(int(r.preference), r.exchange.to_text(omit_final_dot=True).strip(".").lower()) for r in answer]

    async def addresses(self, host: str) -> Sequence[str]:
        found: list[str] = []
        failure: DNSFailure | None = None
        for kind in ("AAAA", "A"):
            try:
                found += [r.address for r in await self._workers.run(self._ask, host, kind)]
            except DNSFailure as error:
                failure = error
        if not found and failure is not None:
            raise failure
        return found

    def _ask(self, name: str, kind: str) -> Sequence[dns.resolver.Answer]:
        try:
            return list(self._resolver.resolve(name, kind, search=False))
        except dns.resolver.NoAnswer:
            return []
        except dns.resolver.NXDOMAIN:
            raise NoSuchDomain(f"the domain {name} does not exist") from None
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise DNSFailure(f"{kind} of {name} cannot be looked up now ({type(error).__name__})") from error
