"""MESSAGELIMIT and SAVELIMIT (RFC 9738), with a limit of three messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailserver.config.model import Limits
from mailserver.sessions.imap import fetch
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


def serving(root: Path, **limits: int) -> Server:
    """Six messages with the UIDs 3 to 8."""
    server = Server(root, limits=Limits().model_copy(update=limits))
    server.deliver(MESSAGE, count=8)
    client = server.login(select="INBOX")
    client.command("UID STORE 1:2 +FLAGS.SILENT (\\Deleted)")
    client.command("EXPUNGE")
    client.command("CREATE there")
    client.command("CLOSE")
    return server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return serving(tmp_path, imap_messages=3)


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def parts(answer: bytes) -> tuple[list[bytes], bytes]:
    *untagged, tagged = answer.split(b"\r\n")[:-1]
    return untagged, tagged


# the capability


def test_it_is_not_there_unless_it_is_asked_for(tmp_path: Path) -> None:
    client = serving(tmp_path).login(select="INBOX")
    assert b"LIMIT=" not in client.command("CAPABILITY").replace(b"APPENDLIMIT=", b"")
    assert len(client.lines("FETCH 1:* UID")) == 6


def test_it_is_offered(client: Client) -> None:
    assert b" MESSAGELIMIT=3" in client.command("CAPABILITY")
    assert b"SAVELIMIT" not in client.command("CAPABILITY")


# FETCH


def test_fetch_answers_the_newest_from_the_highest_down(client: Client) -> None:
    untagged, tagged = parts(client.command("FETCH 1:* (UID FLAGS)"))
    assert untagged == [b"* %d FETCH (UID %d FLAGS ())" % (number, number + 2) for number in (6, 5, 4)]
    assert tagged.startswith(b"t OK [MESSAGELIMIT 3 6] Fetched")
    untagged, tagged = parts(client.command("UID FETCH 1:5 FLAGS"))
    assert untagged == [b"* %d FETCH (UID %d FLAGS ())" % (number, number + 2) for number in (1, 2, 3)]
    assert tagged == b"t OK Fetched"


@pytest.mark.parametrize(
    "items", ["BODY.PEEK[]", "BODY.PEEK[HEADER.FIELDS (Subject)]", "ENVELOPE", "RFC822.SIZE EMAILID"]
)
@pytest.mark.parametrize("octets", [2**20, 3])
def test_whatever_is_fetched(client: Client, items: str, octets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BATCH_OCTETS", octets)
    monkeypatch.setattr(fetch, "METADATA_BATCH", 2)
    answer = client.command(f"UID FETCH 1:* ({items})")
    assert re.findall(rb"\* (\d) FETCH \(UID (\d)", answer) == [(b"6", b"8"), (b"5", b"7"), (b"4", b"6")]
    assert b"t OK [MESSAGELIMIT 3 6]" in answer


def test_seen_is_set_on_no_others(client: Client) -> None:
    client.command("FETCH 1:* BODY[]")
    assert client.lines("UID SEARCH UID 6:8 SEEN") == [b"SEARCH 6 7 8"]
    assert client.lines("UID SEARCH UID 1:5 SEEN") == [b"SEARCH"]


def test_what_did_not_change_does_not_count(client: Client) -> None:
    *_, answer = client.lines("STATUS INBOX (HIGHESTMODSEQ)")
    (modseq,) = re.findall(rb"HIGHESTMODSEQ (\d+)", answer)
    client.command("STORE 1 +FLAGS.SILENT (\\Seen)")
    (line,) = client.lines(b"FETCH 1:* FLAGS (CHANGEDSINCE %b)" % modseq)
    assert line.startswith(b"1 FETCH")


def test_a_part_that_is_too_large_is_refused(client: Client) -> None:
    answer = client.command("UID FETCH 1:* (UID FLAGS) (PARTIAL -1:-4)")
    assert answer.startswith(b"t NO [MESSAGELIMIT 3] ")
    assert len(client.lines("UID FETCH 1:* (UID FLAGS) (PARTIAL -1:-3)")) == 3


def test_expunged_meanwhile_keeps_its_place_in_the_answer(server: Server, client: Client) -> None:
    other = server.login(select="INBOX")
    other.command("UID STORE 7 +FLAGS.SILENT (\\Deleted)")
    other.command("EXPUNGE")
    untagged, tagged = parts(client.command("FETCH 1:* INTERNALDATE"))
    assert untagged[-1].startswith(b"* NO [MESSAGELIMIT 3 6] ")
    assert tagged.startswith(b"t OK [EXPUNGEISSUED] ")


# SEARCH and what it saves


def test_searched_messages_count_not_those_found(client: Client) -> None:
    untagged, tagged = parts(client.command("UID SEARCH UNDELETED"))
    assert untagged == [b"* SEARCH 6 7 8"]
    assert tagged.startswith(b"t OK [MESSAGELIMIT 3 6] ")
    untagged, tagged = parts(client.command("UID SEARCH DELETED"))
    assert untagged == [b"* SEARCH"]
    assert tagged.startswith(b"t OK [MESSAGELIMIT 3 6] ")


@pytest.mark.parametrize(
    ("key", "found", "code"),
    [
        ("UID 3:7 UNDELETED", b" 5 6 7", b"[MESSAGELIMIT 3 5]"),
        ("UNDELETED (UID 3:6 (UID 4:8 ALL))", b" 4 5 6", b"Searched"),
        ("1:4", b" 4 5 6", b"[MESSAGELIMIT 3 4]"),
        ("UID 3,5,8 1:6", b" 3 5 8", b"Searched"),
        ("UIDAFTER 5", b" 6 7 8", b"Searched"),
        ("UIDBEFORE 6 UIDAFTER 3", b" 4 5", b"Searched"),
        ("OR UID 3 UID 4", b"", b"[MESSAGELIMIT 3 6]"),
        ("NOT UID 8", b" 6 7", b"[MESSAGELIMIT 3 6]"),
    ],
)
def test_what_sets_leave_out_is_not_searched(client: Client, key: str, found: bytes, code: bytes) -> None:
    untagged, tagged = parts(client.command(f"UID SEARCH {key}"))
    assert untagged == [b"* SEARCH" + found]
    assert tagged.startswith(b"t OK " + code)


def test_what_is_saved_is_cut_too(client: Client) -> None:
    answer = client.command("UID SEARCH RETURN (SAVE) ALL")
    assert answer.startswith(b"t OK [MESSAGELIMIT 3 6] ")
    assert client.lines("UID SEARCH UID $") == [b"SEARCH 6 7 8"]
    assert client.command("UID SEARCH RETURN (SAVE) UIDBEFORE 6").startswith(b"t OK Searched")
    assert client.lines("UID SEARCH $") == [b"SEARCH 3 4 5"]


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("UIDAFTER 7", b" 8"),
        ("UIDAFTER 8", b""),
        ("UIDAFTER 4294967295", b""),
        ("UIDBEFORE 4", b" 3"),
        ("UIDBEFORE 1", b""),
        ("NOT UIDBEFORE 8", b" 8"),
    ],
)
def test_uidafter_and_uidbefore_are_known_without_a_limit(tmp_path: Path, key: str, found: bytes) -> None:
    client = serving(tmp_path).login(select="INBOX")
    assert client.lines(f"UID SEARCH {key}") == [b"SEARCH" + found]


def test_sort_is_never_cut_and_thread_is_refused(client: Client) -> None:
    assert client.lines("UID SORT (ARRIVAL) UTF-8 ALL") == [b"SORT 3 4 5 6 7 8"]
    assert client.command("UID THREAD REFS UTF-8 ALL").startswith(b"t NO [MESSAGELIMIT 3] ")
    assert client.lines("UID THREAD REFS UTF-8 UID 4:5") == [b"THREAD (4)(5)"]


# STORE


def test_store_changes_the_newest_from_the_highest_down(client: Client) -> None:
    untagged, tagged = parts(client.command("UID STORE 1:* +FLAGS (\\Seen)"))
    assert untagged == [b"* %d FETCH (UID %d FLAGS (\\Seen))" % (number, number + 2) for number in (6, 5, 4)]
    assert tagged.startswith(b"t OK [MESSAGELIMIT 3 6] ")
    assert client.lines("UID SEARCH UID 1:5 SEEN") == [b"SEARCH"]


def test_store_with_messages_that_were_modified(client: Client) -> None:
    client.command("UID STORE 6:7 +FLAGS.SILENT (\\Flagged)")
    untagged, tagged = parts(client.command("UID STORE 1:* (UNCHANGEDSINCE 1) +FLAGS.SILENT (\\Seen)"))
    assert untagged[-1].startswith(b"* NO [MESSAGELIMIT 3 6] ")
    assert tagged.startswith(b"t OK [MODIFIED 6:8] ")


# COPY, MOVE, EXPUNGE


def test_copy_does_nothing_by_halves(client: Client) -> None:
    assert client.command("UID COPY 3:7 there").startswith(b"t NO [MESSAGELIMIT 3 5] ")
    assert client.lines("STATUS there (MESSAGES)") == [b'STATUS "there" (MESSAGES 0)']
    assert b" OK [COPYUID " in client.command("COPY 1:3 there")


def test_move_moves_the_newest_and_is_said_again(client: Client) -> None:
    untagged, tagged = parts(client.command("UID MOVE 1:7 there"))
    assert re.fullmatch(rb"\* OK \[COPYUID \d+ 5:7 1:3\] Moving", untagged[0])
    assert untagged[1:4] == [b"* 3 EXPUNGE"] * 3
    assert untagged[4].startswith(b"* OK [HIGHESTMODSEQ ")
    assert tagged.startswith(b"t OK [MESSAGELIMIT 3 5] Moved")
    answer = client.command("UID MOVE 1:7 there")
    assert re.search(rb"COPYUID \d+ 3:4 4:5\]", answer)
    assert b"MESSAGELIMIT" not in answer


def test_uid_expunge_counts_deleted_messages_and_the_others_do_not_count(client: Client) -> None:
    client.command("UID STORE 3:5 +FLAGS.SILENT (\\Deleted)")
    client.command("UID STORE 6:7 +FLAGS.SILENT (\\Deleted)")
    untagged, tagged = parts(client.command("UID EXPUNGE 1:6"))
    assert untagged[:3] == [b"* 2 EXPUNGE"] * 3
    assert tagged.startswith(b"t OK [MESSAGELIMIT 3 4] Expunged")
    untagged, tagged = parts(client.command("UID EXPUNGE 1:6"))
    assert untagged == [b"* 1 EXPUNGE"]
    assert tagged.startswith(b"t OK [HIGHESTMODSEQ ")


@pytest.mark.parametrize("command", ["EXPUNGE", "CLOSE"])
def test_expunge_and_close_are_never_cut(client: Client, command: str) -> None:
    for uids in ("3:5", "6:7"):
        client.command(f"UID STORE {uids} +FLAGS.SILENT (\\Deleted)")
    assert b"MESSAGELIMIT" not in client.command(command)
    assert client.lines("STATUS INBOX (MESSAGES UNSEEN)") == [b'STATUS "INBOX" (MESSAGES 1 UNSEEN 1)']


# APPEND, and SAVELIMIT


def append(count: int) -> bytes:
    return b"APPEND there" + (b" {%d+}\r\n" % len(MESSAGE) + MESSAGE) * count


def test_append_takes_all_or_none(client: Client) -> None:
    assert client.command(append(4)).startswith(b"t NO [MESSAGELIMIT 3] ")
    assert client.lines("STATUS there (MESSAGES)") == [b'STATUS "there" (MESSAGES 0)']
    assert b" OK [APPENDUID " in client.command(append(3))


def test_a_limit_for_what_is_saved_alone(tmp_path: Path) -> None:
    client = serving(tmp_path, imap_saved=2).login(select="INBOX")
    assert b" SAVELIMIT=2" in client.command("CAPABILITY")
    assert client.command(append(3)).startswith(b"t NO [MESSAGELIMIT 2] ")
    assert client.command("COPY 1:3 there").startswith(b"t NO [MESSAGELIMIT 2 4] ")
    assert len(client.lines("FETCH 1:* UID")) == 6
    assert b"MESSAGELIMIT" not in client.command("MOVE 1:3 there")
