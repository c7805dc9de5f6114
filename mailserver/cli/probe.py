"""What a listener of this machine shows to who begins TLS there: asked as a client would ask.

Promises   Nothing is trusted of what is seen, and nothing is asked for but TLS. All of it ends in time.
On failure OSError, ssl.SSLError among them; ProbeError for what is no answer, NotHere for who cannot be asked.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping, Sequence

from mailserver.config.model import Listener
from mailserver.config.network import parse_endpoint

TIMEOUT = 10.0  # seconds for all of it
LONGEST_LINE = 4096
MOST_LINES = 100

# What is said, and how the last line of the answer begins.
_BEFORE_TLS: Mapping[str, Sequence[tuple[bytes, bytes]]] = {
    "smtp": ((b"", b"220 "), (b"EHLO localhost\r\n", b"250 "), (b"STARTTLS\r\n", b"220 ")),
    "lmtp": ((b"", b"220 "), (b"LHLO localhost\r\n", b"250 "), (b"STARTTLS\r\n", b"220 ")),
    "pop3": ((b"", b"+OK"), (b"STLS\r\n", b"+OK")),
    "imap": ((b"", b"* OK"), (b"a STARTTLS\r\n", b"a OK")),
}


class ProbeError(Exception):
    """The text says what stood in the way."""


class NotHere(Exception):
    """The configuration does not say where the listener is."""


def shown_certificate(listener: Listener, name: str | None) -> bytes:
    """The certificate (DER) that is shown to a client that asks for `name`, or for none."""
    end = time.monotonic() + TIMEOUT
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _connect(listener.endpoint) as plain:
        if listener.proxy:
            plain.sendall(b"PROXY UNKNOWN\r\n")
        if listener.tls == "starttls":
            protocol = "smtp" if listener.protocol == "submission" else listener.protocol
            for said, wanted in _BEFORE_TLS[protocol]:
                plain.sendall(said)
                _await_answer(plain, wanted, end)
        plain.settimeout(max(end - time.monotonic(), 0.1))
        with context.wrap_socket(plain, server_hostname=name) as encrypted:
            return encrypted.getpeercert(binary_form=True) or b""


def _connect(endpoint: str) -> socket.socket:
    parsed = parse_endpoint(endpoint)
    if parsed.kind == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(TIMEOUT)
        try:
            made.connect(parsed.where)
        except OSError:
            made.close()
            raise
        return made
    if parsed.port is None:
        raise NotHere("systemd knows where it listens")
    where = ipaddress.ip_address(parsed.where)
    if where.is_unspecified:
        where = ipaddress.ip_address("127.0.0.1" if where.version == 4 else "::1")
    return socket.create_connection((str(where), parsed.port), TIMEOUT)


def _await_answer(plain: socket.socket, wanted: bytes, end: float) -> None:
    """SMTP's answers have several lines, of which the last one counts."""
    for _ in range(MOST_LINES):
        line = _line(plain, end)
        if line.startswith(wanted):
            return
        if not line.startswith(wanted.replace(b" ", b"-")) or not wanted[:1].isdigit():
            raise ProbeError(f"answers {line.decode('ascii', 'replace').strip()!r}")
    raise ProbeError("its answer has no end")


def _line(plain: socket.socket, end: float) -> bytes:
    """Octet by octet: what comes behind may be TLS."""
    line = b""
    while not line.endswith(b"\n"):
        plain.settimeout(max(end - time.monotonic(), 0.01))
        octet = plain.recv(1)
        if not octet or len(line) > LONGEST_LINE:
            raise ProbeError(f"answers {line.decode('ascii', 'replace')!r} and no more")
        line += octet
    return line
