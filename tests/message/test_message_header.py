"""Header fields: spans, folding, lines that are none."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import fields, first, header_end, unfold
from mailserver.message.header import FIELD_LIMIT, comment_end

HEADER = b"Subject: one\r\n two\r\nnot a field\r\nX-Empty:\r\nSUBJECT : again\r\n\r\n"


def test_fields_have_their_spans_and_raw_values() -> None:
    found = fields(HEADER)
    assert [(field.name, field.value) for field in found] == [
        (b"Subject", b" one\r\n two"),
        (b"X-Empty", b""),
        (b"SUBJECT", b" again"),
    ]
    assert HEADER[found[0].start : found[0].end] == b"Subject: one\r\n two\r\n"
    assert HEADER[found[2].start : found[2].end] == b"SUBJECT : again\r\n"


def test_first_ignores_case() -> None:
    assert first(fields(HEADER), b"sUbJeCt") == b" one\r\n two"
    assert first(fields(HEADER), b"To") is None


def test_an_mbox_separator_and_an_indented_first_line_are_no_fields() -> None:
    assert [f.name for f in fields(b"From alice Sat Jan  1 00:00:00 2022\r\n folded: x\r\nTo: b\r\n")] == [b"To"]


def test_bare_line_feeds_are_understood() -> None:
    assert [(f.name, unfold(f.value)) for f in fields(b"A: 1\n 2\nB: 3\n\n")] == [(b"A", b"1 2"), (b"B", b"3")]
    assert header_end(b"A: 1\nB: 2\n\nbody") == 11


def test_the_header_ends_at_the_first_blank_line() -> None:
    assert header_end(b"A: 1\r\n\r\nbody\r\n\r\n") == 8
    assert header_end(b"\r\nbody") == 2
    assert header_end(b"A: 1\r\n") == 6
    assert header_end(b"") == 0
    assert header_end(b"xx\r\n\r\nA: 1\r\n\r\nyy", 6, 14) == 14


def test_unfold_drops_line_ends_and_nul() -> None:
    assert unfold(b" a\r\n\tb\0c \r\n") == b"a\tbc"


def test_a_comment_ends_with_its_last_parenthesis() -> None:
    assert comment_end(rb"(a(b)\)c)d", 0) == 9
    assert comment_end(b"x(never", 1) == 7


def test_fields_beyond_the_limit_are_not_seen() -> None:
    assert len(fields(b"a:\r\n" * (FIELD_LIMIT + 5))) == FIELD_LIMIT


@given(st.binary(max_size=200).map(lambda b: b.replace(b"!", b"\r\n").replace(b"#", b": ")))
def test_any_octets_give_fields_in_order_that_do_not_overlap(header: bytes) -> None:
    position = 0
    for field in fields(header):
        assert position <= field.start < field.end <= len(header)
        assert header[field.start :].startswith(field.name)
        assert field.value in header[field.start : field.end]
        position = field.end


@given(st.lists(st.tuples(st.sampled_from([b"A", b"X-Long-Name", b"to"]), st.binary(max_size=20)), max_size=8))
def test_what_was_joined_is_found_again(pairs: list[tuple[bytes, bytes]]) -> None:
    pairs = [(name, value.translate(None, b"\r\n")) for name, value in pairs]
    header = b"".join(name + b":" + value + b"\r\n" for name, value in pairs) + b"\r\n"
    assert [(f.name, f.value) for f in fields(header)] == pairs
    assert header_end(header + b"A: no\r\n\r\n") == len(header)
