"""How much text is not packed for search yet, told from the indexes alone and without touching them.

Theory     The index names the messages that it knows and the texts that are packed in the search file. What was
           delivered and not looked at by anybody is unknown to it, and no search waits for it.
Promises   Read only: no file is made or changed, no lock is held that a writer would wait for.
On failure An index that cannot be read now counts as before, at first as nothing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mailserver.store.index import INDEX_FILE, VERSION, Index
from mailserver.store.searchfile import SearchFile

_UNPACKED = """
SELECT count(*) FROM messages WHERE NOT EXISTS
(SELECT 1 FROM packed WHERE packed.key = messages.key AND packed.uid = messages.uid AND packed.mark = ?)
"""

Stamp = tuple[int, ...]


class Lag:
    """Of all accounts below a directory. One thread at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Path, tuple[Stamp, int]] = {}

    @property
    def messages(self) -> int:
        return sum(count for _, count in self._known.values())

    def round(self) -> Iterator[None]:
        """Looks at one account after the other, when it is asked for the next one. Raises OSError."""
        seen = set()
        for account in _accounts(self._root):
            seen.add(account)
            self._look(account)
            yield
        for gone in self._known.keys() - seen:
            del self._known[gone]

    def _look(self, account: Path) -> None:
        stamp = _stamp(account)
        known = self._known.get(account)
        if known is None or known[0] != stamp:
            count = unpacked(account)
            self._known[account] = stamp, count if count is not None else known[1] if known is not None else 0


def unpacked(account: Path) -> int | None:
    """Messages of the account that lies there whose text is not packed; None: that cannot be told now."""
    try:
        with reading(account) as db:
            return int(db.execute(_UNPACKED, (mark(account),)).fetchone()[0]) if db is not None else 0
    except (sqlite3.Error, OSError):
        return None


@contextmanager
def reading(account: Path) -> Iterator[sqlite3.Connection | None]:
    """The account's index, to be read; None: there is none of this version. Raises sqlite3.Error, OSError."""
    index = account / INDEX_FILE
    if not index.exists():
        yield None
        return
    # Without a log nobody writes, and SQLite need not make files of its own to find that out.
    how = "mode=ro" if index.with_name(f"{INDEX_FILE}-wal").exists() else "immutable=1"
    with closing(sqlite3.connect(f"{index.resolve().as_uri()}?{how}", uri=True, timeout=1.0)) as db:
        yield db if db.execute("PRAGMA user_version").fetchone() == (VERSION,) else None


def mark(account: Path) -> int | None:
    """What names the file of the account's search text; None: there is none."""
    with SearchFile(account, Index(account)).reading() as opened:
        return opened.mark if opened is not None else None


def _accounts(root: Path) -> Iterator[Path]:
    for domain in directories(root):
        yield from directories(domain)


def directories(path: Path) -> Iterator[Path]:
    """Raises OSError."""
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for name in names:
        yield path / name


def _stamp(account: Path) -> Stamp:
    """Changes when the index does."""
    stamp: list[int] = []
    for name in (INDEX_FILE, f"{INDEX_FILE}-wal"):
        try:
            status = (account / name).stat()
            stamp += (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            stamp.append(0)
    return tuple(stamp)
