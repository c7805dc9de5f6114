"""The sent date (RFC 5322 §3.3 and §4.3, RFC 5256 §2.2)."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import sent_date, sent_day


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" Sun, 31 Dec 2000 16:01:33 -0800", at(2001, 1, 1, 0, 1, 33)),
        (b"31 Dec 2000 16:01:33 -0800", at(2001, 1, 1, 0, 1, 33)),
        (b"Sun, 31 Dec 2000 16:01 -0800", at(2001, 1, 1, 0, 1)),
        (b"Sun, 31 Dec 2000 16:01:33 -0800 (PST)", at(2001, 1, 1, 0, 1, 33)),
        (b"Sun (a day), 31 (the last) Dec 2000 16:01:33\r\n -0800", at(2001, 1, 1, 0, 1, 33)),
        (b"Sun, 31 Dec 2000 23:59:60 +0000", at(2000, 12, 31, 23, 59, 59)),
        (b"Sun, 31 DEC 00 16:01:33 PST", at(2001, 1, 1, 0, 1, 33)),
        (b"31 Dec 99 16:01:33 EST", at(1999, 12, 31, 21, 1, 33)),
        (b"31 Dec 103 16:01:33 GMT", at(2003, 12, 31, 16, 1, 33)),
        (b"31 Dec 2000 16:01:33 Z", at(2000, 12, 31, 16, 1, 33)),
        (b"31 Dec 2000 16:01:33 A", at(2000, 12, 31, 16, 1, 33)),
        (b"31 Dec 2000 16:01:33 UT", at(2000, 12, 31, 16, 1, 33)),
        (b"31 Dec 2000 16:01:33", at(2000, 12, 31, 16, 1, 33)),
        (b"31 Dec 2000 16:01:33 XYZ", at(2000, 12, 31, 16, 1, 33)),
        (b"31 Dec 2000 16:01:33 +9999", at(2000, 12, 31, 16, 1, 33)),
        (b"31 Dec 2000 16:01:33 GMT+0100", at(2000, 12, 31, 15, 1, 33)),
        (b"31 Dec 2000 16:01:33 +01:00", at(2000, 12, 31, 15, 1, 33)),
        (b'31 Dec 2000 16:01:33 "GMT"', at(2000, 12, 31, 16, 1, 33)),
        (b"31 Dec 2000", at(2000, 12, 31)),
        (b"31 Dec 2000 25:01:33 +0100", at(2000, 12, 30, 23)),
        (b"Sunday, 31 December 2000 16:01:33 +0000", at(2000, 12, 31, 16, 1, 33)),
        (b"31-Dec-2000 16:01:33 +0000", at(2000, 12, 31, 16, 1, 33)),
        (b"Sun 31 Dec 2000 16.01.33 +0000", at(2000, 12, 31, 16, 1, 33)),
        (b"Sun Dec 31 16:01:33 2000", at(2000, 12, 31, 16, 1, 33)),
        (b"Sun Dec  3 16:01:33 2000", at(2000, 12, 3, 16, 1, 33)),
        (b"Sun Dec 31 16:01:33 PST 2000", at(2001, 1, 1, 0, 1, 33)),
        (b"Sun Dec 31 16:01:33 2000 -0800", at(2001, 1, 1, 0, 1, 33)),
        (b"Dec 31, 2000 4:01:33 PM", at(2000, 12, 31, 16, 1, 33)),
        (b"Dec 31, 2000 12:01:33 am", at(2000, 12, 31, 0, 1, 33)),
        (b"2000-12-31T16:01:33Z", at(2000, 12, 31, 16, 1, 33)),
        (b"2000-12-31T16:01:33.25-08:00", at(2001, 1, 1, 0, 1, 33)),
        (b"2000-12-31 16:01:33 +0100", at(2000, 12, 31, 15, 1, 33)),
        (b"Sun, 31 Dec 1950 16:01:33 +0000", at(1950, 12, 31, 16, 1, 33)),
        (b"", None),
        (b"yesterday", None),
        (b"31 Foo 2000 16:01:33 +0000", None),
        (b"31 Feb 2000 16:01:33 +0000", None),
        (b"00 Jan 2000 16:01:33 +0000", None),
        (b"1 Jan 0000 16:01:33 +0000", None),
        (b"16:01:33", None),
        (b"31 Dec 99999 16:01:33 +0000", None),
    ],
)
def test_dates(value: bytes, expected: int | None) -> None:
    assert sent_date(value) == expected


@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(9999, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
)
def test_what_the_standard_library_writes_is_read(moment: datetime, east: int) -> None:
    moment = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=east)))
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert sent_date(b" " + format_datetime(moment).encode()) == expected
    assert sent_date(moment.isoformat().encode()) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" Sun, 31 Dec 2000 23:01:33 -0800", at(2000, 12, 31)),
        (b" Mon, 1 Jan 2001 00:01:33 +1400", at(2001, 1, 1)),
        (b"Sun (a day), 31 (the last) Dec 2000 16(comment):   01  :  06\r\n -0800", at(2000, 12, 31)),
        (b"Sun Dec 31 23:01:33 PST 2000", at(2000, 12, 31)),
        (b"2000-12-31T23:01:33-08:00", at(2000, 12, 31)),
        (b"31 Dec 2000", at(2000, 12, 31)),
        (b"yesterday", None),
    ],
)
def test_days_are_those_that_are_written(value: bytes, expected: int | None) -> None:
    assert sent_day(value) == expected


PIECES = st.sampled_from(
    [
        b"Sun",
        b"31",
        b"Dec",
        b"2000",
        b"99",
        b":",
        b" ",
        b",",
        b"-",
        b"+",
        b"0100",
        b"(",
        b")",
        b"\\",
        b"\0",
        b"PM",
        b"T",
    ]
)


@given(st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=20).map(b"".join)))
def test_no_octets_raise_and_years_are_bounded(value: bytes) -> None:
    found = sent_date(value)
    assert found is None or at(1, 1, 1) - 400_000 <= found <= at(9999, 12, 31) + 500_000


def test_a_long_value_costs_little() -> None:
    assert sent_date(b"(" * 1_000_000) is None
    assert sent_date(b"31 Dec 2000 16:01:33 +0000 " + b"x" * 1_000_000) == at(2000, 12, 31, 16, 1, 33)
