"""One thing that messages are sorted or threaded by, of many messages: arrays of numbers, no object a message.

Layout     A column is packed for the disk as one value: `_magic`, which names the kind and all that its meaning depends
           on, the size of each piece, the pieces, and their CRC-32.
Promises   A column never changes, so that any thread may read it; `added` gives a longer one. Its messages ascend by
           UID, and each is in it once. What `unpacked` takes was packed by the same program on such a machine.
On failure `unpacked` raises ValueError for anything else.
"""

from __future__ import annotations

import struct
import sys
import unicodedata
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import itemgetter, lt
from typing import Any, Protocol, Self, TypeAlias

from mailserver.message import casemapped, parents
from mailserver.message.searchable import BORDER

ABSENT = -(2**63)
"""Stands for a date that is not known."""

FORMAT = 1
"""To be raised when anything changes that a column follows from: its layout, hashes, base subjects, collation."""

_HASH = 8  # octets
_SUM = 4  # octets

Row: TypeAlias = Sequence[Any]
"""The UID, and values as the index has them."""


def _longs() -> array[int]:
    return array("I")


def _quads() -> array[int]:
    return array("q")


class Column(Protocol):
    """`octets`: what it takes in memory, about."""

    @property
    def uids(self) -> array[int]: ...

    @property
    def octets(self) -> int: ...

    def added(self, rows: Iterable[Row]) -> Column:
        """With more messages: UIDs, and the values of each."""

    def kept(self, places: Sequence[int]) -> Column:
        """With the messages in these places alone, which ascend."""

    def packed(self) -> bytes: ...

    @classmethod
    def unpacked(cls, data: bytes) -> Self: ...


@dataclass(frozen=True, slots=True)
class Texts:
    """Each different text is held once, and a message has the place of its own in the order of all."""

    uids: array[int] = field(default_factory=_longs)
    ranks: array[int] = field(default_factory=_longs)
    texts: bytes = b""
    """In their order, `BORDER` after each: their UTF-8 is in the same order as they."""
    _order: list[array[int]] = field(default_factory=list, compare=False)  # once it is known

    @property
    def octets(self) -> int:
        return 12 * len(self.uids) + len(self.texts)

    def added(self, rows: Iterable[Row]) -> Texts:
        new = {uid: casemapped(text).encode("utf-8", "surrogatepass") for uid, text in rows}
        before = self.texts.split(BORDER)[:-1]
        texts = sorted(before + sorted(set(new.values()).difference(before)))  # fast, as both are in order
        places = dict(zip(texts, range(len(texts)), strict=True))
        moved = array("I", map(places.__getitem__, before))
        uids = self.uids + array("I", new)
        ranks = array("I", map(moved.__getitem__, self.ranks))
        ranks.extend(map(places.__getitem__, new.values()))
        packed = b"".join([text + BORDER for text in texts])
        if not ascending(uids):
            order = _order(uids)
            uids, ranks = _picked(uids, order), _picked(ranks, order)
        return Texts(uids, ranks, packed)

    def kept(self, places: Sequence[int]) -> Texts:
        """What no message has any more goes, too."""
        ranks = _picked(self.ranks, places)
        used = sorted(set(ranks))
        texts = self.texts.split(BORDER)
        moved = dict(zip(used, range(len(used)), strict=True))
        packed = b"".join([texts[rank] + BORDER for rank in used])
        return Texts(_picked(self.uids, places), array("I", map(moved.__getitem__, ranks)), packed)

    @property
    def with_empty(self) -> bool:
        """The first of the texts is the empty one."""
        return self.texts.startswith(BORDER)

    @property
    def order(self) -> array[int]:
        """The places of the messages in the order of the texts; where these are the same, ascending."""
        if not self._order:
            self._order.append(array("I", _order(self.ranks)))
        return self._order[0]

    def packed(self) -> bytes:
        return _packed(Texts, self.uids.tobytes(), self.ranks.tobytes(), self.order.tobytes(), self.texts)

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        uids, ranks, order, texts = _unpacked(cls, data, 4)
        return cls(array("I", uids), array("I", ranks), texts, [array("I", order)])


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
        if not ascending(uids):
            order = _order(uids)
            uids, seconds = _picked(uids, order), _picked(seconds, order)
        return Dates(uids, seconds)

    def kept(self, places: Sequence[int]) -> Dates:
        return Dates(_picked(self.uids, places), _picked(self.seconds, places))

    def packed(self) -> bytes:
        return _packed(Dates, self.uids.tobytes(), self.seconds.tobytes())

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        uids, seconds = _unpacked(cls, data, 2)
        return cls(array("I", uids), array("q", seconds))


@dataclass(frozen=True, slots=True)
class Links:
    """What messages are called and refer to, and whether their subjects are those of replies or forwards.

    An identifier is its hash; 0 stands for none. That two are the same by chance is as likely as that a disk returns
    wrong data.
    """

    uids: array[int] = field(default_factory=_longs)
    own: array[int] = field(default_factory=_quads)
    ends: array[int] = field(default_factory=_longs)
    """Where the references of each message end; they begin where those of the one before it do."""
    references: array[int] = field(default_factory=_quads)
    replies: bytearray = field(default_factory=bytearray)
    _parents: list[array[int]] = field(default_factory=list, compare=False)  # of all, once they are known

    @property
    def octets(self) -> int:
        return 21 * len(self.uids) + 12 * len(self.references)

    def added(self, rows: Iterable[Row]) -> Links:
        new = sorted(rows, key=itemgetter(0))
        if new and self.uids and new[0][0] < self.uids[-1]:
            return self._sorted_in(new)
        uids, ends, replies = self.uids[:], self.ends[:], self.replies[:]
        names: list[str] = []
        referred: list[str] = []
        end = len(self.references)
        for uid, name, refers, reply in new:
            uids.append(uid)
            names.append(name)
            if refers:
                each = refers.split(" ")
                referred += each
                end += len(each)
            ends.append(end)
            replies.append(reply != 0)
        return Links(uids, self.own + _hashes(names), ends, self.references + _hashes(referred), replies)

    def _sorted_in(self, rows: list[Row]) -> Links:
        """As `added`, where some stand between those that are here."""
        more = Links().added(rows)
        every = Links(
            self.uids + more.uids,
            self.own + more.own,
            self.ends + array("I", [len(self.references) + end for end in more.ends]),
            self.references + more.references,
            self.replies + more.replies,
        )
        return every.kept(_order(every.uids))

    def kept(self, places: Sequence[int]) -> Links:
        """As the messages in these places stand, in whatever order."""
        ends, references = _longs(), _quads()
        for names in self._referred(places):
            references.extend(names)
            ends.append(len(references))
        replies = bytearray(map(self.replies.__getitem__, places))
        return Links(_picked(self.uids, places), _picked(self.own, places), ends, references, replies)

    def parents(self, places: Sequence[int]) -> array[int]:
        """Those of `message.parents`, of the messages in these places; a range is all places."""
        if isinstance(places, range):
            if not self._parents:
                self._parents.append(array("i", parents(self.own, self._referred(places))))
            return self._parents[0]
        return array("i", parents(list(map(self.own.__getitem__, places)), self._referred(places)))

    def _referred(self, places: Iterable[int]) -> Iterator[Sequence[int]]:
        """What the messages in these places refer to, of one after the other: lists of all would be many objects."""
        ends, references = self.ends, self.references
        starts = array("I", [0]) + ends
        for place in places:
            start, end = starts[place], ends[place]
            yield references[start:end] if start < end else ()

    def packed(self) -> bytes:
        arrays = self.uids, self.own, self.ends, self.references, self.parents(range(len(self.uids)))
        return _packed(Links, *(each.tobytes() for each in arrays), bytes(self.replies))

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        uids, own, ends, references, found, replies = _unpacked(cls, data, 6)
        numbers = array("I", uids), array("q", own), array("I", ends), array("q", references)
        return cls(*numbers, bytearray(replies), [array("i", found)])


def ascending(numbers: Sequence[int]) -> bool:
    return all(map(lt, numbers, numbers[1:]))


def _order(numbers: Sequence[int]) -> list[int]:
    """Their places, sorted by them; what is the same stays as it is."""
    return sorted(range(len(numbers)), key=numbers.__getitem__)


def _picked(numbers: array[int], places: Iterable[int]) -> array[int]:
    return array(numbers.typecode, map(numbers.__getitem__, places))


def _hashes(names: Sequence[str]) -> array[int]:
    """The same in every process."""
    nothing = bytes(_HASH)
    found = _quads()
    found.frombytes(
        b"".join(
            blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_HASH).digest() if name else nothing
            for name in names
        )
    )
    return found


def _magic(kind: type[Column]) -> bytes:
    sizes = array("I").itemsize, array("q").itemsize
    return f"mailserver {kind.__name__} {FORMAT} {sys.byteorder} {sizes} {unicodedata.unidata_version}\n".encode()


def _packed(kind: type[Column], *pieces: bytes) -> bytes:
    sizes = struct.pack(f"<{len(pieces)}Q", *map(len, pieces))
    data = b"".join((_magic(kind), sizes, *pieces))
    return data + zlib.crc32(data).to_bytes(_SUM, "little")


def _unpacked(kind: type[Column], data: bytes, count: int) -> list[bytes]:
    """So many pieces."""
    magic, sizes = _magic(kind), struct.Struct(f"<{count}Q")
    position, end = len(magic) + sizes.size, len(data) - _SUM
    if position > end or not data.startswith(magic):
        raise ValueError("not a column of this kind")
    if zlib.crc32(memoryview(data)[:end]).to_bytes(_SUM, "little") != data[end:]:
        raise ValueError("a damaged column")
    pieces = []
    for size in sizes.unpack_from(data, len(magic)):
        pieces.append(data[position : position + size])
        position += size
    if position != end:
        raise ValueError("not the pieces of such a column")
    return pieces
