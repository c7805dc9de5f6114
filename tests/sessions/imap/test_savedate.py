"""SAVEDATE (RFC 8514): when a message came into the mailbox, however it came."""

import os
import time
from pathlib import Path

import pytest

from mailserver.mail import Content
from mailserver.store import Delivery
from tests.support.imap import ALICE, Client, Server, fetched

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
DAY = 86400
START = 1_420_140_653  # 1-Jan-2015 19:30:53 UTC


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The wall time by which files are named."""
    now = [float(START)]
    monkeypatch.setattr("mailserver.store.names.time.time_ns", lambda: int(now[0] * 10**9))
    return now


@pytest.fixture
def client(tmp_path: Path, now: list[float]) -> Client:
    server = Server(tmp_path)
    server.store.deliver([Delivery(ALICE, b"", Content(MESSAGE))])
    now[0] += DAY
    client = server.login(select="INBOX")
    client.append("INBOX", MESSAGE, "", '"17-Jul-1996 02:44:25 -0700" ')
    return client


def saved(client: Client) -> list[object]:
    return [item[b"SAVEDATE"] for item in fetched(client.command("FETCH 1:* SAVEDATE")).values()]


def test_it_is_not_the_internal_date(client: Client) -> None:
    assert b" SAVEDATE" in client.command("CAPABILITY")
    assert saved(client) == [b" 1-Jan-2015 19:30:53 +0000", b" 2-Jan-2015 19:30:53 +0000"]


@pytest.mark.parametrize("command", ["COPY", "MOVE"])
def test_a_copy_has_the_time_of_copying(client: Client, now: list[float], command: str) -> None:
    client.command("CREATE Trash")
    now[0] += DAY
    client.command(f"{command} 1:2 Trash")
    assert saved(client) == (saved(client) if command == "COPY" else [])
    client.command("SELECT Trash")
    assert saved(client) == [b" 3-Jan-2015 19:30:53 +0000"] * 2
    assert b"17-Jul-1996" in client.command("FETCH 2 INTERNALDATE")


def test_flags_leave_it_alone(client: Client, now: list[float]) -> None:
    before = saved(client)
    now[0] += DAY
    client.command("STORE 1:2 +FLAGS (\\Flagged \\Seen word)")
    assert saved(client) == before


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("SAVEDON 1-Jan-2015", b"SEARCH 1"),
        ("savedon 2-jan-2015", b"SEARCH 2"),
        ("SAVEDBEFORE 2-Jan-2015", b"SEARCH 1"),
        ("SAVEDBEFORE 1-Jan-2015", b"SEARCH"),
        ("SAVEDSINCE 2-Jan-2015", b"SEARCH 2"),
        ("SAVEDSINCE 1-Jan-2015", b"SEARCH 1 2"),
        ('NOT SAVEDON "1-Jan-2015"', b"SEARCH 2"),
        ("SAVEDATESUPPORTED", b"SEARCH 1 2"),
        ("NOT SAVEDATESUPPORTED", b"SEARCH"),
        ("SAVEDSINCE 1-Jan-2015 BEFORE 1-Jan-2000", b"SEARCH 2"),
    ],
)
def test_search(client: Client, key: str, found: bytes) -> None:
    assert client.lines(f"SEARCH {key}") == [found]


@pytest.mark.parametrize("key", ["SAVEDON", "SAVEDON 1-Jan", "SAVEDON 31-Feb-2015", "SAVEDATE 1-Jan-2015"])
def test_malformed(client: Client, key: str) -> None:
    assert client.command(f"SEARCH {key}").startswith(b"t BAD ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1136214245.4321_1.elsewhere", b" 2-Jan-2006 15:04:05 +0000"),
        ("no-time-in-it", b"13-Feb-2009 23:31:30 +0000"),
        ("999999999999.x", b"31-Dec-9999 23:59:59 +0000"),
    ],
)
def test_files_of_other_programs(client: Client, tmp_path: Path, name: str, expected: bytes) -> None:
    path = tmp_path / "example.test/alice/new" / name
    path.write_bytes(b"Subject: x\n\nbody\n")
    os.utime(path, (1234567890, 1234567890))
    later = time.time()
    os.utime(path.parent, (later, later))
    client.command("NOOP")
    assert saved(client)[-1] == expected
