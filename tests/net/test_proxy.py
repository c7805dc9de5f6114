"""PROXY headers: what is one, what is none, cut anywhere."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.net.proxy import LONGEST, UNKNOWN, Header, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_2(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(payload).to_bytes(2, "big") + payload


IPV4 = ipaddress.ip_address("192.0.2.7").packed + ipaddress.ip_address("198.51.100.1").packed + b"\x30\x39\x00\x19"
IPV6 = ipaddress.ip_address("2001:db8::7").packed + ipaddress.ip_address("2001:db8::1").packed + b"\x30\x39\x00\x19"
GOOD = {
    b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 25\r\n": "192.0.2.7",
    b"PROXY TCP6 2001:DB8::7 2001:db8::1 12345 25\r\n": "2001:db8::7",
    b"PROXY UNKNOWN\r\n": UNKNOWN,
    b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n": UNKNOWN,
    version_2(0x21, 0x11, IPV4): "192.0.2.7",
    version_2(0x21, 0x11, IPV4 + b"\x04\x00\x01x"): "192.0.2.7",
    version_2(0x21, 0x21, IPV6): "2001:db8::7",
    version_2(0x20, 0x00, b""): None,
    version_2(0x20, 0x11, IPV4): None,
    version_2(0x21, 0x31, b"x" * 216): UNKNOWN,
}


@pytest.mark.parametrize(("header", "address"), GOOD.items())
def test_headers_and_what_follows_them(header: bytes, address: str | None) -> None:
    for cut in range(len(header)):
        assert read_header(header[:cut]) is None
    for rest in (b"", b"EHLO a\r\n", SIGNATURE):
        assert read_header(header + rest) == Header(address, len(header))


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO a\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n",
        b"PROXY TCP4 999.0.2.7 198.51.100.1 12345 25\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 12345 25\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 12345 25\r\n",
        b"PROXY " + b"x" * 200,
        b"proxy TCP4",
        version_2(0x11, 0x11, IPV4),
        version_2(0x22, 0x11, IPV4),
        version_2(0x21, 0x11, IPV4[:-1]),
        version_2(0x21, 0x11, b"x" * (LONGEST - 15)),
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"PROXY|Expected 4 octets|permitted"):
        read_header(data)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: SIGNATURE + data))
def test_nothing_else_is_raised_and_nothing_is_taken_that_did_not_come(data: bytes) -> None:
    try:
        header = read_header(data)
    except ValueError:
        return
    assert header is None or 0 < header.length <= len(data)
