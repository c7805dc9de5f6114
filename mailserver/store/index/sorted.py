"""Columns to sort by (`store.sortcolumns`), each as one value: what the first SORT after a start need not put together.

Promises   What comes out may be old, or damaged: who reads it must know that.
On failure As the package says.
"""

from __future__ import annotations

import sqlite3

from mailserver.store.index.file import IndexFile

_STORE = "INSERT OR REPLACE INTO sorted SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM mailboxes WHERE key = ?1)"


class SortedTable:
    """By mailbox and name."""

    def __init__(self, file: IndexFile) -> None:
        self._file = file

    def load(self, key: int, name: str) -> bytes | None:
        def work(db: sqlite3.Connection) -> bytes | None:
            (data,) = db.execute("SELECT data FROM sorted WHERE key = ? AND name = ?", (key, name)).fetchone() or (
                None,
            )
            return data if isinstance(data, bytes) else None

        return self._file.run(work, None)

    def store(self, key: int, name: str, data: bytes) -> bool:
        """False: it was not stored. Of a mailbox that another process deleted nothing must stay."""

        def work(db: sqlite3.Connection) -> bool:
            return db.execute(_STORE, (key, name, data)).rowcount == 1

        return self._file.run(work, False)
