"""Where the packed search text of the messages lies, in a file beside the index (`searchfile`).

Promises   `mark` names that file; what is known of another file counts for nothing.
On failure As the package says.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from mailserver.store.index.among import among
from mailserver.store.index.file import IndexFile

_UID = itemgetter(0)


class Packed(NamedTuple):
    """Where the search text of a message lies: header from `start` to `body`, body up to `stop`, and the CRC-32 of the
    header and of both, which begin with the UID.
    """

    uid: int
    start: int
    body: int
    stop: int
    header_sum: int
    whole_sum: int

    def moved(self, by: int) -> Packed:
        return self._replace(start=self.start + by, body=self.body + by, stop=self.stop + by)


_ARRAYS = ", ".join(f"json_group_array({name})" for name in Packed._fields)
_NUMBERS = " AND ".join(f"typeof({name}) = 'integer'" for name in Packed._fields)
_PLACES = " ".join(["SELECT", _ARRAYS, "FROM packed WHERE", _NUMBERS, "AND key = ? AND mark = ? AND"])  # see `among`

Place: TypeAlias = tuple[int, int, int, int, int, int]
"""As `Packed`, of many: a plain tuple of numbers is no work for the garbage collector."""


class PackedTexts:
    """The table of places."""

    def __init__(self, file: IndexFile) -> None:
        self._file = file

    def find(self, key: int, mark: int, uids: Iterable[int]) -> list[Place]:
        """Those of these messages that are packed."""
        wanted = set(uids)
        if not wanted:
            return []
        condition, parameters = among(wanted)
        query = " ".join([_PLACES, condition])
        nothing: list[Place] = []

        def work(db: sqlite3.Connection) -> list[Place]:
            columns = db.execute(query, (key, mark, *parameters)).fetchone()
            return _sound(list(zip(*map(json.loads, columns), strict=True)))

        found = self._file.run(work, nothing)
        return found if wanted.issuperset(map(_UID, found)) else [place for place in found if place[0] in wanted]

    def store(self, key: int, mark: int, places: Iterable[Packed]) -> bool:
        """False: they were not stored."""
        rows = [(key, place.uid, mark, *place[1:]) for place in places]

        def work(db: sqlite3.Connection) -> bool:
            db.executemany("INSERT OR REPLACE INTO packed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            return True

        return self._file.run(work, False)

    def forget(self, key: int, mark: int, uids: Iterable[int]) -> None:
        """Their text is damaged."""
        rows = [(key, uid, mark) for uid in uids]
        statement = "DELETE FROM packed WHERE key = ? AND uid = ? AND mark = ?"
        self._file.run(lambda db: db.executemany(statement, rows), None)

    def octets(self, mark: int) -> int | None:
        """The text of all messages in the file; None when that cannot be told now."""

        def work(db: sqlite3.Connection) -> int | None:
            (octets,) = db.execute("SELECT total(stop - start) FROM packed WHERE mark = ?", (mark,)).fetchone()
            return int(octets)

        return self._file.run(work, None)

    def all(self, mark: int) -> list[tuple[int, Packed]] | None:
        """The mailbox's key and the place of each text in the file, in order; None when that cannot be told now."""

        def work(db: sqlite3.Connection) -> list[tuple[int, Packed]] | None:
            query = (
                "SELECT key, uid, start, body, stop, header_sum, whole_sum FROM packed WHERE mark = ? ORDER BY start"
            )
            rows = db.execute(query, (mark,)).fetchall()
            return [(key, Packed(*place)) for key, *rest in rows for place in _sound([rest])]

        return self._file.run(work, None)

    def move(self, old: int, new: int, places: Iterable[tuple[int, Packed]]) -> None:
        """The texts lie in another file now; of what is not named nothing is packed there."""
        statement = "UPDATE packed SET mark = ?, start = ?, body = ?, stop = ? WHERE key = ? AND uid = ? AND mark = ?"

        def work(db: sqlite3.Connection) -> None:
            rows = ((new, at.start, at.body, at.stop, key, at.uid, old) for key, at in places)
            db.executemany(statement, rows)
            db.execute("DELETE FROM packed WHERE mark = ?", (old,))

        self._file.run(work, None)


def _sound(rows: Sequence[Place]) -> list[Place]:
    """Without those whose numbers cannot be; what else is wrong with one, its checksum tells."""
    if not {int}.issuperset(map(type, chain.from_iterable(rows))):
        rows = [row for row in rows if {int}.issuperset(map(type, row))]
    return [row for row in rows if 0 <= row[1] <= row[2] <= row[3]]
