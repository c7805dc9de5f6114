"""Which addresses are this machine's own: mail that would be handed to one of them goes in a circle.

Promises   The system is asked, not a list: an address that comes or goes counts within a minute. Nothing is sent.
On failure An address that cannot be judged, or not be reached at all, is not our own.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable

HOLDS = 60.0
REMEMBERED = 10_000

DISCARD_PORT = 9  # any would do: a UDP socket that is connected sends nothing by that


class LocalAddresses:
    """The OwnAddresses port. One for the whole server."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, bool]] = {}

    def is_own(self, address: str) -> bool:
        now = self._monotonic()
        until, own = self._known.get(address, (0.0, False))
        if until <= now:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            own = _leads_here(address)
            self._known[address] = now + HOLDS, own
        return own


def _leads_here(address: str) -> bool:
    """The system sends to an own address from that address itself.

    Binding to it would be the other way to ask; where `ip_nonlocal_bind` is set all addresses can be bound.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback or ip.is_unspecified:  # all of 127/8, though only one of them is sent from
        return True
    try:
        with socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), DISCARD_PORT))
            return ipaddress.ip_address(probe.getsockname()[0]) == ip
    except (OSError, ValueError):
        return False
