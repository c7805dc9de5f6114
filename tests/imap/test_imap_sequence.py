"""Sequence sets: against a naive model, and that they are never expanded."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.sequence import STAR, SequenceSet, compress, contains, merge

ENDS = st.one_of(st.integers(1, 30).map(str), st.just("*"))
RANGES = st.one_of(ENDS, st.tuples(ENDS, ENDS).map(":".join))
SETS = st.lists(RANGES, min_size=1, max_size=8).map(",".join)


def naive(text: str, largest: int) -> set[int]:
    """By the book: `*` is the largest number, a range goes both ways."""
    if largest == 0:
        return set()
    numbers: set[int] = set()
    for part in text.split(","):
        ends = [largest if end == "*" else int(end) for end in part.split(":")]
        numbers.update(range(min(ends), max(ends) + 1))
    return numbers


@given(SETS, st.integers(0, 35))
def test_resolving_agrees_with_the_naive_model(text: str, largest: int) -> None:
    ranges = SequenceSet.parse(text).resolve(largest)
    assert {n for first, last in ranges for n in range(first, last + 1)} == naive(text, largest)
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(ranges)), "ascending, neither touch nor overlap"
    assert all(contains(ranges, n) == (n in naive(text, largest)) for n in range(1, 40))


@given(SETS)
def test_highest_is_the_greatest_number_written(text: str) -> None:
    written = [int(end) for part in text.split(",") for end in part.split(":") if end != "*"]
    assert SequenceSet.parse(text).highest == max(written, default=0)
    assert SequenceSet.parse(text).uses_star == ("*" in text)


@given(st.lists(st.integers(1, 60), unique=True, max_size=40).map(sorted))
def test_compress_and_parse_are_inverse(numbers: list[int]) -> None:
    text = compress(numbers)
    back = SequenceSet.parse(text).resolve(STAR) if text else []
    assert [n for first, last in back for n in range(first, last + 1)] == numbers


def test_compress_keeps_the_order_given() -> None:
    assert compress([7, 8, 9, 3, 4, 12]) == "7:9,3:4,12"


@pytest.mark.parametrize(
    "text",
    ["", "0", "1,", ",1", "1:", ":1", "1:2:3", "4294967296", "1:4294967296", "01", "-1", "1;2", "**", "9" * 30, "0:*"],
)
def test_malformed_sets_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        SequenceSet.parse(text)


def test_the_greatest_number_is_taken() -> None:
    assert SequenceSet.parse("4294967295").resolve(10) == [(4294967295, 4294967295)]
    assert SequenceSet.parse("4294967295:*").resolve(10) == [(10, 4294967295)]


def test_giant_ranges_cost_nothing() -> None:
    assert SequenceSet.parse("1:4294967295,1:*,4294967295:1").resolve(5) == [(1, 4294967295)]


def test_a_hundred_thousand_elements_are_fast() -> None:
    text = ",".join(str(n) for n in range(1, 200_000, 2))
    for written in (text, text.replace(",", ":*,"), text.replace("9,", "9:7,")):
        took = []
        for _ in range(3):
            began = time.process_time()
            parsed = SequenceSet.parse(written)
            took.append(time.process_time() - began)
        assert min(took) < 1, "some tens of milliseconds where nobody else computes"
        assert len(parsed.ranges) == 100_000
    ranges = SequenceSet.parse(text).resolve(200_000)
    assert contains(ranges, 99_999)
    assert not contains(ranges, 100_000)
    assert len(ranges) == 100_000


def test_merge_joins_neighbours() -> None:
    assert merge([(5, 6), (1, 2), (3, 3), (6, 9)]) == [(1, 3), (5, 9)]
