"""A client that asks for much and does not read: the server's memory stays within a bound, whatever it asks for."""

from __future__ import annotations

import os
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ALICE, PASSWORD, RunningServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="proc(5)")

MIB = 2**20
COUNT = 20
SIZE = 10 * MIB  # so that all are 200 MiB
SMALL = 8_000
BOUND = 24 * MIB
"""What one client may make the server hold at most: a batch, what is compressed or encrypted of it, its copies."""
WITH_KEPT = BOUND + 64 * MIB
"""The same, where the server keeps answers for others as well."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server")) as server:
        large = server.maildir(ALICE)
        line = b"x" * 76 + b"\n"
        _fill(large / "cur", b"Subject: large\n\n" + line * (SIZE // len(line)), COUNT)
        small = large / ".small"
        _fill(small / "cur", b"Subject: small\n" + b"To: someone@example.test\n" * 30 + b"\nbody\n", SMALL)
        with server.imap() as client:
            for mailbox in ("INBOX", "small"):
                client.select(mailbox)
                # so that nothing is left to be made in the background
                for command in (b"FETCH 1:* ENVELOPE", b"SEARCH TEXT nowhere"):
                    client.send(b"f " + command + b"\r\n")
                    while not client.readline().startswith(b"f OK"):
                        pass
        yield server


def _fill(directory: Path, message: bytes, count: int) -> None:
    """One file under many names."""
    for part in ("cur", "new", "tmp"):
        (directory.parent / part).mkdir(parents=True, exist_ok=True)
    first = directory / "1700000000.M0P1Q1.elsewhere:2,S"
    first.write_bytes(message)
    for number in range(1, count):
        os.link(first, directory / f"1700000000.M{number}P1Q1.elsewhere:2,S")


def _memory(server: RunningServer) -> int:
    """What the server, which is one process beside its helpers, holds now."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("Private_Dirty:")]
    return int(line.split()[1]) * 1024


def _connect(server: RunningServer, layer: str, mailbox: str) -> socket.socket:
    """A client that has read everything so far."""
    port = server.ports.imaps if layer == "TLS" else server.ports.imap
    connection = socket.create_connection(("localhost", port), 30)
    if layer == "TLS":
        connection = server.tls_context().wrap_socket(connection, server_hostname="localhost")
    commands = [f"a LOGIN {ALICE} {PASSWORD}", f"a EXAMINE {mailbox}"]
    for command in ["", *commands, *(["a COMPRESS DEFLATE"] if layer == "compression" else [])]:
        connection.sendall(f"{command}\r\n".encode() if command else b"")
        answer = b""
        while not answer.endswith(b"\r\n") or (b"a OK" if command else b"* OK") not in answer:
            answer += connection.recv(65536)
            assert answer, "the server hung up"
    return connection


@pytest.mark.parametrize("layer", ["none", "TLS", "compression"])
@pytest.mark.parametrize(
    ("mailbox", "items", "bound"),
    [
        ("INBOX", "BODY.PEEK[]", BOUND),
        ("INBOX", "(BODY.PEEK[TEXT] BODY.PEEK[1])", BOUND + 4 * SIZE),  # what is taken apart is held meanwhile
        ("small", "BODY.PEEK[]", BOUND),
        ("small", "BODY.PEEK[HEADER]", BOUND),
        ("small", "(ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (TO SUBJECT)])", WITH_KEPT),
        ("small", "FLAGS", WITH_KEPT),
    ],
)
def test_what_is_not_read_is_not_made(server: RunningServer, mailbox: str, items: str, bound: int, layer: str) -> None:
    before = highest = _memory(server)
    with _connect(server, layer, mailbox) as client:
        wanted = f"t FETCH 1:* {items}\r\n".encode() * 50
        client.sendall(_deflated(wanted) if layer == "compression" else wanted)
        for _ in range(10):
            time.sleep(0.1)
            highest = max(highest, _memory(server))
        assert client.recv(1), "it did begin"
    assert highest - before < bound, f"{(highest - before) / MIB:.1f} MiB more than before"


def _deflated(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
