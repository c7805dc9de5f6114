"""UIDBATCHES (RFC 10022); where messages are few, batches may be smaller here than 500."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailserver.imap.commands import batches
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
UIDS = (2, 3, 5, 8, 9, 12, 13)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Seven messages, whose UIDs have gaps."""
    server = Server(tmp_path_factory.mktemp("batches"))
    server.deliver(MESSAGE, count=14)
    client = server.login(select="INBOX")
    gone = ",".join(str(uid) for uid in range(1, 15) if uid not in UIDS)
    client.command(f"UID STORE {gone} +FLAGS.SILENT (\\Deleted)")
    client.command("EXPUNGE")
    client.command("CREATE empty")
    return server


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(batches, "SMALLEST", 1)
    return server.login(select="INBOX")


def cut(client: Client, arguments: str) -> bytes:
    """The ranges."""
    (line,) = client.lines(f"UIDBATCHES {arguments}")
    match = re.fullmatch(rb'UIDBATCHES \(TAG "t%d"\)(?: (\S+))?' % client._tags, line)
    assert match, line
    return match[1] or b""


def test_it_is_offered(client: Client) -> None:
    assert b" UIDBATCHES " in client.command("CAPABILITY")


@pytest.mark.parametrize(
    ("arguments", "ranges"),
    [
        ("3", b"13:9,8:3,2:1"),
        ("2", b"13:12,11:8,7:3,2:1"),
        ("7", b"13:1"),
        ("8", b"13:1"),
        ("4294967295", b"13:1"),
        ("6", b"13:3,2:1"),
        ("2 1:2", b"13:12,11:8"),
        ("2 2:3", b"11:8,7:3"),
        ("2 4:9", b"2:1"),
        ("2 5:4294967295", b""),
        ("1 1:1", b"13:13"),
    ],
)
def test_where_batches_begin_and_end(client: Client, arguments: str, ranges: bytes) -> None:
    assert cut(client, arguments) == ranges


def test_an_empty_mailbox_has_an_empty_answer(client: Client) -> None:
    client.command("SELECT empty")
    assert cut(client, "500") == b""
    assert cut(client, "500 1:9") == b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_all_messages_are_in_one_batch_and_all_but_the_last_are_full(
    client: Client, size: int, first: int, more: int
) -> None:
    ranges = [tuple(map(int, each.split(b":"))) for each in filter(None, cut(client, str(size)).split(b","))]
    batched = [[uid for uid in reversed(UIDS) if low <= uid <= high] for high, low in ranges]
    assert [uid for batch in batched for uid in batch] == list(reversed(UIDS))
    assert {len(batch) for batch in batched[:-1]} <= {size}
    assert 1 <= len(batched[-1]) <= size
    assert ranges[-1][1] == 1
    assert [low - 1 for _, low in ranges[:-1]] == [high for high, _ in ranges[1:]]
    some = ",".join(f"{high}:{low}" for high, low in ranges[first - 1 : first + more])
    assert cut(client, f"{size} {first}:{first + more}") == some.encode()


# what is refused


def test_batches_that_are_too_small_are_refused(server: Server) -> None:
    client = server.login(select="INBOX")
    assert client.command("UIDBATCHES 499") == b"t NO [TOOFEW] a batch must have at least 500 messages\r\n"
    assert cut(client, "500") == b"13:1"


@pytest.mark.parametrize(
    "arguments", ["", " ", " 0", " -1", " x", " 500 ", " 500 1", " 500 0:1", " 500 1:*", " 500 1:2 3"]
)
def test_what_is_malformed_is_refused(client: Client, arguments: str) -> None:
    assert client.command("UIDBATCHES" + arguments).startswith(b"t BAD")


def test_batches_in_the_wrong_order_are_refused(client: Client) -> None:
    assert client.command("UIDBATCHES 2000 4:1").startswith(b"t BAD [CLIENTBUG] ")


def test_a_mailbox_must_be_selected(server: Server) -> None:
    assert server.login().command("UIDBATCHES 500").startswith(b"t BAD")


# with other extensions


def test_what_is_saved_stays(client: Client) -> None:
    client.command("UID SEARCH RETURN (SAVE) UID 8")
    cut(client, "2")
    assert client.lines("UID SEARCH $") == [b"SEARCH 8"]


def test_with_uidonly(client: Client) -> None:
    client.command("ENABLE UIDONLY")
    assert cut(client, "3") == b"13:9,8:3,2:1"


def test_the_messages_are_those_that_the_client_knows_by_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "SMALLEST", 1)
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=3)
    client, other = server.login(select="INBOX"), server.login(select="INBOX")
    server.deliver(MESSAGE)
    other.command("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
    other.command("EXPUNGE")
    lines = [line for line in client.lines("UIDBATCHES 2") if b"RECENT" not in line]
    assert lines == [b"4 EXISTS", b'UIDBATCHES (TAG "t%d") 4:3,2:1' % client._tags, b"1 EXPUNGE"]
