"""Addresses of clients and networks of them, as limits and bans see them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOOPBACK = ("127.0.0.0/8", "::1/128")
_SHORTEST = {4: 8, 6: 16}  # shorter prefixes are of no network that one would ban


class Networks:
    """Some networks; `address in networks`. A UNIX socket's peer is in none."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises ValueError."""
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]
        self._has = lru_cache(maxsize=4096)(self._looked_up)

    def __contains__(self, address: object) -> bool:
        return self._has(str(address))

    def _looked_up(self, address: str) -> bool:
        ip = ip_of(address)
        return ip is not None and any(ip in network for network in self._networks)

    def meets(self, network: str) -> bool:
        """They have addresses in common."""
        asked = ipaddress.ip_network(network)
        return any(asked.version == each.version and asked.overlaps(each) for each in self._networks)


@lru_cache(maxsize=4096)
def ip_of(address: str) -> Address | None:
    """None for the word of a UNIX socket. An IPv4 address in the form of IPv6 is what it stands for."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """The source that counts: an IPv4 address, the /64 of an IPv6 address, or the word for a UNIX socket."""
    ip = ip_of(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
    return address if ip is None else str(ip)


def parse_banned(text: str) -> str:
    """An address as the source that counts, or a network, in the form that bans are kept in. Raises ValueError."""
    try:
        if "/" not in text and ip_of(text) is not None:
            return network_of(text)
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            'is no address and no network; write it as "192.0.2.10", "192.0.2.0/24" or "2001:db8::/64"'
        ) from None
    shortest = _SHORTEST[network.version]
    if network.prefixlen < shortest:
        raise ValueError(f"is too large to be banned; name a network of /{shortest} at the most")
    return str(network.network_address) if network.version == 4 and network.prefixlen == 32 else str(network)
