"""QRESYNC (RFC 7162 §3.2)."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from mailserver.imap import SequenceSet
from mailserver.store import maildir, watch
from mailserver.store.index import mailboxes
from mailserver.store.scanning import Scan
from mailserver.store.syncing import Directory
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=6)
    server.login(select="INBOX").command("CLOSE")  # takes the recent ones
    return server


@pytest.fixture
def other(server: Server) -> Client:
    """Does not know of all this."""
    return server.login(select="INBOX")


def knowing(server: Server, select: str = "") -> Client:
    client = server.login()
    assert client.lines("ENABLE QRESYNC") == [b"ENABLED QRESYNC"]
    if select:
        assert b"t OK" in client.command(f"SELECT {select}")
    return client


def state(server: Server) -> tuple[int, int]:
    """UIDVALIDITY and the highest MODSEQ."""
    status = server.account.status("INBOX")
    return status.uidvalidity, status.highest_modseq


def expunge(client: Client, uids: str) -> None:
    client.command(f"UID STORE {uids} +FLAGS.SILENT (\\Deleted)")
    client.command(f"UID EXPUNGE {uids}")


def news(lines: list[bytes]) -> list[bytes]:
    """What stands behind the usual answers to SELECT."""
    (place,) = [n for n, line in enumerate(lines) if line.startswith(b"OK [PERMANENTFLAGS")]
    return [re.sub(rb"MODSEQ \(\d+\)", b"MODSEQ ()", line) for line in lines[place + 1 :]]


# ENABLE


def test_it_is_offered_and_enabled_with_condstore(server: Server) -> None:
    client = server.login()
    assert b" QRESYNC " in client.command("CAPABILITY")
    assert client.lines("ENABLE CONDSTORE QRESYNC") == [b"ENABLED CONDSTORE QRESYNC"]


def test_without_enable_it_is_bad(server: Server) -> None:
    client = server.login()
    assert client.command("SELECT INBOX (QRESYNC (1 1))").startswith(b"t BAD")
    assert client.command("FETCH 1 FLAGS").startswith(b"t BAD"), "nothing is selected"
    client.command("SELECT INBOX (CONDSTORE)")
    assert client.command("UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)").startswith(b"t BAD")
    assert client.command("SELECT INBOX (QRESYNC (1 1))").endswith(b"t BAD ENABLE QRESYNC comes first\r\n")
    assert client.command("FETCH 1 FLAGS").startswith(b"t BAD"), "nothing is selected"


def test_enabled_with_a_mailbox_selected(server: Server, other: Client) -> None:
    answer = other.command("ENABLE QRESYNC")
    assert re.match(rb"\* OK \[HIGHESTMODSEQ \d+\] [^\r]*\r\n\* ENABLED QRESYNC\r\n", answer)
    expunge(server.login(select="INBOX"), "2")
    assert other.lines("NOOP") == [b"VANISHED 2"]


# VANISHED in place of EXPUNGE


def test_expunge_tells_vanished_and_the_modseq(server: Server, other: Client) -> None:
    client = knowing(server, "INBOX")
    client.command("STORE 2:3,5 +FLAGS.SILENT (\\Deleted)")
    answer = client.command("EXPUNGE")
    assert answer == b"* VANISHED 2:3,5\r\nt OK [HIGHESTMODSEQ %d] Expunged\r\n" % state(server)[1]
    assert other.lines("NOOP")[:3] == [b"2 EXPUNGE", b"2 EXPUNGE", b"3 EXPUNGE"]
    client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    answer = client.command("UID EXPUNGE 1")
    assert answer == b"* VANISHED 1\r\nt OK [HIGHESTMODSEQ %d] Expunged\r\n" % state(server)[1]
    assert client.command("EXPUNGE") == b"t OK Expunged\r\n"


def test_close_tells_no_modseq(server: Server) -> None:
    client = knowing(server, "INBOX")
    client.command("STORE 2 +FLAGS.SILENT (\\Deleted)")
    before = state(server)[1]
    assert client.command("CLOSE") == b"t OK Closed\r\n"
    assert state(server)[1] > before


def test_move_tells_vanished_and_the_modseq(server: Server) -> None:
    client = knowing(server, "INBOX")
    client.command("CREATE there")
    answer = client.command("UID MOVE 2,4 there")
    assert answer.endswith(b"* VANISHED 2,4\r\nt OK [HIGHESTMODSEQ %d] Moved\r\n" % state(server)[1])


def test_what_was_never_told_does_not_vanish(server: Server, other: Client) -> None:
    client = knowing(server, "INBOX")
    server.deliver(MESSAGE)
    other.command("NOOP")
    expunge(other, "7")
    assert client.lines("NOOP") == []


def test_vanished_waits_where_expunge_does(server: Server, other: Client) -> None:
    client = knowing(server, "INBOX")
    expunge(other, "2")
    for command in ("FETCH 1 FLAGS", "STORE 1 +FLAGS (\\Seen)", "SEARCH ALL", "UID SEARCH 1:3"):
        assert b"VANISHED" not in client.command(command)
    assert b"* VANISHED 2\r\n" in client.command("UID FETCH 1 FLAGS")


# coming back


def test_select_tells_what_was_missed(server: Server, other: Client) -> None:
    validity, modseq = state(server)
    other.command("UID STORE 4,6 +FLAGS (\\Seen)")
    expunge(other, "2:3,5")
    lines = knowing(server).lines(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
    assert news(lines) == [
        b"VANISHED (EARLIER) 2:3,5",
        b"2 FETCH (UID 4 FLAGS (\\Seen) MODSEQ ())",
        b"3 FETCH (UID 6 FLAGS (\\Seen) MODSEQ ())",
    ]
    assert b"OK [HIGHESTMODSEQ %d] Changes are known" % state(server)[1] in lines
    lines = knowing(server).lines(f"EXAMINE INBOX (QRESYNC ({validity} {modseq} 1:3,6))")
    assert news(lines) == [b"VANISHED (EARLIER) 2:3", b"3 FETCH (UID 6 FLAGS (\\Seen) MODSEQ ())"]
    validity, modseq = state(server)
    assert news(knowing(server).lines(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")) == []


def test_another_uidvalidity_means_nothing_is_known(server: Server, other: Client) -> None:
    expunge(other, "2")
    assert news(knowing(server).lines(f"SELECT INBOX (QRESYNC ({state(server)[0] + 1} 1))")) == []


def test_an_empty_mailbox(server: Server) -> None:
    client = knowing(server)
    client.command("CREATE empty")
    validity = server.account.status("empty").uidvalidity
    for known in ("", " 1:100", " 1:100 (1:5 1:5)"):
        assert news(client.lines(f"SELECT empty (QRESYNC ({validity} 1{known}))")) == []


def test_what_is_not_remembered_vanishes_but_for_what_the_client_can_prove(server: Server, other: Client) -> None:
    validity, _ = state(server)
    expunge(other, "2,5")
    client = knowing(server)
    assert news(client.lines(f"SELECT INBOX (QRESYNC ({validity} 1))"))[0] == b"VANISHED (EARLIER) 2,5"
    assert news(client.lines(f"SELECT INBOX (QRESYNC ({validity} 1 1:4,6:900))"))[0] == b"VANISHED (EARLIER) 2"
    for match, vanished in (
        ("1:6 1:6", b"2,5"),
        ("1,3 1,4", b"5"),
        ("3:9 4:10", b"5"),
        ("1:3 1,3:4", b"5"),
        ("1,4 1,6", b""),
        ("4:5 6:7", b""),
        ("900 900", b"2,5"),
        ("4:4294967294 5:4294967295", b"2,5"),
    ):
        answer = client.command(f"SELECT INBOX (QRESYNC ({validity} 1 1:6 ({match})))")
        assert b"t OK" in answer, match
        assert b"".join(re.findall(rb"VANISHED \(EARLIER\) (.*)\r\n", answer)) == vanished, match


def test_a_lost_index_makes_nothing_wrong(server: Server, other: Client, tmp_path: Path) -> None:
    validity, modseq = state(server)
    other.command("UID STORE 1 +FLAGS (\\Seen)")
    expunge(other, "2")
    for file in (tmp_path / "example.test/alice").glob("mailserver.index*"):
        file.unlink()
    client = knowing(Server(tmp_path))
    told = news(client.lines(f"SELECT INBOX (QRESYNC ({validity} {modseq}))"))
    assert told[0] == b"VANISHED (EARLIER) 2"
    assert len(told) == 6, "all flags are told"


def set_back(account: Path, index: dict[Path, bytes]) -> None:
    """As a power cut may: the index is as it was, the seventh message gone, and the first one not seen."""
    (seventh,) = (account / "cur").glob("*,U=7*")
    seventh.unlink()
    (first,) = (account / "cur").glob("*,U=1[,:]*")
    first.rename(first.with_name(first.name.removesuffix("S")))
    for file, data in index.items():
        file.unlink()
        file.write_bytes(data)


def test_an_index_that_a_power_cut_set_back_makes_nothing_wrong(server: Server, other: Client, tmp_path: Path) -> None:
    """The client was told what the index does not know any more, and what it was told is over."""
    account = tmp_path / "example.test/alice"
    kept = {file: file.read_bytes() for file in account.glob("mailserver.index*")}
    server.deliver(MESSAGE)
    other.command("UID STORE 1 +FLAGS (\\Seen)")
    validity, modseq = state(server)
    set_back(account, kept)
    for _ in range(2):
        told = news(knowing(Server(tmp_path)).lines(f"SELECT INBOX (QRESYNC ({validity} {modseq}))"))
        assert told[:2] == [b"VANISHED (EARLIER) 7", b"1 FETCH (UID 1 FLAGS () MODSEQ ())"]


def test_what_a_power_cut_set_back_is_known_also_after_the_next_change(
    server: Server, other: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that begins then: the MODSEQ that the client has is smaller than the highest one again."""
    account = tmp_path / "example.test/alice"
    validity, known = state(server)
    kept = {file: file.read_bytes() for file in account.glob("mailserver.index*")}
    server.deliver(MESSAGE)
    other.command("UID STORE 1 +FLAGS (\\Seen)")
    _, lost = state(server)
    set_back(account, kept)
    started = int(time.time() * 1_000_000)
    monkeypatch.setattr(mailboxes, "started", lambda: started)
    for number in range(2):
        Server(tmp_path).login(select="INBOX").command(f"UID STORE 5 +FLAGS (k{number})")
        again = Server(tmp_path)
        told = news(knowing(again).lines(f"SELECT INBOX (QRESYNC ({validity} {lost}))"))
        assert told[:2] == [b"VANISHED (EARLIER) 7", b"1 FETCH (UID 1 FLAGS () MODSEQ ())"]
        assert len(told) == 7
        for modseq in (known, state(again)[1]):
            told = news(knowing(again).lines(f"SELECT INBOX (QRESYNC ({validity} {modseq}))"))
            assert len(told) == (modseq == known), "who was not told what is lost need not be told more than is new"


def test_a_modseq_that_was_never_given_is_of_a_lost_index(server: Server, other: Client) -> None:
    validity, _ = state(server)
    expunge(other, "2")
    told = news(knowing(server).lines(f"SELECT INBOX (QRESYNC ({validity} {2**63 - 1}))"))
    assert told[0] == b"VANISHED (EARLIER) 2"
    assert len(told) == 6


def test_uid_fetch_with_vanished(server: Server, other: Client) -> None:
    _, modseq = state(server)
    client = knowing(server, "INBOX")
    other.command("UID STORE 4 +FLAGS (\\Seen)")
    expunge(other, "2,6")
    again = knowing(server, "INBOX")
    lines = again.lines(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
    assert re.fullmatch(rb"3 FETCH \(UID 4 FLAGS \(\\Seen\) MODSEQ \(\d+\)\)", lines[1])
    assert lines[0] == b"VANISHED (EARLIER) 2,6", "also above the highest that is there"
    assert again.lines(f"UID FETCH 3:5 (FLAGS) (CHANGEDSINCE {modseq} VANISHED)") == lines[1:]
    lines = client.lines(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
    assert b"VANISHED 2,6" in lines, "they were here when this session began"
    assert not any(b"EARLIER" in line for line in lines)


def test_many_that_vanished_are_told_in_lines_with_bounds(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailserver.sessions.imap.resync.RANGES", 2)
    validity, modseq = state(server)
    expunge(server.login(select="INBOX"), "1,3,5")
    lines = knowing(server).lines(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
    assert news(lines)[:2] == [b"VANISHED (EARLIER) 1,3", b"VANISHED (EARLIER) 5"]


def test_sets_as_wide_as_can_be_cost_nothing(server: Server) -> None:
    validity, modseq = state(server)
    wide = ",".join(f"{n}:{n + 1}" for n in range(1, 30000, 3))
    client = knowing(server)
    for known in ("1:4294967295", "1:4294967295 (1:4294967295 1:4294967295)", wide[:30000].rpartition(",")[0]):
        assert news(client.lines(f"SELECT INBOX (QRESYNC ({validity} {modseq} {known}))")) == []
        assert b"t OK" in client.command(f"SELECT INBOX (QRESYNC ({validity} 1 {known}))")
    assert SequenceSet.parse(wide).highest == 29999


@pytest.mark.parametrize("command", ["UID STORE 2 +FLAGS (\\Seen)", "UID STORE 2 +FLAGS.SILENT (w)", "FETCH 2 BODY[]"])
def test_what_another_process_did_before_is_not_lost_by_a_greater_modseq(tmp_path: Path, command: str) -> None:
    there, here = Server(tmp_path), Server(tmp_path)
    there.deliver(MESSAGE, count=3)
    other, client = there.login(select="INBOX"), knowing(here, "INBOX")
    validity, _ = state(here)
    other.command("STORE 1 +FLAGS (\\Flagged)")
    expunge(other, "3")
    answer = client.command(command)
    told = [int(each) for each in re.findall(rb"HIGHESTMODSEQ (\d+)", answer)[-1:]] or [
        int(each) for each in re.findall(rb"MODSEQ \((\d+)\)", answer)
    ]
    client.session.lost()
    back = knowing(there).command(f"SELECT INBOX (QRESYNC ({validity} {max(told)}))")
    assert b"(UID 1 FLAGS (\\Flagged" in answer + back
    assert re.search(rb"VANISHED (\(EARLIER\) )?3\r\n", answer + back)


def test_what_another_process_does_at_the_moment_of_an_expunge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = Server(tmp_path), Server(tmp_path)
    there.deliver(MESSAGE, count=3)
    other, client = there.login(select="INBOX"), knowing(here, "INBOX")
    validity, _ = state(here)
    client.command("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
    remove = Directory.remove

    def removed(directory: Directory, name: str) -> None:
        monkeypatch.setattr(Directory, "remove", remove)
        other.command("STORE 1 +FLAGS (\\Flagged)")
        remove(directory, name)

    monkeypatch.setattr(Directory, "remove", removed)
    answer = client.command("EXPUNGE")
    (told,) = re.findall(rb"t OK \[HIGHESTMODSEQ (\d+)\]", answer)
    client.session.lost()
    back = knowing(there).command(f"SELECT INBOX (QRESYNC ({validity} {int(told)}))")
    assert b"(UID 1 FLAGS (\\Flagged" in answer + back


def flag_by_hand(root: Path, uid: int) -> None:
    (file,) = (root / "example.test/alice/cur").glob(f"*,U={uid}[,:]*")
    file.rename(file.with_name(file.name + "F"))


def test_what_another_program_did_before_is_told_with_the_own_change(server: Server) -> None:
    """Another process may have found it, and not said so yet."""
    client = knowing(server, "INBOX")
    flag_by_hand(server.root, 1)
    assert b"(UID 1 FLAGS (\\Flagged" in client.command("UID STORE 2 +FLAGS (\\Seen)")


def test_what_hid_in_the_own_change_is_seen_when_another_process_saved(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = knowing(server, "INBOX"), Server(server.root).login(select="INBOX")
    rename = Directory.rename

    def renamed(directory: Directory, old: str, new: str) -> None:
        flag_by_hand(server.root, 1)
        rename(directory, old, new)

    with monkeypatch.context() as patched:
        patched.setattr(Directory, "rename", renamed)
        assert b"UID 1" not in client.command("UID STORE 2 +FLAGS (\\Seen)")
    assert b"(UID 1 FLAGS (\\Flagged" in other.command("NOOP")
    assert b"(UID 1 FLAGS (\\Flagged" in client.command("NOOP")


def test_a_change_has_no_smaller_modseq_than_what_was_told_before_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, scan, told = knowing(server, "INBOX"), maildir.scan, list[int]()

    def late(*args: Any) -> Scan:
        if not told:
            told.append(time.time_ns() // 1000)
            flag_by_hand(server.root, 1)
        return scan(*args)

    monkeypatch.setattr(maildir, "scan", late)
    flag_by_hand(server.root, 2)
    (modseq,) = re.findall(rb"UID 1 FLAGS \(\\Flagged\) MODSEQ \((\d+)\)", client.command("NOOP"))
    assert int(modseq) > told[0]


@pytest.mark.parametrize("more", ["NOOP", "STORE 1 +FLAGS (\\Seen)"])
def test_what_came_and_went_while_only_another_process_looked(tmp_path: Path, more: str) -> None:
    here, there = Server(tmp_path), Server(tmp_path)
    here.deliver(MESSAGE, count=3)
    here.login(select="INBOX").command("UNSELECT")  # it stays in memory
    client, other = knowing(there, "INBOX"), there.login(select="INBOX")
    there.deliver(MESSAGE)
    client.command("NOOP")
    (told,) = re.findall(rb"MODSEQ \((\d+)\)", client.command("UID FETCH 4 (MODSEQ)"))
    validity, _ = state(there)
    client.session.lost()
    other.command("NOOP")
    expunge(other, "4")
    other.command(more)
    back = knowing(here).lines(f"SELECT INBOX (QRESYNC ({validity} {int(told)}))")
    assert b"VANISHED (EARLIER) 4" in back


def test_uidnext_counts_what_came_and_went_while_only_another_process_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "GRAIN", 0)  # so that there is no doubt about what was read
    Server(tmp_path).deliver(MESSAGE, count=3)
    Server(tmp_path).login(select="INBOX").command("UNSELECT")
    here, there = Server(tmp_path), Server(tmp_path)
    assert here.account.status("INBOX").uidnext == 4
    there.deliver(MESSAGE)
    other = there.login(select="INBOX")
    expunge(other, "4")
    assert there.account.status("INBOX").uidnext == here.account.status("INBOX").uidnext == 5
