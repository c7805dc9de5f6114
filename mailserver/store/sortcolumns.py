"""One thing that messages are sorted or threaded by, of many messages: arrays of numbers, no object a message.

Promises   A column never changes, so that any thread may read it; `added` gives a longer one. Its messages are in no
           order, and each is in it once.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from mailserver.message import casemapped

ABSENT = -(2**63)
"""Stands for a date that is not known."""


def _longs() -> array[int]:
    return array("I")


def _quads() -> array[int]:
    return array("q")


Row: TypeAlias = Sequence[Any]
"""The UID, and values as the index has them."""


class Column(Protocol):
    """`octets`: what it takes in memory, about."""

    @property
    def uids(self) -> array[int]: ...

    @property
    def octets(self) -> int: ...

    def added(self, rows: Iterable[Row]) -> Column:
        """With more messages: UIDs, and the values of each."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Each different text is held once. `ranks` has the place of each in the order of all."""

    uids: array[int] = field(default_factory=_longs)
    numbers: array[int] = field(default_factory=_longs)
    """Of each message, that of its text."""
    texts: list[str] = field(default_factory=list)
    ranks: array[int] = field(default_factory=_longs)
    octets: int = 0

    def added(self, rows: Iterable[Row]) -> Texts:
        uids, numbers, texts = self.uids[:], self.numbers[:], self.texts[:]
        known = {text: number for number, text in enumerate(texts)}
        for uid, text in rows:
            uids.append(uid)
            numbers.append(known.setdefault(casemapped(text), len(known)))
        new = list(known)[len(texts) :]
        order = _inverse(self.ranks)
        order.extend(range(len(texts), len(known)))
        texts += new
        order = array("I", sorted(order, key=texts.__getitem__))  # fast where most of it is in order
        octets = self.octets + sum(map(sys.getsizeof, new)) + 12 * len(new) + 8 * (len(uids) - len(self.uids))
        return Texts(uids, numbers, texts, _inverse(order), octets)

    def values(self) -> dict[int, int]:
        """By UID, numbers that are in the order of the texts, and the same only for the same text."""
        return dict(zip(self.uids, map(self.ranks.__getitem__, self.numbers), strict=True))

    def empty(self) -> int | None:
        """The value of the empty text."""
        return self.ranks[self.texts.index("")] if "" in self.texts else None


def _inverse(numbers: array[int]) -> array[int]:
    found = array("I", bytes(4 * len(numbers)))
    for place, number in enumerate(numbers):
        found[number] = place
    return found


@dataclass(frozen=True, slots=True)
class Dates:
    """Sent dates in seconds since the epoch, or `ABSENT`."""

    uids: array[int] = field(default_factory=_longs)
    seconds: array[int] = field(default_factory=_quads)

    @property
    def octets(self) -> int:
        return 12 * len(self.uids)

    def added(self, rows: Iterable[Row]) -> Dates:
        uids, seconds = self.uids[:], self.seconds[:]
        for uid, sent in rows:
            uids.append(uid)
            seconds.append(sent if sent is not None else ABSENT)
        return Dates(uids, seconds)

    def values(self) -> dict[int, int]:
        return dict(zip(self.uids, self.seconds, strict=True))


@dataclass(frozen=True, slots=True)
class Links:
    """What messages are called and refer to, and whether their subjects are those of replies or forwards.

    An identifier is its hash, which is another one in each process; 0 stands for none. That two are the same by
    chance is as likely as that a disk returns wrong data.
    """

    uids: array[int] = field(default_factory=_longs)
    own: array[int] = field(default_factory=_quads)
    starts: array[int] = field(default_factory=_longs)
    """Where the references of each message begin; they end where those of the next one begin."""
    references: array[int] = field(default_factory=_quads)
    replies: bytearray = field(default_factory=bytearray)

    @property
    def octets(self) -> int:
        return 17 * len(self.uids) + 8 * len(self.references)

    def added(self, rows: Iterable[Row]) -> Links:
        uids, own, starts, references = self.uids[:], self.own[:], self.starts[:], self.references[:]
        replies = self.replies[:]
        for uid, name, refers, reply in rows:
            uids.append(uid)
            own.append(hash(name) if name else 0)
            starts.append(len(references))
            if refers:
                references.extend(map(hash, refers.split(" ")))
            replies.append(reply != 0)
        return Links(uids, own, starts, references, replies)

    def places(self) -> dict[int, int]:
        """By UID."""
        return dict(zip(self.uids, range(len(self.uids)), strict=True))

    def referred(self, places: Iterable[int]) -> Iterator[Sequence[int]]:
        """What the messages in these places refer to, of one after the other: lists of all would be many objects."""
        starts, references = self.starts, self.references
        ends = array("I", [*starts[1:], len(references)])
        for place in places:
            start, end = starts[place], ends[place]
            yield references[start:end] if start < end else ()
