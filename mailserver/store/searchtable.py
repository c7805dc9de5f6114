"""Where the packed search texts of one mailbox lie in one file, in columns.

Promises   29 octets a message. A table never changes but for what is known to be sound, so that any thread may read it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from operator import add, le, lt, sub

from mailserver.store.index import Place

GAP = 16 * 1024  # octets that are rather read than passed over

UNCHECKED, HEADER_SOUND, SOUND = 0, 1, 2


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
    in_order: bool = True
    """`uids` ascend, too, as they do unless an old message was packed late."""

    def __len__(self) -> int:
        return len(self.uids)

    def stop(self, place: int) -> int:
        return self.starts[place] + self.lengths[place]

    def having(self, uids: Iterable[int]) -> set[int]:
        """Those of these messages that are in it."""
        wanted = set(uids)
        among = self._among(wanted)
        return wanted.intersection(self.uids[among.start : among.stop])

    def _among(self, wanted: Set[int]) -> range:
        """Where messages lie, if they do; the fewer places, the nearer their UIDs are."""
        if not self.in_order or not wanted:
            return range(len(self.uids) if wanted else 0)
        return range(bisect_left(self.uids, min(wanted)), bisect_right(self.uids, max(wanted)))

    def seen(self, stamp: Stamp) -> Table:
        """The table for the file as it is now; after any change all texts are to be checked again."""
        if stamp == self.stamp:
            return self
        return replace(self, stamp=stamp, sound=bytearray(len(self)))

    def grown(self, before: Stamp, after: Stamp) -> Table:
        """Nothing but our appending made the file of `before` that of `after`."""
        return replace(self, stamp=after) if before == self.stamp else self

    def added(self, rows: Iterable[Place]) -> Table:
        """With those that are not in it yet."""
        new = list(rows)
        known = self.having(row[0] for row in new)
        if known:
            new = [row for row in new if row[0] not in known]
        if not new:
            return self
        try:
            more = _columns(new)
        except OverflowError:  # rows that nobody wrote are left out
            return self.added(filter(_fits, new))
        table = self._with(tuple(map(add, self._columns(), more)), self.sound + bytes(len(new)))
        begin = max(0, len(self) - 1)  # what stood there before is in order
        uids, starts, lengths = (column[begin:] for column in (table.uids, table.starts, table.lengths))
        if not all(map(le, map(add, starts, lengths), starts[1:])):
            return table._picked(sorted(range(len(table)), key=lambda at: (table.starts[at], table.lengths[at])))
        return replace(table, in_order=self.in_order and _ascend(uids))

    def without(self, uids: Set[int]) -> Table:
        return self._picked([place for place, uid in enumerate(self.uids) if uid not in uids])

    def runs(self, wanted: Set[int], limit: int) -> Iterator[range]:
        """The places of the messages that are wanted, as they are best read at once.

        In a run all are wanted, and it has at most `limit` octets unless it is one message. Of what lies between them,
        text of other mailboxes or of messages that are gone, there is less than of theirs, or little.
        """
        among = self._among(wanted)
        mask = bytes(map(wanted.__contains__, self.uids[among.start : among.stop]))
        place = mask.find(True)
        while place >= 0:
            end = mask.find(False, place)
            yield from self._split(among.start + place, among.start + (end if end >= 0 else len(mask)), limit)
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
        table = self._with(columns, bytearray(self.sound[at] for at in places))
        return replace(table, in_order=_ascend(table.uids))

    def _with(self, columns: tuple[array[int], ...], sound: bytearray) -> Table:
        uids, starts, headers, lengths, header_sums, whole_sums = columns
        return Table(self.mark, self.stamp, uids, starts, headers, lengths, header_sums, whole_sums, sound)


def _columns(rows: Sequence[Place]) -> tuple[array[int], ...]:
    """As those of a table. Raises OverflowError where one does not fit."""
    uids, starts, bodies, stops, header_sums, whole_sums = ([row[at] for row in rows] for at in range(6))
    array("Q", starts)  # none is negative
    return (
        array("I", uids),
        array("q", starts),
        array("I", map(sub, bodies, starts)),
        array("I", map(sub, stops, starts)),
        array("I", header_sums),
        array("I", whole_sums),
    )


def _ascend(uids: array[int]) -> bool:
    return all(map(lt, uids, uids[1:]))


def _fits(row: Place) -> bool:
    try:
        _columns([row])
    except OverflowError:
        return False
    return True
