"""How many connections there may be, in all and from one network.

Promises   The counts are exact as long as every admitted connection is released once. Of several processes that admit
           at the same moment each may take one too many.
On failure Nothing here fails.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from enum import Enum

from mailserver.policy.failures import network_of
from mailserver.policy.shared import SharedCounts


class Networks:
    """Some networks; `address in networks`. A UNIX socket's peer is in none."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises ValueError."""
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]

    def __contains__(self, address: object) -> bool:
        try:
            ip = ipaddress.ip_address(str(address))
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._networks)


class Refusal(Enum):
    """Why a connection is not served; the value may be shown to the client."""

    TOTAL = "too many connections, try again later"
    ADDRESS = "too many connections from your address, close some first"
    STOPPING = "the server stops, try again later"


class ConnectionLimits:
    """One for each process, over all ports. `shared`: what other processes of the server serve counts as well."""

    def __init__(self, total: int, per_address: int, shared: SharedCounts | None = None) -> None:
        self._shared = shared
        self._total = total
        self._per_address = per_address
        self._by_source: Counter[str] = Counter()
        self._open = 0

    def admit(self, address: str) -> Refusal | None:
        """Counts the connection, unless it is refused."""
        source = network_of(address)
        here, open_here = self._by_source[source], self._open
        elsewhere, open_elsewhere = self._shared.others(source) if self._shared is not None else (0, 0)
        if open_here + open_elsewhere >= self._total:
            return Refusal.TOTAL
        if here + elsewhere >= self._per_address:
            return Refusal.ADDRESS
        self._count(source, 1)
        return None

    def release(self, address: str) -> None:
        self._count(network_of(address), -1)

    def _count(self, source: str, change: int) -> None:
        self._open += change
        self._by_source[source] += change
        if self._shared is not None:
            self._shared.put(source, self._by_source[source], self._open)
        if not self._by_source[source]:
            del self._by_source[source]
