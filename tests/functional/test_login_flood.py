"""Many logins at once against a server whose hashes cost what they do in earnest."""

from __future__ import annotations

import base64
import imaplib
import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.server import ALICE, PASSWORD, RunningServer
from tests.support.sink import wait_until

FLOOD = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), costly=True) as running:
        yield running


def begin(server: RunningServer, source: str, password: str) -> socket.socket:
    """An IMAP login that is not waited for."""
    client = socket.create_connection(("127.0.0.1", server.ports.imap), 30, source_address=(source, 0))
    client.settimeout(60)
    assert client.recv(1000).startswith(b"* OK")
    response = base64.b64encode(f"\0{ALICE}\0{password}".encode()).decode()
    client.sendall(f"a AUTHENTICATE PLAIN {response}\r\n".encode())
    return client


def test_a_flood_from_one_address_keeps_nobody_else_waiting(server: RunningServer) -> None:
    for source in (
        "127.0.0.21",
        "127.0.0.22",
        "127.0.0.23",
    ):  # a machine that stops for a moment does so in one of them
        refusals = re.compile(rf"peer={re.escape(source)} login(?: refused|: too many wait)")
        flood = [begin(server, source, f"guess{n}") for n in range(FLOOD)]
        start = time.monotonic()
        client = imaplib.IMAP4("localhost", server.ports.imap, timeout=60)
        client.login(ALICE, PASSWORD)
        waited, before = time.monotonic() - start, len(refusals.findall(server.log()))
        client.logout()
        wait_until(lambda asked=refusals: len(asked.findall(server.log())) == FLOOD, 300)
        whole = time.monotonic() - start
        for each in flood:
            each.close()
        if before < FLOOD / 2 and waited < whole / 2:
            break
    assert before < FLOOD / 2, f"{before} guesses were answered first"
    assert waited < whole / 2
    assert begin(server, "127.0.0.3", PASSWORD).recv(1000).startswith(b"a OK")
