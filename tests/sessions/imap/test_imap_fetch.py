"""FETCH: every item, sections against plain slicing, large messages, messages that go away."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.commands import Section, Text
from mailserver.sessions.imap import fetch
from mailserver.sessions.imap.sections import Source, choose, clipped
from tests.support.imap import Client, Server, fetched

INNER = (
    b"Subject: inner\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n"
    b"--in\r\n\r\ndeep one\r\n--in\r\n\r\ndeep two\r\n--in--\r\n"
)
NESTED = (
    b"From: a@example.test\r\nSubject: outer\r\nX-Long: folded\r\n  over lines\r\n"
    b"Content-Type: multipart/mixed; boundary=out\r\n\r\npreamble\r\n"
    b"--out\r\nContent-Type: text/plain\r\nContent-ID: <1>\r\n\r\nfirst part\r\n"
    b"--out\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n--out--\r\nepilogue\r\n"
)
HEADER = NESTED[: NESTED.index(b"\r\n\r\n") + 4]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.deliver(NESTED)
    return server


@pytest.fixture
def client(server: Server) -> Client:
    return server.login(select="INBOX")


@pytest.mark.parametrize(
    ("section", "octets"),
    [
        ("", NESTED),
        ("HEADER", HEADER),
        ("TEXT", NESTED[len(HEADER) :]),
        ("HEADER.FIELDS (SUBJECT x-long)", b"Subject: outer\r\nX-Long: folded\r\n  over lines\r\n\r\n"),
        ("HEADER.FIELDS.NOT (SUBJECT X-LONG content-type)", b"From: a@example.test\r\n\r\n"),
        ("HEADER.FIELDS (nothing)", b"\r\n"),
        ("1", b"first part"),
        ("1.MIME", b"Content-Type: text/plain\r\nContent-ID: <1>\r\n\r\n"),
        ("2", INNER),
        ("2.MIME", b"Content-Type: message/rfc822\r\n\r\n"),
        ("2.HEADER", INNER[: INNER.index(b"\r\n\r\n") + 4]),
        ("2.HEADER.FIELDS (subject)", b"Subject: inner\r\n\r\n"),
        ("2.TEXT", INNER[INNER.index(b"\r\n\r\n") + 4 :]),
        ("2.1", b"deep one"),
        ("2.2", b"deep two"),
        ("2.2.MIME", b"\r\n"),
        ("3", None),
        ("1.1", None),
        ("1.HEADER", None),
        ("1.TEXT", None),
        ("2.3", None),
        ("4294967295", None),
    ],
)
def test_sections(client: Client, section: str, octets: bytes | None) -> None:
    answer = fetched(client.command(f"FETCH 1 BODY.PEEK[{section}]"))
    assert answer == {1: {f"BODY[{section}]".encode(): octets}}


@pytest.mark.parametrize(
    ("partial", "expected"),
    [("0.4", b"From"), ("5.3", b" a@"), ("99999.5", b""), ("0.4294967295", NESTED), (f"{len(NESTED) - 2}.9", b"\r\n")],
)
def test_partial(client: Client, partial: str, expected: bytes) -> None:
    first = partial.split(".")[0]
    answer = fetched(client.command(f"FETCH 1 BODY.PEEK[]<{partial}>"))
    assert answer == {1: {f"BODY[]<{first}>".encode(): expected}}


def test_the_old_names(client: Client) -> None:
    answer = fetched(client.command("FETCH 1 (RFC822.HEADER RFC822.TEXT RFC822 RFC822.SIZE)"))[1]
    assert answer[b"RFC822.HEADER"] == HEADER
    assert answer[b"RFC822.TEXT"] == NESTED[len(HEADER) :]
    assert answer[b"RFC822"] == NESTED
    assert answer[b"RFC822.SIZE"] == str(len(NESTED)).encode()


@pytest.mark.parametrize("item", ["BODY[]", "BODY[1]", "RFC822", "RFC822.TEXT", "BODY[HEADER]"])
def test_reading_marks_as_seen_and_says_so(client: Client, item: str) -> None:
    assert fetched(client.command(f"FETCH 1 {item}"))[1][b"FLAGS"] == [b"\\Seen", b"\\Recent"]
    assert b"FLAGS" not in fetched(client.command(f"FETCH 1 {item}"))[1], "only when it changes something"
    assert fetched(client.command("FETCH 1 FLAGS"))[1][b"FLAGS"] == [b"\\Seen", b"\\Recent"]


@pytest.mark.parametrize("item", ["BODY.PEEK[]", "RFC822.HEADER", "ENVELOPE", "BODYSTRUCTURE", "BODY", "RFC822.SIZE"])
def test_peeking_does_not(client: Client, item: str) -> None:
    client.command(f"FETCH 1 {item}")
    assert fetched(client.command("FETCH 1 FLAGS"))[1][b"FLAGS"] == [b"\\Recent"]


def test_examine_never_marks_as_seen(server: Server) -> None:
    client = server.login()
    client.command("EXAMINE INBOX")
    assert fetched(client.command("FETCH 1 BODY[]"))[1] == {b"BODY[]": NESTED}
    assert server.account.status("INBOX").unseen == 1


def test_the_flags_asked_for_are_those_after_reading(client: Client) -> None:
    answer = fetched(client.command("FETCH 1 (FLAGS BODY[1])"))[1]
    assert answer[b"FLAGS"] == [b"\\Seen", b"\\Recent"]


def test_macros(client: Client) -> None:
    fast = {b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"}
    assert fetched(client.command("FETCH 1 FAST"))[1].keys() == fast
    assert fetched(client.command("FETCH 1 ALL"))[1].keys() == fast | {b"ENVELOPE"}
    assert fetched(client.command("FETCH 1 FULL"))[1].keys() == fast | {b"ENVELOPE", b"BODY"}


def test_bodystructure_has_what_body_has_and_more(client: Client) -> None:
    answer = fetched(client.command("FETCH 1 (BODY BODYSTRUCTURE)"))[1]
    body, structure = answer[b"BODY"], answer[b"BODYSTRUCTURE"]
    assert isinstance(body, list)
    assert isinstance(structure, list)
    assert body[2:] == [b"mixed"]
    assert structure[2] == b"mixed"
    assert len(structure) > len(body)


def test_items_come_in_the_order_asked_for(client: Client) -> None:
    answer = client.command("FETCH 1 (RFC822.SIZE BODY.PEEK[1] UID)")
    assert answer.startswith(b"* 1 FETCH (RFC822.SIZE %d BODY[1] {10}\r\nfirst part UID 1)\r\n" % len(NESTED))


def test_numbers_that_are_not_there(client: Client) -> None:
    assert client.command("FETCH 2 FLAGS").startswith(b"t BAD")
    assert client.command("FETCH 1:2 FLAGS").startswith(b"t BAD")
    assert fetched(client.command("FETCH * UID")) == {1: {b"UID": b"1"}}
    assert client.command("UID FETCH 2:9 FLAGS") == b"t OK Fetched\r\n", "a UID that is not there is no error"
    assert fetched(client.command("UID FETCH 5:* FLAGS"))[1][b"UID"] == b"1", "* is there whatever stands before it"


def test_an_empty_mailbox(tmp_path: Path) -> None:
    client = Server(tmp_path).login(select="INBOX")
    assert client.command("FETCH 1 FLAGS").startswith(b"t BAD")
    assert client.command("FETCH * FLAGS").startswith(b"t BAD")
    assert client.command("UID FETCH 1:* FLAGS") == b"t OK Fetched\r\n"


def test_a_message_that_another_expunged_is_left_out(server: Server) -> None:
    server.deliver(b"Subject: two\r\n\r\n2\r\n", count=2)
    client, other = server.login(select="INBOX"), server.login(select="INBOX")
    other.command("STORE 2 +FLAGS.SILENT \\Deleted")
    other.command("EXPUNGE")
    answer = client.command("FETCH 1:3 BODY.PEEK[TEXT]")
    assert fetched(answer).keys() == {1, 3}
    assert b"EXPUNGE\r\n" not in answer, "RFC 3501 §7.4.1"
    assert answer.splitlines()[-1].startswith(b"t OK [EXPUNGEISSUED]")
    assert fetched(client.command("FETCH 1:3 ENVELOPE")).keys() == {1, 3}
    assert fetched(client.command("FETCH 1:3 FLAGS")).keys() >= {1, 3}
    assert b"* 2 EXPUNGE\r\n" in client.command("NOOP")


def test_uid_fetch_may_tell_of_expunges(server: Server) -> None:
    server.deliver(b"Subject: two\r\n\r\n2\r\n")
    client, other = server.login(select="INBOX"), server.login(select="INBOX")
    other.command("STORE 1 +FLAGS.SILENT \\Deleted")
    other.command("EXPUNGE")
    assert b"* 1 EXPUNGE\r\n" in client.command("UID FETCH 1:* FLAGS")


def test_nul_never_goes_out(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.deliver(b"Subject: a\0b\r\n\r\nc\0d\r\n")
    client = server.login(select="INBOX")
    answer = client.command("FETCH 1 (ENVELOPE BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[HEADER.FIELDS (subject)])")
    assert b"\0" not in answer
    assert fetched(answer)[1][b"BODY[]"] == b"Subject: a\x80b\r\n\r\nc\x80d\r\n"


@pytest.mark.parametrize("item", ["BODY[]", "BODY.PEEK[]", "RFC822", "BINARY.PEEK[]"])
@pytest.mark.parametrize("around", ["{}", "UID {}", "{} FLAGS", "RFC822.SIZE UID {} MODSEQ FLAGS"])
def test_whole_messages_stand_among_other_items(tmp_path: Path, item: str, around: str) -> None:
    server = Server(tmp_path)
    contents = [b"", NESTED, b"a line\r\nbare\rcr and\nlf\r\n", b"%d %b {3}\r\n", b"\r\n"]
    for content in contents:
        server.deliver(content)
    client = server.login(select="INBOX")
    found = fetched(client.command(f"FETCH 1:* ({around.format(item)})"))
    name = item.replace(".PEEK", "").encode()
    assert [found[number][name] or b"" for number in range(1, 6)] == contents
    asked = {word.encode() for word in around.split()} - {b"{}"}
    seen = set() if "PEEK" in item else {b"FLAGS"}  # they became so by this
    assert all(answer.keys() - {name} - seen == asked - seen for answer in found.values())


@pytest.mark.parametrize(("count", "octets"), [(7, 2**20), (200, 30)])
def test_many_messages_go_out_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, octets: int
) -> None:
    monkeypatch.setattr(fetch, "BATCH", count)
    monkeypatch.setattr(fetch, "BATCH_OCTETS", octets)
    server = Server(tmp_path)
    server.deliver(b"Subject: x\r\n\r\nbody\r\n", count=50)
    client = server.login(select="INBOX")
    answer = fetched(client.command("UID FETCH 1:* (FLAGS ENVELOPE BODY.PEEK[HEADER] BODY.PEEK[TEXT])"))
    assert [item[b"UID"] for item in answer.values()] == [str(n).encode() for n in range(1, 51)]
    assert all(item[b"BODY[TEXT]"] == b"body\r\n" for item in answer.values())


BIG_BODY = b"".join(b"line %06d of a large message, with\0NUL\r\n" % n for n in range(40_000))
BIG = (
    b"Subject: big\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsmall\r\n--b\r\n\r\n"
    + BIG_BODY
    + b"\r\n--b--\r\n"
)


def test_a_large_message_is_streamed(tmp_path: Path) -> None:
    assert len(BIG) > fetch.BATCH_OCTETS
    server = Server(tmp_path)
    server.deliver(BIG)
    client = server.login(select="INBOX")
    most = 0
    flush = client.channel.flush

    def watched() -> None:
        nonlocal most
        most = max(most, client.session.engine.unsent)
        flush()

    client.channel.flush = watched  # type: ignore[method-assign]
    answer = fetched(client.command("FETCH 1 (FLAGS BODY[] BODY[2] BODY[]<100.50> BODY[TEXT] BODY[9] RFC822.HEADER)"))[
        1
    ]
    sent = BIG.replace(b"\0", b"\x80")
    assert answer[b"BODY[]"] == sent
    assert answer[b"BODY[2]"] == BIG_BODY.replace(b"\0", b"\x80")
    assert answer[b"BODY[]<100>"] == sent[100:150]
    assert answer[b"BODY[TEXT]"] == sent[sent.index(b"\r\n\r\n") + 4 :]
    assert answer[b"BODY[9]"] is None
    assert answer[b"RFC822.HEADER"] == sent[: sent.index(b"\r\n\r\n") + 4]
    assert answer[b"FLAGS"] == [b"\\Seen", b"\\Recent"]
    assert most <= 300 * 1024, "never the whole message at once"


def test_many_large_slices_of_one_message_are_streamed(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.deliver(b"Subject: x\r\n\r\n" + b"0123456\r\n" * 100_000)
    client = server.login(select="INBOX")
    items = " ".join(f"BODY.PEEK[]<{n}.1000000>" for n in range(5))
    loaded = []
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        load = fetch._Fetching._cut_up
        patched.setattr(fetch._Fetching, "_cut_up", lambda *args: loaded.append(load(*args)) or loaded[-1])
        answer = fetched(client.command(f"FETCH 1 ({items})"))[1]
    assert [len(octets) for octets in answer.values() if isinstance(octets, bytes)] == [900014 - n for n in range(5)]
    assert loaded[0] < 2 * fetch.BATCH_OCTETS


def test_a_large_header_cannot_be_multiplied(tmp_path: Path) -> None:
    """Choices of fields are made in memory: together they may not be much larger than the message."""
    server = Server(tmp_path)
    server.deliver(b"Subject: " + b"x" * 600_000 + b"\r\nTo: a\r\n\r\nbody\r\n")
    client = server.login(select="INBOX")
    fields = [f"BODY.PEEK[HEADER.FIELDS (subject)]<{n}.600000>" for n in range(250)]
    assert client.command(f"FETCH 1 ({' '.join(fields)})").startswith(b"t NO [LIMIT] ")
    assert client.command(f"FETCH 1 ({' '.join(fields[:2])})").endswith(b"t OK Fetched\r\n")


def test_a_message_that_goes_away_while_it_is_streamed_breaks_the_connection(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.deliver(BIG)
    client = server.login(select="INBOX")
    mailbox = client.session.selected.mailbox
    lengths = iter([len(BIG), 1000])  # it is measured first
    mailbox.chunks = lambda _uid: iter([BIG[: next(lengths)]])  # type: ignore[method-assign]
    with pytest.raises(fetch.BrokenOff):
        client.command("FETCH 1 BODY.PEEK[]")


def test_a_large_message_is_not_held_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path)
    server.deliver(BIG)
    client = server.login(select="INBOX")
    monkeypatch.setattr(client.session.selected.mailbox, "read", None)
    answer = fetched(client.command("FETCH 1 (BODY.PEEK[] BODY.PEEK[]<5.10> RFC822.SIZE BODY.PEEK[]<99999999.9>)"))[1]
    told = BIG.replace(b"\0", b"\x80")
    assert answer[b"BODY[]"] == told
    assert answer[b"BODY[]<5>"] == told[5:15]
    assert answer[b"BODY[]<99999999>"] == b""


def test_only_the_header_of_a_large_message_is_read(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.deliver(BIG)
    client = server.login(select="INBOX")
    read = 0
    mailbox = client.session.selected.mailbox
    chunks = mailbox.chunks

    def counted(uid: int):  # type: ignore[no-untyped-def]
        nonlocal read
        for chunk in chunks(uid):
            read += len(chunk)
            yield chunk

    mailbox.chunks = counted  # type: ignore[method-assign]
    client.command("FETCH 1 (BODY.PEEK[HEADER] BODY.PEEK[HEADER.FIELDS (subject)])")
    assert 0 < read < len(BIG) / 2


# sections, without a server

MESSAGES = st.lists(
    st.sampled_from(
        [b"Subject: a\r\n", b"X: b\r\n c\r\n", b"\r\n", b"--x\r\n", b"--x--\r\n", b"text\r\n", b"no end", b"\n", b"\r",
         b"Content-Type: multipart/mixed; boundary=x\r\n", b"Content-Type: message/rfc822\r\n"]
    ),
    max_size=12,
).map(b"".join)  # fmt: skip
PARTS = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@given(MESSAGES)
def test_header_and_text_make_the_whole(content: bytes) -> None:
    source = Source(content)
    header = source.octets(Section(b"", text=Text.HEADER))
    text = source.octets(Section(b"", text=Text.TEXT))
    assert header is not None
    assert text is not None
    assert header + text == content == source.octets(Section(b""))


@given(MESSAGES, PARTS, st.sampled_from(list(Text)), st.integers(0, 50), st.integers(1, 50))
def test_a_partial_section_is_a_slice_of_the_section(
    content: bytes, part: tuple[int, ...], text: Text, first: int, count: int
) -> None:
    fields = (b"subject",) if text in (Text.FIELDS, Text.FIELDS_NOT) else ()
    whole = Source(content).octets(Section(b"", part, text, fields))
    some = Source(content).octets(Section(b"", part, text, fields, partial=(first, count)))
    assert some == (None if whole is None else whole[first : first + count])
    if whole is not None and not fields:
        assert whole in content


@given(st.lists(st.sampled_from([b"Subject: a\r\n", b"X: b\r\n c\r\n", b"Y:\r\n"]), max_size=9).map(b"".join))
def test_fields_and_the_others_share_the_header_between_them(header: bytes) -> None:
    chosen = choose(header, Section(b"", text=Text.FIELDS, fields=(b"SUBJECT",)))
    others = choose(header, Section(b"", text=Text.FIELDS_NOT, fields=(b"Subject",)))
    assert chosen.count(b"Subject: a") + others.count(b"Subject: a") == header.count(b"Subject: a")
    assert len(chosen) + len(others) == len(header) + 4, "nothing is lost; each has its blank line"
    assert b"X: b" not in chosen
    assert chosen.endswith(b"\r\n")
    assert others.endswith(b"\r\n")


def test_clipping_stays_inside() -> None:
    assert clipped((10, 20), None) == (10, 20)
    assert clipped((10, 20), (3, 4)) == (13, 17)
    assert clipped((10, 20), (30, 4)) == (20, 20)
    assert clipped((10, 20), (0, 2**32 - 1)) == (10, 20)
