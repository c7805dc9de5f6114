from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30 s", 30), ("5 min", 300), ("1.5 h", 5400), ("4h", 14400), ("1 day", 86400), (" 5 days ", 432000)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "octets"), [("7 B", 7), ("64 KiB", 65536), ("1.5 MiB", 1572864), ("1 GB", 10**9)])
def test_sizes(text: str, octets: int) -> None:
    assert parse_size(text) == octets


@pytest.mark.parametrize(
    "value", ["", "5", "min", "-5 min", "5 minutes", "1e9 s", "9" * 400 + " s", 5, 5.0, None, ["5 s"]]
)
def test_what_is_no_duration_is_refused_with_the_units(value: object) -> None:
    with pytest.raises(ValueError, match="one of the units s, sec, min"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("50 MIB", "50 MiB"),
        ("1.5 gb", "1.5 GB"),
        ("50M", "50 MB"),
        ("7 octets", None),
        ("5 minutes", "5 min"),
        ("5 m", "5 min"),
        ("2 Hrs", "2 hours"),
        ("3 D", "3 day"),
        ("1 month", None),
    ],
)
def test_a_misspelt_unit_is_told_the_right_one(text: str, meant: str | None) -> None:
    parse = parse_size if text.endswith(("B", "b", "M", "octets")) else parse_duration
    with pytest.raises(ValueError, match="one of the units") as caught:
        parse(text)
    assert ("did you mean" in str(caught.value)) == (meant is not None)
    assert meant is None or f'did you mean "{meant}"? Write "NUMBER UNIT"' in str(caught.value)


def test_a_size_that_no_number_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="MiB"):
        parse_size("9" * 400 + " GiB")


@given(st.integers(0, 10**9))
def test_formatted_durations_and_sizes_are_read_back(value: int) -> None:
    assert parse_duration(format_duration(value)) == value
    assert parse_size(format_size(value)) == value


def test_formatting_takes_the_largest_whole_unit() -> None:
    assert [format_duration(s) for s in (0.5, 30, 300, 14400, 86400, 432000)] == [
        "0.5 s",
        "30 s",
        "5 min",
        "4 h",
        "1 day",
        "5 days",
    ]
    assert [format_size(o) for o in (100, 1024, 50 * 2**20)] == ["100 B", "1 KiB", "50 MiB"]
