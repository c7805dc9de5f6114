"""The content on the wire: against a naive line-by-line model, cut anywhere, attacked, and timed."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.smtp.body import CORRUPT, TOO_LARGE, BodyReader, BodyWriter, ChunkReader, Strictness

WIRE = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"\0", b"a", b"\r\n.", b"\r\n.\r\n"]), max_size=20).map(
    b"".join
)


def read(*pieces: bytes, limit: int = 10**9) -> tuple[bytes, BodyReader]:
    reader = BodyReader(limit)
    content = []
    for piece in pieces:
        assert not reader.ended()
        content.append(reader.feed(piece))
    return b"".join(content), reader


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(marks)]


def model(wire: bytes) -> tuple[bytes, bool, bytes] | None:
    """RFC 5321 read literally: lines end at CRLF, one dot alone ends all, a first dot goes away."""
    lines: list[bytes] = []
    while b"\r\n" in wire:
        line, wire = wire.split(b"\r\n", 1)
        if line == b".":
            raw = b"".join(line + b"\r\n" for line in lines)
            corrupt = b"\0" in raw or re.search(rb"\r(?!\n)", raw) is not None
            return re.sub(rb"(?<!\r)\n", b"\r\n", raw), corrupt, wire
        lines.append(line.removeprefix(b"."))
    return None


@given(WIRE.map(lambda wire: wire + b"\r\n.\r\nMORE"))
@example(b".\r\n")
@example(b"..\r\n.\r\n")
@example(b".\n\r\n.\r\n")
@example(b"\n.\r\n\r\n.\r\n")
def test_the_reader_agrees_with_a_naive_model(wire: bytes) -> None:
    expected = model(wire)
    assert expected is not None
    content, reader = read(wire)
    assert reader.ended()
    assert reader.rest == expected[2]
    assert reader.size == len(expected[0])
    assert reader.fault == (CORRUPT if expected[1] else None)
    assert content == (b"" if expected[1] else expected[0])


@given(WIRE, st.lists(st.integers(0, 1000), max_size=8), st.sampled_from([5, 10**9]))
def test_any_split_reads_the_same(wire: bytes, places: list[int], limit: int) -> None:
    wire = b"x" + wire + b"\r\n.\r\n"
    wire = wire[: wire.index(b"\r\n.\r\n") + 5]
    whole, reader = read(wire, limit=limit)
    reader2 = BodyReader(limit)
    content = b"".join(reader2.feed(piece) for piece in cut(wire, places))
    assert (reader2.ended(), reader2.size, reader2.fault) == (reader.ended(), reader.size, reader.fault)
    if reader.fault is None:
        assert content == whole


@given(
    WIRE,
    st.lists(st.integers(0, 1000), max_size=8),
    st.builds(Strictness, bare_lf=st.booleans(), bare_cr_and_nul=st.booleans()),
    st.booleans(),
)
@example(b"", [], Strictness(), False)
@example(b"\n", [1], Strictness(), True)
@example(b"\n\r\n", [1, 2], Strictness(), False)
def test_line_ends_that_are_told_are_all_cr_and_lf(
    wire: bytes, places: list[int], strictness: Strictness, chunked: bool
) -> None:
    if chunked:
        reader: BodyReader | ChunkReader = ChunkReader(10**9, strictness)
        reader.begin(len(wire), last=True)
    else:
        reader = BodyReader(10**9, strictness)
        wire = wire.replace(b"\r\n.\r\n", b"").removeprefix(b".\r\n") + b"\r\n.\r\n"
        wire = wire[: wire.index(b"\r\n.\r\n") + 5]
    content = b"".join(reader.feed(piece) for piece in cut(wire, places) if not (reader.ended() and not chunked))
    if reader.line_ends is not None:
        assert reader.line_ends == content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
    elif strictness.bare_cr_and_nul:
        assert reader.fault is not None


def test_at_most_four_octets_are_held_back() -> None:
    reader = BodyReader(100)
    for octet in b"ab\r\n.\r":
        reader.feed(bytes([octet]))
        assert reader.held <= 4
    assert reader.held == 4


def test_the_limit_counts_content_and_not_stuffing() -> None:
    wire = b"..23456\r\n.\r\n"  # 8 octets of content
    assert read(wire, limit=8)[1].fault is None
    content, reader = read(wire, limit=7)
    assert (content, reader.fault, reader.size) == (b"", TOO_LARGE, 8)


def test_beyond_the_limit_no_more_is_given_out_but_the_end_is_found() -> None:
    reader = BodyReader(1000)
    given_out = sum(len(reader.feed(b"x" * 100)) for _ in range(50))
    assert given_out == 1000
    reader.feed(b"\r\n.\r\nQUIT\r\n")
    assert reader.ended()
    assert (reader.size, reader.fault, reader.rest) == (5002, TOO_LARGE, b"QUIT\r\n")


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param((b"x" * 70 + b"\r\n") * 145_000, id="text"),
        pytest.param(b"..\r\n" * 2_500_000, id="dots"),
        pytest.param(b"a\n" * 5_000_000, id="bare LF"),
        pytest.param(b"\r\n.\r\r\n" * 1_700_000, id="near ends"),
    ],
)
def test_ten_megabytes_take_a_moment(wire: bytes) -> None:
    wire += b"\r\n.\r\n"
    reader = BodyReader(10**9)
    start = time.process_time()
    for at in range(0, len(wire), 65536):
        reader.feed(wire[at : at + 65536])
    assert time.process_time() - start < 2
    assert reader.ended()


@given(WIRE, st.lists(st.integers(0, 1000), max_size=8))
def test_what_is_written_reads_back_with_clean_line_ends(content: bytes, places: list[int]) -> None:
    writer = BodyWriter()
    wire = b"".join(writer.feed(piece) for piece in cut(content, places)) + writer.end()
    assert re.search(rb"\r(?!\n)|(?<!\r)\n", wire) is None
    assert (b"\r\n" + wire).find(b"\r\n.\r\n") == len(wire) - 3
    clean = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    if clean and not clean.endswith(b"\r\n"):
        clean += b"\r\n"
    got, reader = read(wire)
    assert reader.rest == b""
    if b"\0" in content:
        assert reader.fault == CORRUPT
    else:
        assert got == clean


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r.\rb\r", b"a\r\n..\r\nb\r\n.\r\n"),
    ],
)
def test_what_the_writer_makes(content: bytes, wire: bytes) -> None:
    for pieces in ([content], [content[i : i + 1] for i in range(len(content))]):
        writer = BodyWriter()
        assert b"".join(map(writer.feed, pieces)) + writer.end() == wire
