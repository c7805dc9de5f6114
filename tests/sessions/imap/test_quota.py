"""QUOTA (RFC 9208)."""

from pathlib import Path

import pytest

from mailserver.mail import Quota
from tests.support.imap import Client, Server

MESSAGE = b"Subject: x\r\n\r\n" + b"line\r\n" * 300


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def limited(server: Server, octets: int | None, messages: int | None) -> Client:
    server.account.space.quota = Quota(octets, messages)
    return server.login()


def test_what_is_used_and_allowed(server: Server) -> None:
    client = limited(server, 10_000, 3)
    assert b" QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE" in client.command("CAPABILITY")
    client.command("CREATE other")
    for mailbox in ("INBOX", "other"):
        client.append(mailbox, MESSAGE)
    octets = server.account.usage().octets
    expected = b'QUOTA "account" (STORAGE %d 10 MESSAGE 2 3)' % -(-octets // 1024)
    for mailbox in ("INBOX", "other", "none/yet"):
        quoted = b'"' + mailbox.encode() + b'"'
        assert client.lines(f"GETQUOTAROOT {mailbox}") == [b"QUOTAROOT " + quoted + b' "account"', expected]
    for root in ("account", '"account"', "{7+}\r\naccount"):
        assert client.lines(f"GETQUOTA {root}") == [expected]


@pytest.mark.parametrize(
    ("octets", "messages", "told"),
    [(None, 5, b"(MESSAGE 0 5)"), (1, None, b"(STORAGE 0 1)"), (0, 0, b"(STORAGE 0 0 MESSAGE 0 0)")],
)
def test_only_what_is_limited_is_told(server: Server, octets: int | None, messages: int | None, told: bytes) -> None:
    assert limited(server, octets, messages).lines("GETQUOTA account") == [b'QUOTA "account" ' + told]


def test_without_limits_there_is_no_root(server: Server) -> None:
    client = server.login()
    assert client.lines("GETQUOTAROOT INBOX") == [b'QUOTAROOT "INBOX"']
    assert client.command("GETQUOTA account").startswith(b"t NO [NONEXISTENT]")


def test_what_is_refused(server: Server) -> None:
    client = limited(server, 10_000, None)
    assert b"QUOTASET" not in client.command("CAPABILITY")
    assert client.command("GETQUOTA other").startswith(b"t NO [NONEXISTENT]")
    assert client.command("SETQUOTA other (STORAGE 1)").startswith(b"t NO [NONEXISTENT]")
    for limits in ("(STORAGE 512)", "()", "(MESSAGE 1 storage 9223372036854775807)"):
        assert client.command(f"SETQUOTA account {limits}").startswith(b"t NO [NOPERM]")
    assert client.lines("GETQUOTA account") == [b'QUOTA "account" (STORAGE 0 10)']


@pytest.mark.parametrize(
    "command",
    [
        "GETQUOTA",
        "GETQUOTA a b",
        "GETQUOTAROOT",
        "SETQUOTA account",
        "SETQUOTA account STORAGE 1",
        "SETQUOTA account (STORAGE)",
        "SETQUOTA account (STORAGE -1)",
        "SETQUOTA account (STORAGE 9223372036854775808)",
        "SETQUOTA account (STORAGE 99999999999999999999)",
        "SETQUOTA account (" + "A 1 " * 1000 + "A 1)",
    ],
)
def test_what_is_malformed(server: Server, command: str) -> None:
    assert limited(server, 10_000, None).command(command).startswith(b"t BAD")


def test_before_login_nothing_is_told(server: Server) -> None:
    assert server.connect().command("GETQUOTAROOT INBOX").startswith(b"t BAD")


def test_over_quota(server: Server) -> None:
    client = limited(server, None, 1)
    client.append("INBOX", MESSAGE)
    assert client.append("INBOX", MESSAGE).endswith(b"OVERQUOTA] The account has no room for it\r\n")


def test_status_tells_what_an_expunge_would_free(server: Server) -> None:
    client = limited(server, 10_000, None)
    for flags in ("", "\\Deleted", "\\Deleted \\Seen"):
        client.append("INBOX", MESSAGE, flags)
    before = server.account.usage().octets
    freed = before * 2 // 3
    assert client.lines("STATUS INBOX (DELETED deleted-storage)") == [
        b'STATUS "INBOX" (DELETED 2 DELETED-STORAGE %d)' % freed
    ]
    client.command("SELECT INBOX")
    client.command("EXPUNGE")
    assert server.account.usage().octets == before - freed
    assert client.lines("STATUS INBOX (DELETED DELETED-STORAGE)") == [b'STATUS "INBOX" (DELETED 0 DELETED-STORAGE 0)']
