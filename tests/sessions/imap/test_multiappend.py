"""MULTIAPPEND (RFC 3502): several messages in one APPEND, all or none."""

import os
from pathlib import Path

import pytest

from mailserver.imap import Limits
from mailserver.mail import Content, Quota
from mailserver.store import adding
from tests.support.imap import Client, Server, fetched

FIRST, SECOND = b"Subject: first\r\n\r\n1\r\n", b"Subject: second\r\n\r\n2\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


def message(octets: bytes, options: bytes = b"") -> bytes:
    return b" " + options + b"{%d+}\r\n" % len(octets) + octets


def spool_is_empty(server: Server) -> bool:
    return not any((server.root / "example.test/alice/tmp").iterdir())


def test_the_transcript(client: Client) -> None:
    """§6.3.11, but for its mailbox and lengths."""
    assert b" MULTIAPPEND" in client.command("CAPABILITY")
    client.command("CREATE saved-messages")
    assert client.say(b"A003 APPEND saved-messages (\\Seen) {%d}\r\n" % len(FIRST)) == b"+ OK\r\n"
    assert client.say(FIRST + b' (\\Seen) " 7-Feb-1994 22:43:04 -0800" {%d}\r\n' % len(SECOND)) == b"+ OK\r\n"
    answer = client.say(SECOND + b"\r\n")
    assert answer.startswith(b"A003 OK [APPENDUID ")
    assert answer.endswith(b" 1:2] Appended\r\n")
    client.command("SELECT saved-messages")
    assert fetched(client.command("FETCH 1:* (FLAGS BODY.PEEK[])")) == {
        1: {b"FLAGS": [b"\\Seen", b"\\Recent"], b"BODY[]": FIRST},
        2: {b"FLAGS": [b"\\Seen", b"\\Recent"], b"BODY[]": SECOND},
    }
    assert fetched(client.command("FETCH 2 INTERNALDATE"))[2] == {b"INTERNALDATE": b" 8-Feb-1994 06:43:04 +0000"}
    assert client.command("APPEND bogusname (\\Flagged) {1023}").startswith(b"t NO [TRYCREATE]")


def test_imapclient_puts_two_spaces_between_messages(client: Client) -> None:
    answer = client.command(b"APPEND INBOX" + message(FIRST) + b" " + message(SECOND))
    assert b" 1:2] Appended" in answer


def test_the_selected_mailbox_hears_of_all(client: Client) -> None:
    answer = client.command(b"APPEND INBOX" + message(FIRST) * 3)
    assert b"* 3 EXISTS\r\n" in answer
    assert b" 1:3] Appended" in answer


@pytest.mark.parametrize(
    ("second", "answer"),
    [
        (message(b""), b"t NO "),  # so a client takes it back
        (message(b"x\0y"), b"t NO "),
        (message(SECOND, b"(\\Recent) "), b"t BAD "),
        (message(SECOND, b"(" + b"k" * 200 + b") "), b"t NO [LIMIT]"),
        (message(SECOND, b"  "), b"t BAD "),
        (message(SECOND, b"x "), b"t BAD "),
        (message(SECOND)[1:], b"t BAD "),
        (b" {99999999999+}\r\n", b"* BYE "),
        (b" (\\Seen)", b"t BAD "),
        (b" " + b"x" * 100_000, b"t BAD "),
    ],
)
def test_one_that_is_wrong_takes_all_along(server: Server, client: Client, second: bytes, answer: bytes) -> None:
    told = client.command(b"APPEND INBOX" + message(FIRST) + second + b" " + message(FIRST))
    assert told.startswith(answer)
    assert told.count(b"\r\n") == 1, "what follows belongs to the command"
    assert server.account.status("INBOX").messages == 0
    assert client.channel.closed or client.command("NOOP") == b"t OK Done\r\n"


def test_a_full_account_takes_none(server: Server, client: Client) -> None:
    server.account.space.quota = Quota(messages=2)
    assert client.command(b"APPEND INBOX" + message(FIRST) * 3).startswith(b"t NO [OVERQUOTA]")
    assert server.account.status("INBOX").messages == 0
    assert spool_is_empty(server)
    assert b" 1:2] Appended" in client.command(b"APPEND INBOX" + message(FIRST) * 2)


def test_a_disk_that_fails_in_the_middle_keeps_none(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def fsync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        real(fd)

    with monkeypatch.context() as patched:
        patched.setattr(adding, "OPEN", 2)
        patched.setattr("mailserver.store.syncing._may_syncfs", lambda _fds: False)
        patched.setattr(os, "fsync", fsync)
        assert client.command(b"APPEND INBOX" + message(FIRST) * 5).startswith(b"t NO [UNAVAILABLE]")
    assert server.account.status("INBOX").messages == 0
    assert spool_is_empty(server)


def test_a_spool_that_fails_refuses_the_next(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Content, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Content, "write", full)
        assert client.command(b"APPEND INBOX" + message(FIRST) + message(SECOND)).startswith(b"t NO [UNAVAILABLE]")
    assert client.command("NOOP") == b"t OK Done\r\n"


def test_many_hold_few_files_and_little_memory(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are larger together than what is held in memory."""
    most = 0
    real = adding.write

    def write(*arguments: object) -> object:
        nonlocal most
        most = max(most, len(list(Path("/proc/self/fd").iterdir())))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(adding, "write", write)
    before = len(list(Path("/proc/self/fd").iterdir()))
    large = FIRST + b"x" * 9_000 + b"\r\n"
    assert b" 1:300] Appended" in client.command(b"APPEND INBOX" + message(large) * 300)
    assert most - before < adding.OPEN + 20
    assert {item[b"BODY[]"] for item in fetched(client.command("FETCH 1,150,300 BODY.PEEK[]")).values()} == {large}


def test_too_many_are_refused(client: Client) -> None:
    assert client.command(b"APPEND INBOX" + message(b"x") * 10_000).startswith(b"t NO [LIMIT]")
    assert client.command("NOOP") == b"t OK Done\r\n"


def test_too_much_is_refused(client: Client) -> None:
    client.session.engine._limits = Limits(message=1000)
    assert b" 1:10] Appended" in client.command(b"APPEND INBOX" + message(b"x" * 1000) * 10)
    assert client.command(b"APPEND INBOX" + message(b"x" * 1000) * 11).startswith(b"t NO [TOOBIG]")
    assert b" 11] Appended" in client.command(b"APPEND INBOX" + message(b"x"))


def test_a_connection_lost_in_between_leaves_nothing(server: Server, client: Client) -> None:
    client.say(b"a APPEND INBOX" + message(FIRST) + b" {100+}\r\nhalf")
    client.session.lost()
    assert server.account.status("INBOX").messages == 0
