"""Where the packed search texts of one mailbox lie in one file, in columns.

Promises   29 octets a message. A table never changes but for what is known to be sound, so that any thread may read it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from operator import attrgetter

from mailserver.store.index import Packed

GAP = 16 * 1024  # octets that are rather read than passed over

UNCHECKED, HEADER_SOUND, SOUND = 0, 1, 2

_PLACE = attrgetter("start", "stop")
_LIMIT = 2**32

Stamp = tuple[int, int, int, int]
"""What names a file in one state; it changes with whatever is written."""


def _longs() -> array[int]:
    return array("I")


@dataclass(frozen=True, slots=True)
class Table:
    """Ascending by `starts`, in octets of the file; an empty text comes ahead of what begins where it does."""

    mark: int
    stamp: Stamp | None = None
    """The file in which the texts were found `sound`."""
    uids: array[int] = field(default_factory=_longs)
    starts: array[int] = field(default_factory=lambda: array("q"))
    headers: array[int] = field(default_factory=_longs)
    """Octets of each header."""
    lengths: array[int] = field(default_factory=_longs)
    """Octets of each text."""
    header_sums: array[int] = field(default_factory=_longs)
    whole_sums: array[int] = field(default_factory=_longs)
    sound: bytearray = field(default_factory=bytearray)
    """UNCHECKED, HEADER_SOUND, SOUND."""

    def __len__(self) -> int:
        return len(self.uids)

    def stop(self, place: int) -> int:
        return self.starts[place] + self.lengths[place]

    def seen(self, stamp: Stamp) -> Table:
        """The table for the file as it is now; after any change all texts are to be checked again."""
        if stamp == self.stamp:
            return self
        return self._with(stamp, self._columns(), bytearray(len(self)))

    def grown(self, before: Stamp, after: Stamp) -> Table:
        """Nothing but our appending made the file of `before` that of `after`."""
        return self._with(after, self._columns(), self.sound) if before == self.stamp else self

    def added(self, rows: Iterable[Packed]) -> Table:
        """With those that are not in it yet."""
        known = set(self.uids)
        new = sorted((row for row in rows if row.uid not in known and _fits(row)), key=_PLACE)
        if not new:
            return self
        columns = (
            self.uids + array("I", [row.uid for row in new]),
            self.starts + array("q", [row.start for row in new]),
            self.headers + array("I", [row.body - row.start for row in new]),
            self.lengths + array("I", [row.stop - row.start for row in new]),
            self.header_sums + array("I", [row.header_sum for row in new]),
            self.whole_sums + array("I", [row.whole_sum for row in new]),
        )
        table = self._with(self.stamp, columns, self.sound + bytes(len(new)))
        if self.starts and self.starts[-1] > new[0].start:
            return table._picked(sorted(range(len(table)), key=lambda at: (table.starts[at], table.lengths[at])))
        return table

    def without(self, uids: Set[int]) -> Table:
        return self._picked([place for place, uid in enumerate(self.uids) if uid not in uids])

    def runs(self, wanted: Set[int], limit: int) -> Iterator[range]:
        """The places of the messages that are wanted, as they are best read at once.

        In a run all are wanted, and it has at most `limit` octets unless it is one message. Of what lies between them,
        text of other mailboxes or of messages that are gone, there is less than of theirs, or little.
        """
        mask = bytes(map(wanted.__contains__, self.uids))
        place = mask.find(True)
        while place >= 0:
            end = mask.find(False, place)
            yield from self._split(place, end if end >= 0 else len(mask), limit)
            place = mask.find(True, end) if end >= 0 else -1

    def _split(self, place: int, end: int, limit: int) -> Iterator[range]:
        while place < end:
            first = self.starts[place]
            stop = min(end, bisect_right(self.starts, first + limit, place + 1))
            while stop > place + 1:
                octets = self.stop(stop - 1) - first
                between = octets - sum(self.lengths[place:stop])
                if octets <= limit and between <= max(GAP, octets // 2):
                    break
                stop = stop - 1 if octets > limit else (place + stop) // 2
            yield range(place, stop)
            place = stop

    def _columns(self) -> tuple[array[int], ...]:
        return self.uids, self.starts, self.headers, self.lengths, self.header_sums, self.whole_sums

    def _picked(self, places: list[int]) -> Table:
        columns = tuple(array(column.typecode, [column[at] for at in places]) for column in self._columns())
        return self._with(self.stamp, columns, bytearray(self.sound[at] for at in places))

    def _with(self, stamp: Stamp | None, columns: tuple[array[int], ...], sound: bytearray) -> Table:
        uids, starts, headers, lengths, header_sums, whole_sums = columns
        return Table(self.mark, stamp, uids, starts, headers, lengths, header_sums, whole_sums, sound)


def _fits(row: Packed) -> bool:
    """Rows that nobody wrote are left out."""
    sizes = (row.uid, row.body - row.start, row.stop - row.body, row.stop - row.start, row.header_sum, row.whole_sum)
    return 0 <= row.start < 2**63 and all(0 <= size < _LIMIT for size in sizes)
