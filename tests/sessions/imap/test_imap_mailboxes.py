"""CREATE, DELETE, RENAME, SUBSCRIBE, LIST, LSUB, STATUS, NAMESPACE."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.config.model import IMAP
from mailserver.imap import Pattern
from mailserver.imap.patterns import exchanged
from mailserver.mail import Quota
from tests.support.imap import Client, Server, fetched


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def client(server: Server) -> Client:
    return server.login()


def names(lines: list[bytes]) -> list[str]:
    found = []
    for line in lines:
        match = re.fullmatch(rb'(?:LIST|LSUB) \([^)]*\) "/" "(.*)"', line)
        assert match, line
        found.append(match[1].decode())
    return found


def test_create_list_delete(client: Client) -> None:
    for name in ("Work", "Work/2024/", "Other"):
        assert client.command(f"CREATE {name}").startswith(b"t OK")
    assert names(client.lines('LIST "" *')) == ["INBOX", "Other", "Work", "Work/2024"]
    assert names(client.lines('LIST "" %')) == ["INBOX", "Other", "Work"]
    assert names(client.lines('LIST Work/ "*"')) == ["Work/2024"]
    assert names(client.lines('LIST "" "W%/%"')) == ["Work/2024"]
    assert names(client.lines('LIST "" inbox')) == ["INBOX"]
    assert client.command("DELETE Other").startswith(b"t OK")
    assert names(client.lines('LIST "" O*')) == []


def test_children_are_told_of(client: Client) -> None:
    client.command("CREATE a/b")
    assert client.lines('LIST "" a*') == [
        b'LIST (\\Noselect \\HasChildren) "/" "a"',
        b'LIST (\\HasNoChildren) "/" "a/b"',
    ]


def test_mailboxes_of_special_use(client: Client) -> None:
    for name in ("Sent", "drafts", "Trash", "Junk", "Archive", "a/Sent"):
        client.command(f"CREATE {name}")
    found = b"\n".join(client.lines('LIST "" *'))
    for line in (b'\\Sent) "/" "Sent"', b'\\Drafts) "/" "drafts"', b'\\Trash) "/" "Trash"', b'\\Junk) "/" "Junk"'):
        assert line in found
    assert b'LIST (\\HasNoChildren) "/" "a/Sent"' in found


def test_the_separator_is_asked_for_with_an_empty_pattern(client: Client) -> None:
    assert client.lines('LIST "" ""') == [b'LIST (\\Noselect) "/" ""']


def test_names_beyond_ascii(client: Client) -> None:
    assert client.command('CREATE "Entw&APw-rfe"').startswith(b"t OK")
    assert client.command('CREATE "R&-D \\"x\\""').startswith(b"t OK")
    assert client.lines('LIST "" "Entw&APw-*"') == [b'LIST (\\HasNoChildren) "/" "Entw&APw-rfe"']
    assert client.lines('LIST "" R*') == [b'LIST (\\HasNoChildren) "/" "R&-D \\"x\\""']
    assert b"OK [READ-WRITE]" in client.command('SELECT "Entw&APw-rfe"')
    assert b'STATUS "Entw&APw-rfe" (MESSAGES 0)' in client.command('STATUS "Entw&APw-rfe" (MESSAGES)')


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("CREATE INBOX", b"t NO [ALREADYEXISTS]"),
        ("CREATE there", b"t NO [ALREADYEXISTS]"),
        ("CREATE a//b", b"t NO [CANNOT]"),
        ("CREATE a.b", b"t NO [CANNOT]"),
        ("CREATE /", b"t NO [CANNOT]"),
        ('CREATE ""', b"t NO [CANNOT]"),
        ("DELETE inbox", b"t NO [CANNOT]"),
        ("DELETE none", b"t NO [NONEXISTENT]"),
        ("DELETE parent", b"t NO [HASCHILDREN]"),
        ("RENAME none new", b"t NO [NONEXISTENT]"),
        ("RENAME there parent/child", b"t NO [ALREADYEXISTS]"),
        ("RENAME there INBOX", b"t NO [ALREADYEXISTS]"),
        ("RENAME there there/below", b"t NO [CANNOT]"),
        ("RENAME inbox there", b"t NO [ALREADYEXISTS]"),
        ("RENAME inbox INBOX", b"t NO [ALREADYEXISTS]"),
        ("RENAME there a.b", b"t NO [CANNOT]"),
        ('RENAME there "a\r\nb"'.replace("\r\n", "\x01"), b"t NO [CANNOT]"),
        ("RENAME there " + "x" * 300, b"t NO [CANNOT]"),
        ("CREATE there/", b"t NO [ALREADYEXISTS]"),
        ("CREATE inbox/", b"t NO [ALREADYEXISTS]"),
        ("CREATE &AOQ", b"t NO [CANNOT]"),
        ("CREATE " + "x" * 300, b"t NO [CANNOT]"),
        ("CREATE " + "x" * 1100, b"t NO [CANNOT]"),
        ("SUBSCRIBE a.b", b"t NO [CANNOT]"),
        ("APPEND none {1+}\r\nx", b"t NO [TRYCREATE]"),
        ("APPEND parent {1+}\r\nx", b"t NO [TRYCREATE]"),
        ("APPEND a.b {1+}\r\nx", b"t NO [CANNOT]"),
        ("APPEND there {0}", b"t NO [CANNOT]"),
        ("APPEND there {1+}\r\n\0", b"t NO [CANNOT]"),
        ("APPEND there (" + "k" * 200 + ") {1+}\r\nx", b"t NO [LIMIT]"),
        ("LIST &AOQ *", b"t NO [CANNOT]"),
        ("SELECT none", b"t NO [NONEXISTENT]"),
        ("SELECT parent", b"t NO [NONEXISTENT]"),
        ("STATUS none (MESSAGES)", b"t NO [NONEXISTENT]"),
    ],
)
def test_refusals_say_why(client: Client, command: str, answer: bytes) -> None:
    client.command("CREATE there")
    client.command("CREATE parent/child")
    assert client.command(command).startswith(answer)
    assert names(client.lines('LIST "" *')) == ["INBOX", "parent", "parent/child", "there"], "nothing has changed"


def test_rename_takes_the_children_along(client: Client) -> None:
    client.command("CREATE a")
    client.command("CREATE a/b")
    client.append("a/b", b"Subject: x\r\n\r\n")
    assert client.command("RENAME a z").startswith(b"t OK")
    assert names(client.lines('LIST "" *')) == ["INBOX", "z", "z/b"]
    assert client.lines("STATUS z/b (MESSAGES)") == [b'STATUS "z/b" (MESSAGES 1)']


def test_rename_of_inbox_empties_it(client: Client) -> None:
    client.append("INBOX", b"Subject: x\r\n\r\n")
    assert client.command("RENAME INBOX old").startswith(b"t OK")
    assert client.lines("STATUS INBOX (MESSAGES)") == [b'STATUS "INBOX" (MESSAGES 0)']
    assert client.lines("STATUS old (MESSAGES)") == [b'STATUS "old" (MESSAGES 1)']


def test_rename_of_inbox_is_special(server: Server, client: Client) -> None:
    """RFC 3501 §6.3.5: INBOX stays, with its UIDVALIDITY and highest UID; what lies below it is not touched."""
    client.command("CREATE INBOX/below")
    client.append("INBOX", b"first", flags="\\Flagged kept", extra='"17-Jul-1996 02:44:25 +0530" ')
    client.append("INBOX", b"second")
    other = server.login(select="INBOX")
    before = client.lines("STATUS INBOX (UIDVALIDITY UIDNEXT)")
    assert client.command("RENAME inbox INBOX/old/mail").startswith(b"t OK ")
    assert names(client.lines('LIST "" *')) == ["INBOX", "INBOX/below", "INBOX/old", "INBOX/old/mail"]
    assert client.lines("STATUS INBOX (UIDVALIDITY UIDNEXT)") == before
    assert other.command("NOOP").count(b" EXPUNGE\r\n") == 2
    client.command("SELECT INBOX/old/mail")
    first, second = fetched(client.command("FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])")).values()
    assert first[b"BODY[]"] == b"first"
    assert first[b"INTERNALDATE"] == b"17-Jul-1996 02:44:25 +0530"
    assert isinstance(first[b"FLAGS"], list)
    assert {b"\\Flagged", b"kept"} <= set(map(bytes, filter(None, first[b"FLAGS"])))  # type: ignore[arg-type]
    assert second[b"BODY[]"] == b"second"


def test_rename_of_inbox_needs_no_room(server: Server, client: Client) -> None:
    client.append("INBOX", b"x" * 1000)
    server.account.space.quota = Quota(octets=1000)
    assert client.command("RENAME INBOX old").startswith(b"t OK ")
    assert client.lines("STATUS old (MESSAGES)") == [b'STATUS "old" (MESSAGES 1)']


def test_rename_of_inbox_that_the_disk_refuses_loses_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    client.append("INBOX", b"first")
    with monkeypatch.context() as patched:
        patched.setattr("mailserver.store.syncing.Directory.link", refuse)
        assert client.command("RENAME INBOX old").startswith(b"t NO [UNAVAILABLE] ")
    assert client.lines("STATUS INBOX (MESSAGES)") == [b'STATUS "INBOX" (MESSAGES 1)']


def test_rename_makes_what_is_above_it(client: Client) -> None:
    """RFC 3501 §6.3.5: names above are there as those of parents."""
    client.command("CREATE foo/bar/zap")
    assert client.command("RENAME foo/bar/zap baz/rag/zowie").startswith(b"t OK ")
    assert names(client.lines('LIST "" *')) == ["INBOX", "baz", "baz/rag", "baz/rag/zowie"]
    assert b"\\Noselect" in client.lines('LIST "" baz/rag')[0]


def test_a_name_that_is_used_again_has_another_uidvalidity(client: Client) -> None:
    """RFC 3501 §6.3.4, §6.3.5: so that no UID means two messages."""
    client.command("CREATE a")
    (first,) = client.lines("STATUS a (UIDVALIDITY)")
    client.command("RENAME a b")
    assert client.lines("STATUS b (UIDVALIDITY)") == [first.replace(b'"a"', b'"b"')]
    client.command("CREATE a")
    (second,) = client.lines("STATUS a (UIDVALIDITY)")
    client.command("DELETE a")
    client.command("CREATE a")
    (third,) = client.lines("STATUS a (UIDVALIDITY)")
    numbers = [int(line.split()[-1].rstrip(b")")) for line in (first, second, third)]
    assert numbers == sorted(set(numbers))


def test_subscriptions(client: Client) -> None:
    for name in ("INBOX", "a/b/c", "d"):
        assert client.command(f"SUBSCRIBE {name}").startswith(b"t OK")
    assert names(client.lines('LSUB "" *')) == ["INBOX", "a/b/c", "d"]
    assert client.lines('LSUB "" %') == [b'LSUB () "/" "INBOX"', b'LSUB (\\Noselect) "/" "a"', b'LSUB () "/" "d"']
    assert names(client.lines("LSUB a/ %")) == ["a/b"]
    assert client.command("UNSUBSCRIBE d").startswith(b"t OK")
    assert names(client.lines('LSUB "" *')) == ["INBOX", "a/b/c"]


def test_status(client: Client) -> None:
    message = b"Subject: x\r\n\r\nbody\r\n"
    client.append("INBOX", message, "\\Seen")
    client.append("INBOX", message)
    (line,) = client.lines("STATUS inbox (UNSEEN SIZE MESSAGES UIDNEXT RECENT UIDVALIDITY)")
    head = b'STATUS "INBOX" (UNSEEN 1 SIZE %d MESSAGES 2 UIDNEXT 3 RECENT 2 UIDVALIDITY ' % (2 * len(message))
    assert line.startswith(head)
    client.command("STATUS INBOX (RECENT)")
    assert b"* 2 RECENT" in client.command("SELECT INBOX"), "STATUS does not take the recent ones"


def test_namespace(client: Client) -> None:
    assert client.lines("NAMESPACE") == [b'NAMESPACE (("" "/")) NIL NIL']


@settings(max_examples=60)
@given(
    patterns=st.lists(st.text("abIN%*/", max_size=6), min_size=1, max_size=5),
    reference=st.sampled_from(["", "a", "a/"]),
)
def test_list_gives_what_the_pattern_matches(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str], reference: str
) -> None:
    client = _furnished(tmp_path_factory)
    every = names(client.lines('LIST "" *'))
    for pattern in patterns:
        if pattern:
            expected = [name for name in every if Pattern(reference + pattern).matches(name)]
            assert names(client.lines(f'LIST "{reference}" "{pattern}"')) == expected


_clients: list[Client] = []


def _furnished(factory: pytest.TempPathFactory) -> Client:
    if not _clients:
        client = Server(factory.mktemp("list")).login()
        for name in ("a", "a/b", "a/b/a", "b/a", "ab", "aab/b"):
            client.command(f"CREATE {name}")
        _clients.append(client)
    return _clients[0]


# Another separator


def with_separator(tmp_path: Path, separator: str) -> Client:
    return Server(tmp_path, policy=IMAP.model_validate({"separator": separator})).login()


@pytest.mark.parametrize("separator", [".", "|", "^", "\\"])
def test_clients_see_the_configured_separator(tmp_path: Path, separator: str) -> None:
    client = with_separator(tmp_path, separator)
    quoted = separator.replace("\\", "\\\\")
    shown = quoted.encode()
    assert client.command(f'CREATE "Work{quoted}2024"').startswith(b"t OK")
    assert client.lines('LIST "" ""') == [b'LIST (\\Noselect) "' + shown + b'" ""']
    assert client.lines('LIST "" "W*"') == [
        b'LIST (\\Noselect \\HasChildren) "' + shown + b'" "Work"',
        b'LIST (\\HasNoChildren) "' + shown + b'" "Work' + shown + b'2024"',
    ]
    assert client.lines(f'LIST "Work{quoted}" %') == [
        b'LIST (\\HasNoChildren) "' + shown + b'" "Work' + shown + b'2024"'
    ]
    assert client.lines('LIST "" %') == [
        b'LIST (\\HasNoChildren) "' + shown + b'" "INBOX"',
        b'LIST (\\Noselect \\HasChildren) "' + shown + b'" "Work"',
    ]
    assert client.lines("NAMESPACE") == [b'NAMESPACE (("" "' + shown + b'")) NIL NIL']
    status = client.command(f'STATUS "Work{quoted}2024" (MESSAGES)')
    assert b'STATUS "Work' + shown + b'2024" (MESSAGES 0)' in status
    assert client.command(f'SUBSCRIBE "Work{quoted}2024"').startswith(b"t OK")
    assert client.lines('LSUB "" *') == [b'LSUB () "' + shown + b'" "Work' + shown + b'2024"']
    assert client.command(f'RENAME Work "Home{quoted}Old"').startswith(b"t OK")
    assert b"OK [READ-WRITE]" in client.command(f'SELECT "Home{quoted}Old{quoted}2024"')
    assert (tmp_path / "example.test/alice/.Home.Old.2024").is_dir()


@pytest.mark.parametrize("separator", [".", "|"])
def test_a_slash_is_no_separator_then_and_leads_nowhere(tmp_path: Path, separator: str) -> None:
    client = with_separator(tmp_path, separator)
    answer = client.command('CREATE "a/b"')
    listed = client.lines('LIST "" a*')
    if separator == ".":
        assert answer.startswith(b"t NO")
        assert listed == []
    else:
        assert answer.startswith(b"t OK")
        assert listed == [b'LIST (\\HasNoChildren) "|" "a/b"']
    for name in ("../x", "..", ".", "a/../../x", "/etc", f"..{separator}x", f"{separator}x"):
        client.command(f'CREATE "{name}"')
    inside = {path.name for path in (tmp_path / "example.test").iterdir()}
    assert inside == {"alice"}
    assert {path.name for path in tmp_path.iterdir()} == {"example.test"}


@given(st.text("ab./|^\\", max_size=12), st.sampled_from("/.|^\\"))
def test_a_name_and_what_a_client_sees_of_it_map_to_each_other(name: str, separator: str) -> None:
    seen = exchanged(name, separator)
    assert exchanged(seen, separator) == name
    assert [part.replace(separator, "/") for part in seen.split(separator)] == [
        part.replace("/", separator).replace(separator, "/") for part in name.split("/")
    ]


# Special use


def test_create_with_a_special_use(client: Client) -> None:
    assert b"SPECIAL-USE CREATE-SPECIAL-USE" in client.command("CAPABILITY")
    assert client.command("CREATE Gesendet (USE (\\Sent))").startswith(b"t OK")
    assert client.command("CREATE Alles (USE (\\Junk \\trash))").startswith(b"t OK")
    assert client.lines('LIST "" *') == [
        b'LIST (\\HasNoChildren) "/" "INBOX"',
        b'LIST (\\HasNoChildren \\Junk \\Trash) "/" "Alles"',
        b'LIST (\\HasNoChildren \\Sent) "/" "Gesendet"',
    ]
    assert client.command("CREATE Other (USE (\\Sent))").startswith(b"t NO [USEATTR]")
    assert client.command("CREATE Other (USE (\\All))").startswith(b"t NO [USEATTR]")
    assert client.command("CREATE Other (USE (\\Nonsense))").startswith(b"t NO [USEATTR]")
    assert client.command("CREATE Other (USE ())").startswith(b"t OK")


@pytest.mark.parametrize(
    "arguments", ["(", "()", "(USE)", "(USE \\Sent)", "(USE (Sent))", "(USE (\\Sent)", "(SIZE (\\Sent))", "(USE (\\))"]
)
def test_create_parameters_that_are_none(client: Client, arguments: str) -> None:
    assert client.command(f"CREATE Other {arguments}").startswith(b"t BAD")
    assert names(client.lines('LIST "" *')) == ["INBOX"]


def test_list_of_mailboxes_with_a_special_use(client: Client) -> None:
    for name in ("Sent", "Work", "Mehr (USE (\\Junk))"):
        client.command(f"CREATE {name}")
    expected = [b'LIST (\\HasNoChildren \\Junk) "/" "Mehr"', b'LIST (\\HasNoChildren \\Sent) "/" "Sent"']
    assert client.lines('LIST (SPECIAL-USE) "" *') == expected
    assert client.lines('LIST (SPECIAL-USE) "" * RETURN (SPECIAL-USE)') == expected
    assert client.lines('LIST () "" S* RETURN (SPECIAL-USE CHILDREN)') == expected[1:]
    assert len(client.lines('LIST "" * RETURN ()')) == 4
    for wrong in ('LIST (NONSENSE) "" *', 'LIST "" * RETURN (NONSENSE)', 'LIST "" * RETURN', 'LIST "" * (SPECIAL-USE)'):
        assert client.command(wrong).startswith(b"t BAD"), wrong
