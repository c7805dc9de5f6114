"""What worker processes know together of the addresses of clients: tables in files that all map into memory.

A table has a block of rows for each process, which that process alone writes; it reads those of the others, so nobody
locks or waits. A source has its row by a keyed hash; two sources that share a row are taken for one, which is rare and
makes limits tighter only.

Promises   What a process that died had written is forgotten when its successor begins.
On failure OSError when the file cannot be made or mapped.
"""

from __future__ import annotations

import hashlib
import mmap
import secrets
from pathlib import Path

ROWS = 65536
_KEY = 16  # octets at the beginning of the file
_WORD = 2**32 - 1  # the largest number in a cell


class SharedTable:
    """Numbers below 2^32 in `columns` of `ROWS` rows. `number`: which of the processes this is, from 0."""

    def __init__(self, path: Path, number: int, columns: int) -> None:
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
        self._key = mapped[:_KEY]
        self._cells = memoryview(mapped)[_KEY:].cast("I")
        self._columns = columns
        size = ROWS * columns
        self._own = number * size
        self._others = [start for start in range(0, len(self._cells), size) if start != self._own]
        self._cells[self._own : self._own + size] = memoryview(bytes(4 * size)).cast("I")

    @staticmethod
    def make(path: Path, processes: int, columns: int) -> None:
        """With nothing in it; before the processes begin."""
        made = path.with_name(f"{path.name}.new")
        made.write_bytes(secrets.token_bytes(_KEY) + bytes(4 * ROWS * columns * processes))
        made.replace(path)

    def row(self, source: str) -> int:
        return self.place(source)[0]

    def place(self, source: str) -> tuple[int, int]:
        """The row, and a number that tells those who share it apart."""
        digest = hashlib.blake2b(source.encode(errors="surrogatepass"), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest[:4], "little") % ROWS, int.from_bytes(digest[4:], "little")

    def put(self, row: int, *values: int) -> None:
        start = self._own + row * self._columns
        for column, value in enumerate(values):
            self._cells[start + column] = value

    def own(self, row: int) -> tuple[int, ...]:
        start = self._own + row * self._columns
        return tuple(self._cells[start : start + self._columns])

    def others(self, row: int) -> list[tuple[int, ...]]:
        """What each of the other processes has there."""
        place = row * self._columns
        return [tuple(self._cells[start + place : start + place + self._columns]) for start in self._others]


class SharedCounts:
    """Connections by source, and in all: those are counted at the source "", which no client has."""

    COLUMNS = 1

    def __init__(self, path: Path, number: int) -> None:
        self._table = SharedTable(path, number, self.COLUMNS)
        self._total = self._table.row("")

    def put(self, source: str, count: int, total: int) -> None:
        """This process has so many connections from the source, and so many in all."""
        if (row := self._table.row(source)) != self._total:
            self._table.put(row, count)
        self._table.put(self._total, total)

    def others(self, source: str) -> tuple[int, int]:
        """How many connections the other processes have from the source, and in all."""
        row = self._table.row(source)
        total = sum(count for (count,) in self._table.others(self._total))
        return (sum(count for (count,) in self._table.others(row)) if row != self._total else 0), total


class SharedFailures:
    """Failed logins by source: how many there were, when the last one was, and when a login succeeded.

    Times are those of a clock that all processes share, and kept in whole seconds.
    """

    COLUMNS = 3

    def __init__(self, path: Path, number: int) -> None:
        self._table = SharedTable(path, number, self.COLUMNS)

    def failed(self, source: str, count: int, now: float) -> None:
        """This process knows of so many failures, the last one now."""
        row = self._table.row(source)
        _, _, succeeded = self._table.own(row)
        self._table.put(row, count, int(now), succeeded)

    def succeeded(self, source: str, now: float) -> None:
        self._table.put(self._table.row(source), 0, 0, int(now))

    def others(self, source: str, since: float) -> tuple[int, float]:
        """Failures in the other processes since a time and the last success, and when that was."""
        row = self._table.row(source)
        told = self._table.others(row)
        succeeded = max(success for _, _, success in (*told, self._table.own(row)))
        return sum(count for count, last, _ in told if last >= since and last > succeeded), float(succeeded)


class SharedRates:
    """How often something happened in a minute of the clock that all processes share, and in the one before.

    Of two keys that share a row in one process the later one has it: a limit becomes looser by that, never tighter.
    """

    COLUMNS = 4

    def __init__(self, path: Path, number: int) -> None:
        self._table = SharedTable(path, number, self.COLUMNS)

    def put(self, key: str, minute: int, count: int, before: int) -> None:
        """This process counted so many."""
        row, tag = self._table.place(key)
        self._table.put(row, tag, minute & _WORD, min(count, _WORD), min(before, _WORD))

    def others(self, key: str, minute: int) -> tuple[int, int]:
        """How many the other processes counted in this minute and in the one before."""
        row, tag = self._table.place(key)
        here = before = 0
        for other, last, count, earlier in self._table.others(row):
            if other == tag and last == minute & _WORD:
                here, before = here + count, before + earlier
            elif other == tag and last == (minute - 1) & _WORD:
                before += count
        return here, before
