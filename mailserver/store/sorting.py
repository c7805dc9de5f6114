"""What the messages of a mailbox are sorted and threaded by (RFC 5256, RFC 5957).

Layout     Columns, one for each thing to sort by, read from the index once and held in memory, bounded in octets for
           the whole process. What the index does not have is made of the messages, and kept there. A column that was
           used is left to the index as one value, so that the next start need not put it together of rows.
Promises   Any thread may call anything. Messages that are gone are left out. What lies in the index as one value counts
           only where it is sound, and only for the messages that it names: it may be old, and another process may have
           left it.
On failure Unavailable when a message must be read and the disk refuses.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

from mailserver.store.contents import Contents
from mailserver.store.index import Index
from mailserver.store.model import SortKeys
from mailserver.store.shelf import Shelf
from mailserver.store.sortcolumns import ABSENT, Column, Dates, Links, Row, Texts, ascending

log = logging.getLogger(__name__)

MEMORY_LIMIT = 64 * 2**20  # octets

_MINIMUM = 1000  # messages of a column that is worth a value of its own in the index
_SHARE = 16  # of these messages, one more or less: worth a new value
_MANY = 8  # that of so many messages one is asked for is worth going through all in their order

TextName: TypeAlias = Literal["subject", "sender", "to", "cc", "display_from", "display_to"]
SortName: TypeAlias = TextName | Literal["arrival", "size", "sent"]
ColumnName: TypeAlias = TextName | Literal["sent", "links"]
_NAMES: tuple[ColumnName, ...] = (*get_args(TextName), "sent", "links")

_FIELDS: dict[ColumnName, tuple[str, ...]] = {"links": ("message_id", "references", "reply")}
_SENT: ColumnName = "sent"


shelf: Shelf[Column] = Shelf(MEMORY_LIMIT)
"""That of the process."""


class Threadable(NamedTuple):
    """What messages are threaded by; what was not asked for is empty."""

    uids: list[int]
    parents: Sequence[int] = ()
    """Those of `message.parents`; of dummies as well."""
    sent: Sequence[int] = ()
    subjects: Sequence[int] = ()
    """Numbers in the order of the base subjects; 0: it is empty."""
    replies: Sequence[int] = ()
    """1 or 0: whether something was taken off the subject that tells of a reply or forward."""


class Sorting:
    """One for each `Mailbox`."""

    def __init__(
        self,
        key: int,
        contents: Contents,
        index: Index,
        make: Callable[[Sequence[int]], dict[int, SortKeys]],
        *,
        shelf: Shelf[Column] = shelf,
    ) -> None:
        """`make` gives what the index does not have, of the messages that exist, and keeps it there."""
        self._key = key
        self._contents = contents
        self._index = index
        self._make = make
        self._shelf = shelf
        self._owner = shelf.owner()
        self._learning = threading.Lock()
        self._stored: dict[ColumnName, int] = {}
        """How many messages the column has that lies in the index."""
        self._differing: dict[ColumnName, int] = {}
        """How many messages came into the column or went since then."""

    def learn(self, name: SortName | ColumnName, uids: Sequence[int], limit: int) -> int:
        """Gets ready what is known by this name of up to `limit` messages that are not; how many remain."""
        if name == "size" or name == "arrival":
            return 0
        return self._learned(name, uids, limit)[1]

    def order(self, name: SortName, uids: Sequence[int], *, reverse: bool = False) -> list[int]:
        """The places of those messages that exist, sorted; what is the same stays as it is, also in `reverse`."""
        here = self._contents.having(uids)
        order = self._order(name, here, reverse)
        if len(here) == len(uids):
            return order
        places = dict(zip(uids, range(len(uids)), strict=True))
        return [places[here[place]] for place in order]

    def _order(self, name: SortName, uids: Sequence[int], reverse: bool) -> list[int]:
        known: Sequence[int]
        values: Sequence[int]
        match name:
            case "size":
                measured = self._contents.measured()
                known, values = measured.uids, measured.sizes
            case "arrival":
                known, values = self._arrivals()
            case "sent":
                dates = self._dates(uids)
                known = _in(dates, uids)
                values = self._sent(dates, known)
            case "subject" | "sender" | "to" | "cc" | "display_from" | "display_to":
                texts = self._texts(name, uids)
                known, values = texts.uids, texts.ranks
                if not reverse and _MANY * len(uids) > len(known) and ascending(uids):
                    if array("I", uids) == known:
                        return list(texts.order)
                    places = dict(zip(uids, range(len(uids)), strict=True))
                    return [places[uid] for uid in map(known.__getitem__, texts.order) if uid in places]
        if array("I", uids) == known:
            return sorted(range(len(uids)), key=values.__getitem__, reverse=reverse)
        value = dict(zip(known, values, strict=True))
        return sorted(
            (place for place, uid in enumerate(uids) if uid in value),
            key=lambda place: value[uids[place]],
            reverse=reverse,
        )

    def threadable(self, uids: Sequence[int], names: Collection[ColumnName]) -> Threadable:
        """What messages are threaded by; of it those columns that are named."""
        here = self._contents.having(uids)
        columns = [self._learned(name, here)[0] for name in names]
        for column in columns:
            here = _in(column, here)
        found = Threadable(list(here))
        for column in columns:
            match column:
                case Texts():
                    ranks = _values(column, column.ranks, here)
                    found = found._replace(subjects=ranks if column.with_empty else [rank + 1 for rank in ranks])
                case Dates():
                    found = found._replace(sent=self._sent(column, here))
                case Links():
                    at = _places(column, here)
                    found = found._replace(parents=column.parents(at), replies=_at(column.replies, at))
        return found

    def save(self) -> None:
        """Leaves to the index what the next start can use."""
        for name in _NAMES:
            column, stored = self._shelf.get(self._owner, name), self._stored.get(name, 0)
            if column is None or max(len(column.uids), stored) < _MINIMUM:
                continue
            changed = self._differing.get(name, 0) > len(column.uids) // _SHARE
            if changed and self._index.sorted.store(self._key, name, column.packed()):
                self._stored[name], self._differing[name] = len(column.uids), 0

    def _sent(self, column: Dates, uids: Sequence[int]) -> list[int]:
        """Of messages in the column. Where there is no sent date the internal one counts (RFC 5256 §2.2)."""
        sent = _values(column, column.seconds, uids)
        if ABSENT in sent:
            arrivals = dict(zip(*self._arrivals(), strict=True))
            sent = [arrivals.get(uid, 0) if each == ABSENT else each for uid, each in zip(uids, sent, strict=True)]
        return sent

    def _arrivals(self) -> tuple[array[int], list[int]]:
        """UIDs, and whole seconds as clients are told."""
        measured = self._contents.measured()
        return measured.uids, list(map(int, measured.dates))

    def _texts(self, name: TextName, uids: Sequence[int]) -> Texts:
        column, _ = self._learned(name, uids)
        assert isinstance(column, Texts)
        return column

    def _dates(self, uids: Sequence[int]) -> Dates:
        column, _ = self._learned(_SENT, uids)
        assert isinstance(column, Dates)
        return column

    def _learned(self, name: ColumnName, uids: Sequence[int], limit: int | None = None) -> tuple[Column, int]:
        """The column with `limit` more of these messages, or all; how many of them it lacks."""
        column = self._shelf.get(self._owner, name)
        if column is not None and len(column.uids) <= len(self._contents) and not _missing(column, uids):
            return column, 0
        with self._learning:
            known = self._shelf.get(self._owner, name) or self._loaded(name)  # another thread may have learned
            column = left = self._without_gone(known)
            missing = list(self._contents.having(_missing(column, uids)))
            wanted = missing if limit is None else missing[:limit]
            if wanted:
                column = column.added(self._rows(name, wanted))
            if column is not known:
                self._differing[name] += len(known.uids) - len(left.uids) + len(wanted)
                self._shelf.put(self._owner, name, column)
            return column, len(missing) - len(wanted)

    def _without_gone(self, column: Column) -> Column:
        here = self._contents.having(column.uids)
        if len(here) == len(column.uids):
            return column
        wanted = set(here)
        return column.kept([place for place, uid in enumerate(column.uids) if uid in wanted])

    def _loaded(self, name: ColumnName) -> Column:
        """As the index has it, if that is sound; otherwise with nothing."""
        column = _kind(name)()
        data = self._index.sorted.load(self._key, name)
        if data is not None:
            try:
                column = column.unpacked(data)
            except ValueError as error:
                log.warning("store=sorting key=%d column=%s error=%r", self._key, name, error)
            self._shelf.put(self._owner, name, column)
        self._stored[name], self._differing[name] = len(column.uids), 0
        return column

    def _rows(self, name: ColumnName, uids: Sequence[int]) -> list[Row]:
        fields = _FIELDS.get(name, (name,))
        rows = self._index.pieces.sort_columns(self._key, fields, uids)
        if len(rows) < len(uids):
            known = {row[0] for row in rows}
            made = self._make([uid for uid in uids if uid not in known])
            rows += [(uid, *(_stored(getattr(keys, each)) for each in fields)) for uid, keys in made.items()]
        return rows


def _kind(name: ColumnName) -> type[Texts | Dates | Links]:
    match name:
        case "links":
            return Links
        case "sent":
            return Dates
        case _:
            return Texts


def _missing(column: Column, uids: Sequence[int]) -> list[int]:
    if array("I", uids) == column.uids:
        return []
    known = set(column.uids)
    return [uid for uid in uids if uid not in known]


def _in(column: Column, uids: Sequence[int]) -> Sequence[int]:
    """Those that the column has."""
    missing = set(_missing(column, uids))
    return [uid for uid in uids if uid not in missing] if missing else uids


def _places(column: Column, uids: Sequence[int]) -> Sequence[int]:
    """Of messages that the column has; a range where they are all."""
    if array("I", uids) == column.uids:
        return range(len(uids))
    places = dict(zip(column.uids, range(len(column.uids)), strict=True))
    return list(map(places.__getitem__, uids))


def _values(column: Column, values: Sequence[int], uids: Sequence[int]) -> list[int]:
    """Out of those of the column, the values of messages that it has."""
    return _at(values, _places(column, uids))


def _at(values: Sequence[int], places: Sequence[int]) -> list[int]:
    return list(values if isinstance(places, range) else map(values.__getitem__, places))


def _stored(value: object) -> object:
    """As the index has it."""
    return " ".join(value) if isinstance(value, tuple) else value
