"""Counts of connections that worker processes share: a row for each process in a file that all map into memory.

A process writes its own row alone and reads those of the others, so nobody locks or waits. A source has a place in the
row by a keyed hash; two sources that share a place are counted together, which is rare and makes limits tighter only.

Promises   What a process that died had counted is forgotten when its successor begins.
On failure OSError when the file cannot be made or mapped.
"""

from __future__ import annotations

import hashlib
import mmap
import secrets
from pathlib import Path

PLACES = 65536
_KEY = 16  # octets at the beginning of the file
_ROW = PLACES + 1  # in the first of which is the count of all


def make_counts(path: Path, processes: int) -> None:
    """With nothing in it; before the processes begin."""
    made = path.with_name(f"{path.name}.new")
    made.write_bytes(secrets.token_bytes(_KEY) + bytes(4 * _ROW * processes))
    made.replace(path)


class SharedCounts:
    """`number`: which of the processes this is, from 0."""

    def __init__(self, path: Path, number: int) -> None:
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
        self._key = mapped[:_KEY]
        self._counts = memoryview(mapped)[_KEY:].cast("I")
        self._own = number * _ROW
        self._others = [start for start in range(0, len(self._counts), _ROW) if start != self._own]
        self._counts[self._own : self._own + _ROW] = memoryview(bytes(4 * _ROW)).cast("I")

    def put(self, source: str, count: int, total: int) -> None:
        """This process has so many connections from the source, and so many in all."""
        self._counts[self._own] = total
        self._counts[self._own + self._place(source)] = count

    def others(self, source: str) -> tuple[int, int]:
        """How many connections the other processes have from the source, and in all."""
        place = self._place(source)
        counts = self._counts
        return sum(counts[start + place] for start in self._others), sum(counts[start] for start in self._others)

    def _place(self, source: str) -> int:
        digest = hashlib.blake2b(source.encode(), digest_size=4, key=self._key).digest()
        return 1 + int.from_bytes(digest, "little") % PLACES
