"""CHUNKING and BINARYMIME (RFC 3030): its examples, every cut, and what must not work."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Reply
from mailserver.smtp.body import BARE_LF, CORRUPT, LONG_LINE, ChunkReader, Strictness
from mailserver.smtp.events import BodyEnd, ChunkEnd, Data, Noop, Rejected, Reset
from mailserver.smtp.server import Limits
from tests.support.smtp import Host, joined

ENVELOPE = b"EHLO a\r\nMAIL FROM:<Sam@Random.com>\r\nRCPT TO:<Susan@Random.com>\r\n"
BINARY = ENVELOPE.replace(b"com>\r\nR", b"com> BODY=BINARYMIME\r\nR")


def host(prefix: bytes = ENVELOPE, **limits: object) -> Host:
    made = Host(limits=Limits(**{"message_size": 100_000, **limits})).greeted()  # type: ignore[arg-type]
    made.feed(prefix)
    made.events.clear()
    return made


def test_the_simple_example_of_rfc_3030() -> None:
    server = host()
    assert server.codes(b"BDAT 86 LAST\r\n" + b"x" * 84 + b"\r\n") == [250]
    assert server.content == b"x" * 84 + b"\r\n"
    assert server.ends == [BodyEnd(86)]


def test_the_pipelined_binary_example_of_rfc_3030() -> None:
    server = host(b"EHLO a\r\n")
    first, second = bytes(range(256)) * 4, b"\r\n.\r\n\n\0" * 10
    chunks = b"BDAT %d\r\n%bBDAT %d\r\n%bBDAT 0 LAST\r\n" % (len(first), first, len(second), second)
    envelope = b"MAIL FROM:<ned@ymir.example> BODY=BINARYMIME\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n"
    assert server.codes(envelope + chunks + b"QUIT\r\n") == [250, 250, 250, 250, 250, 250, 221]
    assert server.content == first + second
    ends = [event for event in server.events if isinstance(event, ChunkEnd | BodyEnd)]
    assert ends == [ChunkEnd(1024), ChunkEnd(70), BodyEnd(1094)]


def test_text_in_chunks_has_its_line_ends_looked_at_and_its_dots_kept() -> None:
    server = host()
    server.feed(b"BDAT 7\r\na\n..b\r\nBDAT 6 LAST\r\n\n.\r\nc\n")
    assert server.content.startswith(b"a\r\n..b\r\n")
    assert b"\r\n.\r\nc\r\n" in server.content


@given(st.lists(st.sampled_from([b"\r\n", b"\n", b".", b"a", b"\r\n.\r\n"]), max_size=12).map(b"".join), st.data())
def test_any_cut_into_chunks_and_any_split_gives_the_same_content(content: bytes, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(content)), max_size=4))
    bounds = [0, *sorted(places), len(content)]
    wire = b"".join(b"BDAT %d\r\n" % (end - start) + content[start:end] for start, end in pairwise(bounds))
    wire += b"BDAT 0 LAST\r\nNOOP\r\n"
    whole, cut = host(), host()
    whole.feed(wire)
    splits = [0, *sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6))), len(wire)]
    cut.feed(*(wire[start:end] for start, end in pairwise(splits)))
    assert joined(cut.events) == joined(whole.events)
    assert whole.content == content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert isinstance(whole.events[-1], Noop)


@pytest.mark.parametrize(
    ("strictness", "content", "fault"),
    [
        (Strictness(), b"a\rb\r\n", CORRUPT),
        (Strictness(), b"a\0b\r\n", CORRUPT),
        (Strictness(), b"a\r", CORRUPT),
        (Strictness(), b"a\nb\r\n", None),
        (Strictness(bare_lf=True), b"a\nb\r\n", BARE_LF),
        (Strictness(bare_cr_and_nul=False), b"a\rb\0\r\n", None),
        (Strictness(long_lines=True), b"x" * 998 + b"\r\n" + b"y" * 998 + b"\r\n", None),
        (Strictness(long_lines=True), b"x" * 999 + b"\r\n", LONG_LINE),
        (Strictness(long_lines=True), b"a\r\n" + b"x" * 999, LONG_LINE),
        (Strictness(), b"x" * 5000, None),
    ],
)
@pytest.mark.parametrize("by_octet", [False, True])
def test_what_is_refused_is_configurable(
    strictness: Strictness, content: bytes, fault: Reply | None, by_octet: bool
) -> None:
    server = host(strictness=strictness)
    wire = b"BDAT %d LAST\r\n%b" % (len(content), content)
    pieces = [wire[n : n + 1] for n in range(len(wire))] if by_octet else [wire]
    assert server.codes(*pieces) == [fault.code if fault else 250]
    data = host(strictness=strictness)
    wire = b"DATA\r\n" + content + (b"" if content.endswith(b"\r\n") else b"\r\n") + b".\r\n"
    if content != b"a\r":
        pieces = [wire[n : n + 1] for n in range(len(wire))] if by_octet else [wire]
        assert data.codes(*pieces)[-1] == (fault.code if fault else 250)


def test_data_and_bdat_do_not_mix() -> None:
    server = host()
    assert server.codes(b"BDAT 3\r\na\r\nDATA\r\n") == [250, 503]
    assert server.codes(b"MAIL FROM:<>\r\nRCPT TO:<a@b.c>\r\nNOOP\r\nBDAT 0 LAST\r\n") == [503, 503, 250, 250]


def test_binary_content_comes_by_bdat_alone() -> None:
    server = host(BINARY)
    assert server.codes(b"DATA\r\n") == [503]
    assert server.codes(b"BDAT 3 LAST\r\n\r\n\0") == [250]
    assert server.content == b"\r\n\0"


def test_chunks_that_nobody_wants_are_dropped_and_are_no_commands() -> None:
    server = host(b"EHLO a\r\n")
    evil = b"MAIL FROM:<evil@a>\r\n"
    assert server.codes(b"BDAT %d\r\n%bBDAT %d LAST\r\n%bNOOP\r\n" % (len(evil), evil, len(evil), evil)) == [
        503,
        503,
        250,
    ]
    server = host(b"EHLO a\r\nMAIL FROM:<a@b>\r\n")
    assert server.codes(b"BDAT %d LAST\r\n%bNOOP\r\n" % (len(evil), evil)) == [554, 250]
    server = host()
    server.answer = lambda event: Reply(452, "No room") if isinstance(event, Data) else None
    assert server.codes(b"BDAT %d LAST\r\n%bNOOP\r\n" % (len(evil), evil)) == [452, 250]
    assert server.content == b""


@pytest.mark.parametrize("line", [b"BDAT 33\tLAST", b"bdat 8 LAST" + b" " * 3000, b"BDAT 8 \xff", b"BDAT 8 L\rAST"])
@pytest.mark.parametrize("pieces", [1, 7])
def test_a_chunk_whose_line_was_refused_is_not_read_as_commands(line: bytes, pieces: int) -> None:
    server = host()
    data = line + b"\r\nRSET\r\nMAIL FROM:<evil@a>\r\n"
    step = -(-len(data) // pieces)
    codes = [code for start in range(0, len(data), step) for code in server.codes(data[start : start + step])]
    assert codes == [500] and server.engine.closed


def test_what_is_too_large_is_refused_at_the_end_of_its_chunk_and_ends_the_transaction() -> None:
    server = host(message_size=10)
    assert server.codes(b"BDAT 8\r\nabcdefghBDAT 8\r\nabcdefgh") == [250, 552]
    assert server.codes(b"BDAT 2 LAST\r\nabNOOP\r\n") == [503, 250]
    assert server.content == b"abcdefgh"
    assert server.codes(b"MAIL FROM:<>\r\n") == [250]


def test_rset_between_chunks_forgets_the_message() -> None:
    server = host()
    assert server.codes(b"BDAT 1\r\naRSET\r\nBDAT 1 LAST\r\nbMAIL FROM:<>\r\n") == [250, 250, 503, 250]
    assert [type(event) for event in server.events if isinstance(event, Reset | Rejected)] == [Reset, Rejected]


@pytest.mark.parametrize("argument", [b"", b" x", b" -1", b" 1 2", b" 1LAST", b" 99999999999999999999"])
def test_chunks_of_unknown_or_endless_length_close(argument: bytes) -> None:
    server = host()
    assert len(server.codes(b"BDAT" + argument + b"\r\nNOOP\r\n")) == 1
    assert server.engine.closed


def test_an_endless_flood_of_empty_chunks_costs_nothing() -> None:
    server = host()
    assert server.codes(b"BDAT 0\r\n" * 1000 + b"BDAT 0 LAST\r\n") == [250] * 1001
    assert server.ends == [BodyEnd(0)]


def test_a_reader_holds_one_octet_at_most() -> None:
    reader = ChunkReader(100)
    reader.begin(3, last=True)
    assert (reader.feed(b"a\r"), reader.held) == (b"a", 1)
    assert (reader.feed(b"\n"), reader.held, reader.ended()) == (b"\r\n", 0, True)
