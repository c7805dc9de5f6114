"""Failed logins are slowed per source: guessing costs time, and the owner is never locked out from elsewhere.

Promises   The delay depends on the client's address alone (IPv6: its /64): an attack on an account from one network
           does not touch its owner in another. Memory is bounded: the oldest sources are forgotten first.
On failure Nothing here fails.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from mailserver.policy.shared import SharedFailures

FORGET_AFTER = 600.0
SOURCES = 10_000
LONGEST_DELAY = 10.0


def network_of(address: str) -> str:
    """The source that counts: an IPv4 address, the /64 of an IPv6 address, or the word for a UNIX socket."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


class Failures:
    """Counts failed logins by source over the last ten minutes. `shared`: what other processes saw counts as well."""

    def __init__(self, shared: SharedFailures | None = None) -> None:
        self._shared = shared
        self._by_source: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def note(self, address: str, now: float) -> None:
        source = network_of(address)
        count = self._own_count(source, now) + 1
        self._by_source[source] = (count, now)
        self._by_source.move_to_end(source)
        if len(self._by_source) > SOURCES:
            self._by_source.popitem(last=False)
        if self._shared is not None:
            self._shared.failed(source, count, now)

    def forget(self, address: str, now: float) -> None:
        """A login succeeded."""
        source = network_of(address)
        self._by_source.pop(source, None)
        if self._shared is not None:
            self._shared.succeeded(source, now)

    def count(self, address: str, now: float) -> int:
        source = network_of(address)
        elsewhere = 0 if self._shared is None else self._shared.others(source, now - FORGET_AFTER)[0]
        return self._own_count(source, now) + elsewhere

    def _own_count(self, source: str, now: float) -> int:
        count, last = self._by_source.get(source, (0, 0.0))
        succeeded = 0.0 if self._shared is None else self._shared.others(source, now)[1]
        return count if now - last < FORGET_AFTER and int(last) >= succeeded else 0

    def delay(self, address: str, now: float) -> float:
        """Seconds that the answer to the next failure waits: 1, 2, 4, ... up to the longest."""
        count = self.count(address, now)
        return 0.0 if count == 0 else float(min(2 ** (count - 1), LONGEST_DELAY))
