"""UTF8=ACCEPT (RFC 6855, RFC 9755), for clients of IMAP4rev1."""

from pathlib import Path

import pytest

from mailserver.config.model import IMAP
from tests.support.imap import Client, Server, fetched

MESSAGE = "From: J\u00f6 <j\u00f6@example.net>\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nbody\r\n".encode()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def client(server: Server) -> Client:
    client = server.login()
    assert client.lines("ENABLE utf8=accept") == [b"ENABLED UTF8=ACCEPT"]
    return client


def bracketed(message: bytes, after: bytes = b")", plus: bytes = b"+") -> bytes:
    return b"UTF8 (~{%d%b}\r\n%b%b" % (len(message), plus, message, after)


def test_it_is_offered_after_login(server: Server) -> None:
    assert b"UTF8=ACCEPT" not in server.connect().greeting
    assert b" UTF8=ACCEPT " in server.login().lines("CAPABILITY")[0]
    assert server.login().lines("ENABLE UTF8=ONLY") == [b"ENABLED"], "it is always ACCEPT that is enabled (§6)"
    assert server.connect().command("ENABLE UTF8=ACCEPT").startswith(b"t BAD")


def test_mailbox_names_are_utf8(client: Client) -> None:
    """§3: in every answer that has one."""
    name = '"\u53f0\u5317"'.encode()
    client.command(b"CREATE " + name)
    client.command(b"SUBSCRIBE " + name)
    client.command(b'SETMETADATA %b (/private/comment "x")' % name)
    for command in (
        b'LIST "" *', b'LSUB "" *', b"STATUS %b (MESSAGES)" % name, b"GETQUOTAROOT %b" % name,
        b"GETMETADATA %b /private/comment" % name, b"LIST (SUBSCRIBED) \"\" *",
    ):  # fmt: skip
        assert name in client.command(command), command
    assert name not in client.command(b"SELECT " + name), "LIST at SELECT is of IMAP4rev2"


def test_the_rest_stays_as_in_rev1(server: Server, client: Client) -> None:
    server.deliver(MESSAGE)
    lines = client.lines("SELECT INBOX")
    assert b"1 RECENT" in lines and any(b"UNSEEN" in line for line in lines)
    assert client.lines('SEARCH SUBJECT "\u00dfe"') == [b"SEARCH 1"]
    assert client.lines('CREATE "a\u0308"') == []
    assert b"t OK" in client.command('SELECT "\u00e4"')


@pytest.mark.parametrize("octets", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"])
def test_strings_that_are_not_utf8_are_bad(client: Client, octets: bytes) -> None:
    """§3."""
    client.command("SELECT INBOX")
    for command in (b'CREATE "%b"', b'SEARCH SUBJECT "%b"', b'FETCH 1 BODY[HEADER.FIELDS ("%b")]', b'ID ("a" "%b")'):
        assert client.command(command % octets).startswith(b"t BAD"), command


def test_a_charset_is_refused(server: Server, client: Client) -> None:
    """RFC 6855 §3; RFC 9755 §3 for what must have one."""
    for command in (
        "SEARCH CHARSET UTF-8 ALL", "SEARCH CHARSET US-ASCII ALL", "UID SEARCH RETURN (SAVE) CHARSET UTF-8 ALL",
        "SORT (DATE) US-ASCII ALL", "UID SORT (DATE) US-ASCII ALL", "THREAD REFS US-ASCII ALL",
    ):  # fmt: skip
        client.command("SELECT INBOX")
        assert client.command(command).startswith(b"t BAD"), command
        other = server.login(select="INBOX")
        assert b"t OK" in other.command(command), command
        other.command("UNSELECT")
        other.command("ENABLE IMAP4rev2")
        other.command("SELECT INBOX")
        assert b"t OK" in other.command(command), "IMAP4rev2 alone allows it"
    assert client.lines("SORT (DATE) UTF-8 ALL") == [b"SORT"]
    assert client.lines("THREAD REFS UTF-8 ALL") == [b"THREAD"]


def test_a_refused_charset_leaves_what_was_saved(server: Server, client: Client) -> None:
    server.deliver(MESSAGE)
    client.command("SELECT INBOX")
    client.command("SEARCH RETURN (SAVE) ALL")
    client.command("SEARCH RETURN (SAVE) CHARSET UTF-8 UNDELETED")
    assert client.lines("SEARCH $") == [b"SEARCH 1"]


def test_append(client: Client) -> None:
    """RFC 6855 §4, and RFC 9755 §4, where the message is a plain literal."""
    for plus in (b"+", b""):
        answer = client.command(b"APPEND INBOX (\\Seen) " + bracketed(MESSAGE, plus=plus))
        assert b" OK [APPENDUID " in answer
    assert b"t OK" in client.append("INBOX", MESSAGE)
    assert b"t OK" in client.command(b"APPEND INBOX utf8 (~{%d+}\r\n%b)" % (len(MESSAGE), MESSAGE))
    client.command("SELECT INBOX")
    told = fetched(client.command("FETCH 1:* (FLAGS BODY.PEEK[])"))
    assert [items[b"BODY[]"] for items in told.values()] == [MESSAGE] * 4
    assert b"\\Seen" in (told[1][b"FLAGS"] or b"")


def test_several_messages_in_one_append(client: Client) -> None:
    several = bracketed(MESSAGE) + b" (\\Draft) " + bracketed(b"a: b\r\n") + b" {3+}\r\nc:d"
    assert b"t OK [APPENDUID " in client.command(b"APPEND INBOX " + several)
    client.command("SELECT INBOX")
    told = fetched(client.command("FETCH 1:* BODY.PEEK[]"))
    assert [items[b"BODY[]"] for items in told.values()] == [MESSAGE, b"a: b\r\n", b"c:d"]
    assert b"t OK" in client.command(b"REPLACE 1 INBOX " + bracketed(MESSAGE))


def test_messages_are_put_together_with_utf8(client: Client) -> None:
    """RFC 6855 §4: it may be a `cat-part`."""
    header = MESSAGE.removesuffix(b"body\r\n")
    client.append("INBOX", MESSAGE)
    for plus in (b"+", b""):
        parts = bracketed(header, plus=plus) + b' URL "/INBOX/;UID=1/;SECTION=TEXT" TEXT {3+}\r\nend'
        assert b" OK [APPENDUID " in client.command(b"APPEND INBOX CATENATE (" + parts + b")")
    client.command("SELECT INBOX")
    told = fetched(client.command("FETCH 2:* BODY.PEEK[]"))
    assert [items[b"BODY[]"] for items in told.values()] == [MESSAGE + b"end"] * 2
    assert b"t OK" in client.command(b"REPLACE 2 INBOX CATENATE (" + bracketed(MESSAGE) + b")")


@pytest.mark.parametrize(
    ("rest", "answer"),
    [
        (bracketed(MESSAGE, after=b""), b"t BAD ')' expected"),
        (bracketed(MESSAGE, after=b" )"), b"t BAD"),
        (bracketed(MESSAGE, after=b"))"), b"t BAD"),
        (bracketed(MESSAGE, after=b") x"), b"t BAD"),
        (bracketed(MESSAGE, after=b" {3+}\r\na:b"), b"t BAD"),
        (b"UTF8 ({3+}\r\na:b)", b"t BAD"),
        (b"UTF8 ~{3+}\r\na:b", b"t BAD"),
        (b"UTF8(~{3+}\r\na:b)", b"t BAD"),
        (b"UTF9 (~{3+}\r\na:b)", b"t BAD"),
        (b'UTF8 (~"a:b")', b"t BAD"),
        (b"UTF8 (~{0+}\r\n)", b"t NO"),
        (bracketed(b"a: \0\r\n"), b"t NO [UNKNOWN-CTE]"),
        (bracketed(b"x" * 60_000_000), b"t NO [TOOBIG]"),
    ],
)
def test_odd_appends_in_utf8(client: Client, rest: bytes, answer: bytes) -> None:
    assert client.command(b"APPEND INBOX " + rest).startswith(answer)
    assert client.lines("STATUS INBOX (MESSAGES)") == [b'STATUS "INBOX" (MESSAGES 0)']


def test_who_did_not_enable_it_sees_messages_as_they_are(server: Server) -> None:
    """Never in quotes (§3)."""
    server.deliver(MESSAGE)
    client = server.login(select="INBOX")
    answer = client.command("FETCH 1 (ENVELOPE RFC822.SIZE BODY.PEEK[])")
    assert b'"J\xc3\xb6"' not in answer and b"{3}\r\nJ\xc3\xb6" in answer
    told = fetched(answer)[1]
    assert told[b"BODY[]"] == MESSAGE
    assert told[b"RFC822.SIZE"] == b"%d" % len(MESSAGE)
    assert b"t OK" in client.append("INBOX", MESSAGE), "old mail that is moved here is often so"


@pytest.mark.parametrize(
    ("message", "taken"),
    [
        (MESSAGE, False),
        (b"Subject: \xff\r\n\r\n", False),
        (b"a: b\r\nc: \xc3\xbc", False),
        (b"a: b\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n", True),
        (b"\r\nGr\xc3\xbc\xc3\x9fe\r\n", True),
        (b"a: b\r\n" * 30_000 + b"c: \xc3\xbc\r\n\r\n", False),
        (b"a: b\r\n" * 30_000 + b"\r\n\xc3\xbc\r\n", True),
    ],
)
def test_where_it_must_be_enabled_first(tmp_path: Path, message: bytes, taken: bool) -> None:
    """§4, with `utf8_only_when_enabled`."""
    server = Server(tmp_path, policy=IMAP(utf8_only_when_enabled=True))
    client = server.login()
    several = b"APPEND INBOX {3+}\r\na:b {%d+}\r\n%b" % (len(message), message)
    assert client.command(several).startswith(b"t OK" if taken else b"t NO [CANNOT]")
    assert client.lines("STATUS INBOX (MESSAGES)") == [b'STATUS "INBOX" (MESSAGES %d)' % (2 if taken else 0)]
    for name in ("UTF8=ACCEPT", "IMAP4rev2"):
        other = server.login()
        other.command(f"ENABLE {name}")
        assert b"t OK" in other.command(several)
