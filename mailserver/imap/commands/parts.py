"""PARTIAL: a part of what is found (RFC 9394), for SEARCH, SORT and UID FETCH."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mailserver.imap.sequence import LARGEST
from mailserver.imap.syntax import Fault, Reader

T = TypeVar("T")

_RANGE = re.compile(rb"(-?)([1-9]\d{0,9}):\1([1-9]\d{0,9})(?!\d)")


@dataclass(frozen=True, slots=True)
class Partial:
    """From one place to another, both included, counted from 1, or from the end with -1. As it was written."""

    first: int
    last: int

    def of(self, found: Sequence[T]) -> Sequence[T]:
        nearer, farther = sorted((abs(self.first), abs(self.last)))
        if self.first > 0:
            return found[nearer - 1 : farther]
        return found[max(len(found) - farther, 0) : max(len(found) - nearer + 1, 0)]

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"


def partial(reader: Reader) -> Partial:
    """` partial-range`, behind the word PARTIAL."""
    reader.space()
    sign, *ends = reader.match(_RANGE, "range").groups()
    first, last = (int(sign + end) for end in ends)
    if max(abs(first), abs(last)) > LARGEST:
        raise Fault("number out of range")
    return Partial(first, last)
