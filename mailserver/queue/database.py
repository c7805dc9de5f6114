"""The queue's SQLite database: opening it, bringing it up to date, transactions.

Promises   A transaction is seen whole or not at all, also after `kill -9` and by other processes; when it is durable,
           it is on disk as its block ends. A database that was removed or moved away while it is open takes no more.
On failure QueueError, and nothing has changed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from mailserver import metrics
from mailserver.queue import rows
from mailserver.queue.model import QueueError

BUSY_TIMEOUT = 15.0  # seconds to wait for another process

CORRUPT = frozenset({"SQLITE_CORRUPT", "SQLITE_CORRUPT_INDEX", "SQLITE_CORRUPT_VTAB", "SQLITE_NOTADB"})


def is_damage(error: sqlite3.Error) -> bool:
    """The file itself is broken, and trying again will not help."""
    return getattr(error, "sqlite_errorname", None) in CORRUPT


def _text(octets: bytes) -> str:
    """What is broken in one entry, its id too, must not be in the way of others: `rows` finds it in the entry."""
    return octets.decode(errors="surrogateescape")


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Database:
    """One connection behind a lock: safe for threads."""

    def __init__(self, path: Path) -> None:
        """Opens it, and makes it when it is missing. Raises QueueError, sqlite3.Error, OSError."""
        self.path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
            sync_directory(path.parent)  # the names of the database and of its log
            self._file = _identity(path)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        db.text_factory = _text
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        # An older queue has foreign keys, and a broken page of one table would keep the others from being written.
        db.execute("PRAGMA foreign_keys = OFF")
        if self._version() != rows.VERSION:
            self._migrate()

    def _version(self) -> int:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in range(rows.VERSION + 1):
            raise QueueError(f"the queue was made by another version of this program (its format is {version})")
        return int(version)

    def _migrate(self) -> None:
        """In one transaction; of several processes the first one does it, and the others find it done."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            version = self._version()
            steps = [rows.MIGRATIONS[old] for old in range(version, rows.VERSION)] if version else [rows.SCHEMA]
            for statement in ";".join(steps).split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {rows.VERSION}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise QueueError(f"the queue cannot be read: {error}") from error

    @contextlib.contextmanager
    def aside(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, for reading that takes long: nobody waits for it. Raises QueueError."""
        self.check_place()
        try:
            db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            try:
                db.text_factory = _text
                yield db
            finally:
                db.close()
        except sqlite3.Error as error:
            raise QueueError(f"the queue cannot be read: {error}") from error

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction. `durable` False: a power loss may undo it, as if it had not been made."""
        with self._lock:
            self.check_place()
            try:
                if not durable:
                    self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                begun = time.perf_counter()
                self._db.execute("COMMIT")
                if durable:
                    metrics.QUEUE_TIMES.observe(time.perf_counter() - begun)
            except sqlite3.Error as error:
                raise QueueError(f"the queue cannot be written: {error}") from error
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if not durable:
                    self._db.execute("PRAGMA synchronous = FULL")

    def check_place(self) -> None:
        """A database that was removed or moved away while it is open still takes writes, which nobody would find."""
        try:
            found = _identity(self.path)
        except OSError as error:
            raise QueueError(f"the queue is not at its place: {error}") from error
        if found != self._file:
            raise QueueError(f"{self.path} is another file than the one that was opened; start the server again")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
