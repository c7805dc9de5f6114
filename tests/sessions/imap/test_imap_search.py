"""SEARCH: each key, decoded text, combinations against plain sets."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.sessions.imap import indexing, search
from tests.support.fakes import FakeWorkers, run
from tests.support.imap import Client, Server

MESSAGES = [
    (  # 1
        b"From: Smith <smith@example.test>\r\nTo: alice@example.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= to you\r\n"
        b"Date: Tue, 1 Feb 1994 23:30:00 -0800\r\nMessage-ID: <one@x>\r\n\r\nplain body with needle\r\n",
        "\\Seen",
        '" 1-Feb-1994 10:00:00 +0000"',
    ),
    (  # 2
        b"From: Jones <jones@example.test>\r\nCc: carol@example.test\r\nBcc: dave@example.test\r\nSubject: two\r\n"
        b"Date: 5 Mar 2001 10:00:00 +0000\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nw5xiZXIgbmVlZGxlcw==\r\n",
        "\\Answered $Junk",
        '"05-Mar-2001 10:00:00 +0000"',
    ),
    (  # 3
        b"Subject: three\r\nX-Empty:\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nna=EFve soft=\r\nline\r\n" + b"x" * 3000 + b"\r\n",
        "\\Flagged \\Draft",
        '"01-Jan-2020 00:00:00 +0000"',
    ),
    (b"\r\nno header at all\r\n", "\\Deleted", '"01-Jan-2020 23:59:59 +0000"'),  # 4
]


def fill(server: Server) -> Client:
    client = server.login()
    for message, flags, date in MESSAGES:
        assert b"t OK" in client.append("INBOX", message, flags, date + " ")
    client.command("SELECT INBOX")
    return client


@pytest.fixture(scope="module", params=["packed", "unpacked"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    server = Server(tmp_path_factory.mktemp("search"))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "unpacked":
            patch.setattr(server.account._search, "append", lambda *_: None)
        yield fill(server)


def found(client: Client, keys: str | bytes) -> list[int]:
    keys = keys.encode() if isinstance(keys, str) else keys
    line = client.lines(b"SEARCH " + keys)[0]
    assert line.startswith(b"SEARCH")
    return [int(number) for number in line.split()[1:]]


@pytest.mark.parametrize(
    ("keys", "numbers"),
    [
        ("ALL", [1, 2, 3, 4]),
        ("SEEN", [1]),
        ("UNSEEN", [2, 3, 4]),
        ("ANSWERED", [2]),
        ("UNANSWERED", [1, 3, 4]),
        ("FLAGGED", [3]),
        ("UNFLAGGED", [1, 2, 4]),
        ("DRAFT", [3]),
        ("UNDRAFT", [1, 2, 4]),
        ("DELETED", [4]),
        ("UNDELETED", [1, 2, 3]),
        ("RECENT", [1, 2, 3, 4]),
        ("NEW", [2, 3, 4]),
        ("OLD", []),
        ("KEYWORD $junk", [2]),
        ("UNKEYWORD $Junk", [1, 3, 4]),
        ("2:3", [2, 3]),
        ("*", [4]),
        ("7:*", [4]),
        ("90:99", []),
        ("UID 1,3", [1, 3]),
        ("BEFORE 2-Feb-1994", [1]),
        ("BEFORE 1-Feb-1994", []),
        ("ON 1-Jan-2020", [3, 4]),
        ("SINCE 5-Mar-2001", [2, 3, 4]),
        ("SENTON 1-Feb-1994", [1]),
        ("SENTBEFORE 1-Jan-2000", [1]),
        ("SENTSINCE 1-Jan-2000", [2]),
        ("NOT SENTSINCE 1-Jan-1990", [3, 4]),
        ("LARGER 3000", [3]),
        ("SMALLER 30", [4]),
        ("FROM smith", [1]),
        ("FROM JONES@EXAMPLE", [2]),
        ("TO alice", [1]),
        ("CC carol", [2]),
        ("BCC dave", [2]),
        ("SUBJECT t", [1, 2, 3]),
        ("HEADER Message-ID <one", [1]),
        ('HEADER X-Empty ""', [3]),
        ('HEADER x-none ""', []),
        ("BODY needle", [1, 2]),
        ("BODY NEEDLES", [2]),
        ("BODY softline", [3]),
        ("BODY smith", []),
        ("TEXT smith", [1]),
        ('TEXT "no header"', [4]),
        ('TEXT ""', [1, 2, 3, 4]),
        ("OR SEEN DELETED", [1, 4]),
        ("NOT (OR SEEN DELETED)", [2, 3]),
        ("UNSEEN (BODY needle) SINCE 1-Jan-2000", [2]),
        ("CHARSET UTF-8 ALL", [1, 2, 3, 4]),
    ],
)
def test_keys(client: Client, keys: str, numbers: list[int]) -> None:
    assert found(client, keys) == numbers


@pytest.mark.parametrize(
    ("key", "text", "numbers"),
    [("SUBJECT", "grüsse", []), ("SUBJECT", "GRÜßE TO", [1]), ("BODY", "über", [2]), ("TEXT", "NAÏVE", [3])],
)
def test_text_is_compared_decoded_and_without_case(client: Client, key: str, text: str, numbers: list[int]) -> None:
    octets = text.encode()
    assert found(client, b"CHARSET UTF-8 %b {%d+}\r\n%b" % (key.encode(), len(octets), octets)) == numbers
    assert found(client, b'%b "%b"' % (key.encode(), octets)) == numbers


def test_uid_search_gives_uids(tmp_path: Path) -> None:
    client = fill(Server(tmp_path))
    client.command("EXPUNGE")
    client.command("STORE 1 +FLAGS.SILENT \\Deleted")
    client.command("EXPUNGE")
    assert client.lines("UID SEARCH ALL") == [b"SEARCH 2 3"]
    assert client.lines("SEARCH ALL") == [b"SEARCH 1 2"]
    assert client.lines("SEARCH UID 3") == [b"SEARCH 2"]


def test_unknown_charset(client: Client) -> None:
    assert client.command("SEARCH CHARSET X-UNKNOWN ALL").startswith(b"t NO [BADCHARSET (US-ASCII UTF-8)]")


def test_an_empty_mailbox(tmp_path: Path) -> None:
    client = Server(tmp_path).login(select="INBOX")
    for keys in ("ALL", "1:*", "UID 1:*", "*", "BODY x"):
        assert client.lines(f"SEARCH {keys}") == [b"SEARCH"]


def test_a_message_that_another_expunged_is_not_found(tmp_path: Path) -> None:
    server = Server(tmp_path)
    client = fill(server)
    other = server.login(select="INBOX")
    other.command("EXPUNGE")
    answer = client.command("SEARCH NOT BODY needle")
    assert answer.splitlines()[0] == b"* SEARCH 3"
    assert b"EXPUNGE\r\n" not in answer
    assert b"t OK [EXPUNGEISSUED]" in answer


SIMPLE = {
    "ALL": {1, 2, 3, 4},
    "SEEN": {1},
    "FLAGGED": {3},
    "DELETED": {4},
    "BODY needle": {1, 2},
    "SUBJECT t": {1, 2, 3},
    "2:3": {2, 3},
    "UID 4": {4},
    "SENTSINCE 1-Jan-1990": {1, 2},
}
KEYS = st.recursive(
    st.sampled_from(list(SIMPLE)).map(lambda key: (key, SIMPLE[key])),
    lambda inner: st.one_of(
        inner.map(lambda key: (f"NOT {key[0]}", {1, 2, 3, 4} - key[1])),
        st.tuples(inner, inner).map(lambda keys: (f"OR {keys[0][0]} {keys[1][0]}", keys[0][1] | keys[1][1])),
        st.tuples(inner, inner).map(lambda keys: (f"({keys[0][0]} {keys[1][0]})", keys[0][1] & keys[1][1])),
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(key=KEYS)
def test_combinations_are_set_operations(client: Client, key: tuple[str, set[int]]) -> None:
    assert found(client, key[0]) == sorted(key[1])


@pytest.mark.parametrize("command", ["SEARCH SUBJECT one", "SEARCH TEXT one", "FETCH 1 RFC822.HEADER"])
def test_a_disk_that_cannot_be_read_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    server = Server(tmp_path)
    server.deliver(MESSAGES[0][0])
    client = server.login(select="INBOX")

    def broken(_fd: int, _size: int, _offset: int) -> bytes:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", broken)
        assert client.command(command).startswith(b"t NO [UNAVAILABLE] ")
    assert client.command(command).splitlines()[-1].startswith(b"t OK")


@pytest.mark.parametrize(
    "date", [b"1 Jan 99999999999999999999 10:00:00", b"70 Feb 10:00 . 00000 10.00.00", b"0 0 0", b""]
)
def test_a_date_that_is_none_stops_no_search(tmp_path: Path, date: bytes) -> None:
    client = Server(tmp_path).login()
    client.append("INBOX", b"Date: " + date + b"\r\n\r\nx\r\n")
    client.command("SELECT INBOX")
    assert found(client, "SENTSINCE 1-Jan-1990") == []
    assert found(client, "NOT SENTSINCE 1-Jan-1990") == [1]


@pytest.mark.parametrize(
    "date",
    [
        b"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600",
        b"Fri, (a day) 21 Nov 1997 23:55:06 -0600",
        b"1997-11-21T00:10:00+0200",
    ],
)
def test_a_date_is_understood_as_sort_does(tmp_path: Path, date: bytes) -> None:
    client = Server(tmp_path).login()
    client.append("INBOX", b"Date: " + date + b"\r\n\r\nx\r\n")
    client.command("SELECT INBOX")
    assert found(client, "SENTON 21-Nov-1997") == [1]
    assert found(client, "OR SENTBEFORE 21-Nov-1997 SENTSINCE 22-Nov-1997") == []


OF_PARTS = b"""From: joe@example.test
Subject: report
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; name=notes.txt

text
--b
Content-Type: message/delivery-status

Final-Recipient: rfc822;nobody@example.test
--b
Content-Type: message/rfc822

From: inner@example.test
Subject: =?utf-8?q?Inner_gr=C3=BC=C3=9Fe?=

inside
--b
Content-Type: application/pdf
Content-Disposition: attachment; filename=invoice.pdf

JVBERi0x
--b--
""".replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("key", "numbers"),
    [
        ("TEXT notes.txt", [1]),
        ("TEXT INVOICE.PDF", [1]),
        ("TEXT inner@example.test", [1]),
        ("TEXT {13+}\r\ninner gr\u00fc\u00dfe", [1]),
        ("TEXT nobody@example.test", [1]),
        ("BODY nobody@example.test", [1]),
        ("BODY inside", [1]),
        # fields are no body, and those of parts not the message's
        ("BODY notes.txt", []),
        ("BODY invoice.pdf", []),
        ("BODY inner@example.test", []),
        ("FROM inner@example.test", []),
        ("SUBJECT inner", []),
        ("HEADER Content-Disposition invoice", []),
        ('HEADER Content-Disposition ""', []),
    ],
)
def test_fields_of_parts_are_text_of_the_message(tmp_path: Path, key: str, numbers: list[int]) -> None:
    """RFC 9051 §6.4.4: TEXT is about the header, "including MIME header fields", and the body."""
    client = Server(tmp_path).login()
    client.append("INBOX", OF_PARTS)
    client.command("SELECT INBOX")
    assert found(client, key) == numbers


def unpacked(server: Server) -> int:
    mailbox = server.account.open("INBOX")
    try:
        return mailbox.pack(0)
    finally:
        mailbox.close()


def test_a_selected_mailbox_is_packed_in_the_background(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.deliver(MESSAGES[0][0], count=2 * indexing.BATCH + 1)
    assert unpacked(server) == 2 * indexing.BATCH + 1
    client = server.login(select="INBOX")
    assert unpacked(server) == 0
    server.deliver(MESSAGES[1][0])
    client.command("NOOP")
    assert unpacked(server) == 0
    client.append("INBOX", MESSAGES[2][0])
    assert unpacked(server) == 0
    assert found(client, "BODY needles") == [2 * indexing.BATCH + 2]


def test_indexing_ends_when_the_session_left(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.deliver(MESSAGES[0][0], count=3 * indexing.BATCH)
    answers = iter([True, True, True, False, True, False])  # asked before the mailbox is opened, too
    workers = FakeWorkers()
    run(indexing.index(server.account, "INBOX", wanted=lambda: next(answers), workers=workers, clock=server.clock))
    inbox = server.account.open("INBOX")
    assert (inbox.prepare(0), inbox.pack(0)) == (indexing.BATCH, 2 * indexing.BATCH)


def test_indexing_of_a_deleted_mailbox_ends(tmp_path: Path) -> None:
    server = Server(tmp_path)
    run(indexing.index(server.account, "Gone", wanted=lambda: True, workers=FakeWorkers(), clock=server.clock))


def test_search_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FIRST_BATCH", 3)
    monkeypatch.setattr(search, "GROWTH", 1)
    client = fill(Server(tmp_path))
    assert found(client, "TEXT needle") == [1, 2]
    assert found(client, "NOT TEXT needle") == [3, 4]
    assert found(client, "ALL") == [1, 2, 3, 4]
