"""What is remembered of clients over a restart, for all processes: an SQLite database, `bans.db`. Blocking code.

Promises   A transaction is seen whole or not at all, by all processes, and stays after `kill -9`. A power loss may
           take the last seconds, but not what was written as `durable`.
On failure LedgerError. A damaged file is moved aside, which is logged: no mail depends on it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

VERSION = 1
BUSY_TIMEOUT = 5.0  # seconds to wait for another process

# `ban`: one row for each network and account, "" for all accounts. It stays for a while after its end, so that the
# next ban is longer; `seq` is the number of its last change, so that processes learn what is new. `known`: who logged
# in from where. `sent`: messages of an account in each hour since the epoch.
_SCHEMA = """
CREATE TABLE ban (
    network TEXT NOT NULL, account TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL, times INTEGER NOT NULL,
    manual INTEGER NOT NULL, reason TEXT NOT NULL, refused INTEGER NOT NULL DEFAULT 0, seq INTEGER NOT NULL,
    PRIMARY KEY (network, account)
) WITHOUT ROWID;
CREATE INDEX ban_seq ON ban (seq);
CREATE TABLE change (seq INTEGER NOT NULL);
INSERT INTO change VALUES (0);
CREATE TABLE failure (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, account TEXT NOT NULL, time REAL NOT NULL
);
CREATE INDEX failure_source ON failure (source, time);
CREATE TABLE known (
    account TEXT NOT NULL, source TEXT NOT NULL, last REAL NOT NULL, PRIMARY KEY (account, source)
) WITHOUT ROWID;
CREATE INDEX known_source ON known (source);
CREATE TABLE sent (
    account TEXT NOT NULL, hour INTEGER NOT NULL, messages INTEGER NOT NULL, PRIMARY KEY (account, hour)
) WITHOUT ROWID
"""
_DAMAGE = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CORRUPT_INDEX"})


class LedgerError(Exception):
    """It cannot be read or written now; the text says why."""


class Ledger:
    """One connection behind a lock: any thread may use it."""

    def __init__(self, path: Path) -> None:
        """Opens it, and makes it when it is missing. Raises LedgerError."""
        self._path = path
        self._lock = threading.Lock()
        self._opened = 1  # how often
        try:
            try:
                self._db = self._open()
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorname", None) not in _DAMAGE:
                    raise
                self._set_aside(error)
                self._db = self._open()
            self._file = _identity(path)
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"{path}: bans cannot be kept there: {error}") from error

    def _open(self) -> sqlite3.Connection:
        """Raises sqlite3.Error, OSError."""
        _make(self._path)
        db = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        if self._version(db) == VERSION:
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            if self._version(db) == 0:  # else another process was faster
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    @staticmethod
    def _version(db: sqlite3.Connection) -> int:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise LedgerError(f"the file of bans was made by another version of this program (its format is {version})")
        return int(version)

    def _set_aside(self, error: sqlite3.Error) -> None:
        damaged = self._path.with_name(f"{self._path.name}.damaged")
        log.error("%s is damaged and begun anew; the old one is kept as %s: %s", self._path, damaged.name, error)
        self._path.replace(damaged)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def changes(self) -> tuple[int, int]:
        """How often the file was opened, and a number that is another one after each transaction of somebody else.

        A file that was removed or replaced is opened anew: the command writes into another one. Raises LedgerError.
        """
        with self._lock:
            try:
                if _identity(self._path) != self._file:
                    log.warning("%s is another file than before, or has gone; it is opened anew", self._path)
                    opened = self._open()
                    self._db.close()
                    self._db, self._file, self._opened = opened, _identity(self._path), self._opened + 1
                (number,) = self._db.execute("PRAGMA data_version").fetchone()
            except (sqlite3.Error, OSError) as error:
                raise LedgerError(f"{self._path} cannot be read: {error}") from error
            return self._opened, int(number)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise LedgerError(f"{self._path} cannot be read: {error}") from error

    @contextlib.contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock:
            try:
                if durable:
                    self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise LedgerError(f"{self._path} cannot be written: {error}") from error
            finally:
                with contextlib.suppress(sqlite3.Error):  # it may be closed
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    if durable:
                        self._db.execute("PRAGMA synchronous = NORMAL")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _make(path: Path) -> None:
    """As its directory's owner has it, also when the command is root's. Raises OSError."""
    if path.exists():
        return
    for suffix in ("-wal", "-shm"):  # of one that has gone: they must not be taken for this one's
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
    finally:
        os.close(fd)
