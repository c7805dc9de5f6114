"""Many messages as columns: arrays of numbers, ascending by UID, and one heap of base names.

Layout     The heap has the base names in the order of the columns, "/" after each; that of a message that is gone is
           written over with "/". What stands behind a file's base name, with the keywords that no letter tells, is
           the message's state: there are few of them, so a message has only the number of its own.
Promises   About 50 octets a message besides its base name. Nothing is kept for each message but that.
On failure `Columns.unpack` raises ValueError for what `pack` did not write on such a machine.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, compress
from operator import add
from typing import NamedTuple, TypeVar

T = TypeVar("T", int, float)

_MAGIC = b"mailserver columns 1 " + sys.byteorder.encode()
_HEAD = struct.Struct(f"<{len(_MAGIC)}sQQQ?")  # then the messages, octets of states and heap, whether numbers are wide
_LIMIT = 2**31
_NARROW = 2**16  # states that two octets can number
_END = ord("/")
_FEW = 16  # that are rather taken out one by one


class State(NamedTuple):
    """`info` is what follows the base in the file's name; `words` the keywords without a letter, sorted, with spaces
    between.
    """

    info: str
    words: str = ""


class Row(NamedTuple):
    """One message."""

    uid: int
    base: str
    state: State
    modseq: int
    date: float
    size: int
    born: int


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be remembered of a change; lists ascend by UID."""

    added: Sequence[Row] = ()
    flagged: Sequence[tuple[int, str, int]] = ()
    """UID, info and MODSEQ of messages that were there before."""
    words: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """By UID what the words of a message were and are, where they are others."""
    vanished: Sequence[int] = ()


class Columns:
    """Not thread-safe. A place is an index into the columns, and holds until something is added or removed."""

    def __init__(self) -> None:
        self.uids = array("I")
        self.numbers = array("H")
        """Of the states."""
        self.modseqs = array("Q")
        self.dates = array("d")
        self.sizes = array("Q")
        self.born = array("Q")
        self.states: list[State] = []
        self._number: dict[State, int] = {}
        self._starts = array("I")
        self._heap = bytearray()
        self._dead = 0

    def __len__(self) -> int:
        return len(self.uids)

    def place(self, uid: int) -> int | None:
        place = bisect_left(self.uids, uid)
        return place if place < len(self.uids) and self.uids[place] == uid else None

    def places(self, uids: Iterable[int]) -> Sequence[int]:
        """Of those that exist, ascending; a range where they lie in a row."""
        known, count = self.uids, len(self.uids)
        wanted = sorted(set(uids))
        start = bisect_left(known, wanted[0]) if wanted else 0
        if known[start : start + len(wanted)].tolist() == wanted:
            return range(start, start + len(wanted))
        found = ((bisect_left(known, uid), uid) for uid in wanted)
        return [place for place, uid in found if place < count and known[place] == uid]

    def above(self, uid: int) -> int:
        """The first place with a greater UID."""
        return bisect_right(self.uids, uid)

    def number(self, state: State) -> int:
        """The state's number, given to it if it has none."""
        number = self._number.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
            if number == _NARROW:
                self.numbers = array("I", self.numbers)
        return number

    def state(self, place: int) -> State:
        return self.states[self.numbers[place]]

    def base(self, place: int) -> str:
        start = self._starts[place]
        return self._heap[start : self._heap.index(_END, start)].decode("ascii")

    def bases(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Of all messages, or of those in these places."""
        if start >= len(self):
            return []
        end = self._starts[stop] if stop is not None and stop < len(self) else None
        return list(filter(None, self._heap[self._starts[start] : end].decode("ascii").split("/")))

    def names(self, start: int = 0, stop: int | None = None) -> list[str]:
        """As `bases`, of the files."""
        infos = [state.info for state in self.states]
        return list(map(add, self.bases(start, stop), map(infos.__getitem__, self.numbers[start:stop])))

    def name(self, place: int) -> str:
        return self.base(place) + self.state(place).info

    def append(self, row: Row, number: int) -> None:
        """Its UID is greater than all that are there; `number` is its state's. Raises UnicodeError: not ASCII."""
        base = row.base.encode("ascii")
        self.numbers.append(number)
        self.uids.append(row.uid)
        self.modseqs.append(row.modseq)
        self.dates.append(row.date)
        self.sizes.append(row.size)
        self.born.append(row.born)
        self._starts.append(len(self._heap))
        self._heap += base
        self._heap.append(_END)

    def put(self, row: Row) -> bool:
        """It replaces what was known of it, or is added. False: another message is there, or a greater UID."""
        place = self.place(row.uid)
        if place is None:
            if self.uids and self.uids[-1] > row.uid:
                return False
            self.append(row, self.number(row.state))
            return True
        if self.base(place) != row.base:
            return False
        self.numbers[place] = self.number(row.state)
        self.modseqs[place], self.born[place] = row.modseq, row.born  # of two processes that find it the last one tells
        self.dates[place], self.sizes[place] = row.date, row.size
        return True

    def remove(self, places: Sequence[int]) -> None:
        """`places` ascend."""
        for place in places:
            start = self._starts[place]
            end = self._heap.index(_END, start)
            self._heap[start:end] = b"/" * (end - start)
            self._dead += end - start
        if len(places) <= _FEW:
            for place in reversed(places):
                for column in self._columns():
                    del column[place]
        else:
            kept = bytearray(b"\1") * len(self)
            for place in places:
                kept[place] = 0
            self.uids, self.numbers = _kept(self.uids, kept), _kept(self.numbers, kept)
            self.modseqs, self.dates = _kept(self.modseqs, kept), _kept(self.dates, kept)
            self.sizes, self.born = _kept(self.sizes, kept), _kept(self.born, kept)
            self._starts = _kept(self._starts, kept)
        if self._dead * 3 > len(self._heap):
            self._compact()

    def restate(self, states: list[State]) -> None:
        """All states become others, by their numbers."""
        self.states = states
        self._number = {state: number for number, state in enumerate(states)}

    def renumber(self) -> list[int]:
        """Forgets the states that no message has; gives the old numbers in their new order."""
        kept = sorted(set(self.numbers))
        new = {old: number for number, old in enumerate(kept)}
        self.restate([self.states[old] for old in kept])
        self.numbers = array("H" if len(kept) <= _NARROW else "I", map(new.__getitem__, self.numbers))
        return kept

    def pack(self) -> bytes:
        """The columns as one value that this kind of machine can read again."""
        self._compact()
        states = json.dumps(self.states).encode()
        head = _HEAD.pack(_MAGIC, len(self), len(states), len(self._heap), self.numbers.typecode == "I")
        pieces = [head, states, *(column.tobytes() for column in self._columns()), bytes(self._heap)]
        checksum = 0
        for piece in pieces:
            checksum = zlib.crc32(piece, checksum)
        return b"".join((*pieces, checksum.to_bytes(4, "little")))

    @classmethod
    def unpack(cls, read: Callable[[int], bytes]) -> Columns:
        """From what gives so many octets of a packed value, one piece after another. Raises ValueError."""
        checksum = 0

        def take(octets: int) -> bytes:
            nonlocal checksum
            piece = read(octets)
            if len(piece) < octets:
                raise ValueError("packed columns are cut off")
            checksum = zlib.crc32(piece, checksum)
            return piece

        magic, count, states, heap, wide = _HEAD.unpack(take(_HEAD.size))
        if magic != _MAGIC or max(count, states, heap) > _LIMIT:
            raise ValueError("not packed columns")
        columns = cls()
        text = take(states)
        if wide:
            columns.numbers = array("I")
        for column in columns._columns():
            column.frombytes(take(count * column.itemsize))
        columns._heap += take(heap)
        if read(4) != checksum.to_bytes(4, "little"):
            raise ValueError("damaged columns")
        columns.restate([State(*state) for state in json.loads(text)])
        return columns

    def _columns(self) -> tuple[array[int] | array[float], ...]:
        return self.uids, self.numbers, self.modseqs, self.dates, self.sizes, self.born, self._starts

    def _compact(self) -> None:
        if self._dead:
            bases = self.bases()
            self._heap = bytearray("/".join([*bases, ""]).encode("ascii"))
            self._starts = array("I", accumulate((len(base) + 1 for base in bases), initial=0))
            self._starts.pop()
            self._dead = 0


def _kept(column: array[T], kept: bytearray) -> array[T]:
    return array(column.typecode, compress(column, kept))
