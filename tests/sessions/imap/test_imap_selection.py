r"""SELECT, EXAMINE, CLOSE, UNSELECT, EXPUNGE, CHECK, and \Recent."""

import re
from pathlib import Path

import pytest

from mailserver.store import Mailbox, contents
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=4)
    return server


def deleted(client: Client, numbers: str) -> None:
    assert b"t OK" in client.command(f"STORE {numbers} +FLAGS.SILENT (\\Deleted)")


def test_select_tells_everything(server: Server) -> None:
    client = server.login(select="INBOX")
    client.command("STORE 1 FLAGS (\\Seen work)")
    lines = client.lines("SELECT INBOX")
    assert lines[0] == b"OK [CLOSED] The mailbox from before is closed"
    assert lines[1] == b"FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work)"
    assert b"4 EXISTS" in lines
    assert b"0 RECENT" in lines
    assert any(line.startswith(b"OK [UNSEEN 2]") for line in lines)
    assert any(line.startswith(b"OK [UIDNEXT 5]") for line in lines)
    assert any(line.startswith(b"OK [UIDVALIDITY ") for line in lines)
    lasting = b"OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\* work)]"
    assert any(line.startswith(lasting) for line in lines)


@pytest.mark.parametrize("enabled", ["CONDSTORE", "IMAP4rev2"])
@pytest.mark.parametrize("command", ["SELECT none", "EXAMINE none", "SELECT INBOX (QRESYNC (1 1))", "SELECT twin"])
def test_the_mailbox_from_before_is_let_go_however_it_ends(server: Server, enabled: str, command: str) -> None:
    other = server.login()
    other.command("CREATE twin")
    client = server.login()
    client.command(f"ENABLE {enabled}")
    client.command("NOTIFY SET (selected (MessageNew MessageExpunge)) (mailboxes INBOX (MessageNew MessageExpunge))")
    client.command("SELECT INBOX")
    before = client.session.selected
    assert before.watch is not None
    assert client.command(command).startswith(b"* OK [CLOSED]")
    assert before.mailbox not in server.account._users and not before.mailbox.recent._sessions
    assert client.session.has_selected == (command == "SELECT twin")
    assert b'STATUS "INBOX"' in client.pushed(lambda: server.deliver(MESSAGE)), "of what is not selected"
    assert b"* %d RECENT" % (5 if enabled == "IMAP4rev2" else 1) in other.command("EXAMINE INBOX")
    assert b'STATUS "INBOX"' not in client.command("SELECT INBOX")


def test_examine_changes_nothing(server: Server) -> None:
    client = server.login()
    answer = client.command("EXAMINE INBOX")
    assert b"OK [PERMANENTFLAGS ()]" in answer
    assert b"t OK [READ-ONLY]" in answer
    for command in ("STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "UID EXPUNGE 1", "MOVE 1 INBOX"):
        assert client.command(command).startswith(b"t NO [READ-ONLY]"), command
    assert b"* 4 RECENT" in server.login().command("SELECT INBOX"), "EXAMINE leaves the recent ones to others"


def test_recent_goes_to_one_session_only(server: Server) -> None:
    first, second = server.login(), server.login()
    assert b"* 4 RECENT" in first.command("SELECT INBOX")
    assert b"* 0 RECENT" in second.command("SELECT INBOX")
    server.deliver(MESSAGE)
    assert b"* 5 EXISTS\r\n* 1 RECENT\r\n" in second.command("NOOP")
    answer = first.command("NOOP")
    assert b"* 5 EXISTS" in answer
    assert b"RECENT" not in answer
    assert b"FLAGS (\\Recent)" in second.command("FETCH 5 FLAGS")
    assert b"FLAGS ()" in first.command("FETCH 5 FLAGS")


def test_expunge_tells_of_each_message(server: Server) -> None:
    client = server.login(select="INBOX")
    deleted(client, "1,3:4")
    assert client.lines("EXPUNGE") == [b"1 EXPUNGE", b"2 EXPUNGE", b"2 EXPUNGE", b"1 RECENT"]
    assert client.lines("UID SEARCH ALL") == [b"SEARCH 2"]


def test_uid_expunge_removes_what_is_named_and_deleted(server: Server) -> None:
    client = server.login(select="INBOX")
    deleted(client, "1:3")
    assert client.lines("UID EXPUNGE 2,4") == [b"2 EXPUNGE", b"3 RECENT"]
    assert client.lines("UID SEARCH ALL") == [b"SEARCH 1 3 4"]


def test_close_expunges_without_a_word(server: Server) -> None:
    client = server.login(select="INBOX")
    deleted(client, "1:2")
    assert client.command("CLOSE") == b"t OK Closed\r\n"
    assert client.command("FETCH 1 FLAGS").startswith(b"t BAD"), "no mailbox is selected"
    assert server.account.status("INBOX").messages == 2


@pytest.mark.parametrize("leave", ["UNSELECT", "SELECT INBOX", "SELECT none", "LOGOUT"])
def test_leaving_in_any_other_way_expunges_nothing(server: Server, leave: str) -> None:
    client = server.login(select="INBOX")
    deleted(client, "1:2")
    client.command(leave)
    assert server.account.status("INBOX").messages == 4


def test_close_of_an_examined_mailbox_expunges_nothing(server: Server) -> None:
    client = server.login(select="INBOX")
    deleted(client, "1:2")
    client.command("EXAMINE INBOX")
    assert client.command("CLOSE").startswith(b"t OK")
    assert server.account.status("INBOX").messages == 4


def test_check_and_noop_tell_news(server: Server) -> None:
    client, other = server.login(select="INBOX"), server.login(select="INBOX")
    deleted(other, "1")
    assert client.lines("CHECK") == [b"1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))"]
    other.command("EXPUNGE")
    assert client.lines("NOOP") == [b"1 EXPUNGE", b"3 RECENT"]
    assert client.lines("NOOP") == []


def test_a_deleted_mailbox_ends_the_sessions_that_have_it_selected(server: Server) -> None:
    client, other = server.login(), server.login()
    other.command("CREATE gone")
    client.command("SELECT gone")
    assert other.command("DELETE gone").startswith(b"t OK")
    answer = client.command("NOOP")
    assert b"* BYE The selected mailbox was deleted" in answer
    assert client.channel.closed


def test_a_mailbox_made_again_has_another_uidvalidity(server: Server) -> None:
    client = server.login()
    values = set()
    for _ in range(3):
        client.command("CREATE again")
        values.add(client.command("STATUS again (UIDVALIDITY)"))
        client.command("DELETE again")
    assert len(values) == 3


# More at once than is remembered


@pytest.mark.parametrize("enabled", ["", "ENABLE QRESYNC", "ENABLE UIDONLY"])
@pytest.mark.parametrize("asked", ["NOOP", "IDLE", "UID FETCH 1:* FLAGS"])
def test_who_missed_a_mass_expunge_is_told_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: str, asked: str
) -> None:
    """What memory no longer tells by MODSEQs is found by comparing; the index is not asked while a client waits."""
    monkeypatch.setattr(contents, "_JOURNAL_MINIMUM", 0)
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=40)
    client = server.login()
    assert not enabled or b"t OK" in client.command(enabled)
    client.command("SELECT INBOX")
    inbox = server.account.open("INBOX")
    modseq = inbox.highest_modseq
    with monkeypatch.context() as patched:
        patched.setattr(Mailbox, "_vanished_long_ago", lambda *_: pytest.fail("the index was asked"))
        server.deliver(MESSAGE, count=2)
        inbox.sync()
        inbox.expunge(uid for uid in range(1, 41) if uid % 4)
        inbox.update_flags([8, 41], "add", frozenset({"\\Flagged"}))
        assert not inbox.changes(modseq, at_hand=True).complete
        told = client.command(asked)
    assert inbox.changes(modseq).complete, "the index knows"
    left = [*range(4, 41, 4), 41, 42]
    if enabled:
        assert b"* VANISHED " in told
    else:
        assert told.count(b" EXPUNGE\r\n") == 30
    assert b"(\\Flagged" in told
    if asked == "IDLE":
        client.say(b"DONE\r\n")
    listed = re.findall(rb"UID (\d+)", client.command("UID FETCH 1:* (UID FLAGS)"))
    assert [*map(int, listed)] == left
    fresh = server.login()
    assert not enabled or b"t OK" in fresh.command(enabled)
    fresh.command("SELECT INBOX")
    plain = [
        each.command("UID FETCH 1:* FLAGS").replace(b" \\Recent", b"").replace(b"\\Recent", b"")
        for each in (client, fresh)
    ]
    assert plain[0] == plain[1]
    inbox.close()
