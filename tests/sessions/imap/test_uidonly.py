"""UIDONLY (RFC 9586): messages are named by their UIDs, and by nothing else, in both directions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailserver.sessions.imap import fetch
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Six messages whose UIDs are 3 to 8, as none has its number for a UID."""
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=8)
    client = server.login(select="INBOX")  # takes the recent ones
    expunge(client, "1:2")
    client.command("CLOSE")
    return server


@pytest.fixture
def other(server: Server) -> Client:
    """Does not know of all this."""
    return server.login(select="INBOX")


@pytest.fixture
def client(server: Server) -> Client:
    return only_uids(server, "INBOX")


def only_uids(server: Server, select: str = "") -> Client:
    client = server.login()
    assert client.lines("ENABLE UIDONLY") == [b"ENABLED UIDONLY"]
    if select:
        assert b"t OK" in client.command(f"SELECT {select}")
    return client


def expunge(client: Client, uids: str) -> None:
    client.command(f"UID STORE {uids} +FLAGS.SILENT (\\Deleted)")
    client.command(f"UID EXPUNGE {uids}")


def test_it_is_offered_and_off_until_it_is_enabled(server: Server, other: Client) -> None:
    assert b" UIDONLY " in other.command("CAPABILITY")
    assert other.lines("UID FETCH 3 FLAGS") == [b"1 FETCH (UID 3 FLAGS ())"]
    assert other.lines("FETCH 1 UID") == [b"1 FETCH (UID 3)"]


# what clients send (§3.2, §3.5, §3.7, §3.8)


@pytest.mark.parametrize(
    "command",
    [
        "FETCH 1:2 (UID FLAGS)",
        "FETCH * FLAGS",
        "FETCH $ FLAGS",
        "STORE 1 +FLAGS (\\Seen)",
        "COPY 1 INBOX",
        "MOVE 1 INBOX",
        "SEARCH ALL",
        "SEARCH UID 3",
        "SEARCH RETURN (SAVE) ALL",
        "SEARCH RETURN (PARTIAL 1:2) ALL",
        "SORT (DATE) UTF-8 ALL",
        "THREAD REFS UTF-8 ALL",
        "UID SEARCH 1:2",
        "UID SEARCH *",
        "UID SEARCH OR SEEN NOT (UID 3 2)",
        "UID SEARCH RETURN (SAVE) 1:2",
        "UID SORT (DATE) UTF-8 1",
        "UID THREAD REFS UTF-8 1:*",
        "EXAMINE INBOX (QRESYNC (1 1 1:9 (1 3)))",
        "SELECT INBOX (QRESYNC (1 1 (1 3)))",
    ],
)
def test_numbers_are_refused(client: Client, command: str) -> None:
    client.command("ENABLE QRESYNC")
    answer = client.command(command)
    assert answer == b"t BAD [UIDREQUIRED] message numbers are not allowed with UIDONLY\r\n"
    assert client.lines("UID FETCH 3 FLAGS") == [b"3 UIDFETCH (FLAGS ())"], "nothing has changed"


def test_replace_by_number_is_refused_with_its_literal(client: Client) -> None:
    message = b"Subject: y\r\n\r\nnew\r\n"
    answer = client.command(b"REPLACE 1 INBOX {%d+}\r\n" % len(message) + message)
    assert answer.startswith(b"t BAD [UIDREQUIRED] ")
    assert client.command(b"REPLACE 1 INBOX {%d}" % len(message)).startswith(b"t BAD [UIDREQUIRED] "), "not asked for"
    answer = client.command(b"UID REPLACE 3 INBOX {%d+}\r\n" % len(message) + message)
    assert b"* VANISHED 3\r\n" in answer
    assert b"t OK" in answer


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("UID SEARCH UID 4:5", [b"SEARCH 4 5"]),
        ("UID SEARCH UID *", [b"SEARCH 8"]),
        ("UID SEARCH ALL", [b"SEARCH 3 4 5 6 7 8"]),
        ("UID SORT (REVERSE ARRIVAL) UTF-8 UID 4", [b"SORT 4"]),
        ("UID THREAD REFS UTF-8 UID 4:5", [b"THREAD (4)(5)"]),
        ("UID FETCH 4:5 (FLAGS) (PARTIAL 2:2)", [b"5 UIDFETCH (FLAGS ())"]),
        ("UID STORE 4 +FLAGS (\\Seen)", [b"4 UIDFETCH (FLAGS (\\Seen))"]),
    ],
)
def test_uids_do_as_before(client: Client, command: str, answer: list[bytes]) -> None:
    assert client.lines(command) == answer


def test_what_a_search_saved_are_messages_not_numbers(client: Client) -> None:
    (line,) = client.lines("UID SEARCH RETURN (SAVE COUNT PARTIAL 1:2) UID 4:6")
    assert line.endswith(b" UID PARTIAL (1:2 4:5) COUNT 3")
    assert client.lines("UID FETCH $ FLAGS") == [b"%d UIDFETCH (FLAGS ())" % uid for uid in (4, 5, 6)]
    assert client.lines("UID SEARCH $ NOT UID 5") == [b"SEARCH 4 6"]
    client.command("UID SEARCH RETURN (SAVE) 1")
    assert client.lines("UID SEARCH $") == [b"SEARCH 4 5 6"], "BAD changes nothing"


# what clients are sent (§3.3, §3.4, §3.6, §3.7)


def test_the_transcript_of_fetch(client: Client) -> None:
    client.command("UID STORE 4 +FLAGS.SILENT (\\Flagged \\Answered)")
    assert client.lines("UID FETCH 3:4 (FLAGS)") == [
        b"3 UIDFETCH (FLAGS ())",
        b"4 UIDFETCH (FLAGS (\\Answered \\Flagged))",
    ]
    assert client.lines("UID FETCH 3:4 (UID FLAGS)") == [
        b"3 UIDFETCH (UID 3 FLAGS ())",
        b"4 UIDFETCH (UID 4 FLAGS (\\Answered \\Flagged))",
    ]


def test_contents_too_and_what_they_make_seen(client: Client) -> None:
    assert client.lines("UID FETCH 4 BODY[TEXT]") == [
        b"4 UIDFETCH (BODY[TEXT] {6}",
        b"body",
        b" FLAGS (\\Seen))",
    ]
    client.command("ENABLE CONDSTORE")
    (*_, last) = client.lines("UID FETCH 5 BODY[TEXT]")
    assert re.fullmatch(rb" FLAGS \(\\Seen\) MODSEQ \(\d+\)\)", last)


def test_large_messages_too(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BATCH_OCTETS", 3)
    (first, *_, last) = client.lines("UID FETCH 4 (UID BODY[TEXT])")
    assert first == b"4 UIDFETCH (UID 4 BODY[TEXT] {6}"
    assert last == b" FLAGS (\\Seen))"


def test_expunges_are_told_by_uid(server: Server, client: Client, other: Client) -> None:
    client.command("UID STORE 3,5:6 +FLAGS.SILENT (\\Deleted)")
    (line,) = client.lines("EXPUNGE")
    assert line == b"VANISHED 3,5:6"
    assert other.lines("NOOP")[:1] == [b"1 EXPUNGE"]
    expunge(other, "7")
    assert client.lines("NOOP") == [b"VANISHED 7"]
    client.command("CREATE there")
    answer = client.command("UID MOVE 4 there")
    assert re.fullmatch(rb"\* OK \[COPYUID \d+ 4 1\] Moving\r\n\* VANISHED 4\r\nt OK \[HIGH[^\r]*\r\n", answer)


def test_flags_that_others_change(client: Client, other: Client) -> None:
    other.command("UID STORE 4 +FLAGS.SILENT (\\Seen)")
    assert client.lines("NOOP") == [b"4 UIDFETCH (FLAGS (\\Seen))"]


def test_new_messages_are_told_as_before(server: Server, client: Client) -> None:
    server.deliver(MESSAGE)
    assert client.lines("NOOP") == [b"7 EXISTS", b"1 RECENT"]


def test_with_condstore(client: Client, other: Client) -> None:
    client.command("ENABLE CONDSTORE")
    other.command("UID STORE 4 +FLAGS.SILENT (\\Seen)")
    (line,) = client.lines("NOOP")
    assert re.fullmatch(rb"4 UIDFETCH \(FLAGS \(\\Seen\) MODSEQ \(\d+\)\)", line)
    (line,) = client.lines("UID STORE 5 +FLAGS.SILENT (\\Seen)")
    assert re.fullmatch(rb"5 UIDFETCH \(MODSEQ \(\d+\)\)", line)
    (line,) = client.lines("UID FETCH 3:5 UID (CHANGEDSINCE 1)")[-1:]
    assert re.fullmatch(rb"5 UIDFETCH \(UID 5 MODSEQ \(\d+\)\)", line)


def test_with_qresync(server: Server, other: Client) -> None:
    status = server.account.status("INBOX")
    expunge(other, "4")
    other.command("UID STORE 5 +FLAGS.SILENT (\\Seen)")
    client = only_uids(server)
    client.command("ENABLE QRESYNC")
    lines = client.lines(f"SELECT INBOX (QRESYNC ({status.uidvalidity} {status.highest_modseq} 1:8))")
    assert lines[-2] == b"VANISHED (EARLIER) 4"
    assert re.fullmatch(rb"5 UIDFETCH \(FLAGS \(\\Seen\) MODSEQ \(\d+\)\)", lines[-1])


def test_the_first_unseen_is_not_told_as_that_would_be_a_number(server: Server, client: Client, other: Client) -> None:
    assert b"[UNSEEN 1]" in other.command("SELECT INBOX")
    assert b"UNSEEN" not in client.command("SELECT INBOX")


def test_enabled_with_a_mailbox_selected_and_expunges_on_the_way(server: Server, other: Client) -> None:
    client = server.login(select="INBOX")
    expunge(other, "3")
    other.command("UID STORE 5 +FLAGS (\\Seen)")
    assert client.lines("FETCH 2 UID") == [b"3 FETCH (UID 5 FLAGS (\\Seen))", b"2 FETCH (UID 4)"], "it still counts"
    expunge(other, "6")
    assert client.lines("ENABLE UIDONLY") == [b"ENABLED UIDONLY"]
    assert client.lines("NOOP") == [b"VANISHED 3,6"]


def test_no_answer_has_a_number(client: Client, other: Client) -> None:
    """Whatever is done: only EXISTS and RECENT count."""
    commands = (
        "UID FETCH 1:* ALL",
        "UID STORE 1:* FLAGS.SILENT (\\Seen)",
        "UID STORE 3 (UNCHANGEDSINCE 1) FLAGS (\\Seen)",
        "UID COPY 3 INBOX",
        "NOOP",
        "UID EXPUNGE 1:*",
        "CHECK",
        "UID SEARCH RETURN (MIN MAX ALL COUNT) ALL",
    )
    for command in commands:
        other.command("UID STORE 8 -FLAGS (\\Seen)")
        for line in client.command(command).split(b"\r\n"):
            assert re.match(
                rb"(t |\* (OK|SEARCH|ESEARCH|VANISHED|FLAGS) |\* \d+ (UIDFETCH|EXISTS|RECENT)\b|$)", line
            ), line


# what is told unasked


def test_what_notify_tells(server: Server, client: Client, other: Client) -> None:
    client.command("NOTIFY SET (selected (MessageNew (RFC822.SIZE) MessageExpunge FlagChange))")
    told = client.pushed(lambda: server.deliver(MESSAGE))
    assert told.startswith(b"* 7 EXISTS\r\n")
    assert told.endswith(b"* 9 UIDFETCH (RFC822.SIZE %d)\r\n" % len(MESSAGE))
    told = client.pushed(lambda: other.command("UID STORE 3 +FLAGS (\\Deleted)"))
    assert told == b"* 3 UIDFETCH (FLAGS (\\Deleted))\r\n"
    assert client.pushed(lambda: other.command("UID EXPUNGE 3")).startswith(b"* VANISHED 3\r\n")


def test_what_the_client_expunges_where_it_wants_to_hear_of_nothing(client: Client) -> None:
    client.command("NOTIFY NONE")
    client.command("UID STORE 3 +FLAGS.SILENT (\\Deleted)")
    assert client.lines("UID EXPUNGE 3") == [b"VANISHED 3"]


def test_results_that_are_kept_up_to_date(server: Server, client: Client, other: Client) -> None:
    client.say(b"a UID SEARCH RETURN (UPDATE (FLAGS)) UNSEEN\r\n")
    other.command("UID STORE 4 +FLAGS (\\Seen)")
    answer = client.command("NOOP")
    assert answer == b'* 4 UIDFETCH (FLAGS (\\Seen))\r\nt OK Done\r\n* ESEARCH (TAG "a") UID REMOVEFROM (0 4)\r\n'
    server.deliver(MESSAGE)
    answer = client.command("NOOP")
    assert answer.endswith(b'* 9 UIDFETCH (FLAGS (\\Recent))\r\n* ESEARCH (TAG "a") UID ADDTO (0 9)\r\n')
    assert client.say(b"b SEARCH RETURN (UPDATE) UNSEEN\r\n").startswith(b"b BAD [UIDREQUIRED]")


def test_results_of_before_are_told_by_uid_from_then_on(server: Server, other: Client) -> None:
    client = server.login(select="INBOX")
    client.say(b"a SEARCH RETURN (UPDATE) UNSEEN\r\nb SORT RETURN (UPDATE) (REVERSE SIZE) UTF-8 UNSEEN\r\n")
    client.command("ENABLE UIDONLY")
    other.command("UID STORE 4 +FLAGS (\\Seen)")
    answer = client.command("NOOP")
    assert b'* ESEARCH (TAG "a") UID REMOVEFROM (0 4)\r\n' in answer
    assert b'* ESEARCH (TAG "b") UID REMOVEFROM (2 4)\r\n' in answer, "a place among the results is no message number"
    assert b"* 4 UIDFETCH (" in answer
