"""CONDSTORE (RFC 7162 §3.1), with what QRESYNC asks of a server besides (§3.2.4)."""

import re
from pathlib import Path

import pytest

from mailserver.store import Unavailable
from tests.support.imap import Client, Server, fetched

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=4)
    server.login(select="INBOX").command("CLOSE")  # takes the recent ones
    return server


@pytest.fixture
def client(server: Server) -> Client:
    """Knows MODSEQs."""
    client = server.login()
    client.command("SELECT INBOX (CONDSTORE)")
    return client


@pytest.fixture
def other(server: Server) -> Client:
    """Does not."""
    return server.login(select="INBOX")


def modseqs(client: Client) -> dict[int, int]:
    """By sequence number."""
    found = {}
    for line in client.lines("FETCH 1:* (MODSEQ)"):
        if match := re.fullmatch(rb"(\d+) FETCH \(MODSEQ \((\d+)\)\)", line):
            found[int(match[1])] = int(match[2])
    return found


def highest(answer: bytes) -> int:
    (found,) = re.findall(rb"\* OK \[HIGHESTMODSEQ (\d+)\]", answer)
    return int(found)


# SELECT, STATUS, what enables


def test_it_is_offered(client: Client) -> None:
    assert b" CONDSTORE " in client.command("CAPABILITY")


@pytest.mark.parametrize("command", ["SELECT INBOX", "EXAMINE INBOX", "SELECT INBOX (CONDSTORE)"])
def test_select_tells_the_highest_modseq(server: Server, command: str) -> None:
    answer = server.login().command(command)
    assert highest(answer) == server.account.status("INBOX").highest_modseq


def test_an_empty_mailbox_has_one_too(server: Server) -> None:
    client = server.login()
    client.command("CREATE empty")
    told = highest(client.command("SELECT empty"))
    assert 0 < told < 2**63
    assert client.lines("STATUS empty (UIDNEXT HIGHESTMODSEQ)")[-1] == (
        b'STATUS "empty" (UIDNEXT 1 HIGHESTMODSEQ %d)' % told
    )


def test_another_mailbox_closes_the_one_from_before(server: Server, client: Client) -> None:
    assert client.lines("SELECT INBOX")[0].startswith(b"OK [CLOSED] ")
    assert client.command("SELECT nowhere").startswith(b"* OK [CLOSED] ")
    assert b"CLOSED" not in client.command("SELECT INBOX")
    assert b"CLOSED" not in client.command("CLOSE") + client.command("SELECT INBOX")


@pytest.mark.parametrize(
    "enabling",
    [
        "STATUS INBOX (HIGHESTMODSEQ)",
        "FETCH 1 (MODSEQ)",
        "FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
        "SEARCH MODSEQ 1",
        "STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
        "ENABLE CONDSTORE",
    ],
)
def test_what_enables_tells_the_highest_modseq_once(server: Server, other: Client, enabling: str) -> None:
    third = server.login(select="INBOX")
    third.command("STORE 2 +FLAGS (\\Flagged)")
    assert b"MODSEQ" not in other.command("NOOP"), "nothing of it before"
    assert highest(other.command(enabling)) == server.account.status("INBOX").highest_modseq
    assert b"HIGHESTMODSEQ" not in other.command(enabling).replace(b'STATUS "INBOX" (HIGHESTMODSEQ', b"")
    third.command("STORE 2 -FLAGS (\\Flagged)")
    assert re.search(rb"\* 2 FETCH \(UID 2 FLAGS \(\) MODSEQ \(\d+\)\)\r\n", other.command("NOOP"))


def test_it_stays_on_with_another_mailbox(server: Server, client: Client, other: Client) -> None:
    client.command("CLOSE")
    client.command("SELECT INBOX")
    other.command("STORE 1 +FLAGS (\\Seen)")
    assert b"MODSEQ (" in client.command("NOOP")


# FETCH


def test_each_change_has_a_greater_modseq(client: Client) -> None:
    before = modseqs(client)
    client.command("STORE 2 +FLAGS (\\Seen)")
    first = modseqs(client)
    client.command("STORE 1 +FLAGS (\\Seen)")
    second = modseqs(client)
    assert max(before.values()) < first[2] < second[1] < 2**63
    assert {n: m for n, m in second.items() if n > 2} == {n: m for n, m in before.items() if n > 2}
    client.command("STORE 1 +FLAGS (\\Seen)")
    assert modseqs(client) == second, "what is set already is no change"


def test_changed_since(client: Client, other: Client) -> None:
    since = max(modseqs(client).values())
    other.command("STORE 2,4 +FLAGS (\\Seen)")
    answer = client.command(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since})")
    found = fetched(answer)
    assert {number: (items[b"UID"], items[b"FLAGS"]) for number, items in found.items()} == {
        2: (b"2", [b"\\Seen"]),
        4: (b"4", [b"\\Seen"]),
    }
    now = max(modseqs(client).values())
    assert all(items[b"MODSEQ"] == [b"%d" % now] for items in found.values())
    assert fetched(client.command(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {now})")) == {}
    assert set(fetched(client.command("FETCH 1:3 (FLAGS) (CHANGEDSINCE 1)"))) == {1, 2, 3}
    assert fetched(client.command(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {2**63 - 1})")) == {}


def test_what_becomes_seen_is_told_with_uid_and_modseq(client: Client) -> None:
    before = modseqs(client)
    answer = client.command("FETCH 1 BODY[TEXT]")
    assert re.search(
        rb"\A\* 1 FETCH \(BODY\[TEXT\] \{6\}\r\nbody\r\n FLAGS \(\\Seen\) UID 1 MODSEQ \(\d+\)\)\r\nt OK", answer
    )
    assert fetched(answer)[1][b"MODSEQ"] == [b"%d" % modseqs(client)[1]]
    assert modseqs(client)[1] > before[1]
    assert re.fullmatch(
        rb"\* 1 FETCH \(BODY\[TEXT\] \{6\}\r\nbody\r\n\)\r\nt OK Fetched\r\n", client.command("FETCH 1 BODY[TEXT]")
    )
    answer = client.command("UID FETCH 2 (FLAGS BODY[TEXT] MODSEQ)")
    assert answer.count(b"FLAGS") == answer.count(b"UID") == answer.count(b"MODSEQ") == 1


def test_a_modseq_is_never_told_before_its_flags(client: Client, other: Client) -> None:
    """What another session does in the same moment is told with both, or later with both."""
    mailbox = client.session.selected.mailbox
    get = mailbox.get
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mailbox, "get", lambda uids: [other.command("STORE 1 +FLAGS (\\Flagged)"), get(uids)][1])
        answer = client.command("FETCH 1 (FLAGS MODSEQ RFC822.SIZE)")
    first, second = re.findall(rb"FETCH \((?:UID 1 )?FLAGS \((.*?)\) MODSEQ \((\d+)\)", answer)
    assert first[0] == b""
    assert second[0] == b"\\Flagged"
    assert int(first[1]) < int(second[1])


def test_flags_that_changed_and_changed_back_are_told_for_their_modseq(client: Client, other: Client) -> None:
    other.command("STORE 1 +FLAGS (\\Seen)")
    other.command("STORE 1 -FLAGS (\\Seen)")
    (line,) = client.lines("NOOP")
    assert re.fullmatch(rb"1 FETCH \(UID 1 FLAGS \(\) MODSEQ \(\d+\)\)", line)
    assert client.lines("NOOP") == []


# STORE


def test_store_answers_with_uid_and_modseq_also_when_silent(client: Client) -> None:
    (line,) = client.lines("STORE 1 +FLAGS (\\Seen)")
    assert line == b"1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (%d))" % modseqs(client)[1]
    lines = client.lines("STORE 1:2 +FLAGS.SILENT (\\Flagged)")
    now = modseqs(client)
    assert lines == [b"%d FETCH (UID %d MODSEQ (%d))" % (n, n, now[n]) for n in (1, 2)]


def test_unchanged_since_stores_what_nobody_changed(client: Client, other: Client) -> None:
    since = max(modseqs(client).values())
    other.command("STORE 2 +FLAGS (\\Deleted)")
    answer = client.command(f"STORE 3,1:2 (UNCHANGEDSINCE {since}) FLAGS.SILENT (\\Seen)")
    assert answer.endswith(b"t OK [MODIFIED 2] Stored but for what was modified\r\n")
    now = modseqs(client)
    assert b"* 1 FETCH (UID 1 MODSEQ (%d))\r\n" % now[1] in answer
    assert b"* 3 FETCH (UID 3 MODSEQ (%d))\r\n" % now[3] in answer
    assert b"* 2 FETCH (UID 2 FLAGS (\\Deleted) MODSEQ (%d))\r\n" % now[2] in answer, "as it is now"
    assert {n: i[b"FLAGS"] for n, i in fetched(client.command("FETCH 1:3 FLAGS")).items()} == {
        1: [b"\\Seen"], 2: [b"\\Deleted"], 3: [b"\\Seen"],
    }  # fmt: skip
    assert client.command(f"STORE 2 (UNCHANGEDSINCE {now[2]}) FLAGS (\\Seen)").endswith(b"t OK Stored\r\n")


def test_modified_tells_uids_where_uids_were_named(server: Server, client: Client, other: Client) -> None:
    other.command("STORE 1 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    client.command("NOOP")
    assert b"t OK [MODIFIED 2:4] " in client.command("UID STORE 1:9 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)")
    assert b"t OK [MODIFIED 1:3] " in client.command("STORE 1:3 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)")


def test_unchanged_since_zero_always_fails(client: Client) -> None:
    answer = client.command("STORE 1 (UNCHANGEDSINCE 0) +FLAGS.SILENT (\\Seen)")
    assert b"* 1 FETCH (UID 1 FLAGS () MODSEQ (" in answer
    assert b"t OK [MODIFIED 1] " in answer


def test_other_flags_do_not_hinder(client: Client, other: Client) -> None:
    """RFC 7162 §3.1.12."""
    since = max(modseqs(client).values())
    other.command("STORE 1:2 +FLAGS (\\Deleted)")
    other.command("STORE 2 +FLAGS ($processed)")
    answer = client.command(f"STORE 1:2 (UNCHANGEDSINCE {since}) +FLAGS.SILENT ($Processed)")
    assert b"t OK [MODIFIED 2] " in answer
    assert fetched(client.command("FETCH 1 FLAGS"))[1][b"FLAGS"] == [b"\\Deleted", b"$processed"]


def test_other_flags_hinder_who_may_not_know_them(server: Server, client: Client, other: Client) -> None:
    since = max(modseqs(client).values())
    other.command("STORE 1 +FLAGS (\\Deleted)")
    late = server.login(select="INBOX")  # was never told the flags
    assert b"t OK [MODIFIED 1] " in late.command(f"STORE 1 (UNCHANGEDSINCE {since}) +FLAGS (\\Seen)")


def test_what_another_changes_in_the_same_moment_is_not_changed(client: Client, other: Client) -> None:
    since = max(modseqs(client).values())
    mailbox = client.session.selected.mailbox
    update = mailbox.update_flags
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            mailbox, "update_flags", lambda *args: [update([1], "add", frozenset({"\\Flagged"})), update(*args)][1]
        )
        answer = client.command(f"STORE 1:2 (UNCHANGEDSINCE {since}) +FLAGS.SILENT (\\Seen)")
    assert b"* 1 FETCH (UID 1 FLAGS (\\Flagged) MODSEQ (" in answer
    assert b"* 2 FETCH (UID 2 MODSEQ (" in answer
    assert b"t OK [MODIFIED 1] " in answer
    assert client.lines("NOOP") == []


def test_another_program_that_renames_in_the_same_moment_is_not_overwritten(server: Server, client: Client) -> None:
    since = max(modseqs(client).values())
    (file,) = (server.root / "example.test/alice/cur").glob("*,U=1*")
    file.rename(file.with_name(file.name + "F"))
    answer = client.command(f"STORE 1:2 (UNCHANGEDSINCE {since}) +FLAGS.SILENT (\\Seen)")
    assert b"t OK [MODIFIED 1] " in answer
    assert fetched(client.command("FETCH 1:2 FLAGS")) == {
        1: {b"FLAGS": [b"\\Flagged"]},
        2: {b"FLAGS": [b"\\Seen"]},
    }


def test_what_is_gone_is_not_modified(client: Client, other: Client) -> None:
    since = max(modseqs(client).values())
    other.command("STORE 1:2 +FLAGS (\\Seen)")
    other.command("STORE 2 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    answer = client.command(f"STORE 1:3 (UNCHANGEDSINCE {since}) FLAGS (\\Flagged)")
    assert b"t OK [MODIFIED 1] " in answer
    answer = client.command(f"STORE 2:3 (UNCHANGEDSINCE {2**63 - 1}) FLAGS (\\Flagged)")
    assert b"t OK [EXPUNGEISSUED] " in answer


# SEARCH


def test_search_by_modseq(client: Client) -> None:
    client.command("STORE 2 +FLAGS (\\Seen)")
    client.command("STORE 4 +FLAGS (\\Seen)")
    known = modseqs(client)
    assert client.lines(f"SEARCH MODSEQ {known[2]}") == [b"SEARCH 2 4 (MODSEQ %d)" % known[4]]
    assert client.lines(f'UID SEARCH 1:3 MODSEQ "/flags/\\\\draft" all {known[2]}') == [
        b"SEARCH 2 (MODSEQ %d)" % known[2]
    ]
    assert client.lines(f"SEARCH NOT MODSEQ {known[2]}") == [b"SEARCH 1 3 (MODSEQ %d)" % max(known[1], known[3])]
    assert client.lines("SEARCH OR NOT MODSEQ 1 LARGER 50000") == [b"SEARCH"]
    assert client.lines(f"SEARCH MODSEQ {2**63 - 1}") == [b"SEARCH"]
    assert client.lines("SEARCH MODSEQ 0 UNSEEN") == [b"SEARCH 1 3 (MODSEQ %d)" % max(known[1], known[3])]
    assert client.lines("SEARCH SEEN") == [b"SEARCH 2 4"], "only where it was asked for"


def test_uid_search_by_numbers_moves_no_numbers(client: Client, other: Client) -> None:
    other.command("STORE 1 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    assert b"EXPUNGE\r\n" not in client.command("UID SEARCH NOT (OR 1 2)")
    assert b"* 1 EXPUNGE\r\n" in client.command("UID SEARCH UID 1:*")


# expunges that wait


@pytest.mark.parametrize(
    "command",
    ["FETCH 2 (MODSEQ)", "STORE 2 +FLAGS (\\Answered)", "SEARCH MODSEQ 1", "FETCH 3 BODY[]", "FETCH 9 FLAGS"],
)
def test_an_expunge_that_waits_keeps_the_highest_modseq_down(client: Client, other: Client, command: str) -> None:
    told = highest(client.command("SELECT INBOX"))
    other.command("STORE 1 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    other.command("STORE 2 +FLAGS (\\Seen)")
    codes = re.findall(rb"\* OK \[HIGHESTMODSEQ (\d+)\]", client.command(command))
    assert set(map(int, codes)) == {told}, "the client would not be told the expunge when it came back now"
    after = client.command("NOOP")
    assert b"* 1 EXPUNGE\r\n" in after
    assert b"HIGHESTMODSEQ" not in after
    assert b"HIGHESTMODSEQ" not in client.command(command.replace("9", "2"))


def test_who_does_not_know_modseqs_is_not_told_them(client: Client, other: Client) -> None:
    client.command("STORE 1 +FLAGS (\\Deleted)")
    client.command("EXPUNGE")
    client.command("STORE 2 +FLAGS (\\Seen)")
    for command in ("FETCH 2 FLAGS", "STORE 2 +FLAGS (\\Answered)", "SEARCH ALL", "FETCH 3 BODY[]", "NOOP"):
        assert b"MODSEQ" not in other.command(command)


def test_a_command_that_fails_tells_the_news_that_its_modseqs_cover(client: Client, other: Client) -> None:
    mailbox = client.session.selected.mailbox
    update = mailbox.update_flags

    def fail(*_: object) -> object:
        update([3], "add", frozenset({"\\Flagged"}))
        raise Unavailable("The disk is full")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mailbox, "update_flags", fail)
        answer = client.command("STORE 1 +FLAGS (\\Seen)")
    assert b"* 3 FETCH (UID 3 FLAGS (\\Flagged) MODSEQ (" in answer
    assert answer.endswith(b"t NO [UNAVAILABLE] The disk is full\r\n")
