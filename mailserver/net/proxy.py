"""The PROXY protocol, versions 1 and 2: a load balancer tells whom it connects, ahead of all else.

Promises   `read_header` looks at no more than `LONGEST` octets, and takes only what is a whole header.
On failure ValueError: what came is no such header.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

UNKNOWN = "0.0.0.0"  # noqa: S104 - nothing binds to it; it means "this host", which is none of ours to others
LONGEST = 4096  # octets; version 2 may carry more, and nobody does
_V1_LONGEST = 107

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V1 = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(TCP4|TCP6) ([0-9A-Fa-f.:]+) [0-9A-Fa-f.:]+ [0-9]{1,5} [0-9]{1,5})\r\n"
)
_V2_ADDRESS = {0x11: 4, 0x21: 16}  # TCP over IPv4, over IPv6: octets of one address
_LOCAL, _PROXY = 0x20, 0x21


@dataclass(frozen=True, slots=True)
class Header:
    """`address`: the client's; None: the connection is the proxy's own. `length`: octets of the header.

    A client that the proxy cannot name has the address `UNKNOWN`: it must not pass for the proxy, which may do more.
    """

    address: str | None
    length: int


def read_header(data: bytes) -> Header | None:
    """From the first octets of a connection; None: more are needed. Raises ValueError."""
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _version_2(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _version_1(data)
    raise ValueError("no PROXY header")


def _version_1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise ValueError("a PROXY header without an end")
        return None
    match = _V1.fullmatch(data[: end + 2])
    if match is None:
        raise ValueError("a malformed PROXY header")
    if match[1] is None:
        return Header(UNKNOWN, end + 2)
    kind = ipaddress.IPv4Address if match[1] == b"TCP4" else ipaddress.IPv6Address
    return Header(str(kind(match[2].decode())), end + 2)


def _version_2(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    command, family, length = data[12], data[13], 16 + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY) or length > LONGEST:
        raise ValueError("a malformed PROXY header")
    if len(data) < length:
        return None
    size = _V2_ADDRESS.get(family)
    if command == _LOCAL:
        return Header(None, length)
    if size is None:
        return Header(UNKNOWN, length)
    if length < 16 + 2 * size + 4:
        raise ValueError("a PROXY header without addresses")
    return Header(str(ipaddress.ip_address(data[16 : 16 + size])), length)
