"""CONDSTORE beside other extensions: ESEARCH and SORT (RFC 7162 §3.1.6, §3.1.10), PARTIAL (RFC 9394), LIST-STATUS,
METADATA (RFC 7162 §3.2).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.imap import Client, Server


@pytest.fixture
def client(tmp_path: Path) -> Client:
    server = Server(tmp_path)
    for number in (2, 3, 1):
        server.deliver(b"Subject: %d\r\n\r\nbody\r\n" % number)
    client = server.login(select="INBOX")
    client.command("STORE 1 +FLAGS (\\Flagged)")
    return client


@pytest.fixture
def modseqs(client: Client) -> dict[int, int]:
    """By sequence number; that of the first message is the highest."""
    answer = client.command("FETCH 1:3 (MODSEQ)")
    found = {int(n): int(m) for n, m in re.findall(rb"\* (\d+) FETCH \(MODSEQ \((\d+)\)\)", answer)}
    assert found[1] > max(found[2], found[3])
    return found


def test_esearch_tells_the_modseq_of_what_it_tells(client: Client, modseqs: dict[int, int]) -> None:
    of_two = max(modseqs[2], modseqs[3])
    for returns, highest in (
        ("", modseqs[1]),
        ("MIN", modseqs[1]),
        ("MAX", modseqs[3]),
        ("MIN MAX", modseqs[1]),
        ("MAX COUNT", modseqs[1]),
        ("ALL", modseqs[1]),
        ("PARTIAL 2:3", of_two),
    ):
        answer = client.command(f"SEARCH RETURN ({returns}) MODSEQ 1 1:3")
        assert re.search(rb"\* ESEARCH \(TAG \S+\).* MODSEQ %d\r\n" % highest, answer), (returns, answer)


def test_esearch_that_finds_nothing_tells_no_modseq(client: Client, modseqs: dict[int, int]) -> None:
    answer = client.command(f"SEARCH RETURN (COUNT) MODSEQ {modseqs[1] + 1}")
    assert b" COUNT 0\r\n" in answer
    assert b" MODSEQ " not in answer


def test_esearch_without_the_key_tells_no_modseq(client: Client, modseqs: dict[int, int]) -> None:
    assert b"MODSEQ" not in client.command("SEARCH RETURN (ALL) ALL")


def test_sort_tells_the_highest_modseq(client: Client, modseqs: dict[int, int]) -> None:
    answer = client.command("SORT (SUBJECT) UTF-8 MODSEQ 1")
    assert b"* SORT 3 1 2 (MODSEQ %d)\r\n" % modseqs[1] in answer
    answer = client.command("SORT RETURN (MIN) (SUBJECT) UTF-8 MODSEQ 1")
    assert re.search(rb"\* ESEARCH \(TAG \S+\) MIN 3 MODSEQ %d\r\n" % modseqs[3], answer)


def test_a_search_turns_it_on(client: Client) -> None:
    assert b"HIGHESTMODSEQ" in client.command("SORT (SUBJECT) UTF-8 MODSEQ 1")


def test_partial_picks_before_changedsince(client: Client, modseqs: dict[int, int]) -> None:
    since = max(modseqs[2], modseqs[3])
    assert b"FETCH (" in client.command(f"UID FETCH 1:* (FLAGS) (PARTIAL 1:2 CHANGEDSINCE {since})")
    assert b"FETCH (" not in client.command(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since} PARTIAL 2:3)")


def test_list_gives_the_highest_modseq_with_status(client: Client, modseqs: dict[int, int]) -> None:
    answer = client.command('LIST "" INBOX RETURN (STATUS (HIGHESTMODSEQ))')
    assert b'* STATUS "INBOX" (HIGHESTMODSEQ %d)\r\n' % modseqs[1] in answer


@pytest.mark.parametrize("modifiers", ["PARTIAL 1:2 PARTIAL 1:2", "VANISHED", "VANISHED PARTIAL 1:2", "X 1", ""])
def test_malformed_modifiers(client: Client, modifiers: str) -> None:
    assert b" BAD " in client.command(f"UID FETCH 1:* (FLAGS) ({modifiers})")


def highest(client: Client, mailbox: str = "INBOX") -> int:
    *_, line = client.lines(f"STATUS {mailbox} (HIGHESTMODSEQ)")
    return int(line.rpartition(b" ")[2].rstrip(b")"))


def test_what_is_noted_about_a_mailbox_is_a_change_of_it(tmp_path: Path) -> None:
    server = Server(tmp_path)
    client = server.login()
    other = Server(tmp_path).login(select="INBOX")  # another process
    client.command("CREATE foo")
    told = [highest(client), highest(other)]
    client.lines('SETMETADATA INBOX (/private/comment "x")')
    noted = highest(client)
    assert told[0] < noted
    assert told[1] < noted <= highest(other)
    client.lines('SETMETADATA INBOX (/private/comment "x")')
    client.lines('SETMETADATA foo (/private/comment "x")')
    client.lines('SETMETADATA "" (/private/comment "x")')
    assert highest(client) == noted
    client.lines("SETMETADATA INBOX (/private/comment NIL)")
    removed = highest(client)
    assert noted < removed <= highest(Server(tmp_path).login()), "it is kept"


def test_a_special_use_is_a_change_too(client: Client) -> None:
    client.command("CREATE Old")
    before = highest(client, "Old")
    client.lines('SETMETADATA Old (/private/specialuse "\\\\Archive")')
    assert highest(client, "Old") > before


def test_what_is_noted_makes_no_news_of_messages(client: Client, modseqs: dict[int, int]) -> None:
    client.lines('SETMETADATA INBOX (/private/comment "x")')
    noted = highest(client)
    assert client.lines("NOOP") == []
    assert client.lines(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {max(modseqs.values())})") == []
    assert b"[HIGHESTMODSEQ %d]" % noted in client.command("SELECT INBOX")
