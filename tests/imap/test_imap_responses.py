"""What is written can be read back and never breaks out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap import responses
from mailserver.imap.syntax import Reader

NO_NUL = st.binary(max_size=60).filter(lambda value: 0 not in value)


@given(NO_NUL)
def test_strings_read_back(value: bytes) -> None:
    reader = Reader(responses.string(value))
    assert reader.string() == value
    reader.end()


@given(NO_NUL.filter(bool))
def test_astrings_read_back(value: bytes) -> None:
    reader = Reader(responses.astring(value))
    assert reader.astring() == value
    reader.end()


@given(st.floats(0, 4e9))
def test_dates_read_back(seconds: float) -> None:
    assert Reader(responses.date_time(seconds)).date_time() == (int(seconds), 0)


def test_dates_beyond_four_digit_years_are_clamped() -> None:
    assert responses.date_time(1e15) == b'"31-Dec-9999 23:59:59 +0000"'
    assert responses.date_time(-1e15) == b'" 1-Jan-0001 00:00:00 +0000"'


def test_nil() -> None:
    assert responses.nstring(None) == b"NIL"
    assert responses.nstring(b"") == b'""'


@pytest.mark.parametrize(
    ("flags", "recent", "wire"),
    [
        (frozenset(), False, b"()"),
        (frozenset(), True, b"(\\Recent)"),
        (
            frozenset({"zebra", "\\Seen", "\\Answered", "$Forwarded"}),
            True,
            b"(\\Answered \\Seen $Forwarded zebra \\Recent)",
        ),
    ],
)
def test_flags_have_one_order(flags: frozenset[str], recent: bool, wire: bytes) -> None:
    assert responses.flag_list(flags, recent) == wire


def test_a_status_line_cannot_be_broken() -> None:
    line = responses.status_line("a", "NO", "one\r\n* BYE é\x00", "ALERT\r\n")
    assert line == b"a NO [ALERT??] one??* BYE ??\r\n"
    assert responses.status_line("*", "OK", "", None) == b"* OK OK\r\n"
