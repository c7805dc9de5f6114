"""LIST-METADATA (RFC 9590)."""

from pathlib import Path

import pytest

from mailserver.store import AccountStore, NoSuchMailbox, Unavailable
from tests.support.imap import Client, Server

COLOR = '"/shared/vendor/cmu/cyrus-imapd/color"'


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = Server(tmp_path).login()
    for command in ("CREATE foo", "CREATE bar/below", "CREATE Sent", "SUBSCRIBE INBOX", "SUBSCRIBE foo/sub"):
        client.command(command)
    client.command(f'SETMETADATA INBOX ({COLOR} "#b71c1c" /private/comment "mine")')
    return client


def test_the_transcript(client: Client) -> None:
    """§4: what has no value is NIL; what is only a parent has none."""
    assert b" LIST-METADATA" in client.command("CAPABILITY")
    assert client.lines(f'LIST "" % RETURN (METADATA ({COLOR}))') == [
        b'LIST (\\HasNoChildren) "/" "INBOX"',
        b'METADATA "INBOX" (/shared/vendor/cmu/cyrus-imapd/color "#b71c1c")',
        b'LIST (\\HasNoChildren \\Sent) "/" "Sent"',
        b'METADATA "Sent" (/shared/vendor/cmu/cyrus-imapd/color NIL)',
        b'LIST (\\NonExistent \\HasChildren) "/" "bar"',
        b'LIST (\\HasNoChildren) "/" "foo"',
        b'METADATA "foo" (/shared/vendor/cmu/cyrus-imapd/color NIL)',
    ]


def test_what_only_has_matching_children_has_none(client: Client) -> None:
    """§4, the second example."""
    assert client.lines(f'LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (METADATA ({COLOR}))') == [
        b'LIST (\\HasNoChildren \\Subscribed) "/" "INBOX"',
        b'METADATA "INBOX" (/shared/vendor/cmu/cyrus-imapd/color "#b71c1c")',
        b'LIST (\\HasNoChildren) "/" "foo" ("CHILDINFO" ("SUBSCRIBED"))',
    ]


def test_several_entries_with_status_behind_it(client: Client) -> None:
    lines = client.lines(
        f'LIST "" (INBOX Sent) RETURN (METADATA ({COLOR} /Private/Comment /private/specialuse) STATUS (MESSAGES))'
    )
    assert lines == [
        b'LIST (\\HasNoChildren) "/" "INBOX"',
        b'STATUS "INBOX" (MESSAGES 0)',
        b'METADATA "INBOX" (/shared/vendor/cmu/cyrus-imapd/color "#b71c1c" /Private/Comment "mine"'
        b" /private/specialuse NIL)",
        b'LIST (\\HasNoChildren \\Sent) "/" "Sent"',
        b'STATUS "Sent" (MESSAGES 0)',
        b'METADATA "Sent" (/shared/vendor/cmu/cyrus-imapd/color NIL /Private/Comment NIL'
        b' /private/specialuse "\\\\Sent")',
    ]


@pytest.mark.parametrize(
    ("error", "listed"),
    [
        (NoSuchMailbox("gone"), [b'LIST (\\NonExistent \\HasNoChildren) "/" "foo"']),
        (Unavailable("no"), [b'LIST (\\HasNoChildren) "/" "foo"']),
    ],
)
def test_a_mailbox_that_cannot_be_read(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, listed: list[bytes]
) -> None:
    def refuse(_self: AccountStore, _name: str | None) -> dict[str, bytes]:
        raise error

    monkeypatch.setattr(AccountStore, "metadata", refuse)
    assert client.lines(f'LIST "" foo RETURN (METADATA ({COLOR}))') == listed


def test_folders_are_looked_for_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not again for each mailbox, for its special use."""
    calls = 0
    real = AccountStore.folders

    def folders(self: AccountStore) -> object:
        nonlocal calls
        calls += 1
        return real(self)

    monkeypatch.setattr(AccountStore, "folders", folders)
    client.lines(f'LIST "" * RETURN (METADATA ({COLOR} /private/specialuse))')
    assert calls == 1


@pytest.mark.parametrize(
    "option",
    ["METADATA", "METADATA ()", "METADATA /private/x", "METADATA (/x)", "METADATA (/private/x", "METADATA (/private/*)",
     "METADATA (DEPTH 1) (/private/x)"],
)  # fmt: skip
def test_malformed_options(client: Client, option: str) -> None:
    assert client.command(f'LIST "" % RETURN ({option})').startswith(b"t BAD ")


def test_metadata_selects_nothing(client: Client) -> None:
    assert client.command(f'LIST (METADATA ({COLOR})) "" %').startswith(b"t BAD ")
