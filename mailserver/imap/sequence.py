"""Sets of message numbers (`sequence-set`, RFC 3501 §9) as ranges that are never expanded.

Promises   Time and memory are those of the text, not of the numbers in it: `1:4294967295` costs as much as `1`.
On failure ValueError from `SequenceSet.parse`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LARGEST = 2**32 - 1
STAR = 10**10
"""Stands for `*`, the largest number in use: greater than every number that can be written."""

Range = tuple[int, int]
"""First and last number, both included."""

_SET = re.compile(r"(?:(?:[1-9][0-9]{0,9}+|\*)(?::(?:[1-9][0-9]{0,9}+|\*))?+(?:,(?!\Z)|\Z))++")
_STAR = str(STAR)
_NO_NUMBERS = str.maketrans("", "", "0123456789*")


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """The ranges as they were written, each with its smaller end first.

    `saved`: written as `$`, which stands for what a search has saved (RFC 5182); there are no ranges then.
    """

    ranges: tuple[Range, ...]
    saved: bool = False

    @classmethod
    def parse(cls, text: str) -> SequenceSet:
        """Raises ValueError."""
        if text == "$":
            return cls((), saved=True)
        if not _SET.fullmatch(text):
            raise ValueError("malformed sequence set")
        # in few steps over all of it: a set may have tens of thousands of elements
        ends = list(map(int, text.replace("*", _STAR).replace(":", ",").split(",")))
        if max(ends) > LARGEST and any(LARGEST < end != STAR for end in ends):
            raise ValueError("number out of range")
        if ":" not in text:
            return cls(tuple(zip(ends, ends, strict=True)))
        left = iter(ends)
        pairs = ((first, next(left) if colon else first) for colon, first in zip(_colons(text), left, strict=False))
        return cls(tuple(pair if pair[0] <= pair[1] else pair[::-1] for pair in pairs))

    @property
    def uses_star(self) -> bool:
        return any(last == STAR for _, last in self.ranges)

    @property
    def highest(self) -> int:
        """The greatest number that is written out; 0 when there is none."""
        return max((first if last == STAR else last for first, last in self.ranges if first != STAR), default=0)

    def resolve(self, largest: int) -> list[Range]:
        """Ascending ranges that neither touch nor overlap; `*` is `largest`. No range when `largest` is 0."""
        if largest < 1:
            return []
        if not self.uses_star:
            return merge(self.ranges)
        concrete = ([largest if end == STAR else end for end in ends] for ends in self.ranges)
        return merge((min(ends), max(ends)) for ends in concrete)


def _colons(text: str) -> list[str]:
    """For each element a colon, or nothing."""
    return text.translate(_NO_NUMBERS).split(",")


def merge(ranges: Iterable[Range]) -> list[Range]:
    """Sorts ranges and joins those that touch."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def contains(ranges: Sequence[Range], number: int) -> bool:
    """Is `number` in the resolved `ranges`?"""
    index = bisect_right(ranges, (number, STAR)) - 1
    return index >= 0 and number <= ranges[index][1]


def compress(numbers: Iterable[int]) -> str:
    """A set in the order given: runs of ascending neighbours become ranges (`uid-set`, RFC 4315 §4)."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in runs)
