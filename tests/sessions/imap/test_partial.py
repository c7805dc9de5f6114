"""PARTIAL (RFC 9394): parts of what SEARCH, SORT and UID FETCH find."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.commands import Partial
from tests.support.imap import Client, Server, fetched


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """22 messages, whose UIDs are sequence numbers and one. 2, 10 to 15 and 21 are flagged; all came in one
    second.
    """
    server = Server(tmp_path_factory.mktemp("partial"))
    client = server.login()
    for _ in range(23):
        client.append("INBOX", b"Subject: x\r\n\r\nx\r\n", extra='"01-Jan-2024 12:00:00 +0000" ')
    client.command("SELECT INBOX")
    client.command("STORE 1 +FLAGS (\\Deleted)")
    client.command("EXPUNGE")
    client.command("STORE 2,10:15,21 +FLAGS (\\Flagged)")
    yield client


def told(client: Client, command: str) -> bytes:
    (line,) = client.lines(command)
    return line.partition(b")")[2]


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        ("1:3", b" PARTIAL (1:3 2,10:11)"),
        ("3:1", b" PARTIAL (3:1 2,10:11)"),
        ("8:8", b" PARTIAL (8:8 21)"),
        ("7:100", b" PARTIAL (7:100 15,21)"),
        ("9:100", b" PARTIAL (9:100 NIL)"),
        ("-1:-2", b" PARTIAL (-1:-2 15,21)"),
        ("-2:-1", b" PARTIAL (-2:-1 15,21)"),
        ("-8:-100", b" PARTIAL (-8:-100 2)"),
        ("-9:-4294967295", b" PARTIAL (-9:-4294967295 NIL)"),
    ],
)
def test_parts_of_a_search(client: Client, part: str, answer: bytes) -> None:
    assert told(client, f"SEARCH RETURN (PARTIAL {part}) FLAGGED") == answer


def test_uids_and_other_results(client: Client) -> None:
    answer = told(client, "UID SEARCH RETURN (MIN MAX COUNT partial -1:-2) FLAGGED")
    assert answer == b" UID MIN 3 MAX 22 PARTIAL (-1:-2 16,22) COUNT 8"
    assert told(client, "SEARCH RETURN (PARTIAL 1:5 MIN) DRAFT") == b" PARTIAL (1:5 NIL)"
    assert b" PARTIAL" in client.lines("CAPABILITY")[0]


def test_parts_of_a_sort_are_in_its_order(client: Client) -> None:
    command = "SORT RETURN (PARTIAL 1:3) (REVERSE ARRIVAL SIZE) UTF-8 FLAGGED"
    assert told(client, command) == b" PARTIAL (1:3 2,10:11)"


@pytest.mark.parametrize(
    ("returns", "numbers"),
    [
        ("PARTIAL 2:3", [10, 11]),
        ("PARTIAL 2:3 MIN", [2, 10, 11]),
        ("MAX PARTIAL 2:3", [10, 11, 21]),
        ("MAX PARTIAL 7:8 MIN", [2, 15, 21]),
        ("PARTIAL 2:3 COUNT MIN", [2, 10, 11, 12, 13, 14, 15, 21]),
        ("PARTIAL 20:30", []),
    ],
)
def test_what_is_saved(client: Client, returns: str, numbers: list[int]) -> None:
    assert b" PARTIAL (" in told(client, f"SEARCH RETURN (SAVE {returns}) FLAGGED")
    assert sorted(fetched(client.command("FETCH $ (UID)"))) == numbers


@pytest.mark.parametrize(
    ("messages", "part", "numbers"),
    [
        ("5:20", "-1:-3", [17, 18, 19]),
        ("5:20", "1:2", [4, 5]),
        ("5:20", "16:20", [19]),
        ("5:20", "17:20", []),
        ("1:*", "-1:-1", [22]),
        ("100:200", "1:5", []),
    ],
)
def test_parts_of_a_fetch(client: Client, messages: str, part: str, numbers: list[int]) -> None:
    answer = client.command(f"UID FETCH {messages} (FLAGS) (PARTIAL {part})")
    assert answer.endswith(b"t OK Fetched\r\n")
    assert sorted(fetched(answer)) == numbers


@pytest.mark.parametrize(
    "command",
    [
        "SEARCH RETURN (PARTIAL) ALL", "SEARCH RETURN (PARTIAL 1) ALL", "SEARCH RETURN (PARTIAL 0:1) ALL",
        "SEARCH RETURN (PARTIAL 1:-1) ALL", "SEARCH RETURN (PARTIAL -1:1) ALL", "SEARCH RETURN (PARTIAL 1:*) ALL",
        "SEARCH RETURN (PARTIAL 1:2 ALL) ALL", "SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL",
        "SEARCH RETURN (PARTIAL 1:4294967296) ALL", "SEARCH RETURN (PARTIAL 1:99999999999) ALL",
        "FETCH 1:* (FLAGS) (PARTIAL 1:2)", "UID FETCH 1:* (FLAGS) (PARTIAL 1)", "UID FETCH 1:* (FLAGS) ()",
        "UID FETCH 1:* (FLAGS) (BOGUS)", "UID FETCH 1:* (FLAGS) (PARTIAL 1:2 PARTIAL 1:2)", "UID FETCH 1:* (FLAGS) ",
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused(client: Client, command: str) -> None:
    assert client.command(command).startswith(b"t BAD")
    client.command("NOOP")  # or else the errors are too many


@given(st.integers(0, 12), st.integers(1, 15), st.integers(1, 15), st.booleans())
def test_it_agrees_with_the_naive_model(count: int, one: int, other: int, from_end: bool) -> None:
    wanted = set(range(min(one, other), max(one, other) + 1))
    places = range(count, 0, -1) if from_end else range(1, count + 1)
    expected = [number for number, place in zip(range(count), places, strict=True) if place in wanted]
    part = Partial(-one, -other) if from_end else Partial(one, other)
    assert list(part.of(range(count))) == expected
