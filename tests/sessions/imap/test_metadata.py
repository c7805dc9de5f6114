"""METADATA (RFC 5464), and the special use by it (RFC 6154 §4)."""

from pathlib import Path

import pytest

from mailserver.store import Store, metadata
from tests.support.imap import Client, Server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def client(server: Server) -> Client:
    client = server.login()
    client.command("CREATE foo")
    return client


def put(client: Client, mailbox: str, entry: str, value: str) -> None:
    assert client.command(f"SETMETADATA {mailbox} ({entry} {value})").startswith(b"t OK")


def test_set_get_remove(client: Client) -> None:
    assert b" METADATA" in client.command("CAPABILITY")
    assert b"METADATA-SERVER" not in client.command("CAPABILITY"), "that is for servers without those of mailboxes"
    put(client, "INBOX", "/private/comment", '"My own comment"')
    put(client, "INBOX", "/shared/comment", '"Its sunny outside!"')
    assert client.lines('GETMETADATA "INBOX" /private/comment') == [
        b'METADATA "INBOX" (/private/comment "My own comment")'
    ]
    assert client.lines("GETMETADATA inbox (/shared/comment /Private/Comment)") == [
        b'METADATA "INBOX" (/shared/comment "Its sunny outside!" /Private/Comment "My own comment")'
    ]
    put(client, "INBOX", "/PRIVATE/comment", "NIL")
    assert client.lines("GETMETADATA INBOX /private/comment") == [b'METADATA "INBOX" (/private/comment NIL)']
    assert client.lines("GETMETADATA foo /shared/comment") == [b'METADATA "foo" (/shared/comment NIL)']


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{5+}\r\na\r\nb\t", b"{5}\r\na\r\nb\t"),
        ("~{3+}\r\na\0b", b"~{3}\r\na\0b"),
        ('""', b'""'),
        ('"NIL"', b'"NIL"'),
        ("{2+}\r\n\xff\x00".replace("\x00", "\x01"), b"{3}\r\n\xc3\xbf\x01"),
    ],
)
def test_values_are_kept_as_they_are(server: Server, client: Client, written: str, told: bytes) -> None:
    if "\xff" in written:
        written = written.replace("{2+}", "{3+}")
    put(client, "foo", "/private/comment", written)
    server.store = Store(server.root, hostname="mail.example.test")
    answer = server.login().command("GETMETADATA foo /private/comment")
    assert answer.startswith(b'* METADATA "foo" (/private/comment ' + told + b")\r\n")


def test_several_at_once_or_none(client: Client) -> None:
    put(client, "foo", '/private/comment "x" /shared/vendor/kolab/folder-type "event" /shared/comment', '"y"')
    large = metadata.VALUE_LIMIT + 1
    answer = client.command(f'SETMETADATA foo (/private/comment "new" /shared/comment {{{large}+}}\r\n{"x" * large})')
    assert answer.startswith(b"t NO [METADATA MAXSIZE %d]" % metadata.VALUE_LIMIT)
    assert client.lines("GETMETADATA foo (/private/comment /shared/comment)") == [
        b'METADATA "foo" (/private/comment "x" /shared/comment "y")'
    ]


def test_too_many(client: Client) -> None:
    for start in range(0, metadata.COUNT, 16):
        put(
            client,
            "foo",
            " ".join(f'/private/n{n} "x"' for n in range(start, start + 15)) + f" /shared/n{start}",
            '"x"',
        )
    assert client.command('SETMETADATA foo (/private/more "x")').startswith(b"t NO [METADATA TOOMANY]")
    assert client.command('SETMETADATA foo (/private/n1 NIL /private/a "x" /private/b "x")').startswith(b"t NO [")
    put(client, "foo", '/private/n1 NIL /private/n2 "other" /private/more', '"x"')
    put(client, "INBOX", "/private/more", '"x"')


def test_maxsize(client: Client) -> None:
    put(client, "INBOX", "/private/comment", '"short"')
    put(client, "INBOX", "/shared/comment", "{2199+}\r\n" + "x" * 2199)
    expected = b'* METADATA "INBOX" (/private/comment "short")\r\nt OK [METADATA LONGENTRIES 2199] Metadata given\r\n'
    for command in (
        "GETMETADATA INBOX (MAXSIZE 1024) (/shared/comment /private/comment)",
        "GETMETADATA (MAXSIZE 1024) INBOX (/shared/comment /private/comment)",
        "GETMETADATA (maxsize 5 depth 0) INBOX (/shared/comment /private/comment)",
    ):
        assert client.command(command) == expected
    assert client.command("GETMETADATA INBOX (MAXSIZE 4) /private/comment") == (
        b"t OK [METADATA LONGENTRIES 5] Metadata given\r\n"
    )


def test_depth(client: Client) -> None:
    put(client, "foo", '/private/f/v/small "1" /private/f/v/boss "2" /private/f/v/boss/deep "3" /private/f/vx', '"4"')
    both = b'/private/f/v/boss "2" /private/f/v/small "1"'
    assert client.lines("GETMETADATA foo (DEPTH 1) (/private/f/v)") == [b'METADATA "foo" (' + both + b")"]
    assert client.lines("GETMETADATA foo (DEPTH 1) (/private/f/v/boss /private/f/v)") == [
        b'METADATA "foo" (/private/f/v/boss "2" /private/f/v/boss/deep "3" /private/f/v/small "1")'
    ]
    assert client.lines("GETMETADATA (DEPTH infinity) foo /private") == [
        b'METADATA "foo" (/private/f/v/boss "2" /private/f/v/boss/deep "3" /private/f/v/small "1" /private/f/vx "4")'
    ]
    assert client.lines("GETMETADATA foo (DEPTH infinity) /shared") == []


def test_entries_go_with_the_mailbox(server: Server, client: Client) -> None:
    put(client, "foo", "/private/comment", '"x"')
    client.command("RENAME foo bar/baz")
    assert client.lines("GETMETADATA bar/baz /private/comment") == [b'METADATA "bar/baz" (/private/comment "x")']
    client.command("CREATE foo")
    assert client.lines("GETMETADATA foo /private/comment") == [b'METADATA "foo" (/private/comment NIL)']
    client.command("DELETE bar/baz")
    client.command("CREATE bar/baz")
    assert client.lines("GETMETADATA bar/baz /private/comment") == [b'METADATA "bar/baz" (/private/comment NIL)']


def test_inbox_keeps_its_entries_and_gives_copies(client: Client) -> None:
    put(client, "INBOX", "/private/comment", '"x"')
    client.command("RENAME INBOX old")
    for mailbox in ("INBOX", "old"):
        assert client.lines(f"GETMETADATA {mailbox} /private/comment")[0].endswith(b'(/private/comment "x")')


def test_the_server(server: Server, client: Client) -> None:
    assert client.lines('GETMETADATA "" /shared/admin') == [
        b'METADATA "" (/shared/admin "mailto:postmaster@example.test")'
    ]
    put(client, '""', "/private/vendor/x/y", '"mine"')
    assert client.lines('GETMETADATA "" (DEPTH infinity) (/private /shared)') == [
        b'METADATA "" (/private/vendor/x/y "mine" /shared/admin "mailto:postmaster@example.test")'
    ]
    for entry in ("/shared/admin", "/shared/comment", "/shared/vendor/x/y"):
        assert client.command(f'SETMETADATA "" (/private/a "x" {entry} "x")').startswith(b"t NO [NOPERM]")
    assert client.lines('GETMETADATA "" /private/a') == [b'METADATA "" (/private/a NIL)']
    assert client.lines("GETMETADATA INBOX /private/vendor/x/y")[0].endswith(b"NIL)")


def test_mailboxes_that_are_none(client: Client) -> None:
    client.command("CREATE parent/child")
    assert client.command("GETMETADATA none /private/comment").startswith(b"t NO [NONEXISTENT]")
    assert client.command('SETMETADATA none (/private/comment "x")').startswith(b"t NO [NONEXISTENT]")
    assert client.command('SETMETADATA parent (/private/comment "x")').startswith(b"t NO [")
    assert client.command('SETMETADATA ../x (/private/comment "x")').startswith(b"t NO [")


@pytest.mark.parametrize(
    "command",
    [
        "GETMETADATA INBOX",
        "GETMETADATA INBOX ()",
        "GETMETADATA INBOX comment",
        "GETMETADATA INBOX /comment",
        "GETMETADATA INBOX /private//x",
        "GETMETADATA INBOX /private/x/",
        'GETMETADATA INBOX "/private/*"',
        'GETMETADATA INBOX "/private/%"',
        'GETMETADATA INBOX "/private/\x01"',
        'GETMETADATA INBOX "/private/ü"',
        "GETMETADATA INBOX /private/" + "x" * 1024,
        "GETMETADATA INBOX (" + "/private/x " * 1000 + "/private/x)",
        "GETMETADATA INBOX (DEPTH 2) /private/x",
        "GETMETADATA INBOX (DEPTH) /private/x",
        "GETMETADATA INBOX (MAXSIZE x) /private/x",
        "GETMETADATA INBOX (MAXSIZE 99999999999) /private/x",
        "GETMETADATA INBOX (SIZE 1) /private/x",
        "GETMETADATA () INBOX /private/x",
        "SETMETADATA INBOX",
        "SETMETADATA INBOX ()",
        "SETMETADATA INBOX (/private/x)",
        "SETMETADATA INBOX (/private/x y)",
        'SETMETADATA INBOX (/private "x")',
        'SETMETADATA INBOX (/private/vendor/x "x")',
        'SETMETADATA INBOX /private/x "x"',
        'SETMETADATA INBOX (/private/x ~"x")',
        "SETMETADATA INBOX (/private/x {1+}\r\n\0)",
    ],
)
def test_what_is_malformed(client: Client, command: str) -> None:
    assert client.command(command).startswith(b"t BAD")


def test_a_file_that_is_damaged_or_foreign(server: Server, client: Client, tmp_path: Path) -> None:
    put(client, "foo", "/private/a", '"x"')
    file = server.root / "example.test/alice/.foo" / metadata.FILE
    assert file.read_text() == '["/private/a", "x"]\n'
    file.write_bytes(
        b'["/private/a"]\n\xff\xfe\n' + b"[" * 100_000 + b'\n["/private/b", "ok"]\n["/c", {"base64": "?"}]\n[1'
    )
    assert client.lines("GETMETADATA foo (DEPTH infinity) /private") == [b'METADATA "foo" (/private/b "ok")']
    file.unlink()
    secret = tmp_path / "secret"
    secret.write_text('["/private/a", "secret"]\n')
    file.symlink_to(secret)
    assert client.lines("GETMETADATA foo /private/a") == [b'METADATA "foo" (/private/a NIL)']
    put(client, "foo", "/private/a", '"y"')
    assert secret.read_text() == '["/private/a", "secret"]\n'
    assert not file.is_symlink()


# Special use


def test_special_use_is_an_entry(client: Client) -> None:
    for name in ("SavedDrafts", "Drafts", "MySent (USE (\\Sent \\Trash))"):
        client.command(f"CREATE {name}")
    assert client.lines("GETMETADATA MySent /private/specialuse") == [
        b'METADATA "MySent" (/private/specialuse "\\\\Sent \\\\Trash")'
    ]
    assert client.lines("GETMETADATA SavedDrafts /private/specialuse") == [
        b'METADATA "SavedDrafts" (/private/specialuse NIL)'
    ]
    put(client, "SavedDrafts", "/private/specialuse", '"\\\\drafts"')
    assert client.lines('LIST (SPECIAL-USE) "" *') == [
        b'LIST (\\HasNoChildren \\Sent \\Trash) "/" "MySent"',
        b'LIST (\\HasNoChildren \\Drafts) "/" "SavedDrafts"',
    ], "the one that had it by its name has it no more"
    put(client, "MySent", "/private/specialuse", "NIL")
    assert client.lines('LIST (SPECIAL-USE) "" *') == [b'LIST (\\HasNoChildren \\Drafts) "/" "SavedDrafts"']


@pytest.mark.parametrize(
    ("mailbox", "uses"),
    [
        ("foo", '"\\\\All"'),
        ("foo", '"Sent"'),
        ("foo", '"\\\\Sent \\\\Nonsense"'),
        ("foo", '"\\\\Junk"'),
        ("INBOX", '"\\\\Sent"'),
        ("Drafts", "NIL"),
    ],
)
def test_special_uses_that_cannot_be(client: Client, mailbox: str, uses: str) -> None:
    client.command("CREATE Spam (USE (\\Junk))")
    client.command("CREATE Drafts")
    before = client.lines('LIST "" *')
    assert client.command(f"SETMETADATA {mailbox} (/private/specialuse {uses})").startswith(b"t NO [USEATTR]")
    assert client.command(f'SETMETADATA {mailbox} (/private/specialuse {uses} /private/x "x")').startswith(b"t NO [")
    assert client.lines('LIST "" *') == before
    assert client.lines(f"GETMETADATA {mailbox} /private/x")[0].endswith(b"NIL)")
