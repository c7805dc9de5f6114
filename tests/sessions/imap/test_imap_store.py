"""STORE. What several sessions see of it is in `test_imap_whole_sessions`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.sessions.imap.flags import applied
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=3)
    server.login(select="INBOX").command("CLOSE")  # takes the recent ones
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def test_store_answers_with_the_flags_after_it(client: Client) -> None:
    assert client.lines("STORE 1:2 +FLAGS (\\Seen)") == [b"1 FETCH (FLAGS (\\Seen))", b"2 FETCH (FLAGS (\\Seen))"]
    assert client.lines("STORE 1 FLAGS \\Flagged \\Draft") == [b"1 FETCH (FLAGS (\\Flagged \\Draft))"]
    assert client.lines("STORE 1 -FLAGS (\\Draft \\Seen)") == [b"1 FETCH (FLAGS (\\Flagged))"]
    assert client.lines("STORE 1 FLAGS ()") == [b"1 FETCH (FLAGS ())"]
    assert client.lines("UID STORE 3 +FLAGS (\\Seen)") == [b"3 FETCH (UID 3 FLAGS (\\Seen))"]


def test_silent_is_silent(client: Client) -> None:
    assert client.lines("STORE 1:3 +FLAGS.SILENT (\\Seen)") == []
    assert client.lines("NOOP") == []


def test_silent_tells_what_another_changed_meanwhile(server: Server, client: Client) -> None:
    server.login(select="INBOX").command("STORE 1 +FLAGS (\\Flagged)")
    assert client.lines("STORE 1 +FLAGS.SILENT (\\Seen)") == [b"1 FETCH (UID 1 FLAGS (\\Flagged))"]
    assert client.lines("NOOP") == []


def test_silent_tells_what_another_changes_in_the_same_moment(server: Server, client: Client) -> None:
    mailbox = client.session.selected.mailbox
    update = mailbox.update_flags
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            mailbox, "update_flags", lambda *args: [update([1], "add", frozenset({"\\Flagged"})), update(*args)][1]
        )
        assert client.lines("STORE 1 +FLAGS.SILENT (\\Seen)") == [b"1 FETCH (FLAGS (\\Flagged \\Seen))"]
    assert client.lines("NOOP") == []


def test_a_new_keyword_is_announced(client: Client) -> None:
    lines = client.lines("STORE 1 +FLAGS ($Forwarded)")
    assert lines == [
        b"FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Forwarded)",
        b"1 FETCH (FLAGS ($Forwarded))",
    ]
    assert client.lines("STORE 2 +FLAGS ($forwarded)") == [b"2 FETCH (FLAGS ($Forwarded))"], "known spelling"


def test_many_keywords_are_kept(server: Server, client: Client) -> None:
    words = " ".join(f"keyword{n:03d}" for n in range(60))
    client.command(f"STORE 1 FLAGS ({words})")
    assert server.login(select="INBOX").lines("FETCH 1 FLAGS") == [f"1 FETCH (FLAGS ({words}))".encode()]


def test_flags_that_cannot_be_stored(client: Client) -> None:
    assert client.command("STORE 1 +FLAGS (\\Recent)").startswith(b"t BAD")
    assert client.command("STORE 1 +FLAGS (\\Nonsense)").startswith(b"t BAD")
    assert client.command("STORE 4 +FLAGS (\\Seen)").startswith(b"t BAD")


def test_store_on_a_message_that_another_expunged(server: Server, client: Client) -> None:
    other = server.login(select="INBOX")
    other.command("STORE 2 +FLAGS (\\Deleted)")
    other.command("EXPUNGE")
    answer = client.command("STORE 1:3 +FLAGS (\\Seen)")
    assert b"* 1 FETCH (FLAGS (\\Seen))\r\n" in answer
    assert b"* 3 FETCH (FLAGS (\\Seen))\r\n" in answer
    assert b"EXPUNGE\r\n" not in answer
    assert b"t OK [EXPUNGEISSUED]" in answer
    assert client.lines("NOOP")[0] == b"2 EXPUNGE"


def test_store_touches_many_messages_in_batches(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=40)
    client = server.login(select="INBOX")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mailserver.sessions.imap.flags.BATCH", 7)
        assert len(client.lines("STORE 1:* +FLAGS (\\Seen)")) == 40
    assert server.account.status("INBOX").unseen == 0


FLAGS = st.frozensets(st.sampled_from(["a", "b", "c"]))


@given(FLAGS, FLAGS)
def test_what_a_client_expects(before: frozenset[str], change: frozenset[str]) -> None:
    assert applied(before, "add", change) == before | change
    assert applied(before, "remove", change) == before - change
    assert applied(before, "set", change) == change
