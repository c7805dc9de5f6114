"""What the messages of a mailbox are sorted and threaded by (RFC 5256, RFC 5957).

Layout     Columns, one for each thing to sort by, read from the index once and held in memory, bounded in octets for
           the whole process. What the index does not have is made of the messages, and kept there.
Promises   Any thread may call anything. Messages that are gone are left out.
On failure Unavailable when a message must be read and the disk refuses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from mailserver.store.contents import Contents
from mailserver.store.index import PieceTables
from mailserver.store.model import SortKeys
from mailserver.store.shelf import Shelf
from mailserver.store.sortcolumns import ABSENT, Column, Dates, Links, Row, Texts

MEMORY_LIMIT = 64 * 2**20  # octets

_STALE = 1000  # messages that are gone and do no harm in a column

TextName: TypeAlias = Literal["subject", "sender", "to", "cc", "display_from", "display_to"]
SortName: TypeAlias = TextName | Literal["arrival", "size", "sent"]
ColumnName: TypeAlias = TextName | Literal["sent", "links"]

_FIELDS: dict[ColumnName, tuple[str, ...]] = {"links": ("message_id", "references", "reply")}
_LINKS: ColumnName = "links"
_SENT: ColumnName = "sent"
_SUBJECT: ColumnName = "subject"
THREADING: tuple[ColumnName, ...] = (_SUBJECT, _SENT, _LINKS)


shelf: Shelf[Column] = Shelf(MEMORY_LIMIT)
"""That of the process."""


class Threadable(NamedTuple):
    """What messages are threaded by; the lists are as long as `uids`, or empty where not asked for."""

    uids: list[int]
    own: list[int]
    """What stands for the message's identifier; 0: it has none."""
    references: Iterator[Sequence[int]]
    """As `own`, of the messages that it refers to, the one that it answers last; to be gone through once."""
    sent: list[int]
    subjects: list[int]
    """Numbers in the order of the base subjects; 0: it is empty."""
    replies: list[bool]
    """Whether something was taken off the subject that tells of a reply or forward."""


class Sorting:
    """One for each `Mailbox`."""

    def __init__(
        self,
        key: int,
        contents: Contents,
        pieces: PieceTables,
        make: Callable[[Sequence[int]], dict[int, SortKeys]],
        *,
        shelf: Shelf[Column] = shelf,
    ) -> None:
        """`make` gives what the index does not have, of the messages that exist, and keeps it there."""
        self._key = key
        self._contents = contents
        self._index = pieces
        self._make = make
        self._shelf = shelf
        self._owner = shelf.owner()
        self._learning = threading.Lock()

    def learn(self, name: SortName | ColumnName, uids: Sequence[int], limit: int) -> int:
        """Gets ready what is known by this name of up to `limit` messages that are not; how many remain."""
        if name == "size" or name == "arrival":
            return 0
        return self._learned(name, uids, limit)[1]

    def values(self, name: SortName, uids: Sequence[int]) -> dict[int, int]:
        """By UID, numbers in the order of what messages are sorted by."""
        if name == "size":
            measured = self._contents.measured()
            return _picked(dict(zip(measured.uids, measured.sizes, strict=True)), uids)
        if name == "arrival":
            return _picked(self._arrivals(), uids)
        column, _ = self._learned(name, uids)
        assert isinstance(column, Texts | Dates)
        if isinstance(column, Texts):
            return self._existing(column.values(), uids)
        return self._sent(column, uids)

    def threadable(self, uids: Sequence[int], *, linked: bool) -> Threadable:
        """All that messages are threaded by; where not `linked`, only dates and subjects."""
        subjects, sent = self._learned(_SUBJECT, uids)[0], self._learned(_SENT, uids)[0]
        links = self._learned(_LINKS, uids)[0] if linked else None
        assert isinstance(subjects, Texts) and isinstance(sent, Dates) and isinstance(links, Links | None)
        dates, ranks, empty = self._sent(sent, uids), subjects.values(), subjects.empty()
        places = links.places() if links is not None else ranks
        here = [uid for uid in dates if uid in ranks and uid in places]
        at = list(map(places.__getitem__, here)) if links is not None else []
        links = links or Links()
        return Threadable(
            here,
            list(map(links.own.__getitem__, at)),
            links.referred(at),
            list(map(dates.__getitem__, here)),
            [0 if number == empty else number + 1 for number in map(ranks.__getitem__, here)],
            list(map(bool, map(links.replies.__getitem__, at))),
        )

    def _sent(self, column: Dates, uids: Sequence[int]) -> dict[int, int]:
        """Where there is no sent date the internal one counts (RFC 5256 §2.2)."""
        sent, arrivals = column.values(), self._arrivals()
        dates = _picked(sent, [uid for uid in uids if uid in arrivals])
        for uid in [uid for uid, seconds in dates.items() if seconds == ABSENT]:
            dates[uid] = arrivals[uid]
        return dates

    def _arrivals(self) -> dict[int, int]:
        """In whole seconds, as clients are told."""
        measured = self._contents.measured()
        return dict(zip(measured.uids, map(int, measured.dates), strict=True))

    def _existing(self, values: dict[int, int], uids: Sequence[int]) -> dict[int, int]:
        here = self._contents.uids()
        return _picked(values, [uid for uid in uids if uid in here])

    def _learned(self, name: ColumnName, uids: Sequence[int], limit: int | None = None) -> tuple[Column, int]:
        """The column with `limit` more of these messages, or all; how many of them it lacks."""
        column = self._shelf.get(self._owner, name)
        if column is not None and not (missing := _missing(column, uids)):
            return column, 0
        with self._learning:
            column = self._shelf.get(self._owner, name)  # another thread may have learned
            if column is None or len(column.uids) > 2 * len(self._contents) + _STALE:
                column = _new(name)
            here = self._contents.uids()
            missing = [uid for uid in _missing(column, uids) if uid in here]
            wanted = missing if limit is None else missing[:limit]
            if wanted:
                column = column.added(self._rows(name, wanted))
                self._shelf.put(self._owner, name, column)
            return column, len(missing) - len(wanted)

    def _rows(self, name: ColumnName, uids: Sequence[int]) -> list[Row]:
        fields = _FIELDS.get(name, (name,))
        rows = self._index.sort_columns(self._key, fields, uids)
        if len(rows) < len(uids):
            known = {row[0] for row in rows}
            made = self._make([uid for uid in uids if uid not in known])
            rows += [(uid, *(_stored(getattr(keys, each)) for each in fields)) for uid, keys in made.items()]
        return rows


def _new(name: ColumnName) -> Column:
    match name:
        case "links":
            return Links()
        case "sent":
            return Dates()
        case _:
            return Texts()


def _missing(column: Column, uids: Sequence[int]) -> list[int]:
    known = set(column.uids)
    return [uid for uid in uids if uid not in known]


def _picked(values: dict[int, int], uids: Sequence[int]) -> dict[int, int]:
    return {uid: values[uid] for uid in uids if uid in values}


def _stored(value: object) -> object:
    """As the index has it."""
    return " ".join(value) if isinstance(value, tuple) else value
