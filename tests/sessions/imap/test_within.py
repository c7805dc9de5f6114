"""WITHIN (RFC 5032): OLDER and YOUNGER, to the second."""

from pathlib import Path

import pytest

from mailserver.imap import responses
from tests.support.imap import Client, Server


@pytest.fixture
def client(tmp_path: Path) -> Client:
    server = Server(tmp_path)
    client = server.login()
    now = server.clock.wall()
    for ago in (259_201, 259_200, 259_199, 0):
        date = responses.date_time(now - ago).decode()
        client.append("INBOX", b"Subject: x\r\n\r\nx\r\n", extra=f"{date} ")
    client.command("SELECT INBOX")
    server.clock.epoch = now  # what goes on in the background has waited
    return client


@pytest.mark.parametrize(
    ("keys", "numbers"),
    [
        ("OLDER 259200", b" 1 2"),
        ("YOUNGER 259200", b" 2 3 4"),
        ("younger 1", b" 4"),
        ("NOT YOUNGER 259200", b" 1"),
        ("YOUNGER 259200 OLDER 259200", b" 2"),
        ("OLDER 4294967295", b""),
        ("YOUNGER 4294967295", b" 1 2 3 4"),
    ],
)
def test_within(client: Client, keys: str, numbers: bytes) -> None:
    assert client.lines(f"SEARCH {keys}") == [b"SEARCH" + numbers]
    assert b" WITHIN" in client.lines("CAPABILITY")[0]


def test_time_passes(client: Client) -> None:
    client.session.clock.advance(10)  # type: ignore[attr-defined]
    assert client.lines("SEARCH YOUNGER 9") == [b"SEARCH"]
    assert client.lines("SEARCH YOUNGER 10") == [b"SEARCH 4"]
    assert client.lines("SEARCH OLDER 259205") == [b"SEARCH 1 2 3"]


@pytest.mark.parametrize("keys", ["OLDER", "OLDER 0", "YOUNGER -1", "YOUNGER 4294967296", "OLDER x"])
def test_what_is_malformed_is_refused(client: Client, keys: str) -> None:
    assert client.command(f"SEARCH {keys}").startswith(b"t BAD")
