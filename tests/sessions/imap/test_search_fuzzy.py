"""SEARCH=FUZZY (RFC 6203): what is near is found too, and rated. How near is a matter of `message.fuzzy`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.imap import Client, Server

MESSAGES = (
    ("IMAP break", "one"),
    ("broken things", "I said hello to the world"),
    ("Break the IMAP", "two"),
    ("Hello", "three"),
    ("nothing", "and no more"),
    ("Need some help", "hello hello"),
    ("=?utf-8?q?Caf=C3=A9?= tomorrow", "four"),
    ("Hellos to all", "five"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Eight messages; UIDs are sequence numbers and one."""
    server = Server(tmp_path_factory.mktemp("fuzzy"))
    client = server.login(select="INBOX")
    client.append("INBOX", b"Subject: x\r\n\r\n", "\\Deleted")
    client.command("EXPUNGE")
    for subject, body in MESSAGES:
        client.append("INBOX", f"Subject: {subject}\r\nFrom: user@example.com\r\n\r\n{body}\r\n".encode())
    client.command("STORE 4 +FLAGS (\\Answered)")
    return server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    yield server.login(select="INBOX")


def rated(client: Client, command: str) -> tuple[list[int], list[int]]:
    """What is told by ALL, in its order, and the scores."""
    (line,) = client.lines(command)
    match = re.fullmatch(rb'ESEARCH \(TAG "t\d+"\)(?: UID)?(?: ALL (\S+))?.* RELEVANCY \(([\d ]*)\)', line)
    assert match, line
    found: list[int] = []
    for part in (match[1] or b"").split(b","):
        first, _, last = part.partition(b":")
        found += range(int(first), int(last or first) + 1) if part else []
    return found, [int(score) for score in match[2].split()]


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ('FUZZY (SUBJECT "IMAP break")', b" 1 3"),
        ('SUBJECT "IMAP break"', b" 1"),
        ("FUZZY SUBJECT Helo", b" 4 6"),
        ("SUBJECT Helo", b""),
        ("FUZZY TEXT Helo", b" 2 4 6"),
        ("FUZZY BODY Helo", b" 2 6"),
        ("FUZZY SUBJECT break FROM user@example.com", b" 1 3"),
        ("FUZZY SUBJECT break FROM usr@example.com", b""),
        ("FUZZY SUBJECT break FUZZY FROM usre@example.com", b" 1 3"),
        ("FUZZY SUBJECT {13+}\r\ncafe tomorrow", b" 7"),
        ("FUZZY OR SUBJECT Helo SUBJECT tomorow", b" 4 6 7"),
        ("NOT FUZZY TEXT Helo", b" 1 3 5 7 8"),
        ("FUZZY NOT TEXT Helo", b" 1 3 5 7 8"),
        ("FUZZY (SUBJECT Helo ANSWERED)", b" 4"),
        ("FUZZY 2:4 FUZZY TEXT helo", b" 2 4"),
        ("FUZZY SUBJECT {2+}\r\n..", b""),
        ('FUZZY HEADER Subject ""', b" 1 2 3 4 5 6 7 8"),
        ("FUZZY HEADER X-None helo", b""),
        ("FUZZY TEXT {60+}\r\n" + "\\" * 60, b""),
    ],
)
def test_what_is_found(client: Client, key: str, found: bytes) -> None:
    assert client.lines(f"SEARCH {key}") == [b"SEARCH" + found]


# relevancy


def test_scores_are_in_the_order_of_what_is_found(client: Client) -> None:
    found, scores = rated(client, "SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT Hello")
    assert found == [2, 4, 6, 8]
    assert scores[1] == 100, "in the subject, and exactly so"
    assert 100 > scores[3] > scores[0], "a word like it in the subject; the word itself in the body"
    assert scores[0] == scores[2]
    assert rated(client, "UID SEARCH RETURN (ALL RELEVANCY) FUZZY TEXT Hello") == ([3, 5, 7, 9], scores)


def test_scores_without_anything_else(client: Client) -> None:
    assert len(rated(client, "SEARCH RETURN (RELEVANCY) FUZZY TEXT Hello")[1]) == 4
    assert rated(client, "SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT kiwi") == ([], [])
    assert rated(client, "SEARCH RETURN (COUNT RELEVANCY) FUZZY TEXT kiwi") == ([], [])


def test_a_part_has_its_own_scores(client: Client) -> None:
    _, scores = rated(client, "SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT Hello")
    (line,) = client.lines("SEARCH RETURN (PARTIAL 2:9 RELEVANCY) FUZZY TEXT Hello")
    assert line.endswith(b" PARTIAL (2:9 4,6,8) RELEVANCY (%d %d %d)" % tuple(scores[1:]))


def test_what_is_found_by_nothing_fuzzy_is_as_relevant_as_can_be(client: Client) -> None:
    assert rated(client, "SEARCH RETURN (RELEVANCY ALL) FUZZY ANSWERED") == ([4], [100])
    found, scores = rated(client, "SEARCH RETURN (RELEVANCY ALL) OR SUBJECT nothing FUZZY SUBJECT Helo")
    assert found == [4, 5, 6]
    assert scores[1] == 100
    assert scores[0] == scores[2] < 100


def test_several_keys_together_make_the_score(client: Client) -> None:
    _, one = rated(client, "SEARCH RETURN (RELEVANCY) FUZZY SUBJECT Helo UID 5")
    _, both = rated(client, "SEARCH RETURN (RELEVANCY) FUZZY SUBJECT Helo FUZZY FROM user@example.com UID 5")
    assert one[0] < both[0] < 100


# SORT


def test_the_most_relevant_comes_first(client: Client) -> None:
    assert client.lines("SORT (RELEVANCY) UTF-8 FUZZY TEXT Hello") == [b"SORT 4 8 2 6"]
    assert client.lines("SORT (REVERSE RELEVANCY) UTF-8 FUZZY TEXT Hello") == [b"SORT 2 6 8 4"]
    assert client.lines("UID SORT (RELEVANCY) UTF-8 FUZZY TEXT Hello") == [b"SORT 5 9 3 7"]


def test_what_is_as_relevant_stays_in_order_or_is_sorted_further(client: Client) -> None:
    assert client.lines("SORT (RELEVANCY) UTF-8 FUZZY SUBJECT Helo") == [b"SORT 4 6"]
    assert client.lines("SORT (RELEVANCY REVERSE SUBJECT) UTF-8 FUZZY SUBJECT Helo") == [b"SORT 6 4"]
    assert client.lines("SORT (SUBJECT RELEVANCY) UTF-8 FUZZY TEXT Hello") == [b"SORT 2 4 8 6"]


def test_sorted_with_scores(client: Client) -> None:
    found, scores = rated(client, "SORT RETURN (RELEVANCY ALL) (RELEVANCY) UTF-8 FUZZY TEXT Hello")
    assert found == [4, 8, 2, 6]
    assert scores == sorted(scores, reverse=True)
    (line,) = client.lines("SORT RETURN (PARTIAL 1:2) (RELEVANCY) UTF-8 FUZZY TEXT Hello")
    assert line.endswith(b" PARTIAL (1:2 4,8)")


def test_with_multisearch(client: Client) -> None:
    (line,) = client.lines("ESEARCH IN (personal) RETURN (ALL RELEVANCY) FUZZY SUBJECT Hello")
    assert re.search(rb'MAILBOX "INBOX" UIDVALIDITY \d+\) UID ALL 5,9 RELEVANCY \(100 \d+\)$', line)


def test_relevancy_needs_something_fuzzy(client: Client) -> None:
    assert client.command("SEARCH RETURN (RELEVANCY) TEXT x").startswith(b"t BAD")
    assert client.command("SORT (RELEVANCY) UTF-8 TEXT x").startswith(b"t BAD")


def test_what_was_never_packed_is_found_the_same(tmp_path: Path) -> None:
    server = Server(tmp_path)
    client = server.login(select="INBOX")
    client.append("INBOX", b"Subject: hello\r\n\r\nx\r\n")
    client.append("INBOX", b"Subject: x\r\n\r\nhello\r\n")
    first = client.command("SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT helo")
    again = client.command("SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT helo")
    assert re.search(rb"ALL 1:2 RELEVANCY .*", first)
    assert re.findall(rb"RELEVANCY .*", first) == re.findall(rb"RELEVANCY .*", again)


def test_it_is_offered(client: Client) -> None:
    assert b" SEARCH=FUZZY " in client.command("CAPABILITY")
