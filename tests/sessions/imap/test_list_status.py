"""LIST-STATUS (RFC 5819)."""

from pathlib import Path

import pytest

from mailserver.store import AccountStore, NoSuchMailbox, Status, Unavailable
from tests.support.imap import Client, Server


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = Server(tmp_path).login()
    for command in ("CREATE foo", "CREATE bar/below", "SUBSCRIBE INBOX", "SUBSCRIBE foo/sub"):
        client.command(command)
    client.append("foo", b"Subject: x\r\n\r\n")
    return client


def test_each_mailbox_has_its_status_behind_it(client: Client) -> None:
    assert b" LIST-STATUS" in client.command("CAPABILITY")
    assert client.lines('LIST "" % RETURN (STATUS (MESSAGES UNSEEN))') == [
        b'LIST (\\HasNoChildren) "/" "INBOX"',
        b'STATUS "INBOX" (MESSAGES 0 UNSEEN 0)',
        b'LIST (\\NonExistent \\HasChildren) "/" "bar"',
        b'LIST (\\HasNoChildren) "/" "foo"',
        b'STATUS "foo" (MESSAGES 1 UNSEEN 1)',
    ]


def test_what_only_has_matching_children_has_no_status(client: Client) -> None:
    assert client.lines('LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (STATUS (MESSAGES))') == [
        b'LIST (\\HasNoChildren \\Subscribed) "/" "INBOX"',
        b'STATUS "INBOX" (MESSAGES 0)',
        b'LIST (\\HasNoChildren) "/" "foo" ("CHILDINFO" ("SUBSCRIBED"))',
    ]


@pytest.mark.parametrize(
    ("error", "listed"),
    [
        (NoSuchMailbox, b'LIST (\\NonExistent \\HasNoChildren) "/" "foo"'),
        (Unavailable, b'LIST (\\HasNoChildren) "/" "foo"'),
    ],
)
def test_a_status_that_cannot_be_had(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: type[Exception], listed: bytes
) -> None:
    """It was deleted meanwhile, or the disk refuses."""

    def status(self: AccountStore, name: str) -> Status:
        raise error(name)

    monkeypatch.setattr(AccountStore, "status", status)
    assert client.lines('LIST "" foo RETURN (STATUS (MESSAGES))') == [listed]
