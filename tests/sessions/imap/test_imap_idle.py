"""IDLE (RFC 2177): news at once from this process, soon from others; nothing left behind."""

from pathlib import Path

import pytest

from mailserver.sessions.imap.watching import POLL
from mailserver.store import Store
from tests.support.imap import ALICE, Client, Server

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(MESSAGE, count=2)
    return server


@pytest.fixture
def client(server: Server) -> Client:
    client = server.login(select="INBOX")
    assert client.command("IDLE") == b"+ idling\r\n"
    return client


def test_new_mail_is_told_at_once(server: Server, client: Client) -> None:
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b"* 3 EXISTS\r\n* 3 RECENT\r\n"
    assert client.say(b"DONE\r\n").endswith(b"OK Idle no longer\r\n")


def test_flags_and_expunges_by_another_session_are_told_at_once(server: Server, client: Client) -> None:
    other = server.login(select="INBOX")
    told = client.pushed(lambda: other.command("STORE 1 +FLAGS (\\Deleted)"))
    assert told == b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))\r\n"
    assert client.pushed(lambda: other.command("EXPUNGE")) == b"* 1 EXPUNGE\r\n* 1 RECENT\r\n"


def test_what_another_process_does_is_found_by_looking(server: Server, client: Client) -> None:
    elsewhere = Store(server.root, hostname="mail.example.test").account(ALICE).open("INBOX")
    elsewhere.update_flags([2], "add", frozenset({"\\Flagged"}))
    assert client.pushed(lambda: None) == b""
    told = client.pushed(lambda: server.clock.advance(POLL))
    assert told == b"* 2 FETCH (UID 2 FLAGS (\\Flagged \\Recent))\r\n"
    elsewhere.close()


def test_looking_goes_on_and_ends_with_done(server: Server, client: Client) -> None:
    server.clock.advance(10 * POLL)
    assert sum(not timer.cancelled for timer in server.clock.timers) == 1
    client.say(b"DONE\r\n")
    assert sum(not timer.cancelled for timer in server.clock.timers) == 0
    assert client.pushed(lambda: server.deliver(MESSAGE)) == b"", "after DONE nothing is told unasked"
    assert b"* 3 EXISTS" in client.command("NOOP")


def test_idle_without_a_mailbox(server: Server) -> None:
    client = server.login()
    assert client.command("IDLE") == b"+ idling\r\n"
    assert client.say(b"done\r\n").endswith(b"OK Idle no longer\r\n")


def test_anything_but_done_ends_it(server: Server, client: Client) -> None:
    assert b" BAD DONE expected" in client.say(b"x NOOP\r\n")
    assert not [timer for timer in server.clock.timers if not timer.cancelled]
    assert client.command("NOOP") == b"t OK Done\r\n"


def test_news_from_before_idle_come_first(server: Server) -> None:
    client = server.login(select="INBOX")
    server.deliver(MESSAGE)
    assert client.command("IDLE").startswith(b"+ idling\r\n* 3 EXISTS\r\n")


def test_a_deleted_mailbox_ends_the_connection(server: Server) -> None:
    client, other = server.login(), server.login()
    other.command("CREATE gone")
    client.command("SELECT gone")
    client.command("IDLE")
    told = client.pushed(lambda: other.command("DELETE gone"))
    assert told == b"* BYE The selected mailbox was deleted\r\n"
    assert client.channel.closed
    client.session.lost()
    assert not [timer for timer in server.clock.timers if not timer.cancelled]


def test_a_disk_that_fails_is_tried_again(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("mailserver.store.maildir.Maildir.refresh", _broken)
        assert client.pushed(lambda: server.clock.advance(POLL)) == b""
    assert not client.channel.closed
    assert b"* 3 EXISTS" in client.pushed(lambda: server.deliver(MESSAGE))


def _broken(*_args: object, **_kwargs: object) -> None:
    raise OSError(5, "Input/output error")
