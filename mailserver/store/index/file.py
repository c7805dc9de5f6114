"""The index's file: one SQLite file (WAL) an account, its connection, its schema, and what is done about damage.

Promises   `run` does a piece of work as one transaction. A file that is damaged, or of a version that is not known, is
           removed and made anew; a refusal that will pass (busy, no room, no right) leaves it alone.
On failure Logged; `run` returns the default that it was given.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

log = logging.getLogger(__name__)

R = TypeVar("R")

INDEX_FILE = "mailserver.index"
VERSION = 6
BUSY_TIMEOUT = 5.0  # seconds
CACHE = 256  # KiB, for each open index

_MESSAGES = (
    """
    CREATE TABLE messages (
        key INTEGER NOT NULL, uid INTEGER NOT NULL, base TEXT NOT NULL, date REAL NOT NULL, size INTEGER NOT NULL,
        born INTEGER NOT NULL, PRIMARY KEY (key, uid)) WITHOUT ROWID
    """,
    """
    CREATE TABLE flags (
        key INTEGER NOT NULL, uid INTEGER NOT NULL, info TEXT NOT NULL, modseq INTEGER NOT NULL, turn INTEGER NOT NULL,
        PRIMARY KEY (key, uid)) WITHOUT ROWID
    """,
    """
    CREATE TABLE keywords (
        key INTEGER NOT NULL, uid INTEGER NOT NULL, words TEXT NOT NULL, PRIMARY KEY (key, uid)) WITHOUT ROWID
    """,
    """
    CREATE TABLE vanished (
        key INTEGER NOT NULL, modseq INTEGER NOT NULL, uid INTEGER NOT NULL, turn INTEGER NOT NULL,
        PRIMARY KEY (key, modseq, uid)) WITHOUT ROWID
    """,
    "CREATE TABLE snapshots (key INTEGER PRIMARY KEY, turn INTEGER NOT NULL, data BLOB NOT NULL)",
)
_IDENTITIES = """
    CREATE TABLE identities (
        key INTEGER NOT NULL, uid INTEGER NOT NULL, content BLOB NOT NULL, thread BLOB NOT NULL,
        PRIMARY KEY (key, uid)) WITHOUT ROWID
    """
_SORTED = "CREATE TABLE sorted (key INTEGER NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (key, name))"
_PIECES = (
    """
    CREATE TABLE prepared (
        key INTEGER NOT NULL, uid INTEGER NOT NULL, envelope BLOB NOT NULL, body BLOB NOT NULL,
        bodystructure BLOB NOT NULL, preview TEXT NOT NULL, PRIMARY KEY (key, uid))
    """,
    """
    CREATE TABLE sorting (
        key INTEGER NOT NULL, uid INTEGER NOT NULL, sent INTEGER, subject TEXT NOT NULL, reply INTEGER NOT NULL,
        sender TEXT NOT NULL, "to" TEXT NOT NULL, cc TEXT NOT NULL, display_from TEXT NOT NULL,
        display_to TEXT NOT NULL, message_id TEXT NOT NULL, "references" TEXT NOT NULL, PRIMARY KEY (key, uid))
    """,
    "CREATE TABLE headers (key INTEGER NOT NULL, uid INTEGER NOT NULL, header BLOB NOT NULL, PRIMARY KEY (key, uid))",
    _IDENTITIES,
    _SORTED,
)
_SCHEMA = (
    """
    CREATE TABLE mailboxes (
        key INTEGER PRIMARY KEY, directory TEXT NOT NULL, last INTEGER NOT NULL, modseq INTEGER NOT NULL,
        horizon INTEGER NOT NULL, told INTEGER NOT NULL, new_mtime INTEGER, cur_mtime INTEGER,
        turn INTEGER NOT NULL DEFAULT 0, sound INTEGER NOT NULL DEFAULT 0)
    """,
    *_MESSAGES,
    *_PIECES,
    """
    CREATE TABLE packed (
        key INTEGER NOT NULL, uid INTEGER NOT NULL, mark INTEGER NOT NULL, start INTEGER NOT NULL,
        body INTEGER NOT NULL, stop INTEGER NOT NULL, header_sum INTEGER NOT NULL, whole_sum INTEGER NOT NULL,
        PRIMARY KEY (key, uid)) WITHOUT ROWID
    """,
)
_SOUND = (
    "ALTER TABLE mailboxes ADD COLUMN sound INTEGER NOT NULL DEFAULT 0",
    "UPDATE mailboxes SET sound = modseq",
)
# What takes a file of version 2 to ours. The prepared pieces are more now, so they are made again.
_FROM_2 = (
    "ALTER TABLE mailboxes RENAME COLUMN validity TO key",
    "ALTER TABLE mailboxes ADD COLUMN turn INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE messages RENAME TO messages_2",
    "ALTER TABLE vanished RENAME TO vanished_2",
    "DROP TABLE prepared",
    *_MESSAGES,
    *_PIECES,
    """
    INSERT INTO messages
    SELECT validity, uid, substr(name, 1, instr(name || ':', ':') - 1), date, size, born FROM messages_2
    """,
    "INSERT INTO flags SELECT validity, uid, substr(name, instr(name || ':', ':')), modseq, 0 FROM messages_2",
    "INSERT INTO keywords SELECT validity, uid, extra FROM messages_2 WHERE extra <> ''",
    "INSERT INTO vanished SELECT validity, modseq, uid, 0 FROM vanished_2",
    "DROP TABLE messages_2",
    "DROP TABLE vanished_2",
    "ALTER TABLE packed RENAME COLUMN validity TO key",
    *_SOUND,
)
_MIGRATIONS = {0: _SCHEMA, 2: _FROM_2, 3: (_IDENTITIES, _SORTED, *_SOUND), 4: (_SORTED, *_SOUND), 5: _SOUND}
"""What takes a file of a version to ours; 0 is a new one."""

# What says nothing against the file itself; anything else means that it must be made anew.
_PASSING = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
    | {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_INTERRUPT}
)


class IndexFile:
    """Thread-safe. The file is opened at first use; `close` may be followed by further use."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / INDEX_FILE
        self._lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self.generation = 0
        """Names the file; 0 before it was opened."""

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def run(self, work: Callable[[sqlite3.Connection], R], default: R, *, durable: bool = False) -> R:
        """The result of `work` as one transaction, or `default`. A damaged file is replaced and asked once more.

        `durable`: it survives a power cut. Otherwise the last transactions may be lost by that.
        """
        with self._lock:
            for attempt in (1, 2):
                try:
                    db = self._connect()
                    if durable:
                        db.execute("PRAGMA synchronous = FULL")
                    with db:
                        result = work(db)
                    if durable:
                        db.execute("PRAGMA synchronous = NORMAL")
                    return result
                except (sqlite3.Error, sqlite3.Warning, UnicodeError, OSError) as error:
                    log.warning("store=index path=%r error=%r", str(self._path), error)
                    self._disconnect()
                    if attempt == 2 or _passes(error) or not self._remove():
                        break
        return default

    def _connect(self) -> sqlite3.Connection:
        if self.connection is not None and (self._identity is None or self._identify() != self._identity):
            self._disconnect()  # it was deleted, or another one put in its place
        if self.connection is None:
            db = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, check_same_thread=False)
            try:
                self._path.chmod(0o600)
                self._prepare(db)
                self._identity = self._identify()
            except BaseException:
                db.close()
                raise
            self.connection = db
        return self.connection

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _prepare(self, db: sqlite3.Connection) -> None:
        with closing(db.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
            cursor.execute(f"PRAGMA cache_size = -{CACHE}")
            (version,) = cursor.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                with db:
                    self._migrate(cursor)
        self.named(db)

    def named(self, db: sqlite3.Connection) -> int:
        """The generation as it is in this transaction: another process may have emptied the file (`Index.renew`)."""
        (self.generation,) = db.execute("PRAGMA application_id").fetchone()
        return self.generation

    def _migrate(self, cursor: sqlite3.Cursor) -> None:
        """In the caller's transaction. Another process may have done it before we were alone."""
        cursor.execute("BEGIN IMMEDIATE")
        (version,) = cursor.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        if version not in _MIGRATIONS:
            raise sqlite3.DatabaseError(f"version {version}")
        for statement in _MIGRATIONS[version]:
            cursor.execute(statement)
        cursor.execute(f"PRAGMA user_version = {VERSION}")
        if version == 0:
            cursor.execute(f"PRAGMA application_id = {secrets.randbits(31)}")

    def _disconnect(self) -> None:
        if self.connection is not None:
            try:
                self.connection.close()
            except sqlite3.Error as error:
                log.warning("store=index path=%r error=%r", str(self._path), error)
            self.connection = None

    def _remove(self) -> bool:
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(INDEX_FILE + suffix).unlink(missing_ok=True)
        except OSError as error:
            log.warning("store=index path=%r error=%r", str(self._path), error)
            return False
        return True


def _passes(error: Exception) -> bool:
    return isinstance(error, OSError) or getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _PASSING
