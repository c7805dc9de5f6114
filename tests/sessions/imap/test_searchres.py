"""SEARCHRES (RFC 5182): what a search saves, and `$`, which stands for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.store import Unavailable
from mailserver.store.searchtext import SearchText
from tests.support.imap import Client, Server, fetched


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """22 messages, whose UIDs are sequence numbers and one. 2, 10 to 15 and 21 are flagged."""
    server = Server(tmp_path)
    server.deliver(b"Subject: x\r\n\r\nx\r\n", count=23)
    client = server.login(select="INBOX")
    client.command("STORE 1 +FLAGS (\\Deleted)")
    client.command("EXPUNGE")
    client.command("STORE 2,10:15,21 +FLAGS (\\Flagged)")
    client.command("CREATE Other")
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


FOUND = [2, 10, 11, 12, 13, 14, 15, 21]


def saved(client: Client) -> list[int]:
    return sorted(fetched(client.command("FETCH $ (UID)")))


@pytest.mark.parametrize(
    ("returns", "answer", "numbers"),
    [
        ("SAVE", None, FOUND),
        ("ALL SAVE", b" ALL 2,10:15,21", FOUND),
        ("SAVE MIN", b" MIN 2", [2]),
        ("save max", b" MAX 21", [21]),
        ("MAX SAVE MIN", b" MIN 2 MAX 21", [2, 21]),
        ("MAX SAVE MIN COUNT", b" MIN 2 MAX 21 COUNT 8", FOUND),
        ("ALL SAVE MIN", b" MIN 2 ALL 2,10:15,21", FOUND),
    ],
)
def test_what_is_saved_and_what_is_told(client: Client, returns: str, answer: bytes | None, numbers: list[int]) -> None:
    lines = client.lines(f"SEARCH RETURN ({returns}) FLAGGED")
    assert [line.partition(b")")[2] for line in lines] == ([] if answer is None else [answer])
    assert saved(client) == numbers
    client.command("SEARCH RETURN (COUNT) ALL")
    client.command("SEARCH DRAFT")
    assert saved(client) == numbers


def test_it_stands_for_uids_as_well(client: Client) -> None:
    client.lines("UID SEARCH RETURN (SAVE) FLAGGED NOT 10:15")
    assert client.lines("UID FETCH $ (UID)") == [b"2 FETCH (UID 3)", b"21 FETCH (UID 22)"]
    assert client.lines("FETCH $ (UID)") == [b"2 FETCH (UID 3)", b"21 FETCH (UID 22)"]
    assert client.lines("UID SEARCH UID $") == client.lines("UID SEARCH $") == [b"SEARCH 3 22"]
    assert client.lines("SEARCH CHARSET UTF-8 (OR $ 1,20:22) SMALLER 4096") == [b"SEARCH 1 2 20 21 22"]
    assert client.lines("SEARCH NOT $ 1:3") == [b"SEARCH 1 3"]
    assert client.lines("SEARCH RETURN (SAVE) $ 20:22") == []
    assert saved(client) == [21]


def test_commands_one_after_the_other(client: Client) -> None:
    answer = client.say(
        b"f1 SEARCH RETURN (SAVE) FLAGGED\r\nf2 COPY $ Other\r\n"
        b"f3 STORE $ +FLAGS.SILENT (\\Deleted)\r\nf4 UID EXPUNGE $\r\n"
    )
    assert [line.split()[:2] for line in answer.splitlines() if line.startswith(b"f")] == [
        [b"f1", b"OK"], [b"f2", b"OK"], [b"f3", b"OK"], [b"f4", b"OK"],
    ]  # fmt: skip
    assert answer.count(b" EXPUNGE\r\n") == 8
    assert b"(MESSAGES 8)" in client.command("STATUS Other (MESSAGES)")
    assert saved(client) == []


def test_an_empty_result_is_no_error(client: Client) -> None:
    client.lines("SEARCH RETURN (SAVE) DRAFT")
    for command in ("FETCH $ FLAGS", "STORE $ +FLAGS (x)", "COPY $ Other", "MOVE $ Other", "UID EXPUNGE $"):
        assert client.lines(command) == []
    assert client.lines("SEARCH $") == [b"SEARCH"]


def test_messages_that_are_expunged_leave_it(server: Server, client: Client) -> None:
    client.lines("SEARCH RETURN (SAVE) FLAGGED")
    other = server.login(select="INBOX")
    other.command("STORE 2,11 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    client.command("NOOP")
    assert saved(client) == [9, 10, 11, 12, 13, 19]


def test_select_and_failure_reset_it_and_bad_does_not(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise Unavailable("broken")

    client.lines("SEARCH RETURN (SAVE) FLAGGED")
    assert client.command("SEARCH RETURN (SAVE) BOGUS").startswith(b"t BAD")
    assert client.command("SEARCH CHARSET KOI8-R ALL").startswith(b"t NO [BADCHARSET")
    assert saved(client) == FOUND
    assert client.command("SEARCH RETURN (SAVE) CHARSET KOI8-R TEXT {4+}\r\nXXXX").startswith(b"t NO [BADCHARSET")
    assert saved(client) == []
    for command in ("SEARCH RETURN (SAVE) TEXT y", "SORT RETURN (SAVE) (SUBJECT) UTF-8 TEXT y"):
        client.lines("SEARCH RETURN (SAVE) FLAGGED")
        with monkeypatch.context() as patched:
            patched.setattr(SearchText, "find", broken)
            assert client.command(command).startswith(b"t NO [UNAVAILABLE]")
        assert saved(client) == []
    client.lines("SEARCH RETURN (SAVE) FLAGGED")
    client.command("EXAMINE INBOX")
    assert saved(client) == []


def test_sort_saves_as_well(client: Client) -> None:
    assert client.lines("SORT RETURN (SAVE) (REVERSE ARRIVAL) UTF-8 FLAGGED") == []
    assert saved(client) == FOUND
    (line,) = client.lines("SORT RETURN (SAVE MIN) (REVERSE SIZE) UTF-8 10:15")
    assert line.endswith(b" MIN 10")
    assert saved(client) == [10]


@pytest.mark.parametrize("text", ["FETCH $,1 FLAGS", "FETCH $$ FLAGS", "FETCH 1:$ FLAGS", "SEARCH UID", "SEARCH $,1"])
def test_what_is_malformed_is_refused(client: Client, text: str) -> None:
    assert client.command(text).startswith(b"t BAD")
    assert b" SEARCHRES" in client.lines("CAPABILITY")[0]
