"""The index of one account: what is costly to find out again. A cache; the Maildir is the truth.

One SQLite file (WAL). A mailbox is known by its key (see `uids`; the column `validity`), which is unique within the
account and stays with the folder when that is renamed.

Promises   The file may be deleted or damaged, and the disk full, at any time: then answers are empty, and what is
           damaged is made anew. No SQLite error comes out. What is known of a mailbox comes out together or not
           at all. `generation` names the file, so that the mailboxes write all they know again when it is another.
On failure Logged; `save` returns None.
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from mailserver.store.model import Prepared

log = logging.getLogger(__name__)

R = TypeVar("R")

INDEX_FILE = "mailserver.index"
VERSION = 2
BUSY_TIMEOUT = 5.0  # seconds

_SCHEMA = """
CREATE TABLE IF NOT EXISTS mailboxes (
    validity INTEGER PRIMARY KEY, directory TEXT NOT NULL, last INTEGER NOT NULL, modseq INTEGER NOT NULL,
    horizon INTEGER NOT NULL, told INTEGER NOT NULL, new_mtime INTEGER, cur_mtime INTEGER);
CREATE TABLE IF NOT EXISTS messages (
    validity INTEGER NOT NULL, uid INTEGER NOT NULL, name TEXT NOT NULL, extra TEXT NOT NULL, modseq INTEGER NOT NULL,
    born INTEGER NOT NULL, date REAL NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (validity, uid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vanished (
    validity INTEGER NOT NULL, uid INTEGER NOT NULL, modseq INTEGER NOT NULL,
    PRIMARY KEY (validity, modseq, uid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prepared (
    validity INTEGER NOT NULL, uid INTEGER NOT NULL, envelope BLOB NOT NULL, body BLOB NOT NULL,
    bodystructure BLOB NOT NULL, PRIMARY KEY (validity, uid));
CREATE TABLE IF NOT EXISTS packed (
    validity INTEGER NOT NULL, uid INTEGER NOT NULL, mark INTEGER NOT NULL, start INTEGER NOT NULL,
    body INTEGER NOT NULL, stop INTEGER NOT NULL, header_sum INTEGER NOT NULL, whole_sum INTEGER NOT NULL,
    PRIMARY KEY (validity, uid)) WITHOUT ROWID;
"""

# Of two processes one may know less than the other.
_SAVE_HEADER = """
INSERT INTO mailboxes VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET directory = excluded.directory, last = max(last, excluded.last),
    modseq = max(modseq, excluded.modseq), horizon = max(horizon, excluded.horizon), told = max(told, excluded.told),
    new_mtime = excluded.new_mtime, cur_mtime = excluded.cur_mtime
"""

_FORGET = (
    "DELETE FROM mailboxes WHERE validity = ?",
    "DELETE FROM messages WHERE validity = ?",
    "DELETE FROM vanished WHERE validity = ?",
    "DELETE FROM prepared WHERE validity = ?",
    "DELETE FROM packed WHERE validity = ?",
)

# What says nothing against the file itself; anything else means that it must be made anew.
_PASSING = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
    | {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_INTERRUPT}
)

Row = tuple[int, str, str, int, int, float, int]
"""UID, file name, keywords without a letter (split by spaces), MODSEQ, first MODSEQ, date, size."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a mailbox as a whole. The times are None when the directories must be read again."""

    key: int
    directory: str
    last: int
    modseq: int
    horizon: int
    """From which MODSEQ on all expunges are known."""
    told: int
    r"""UIDs up to this one were shown as \Recent."""
    new_mtime: int | None
    cur_mtime: int | None


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


class Index:
    """Thread-safe. The file is opened at first use; `close` may be followed by further use."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / INDEX_FILE
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.generation = 0

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def load(self, validity: int, above: int = 0) -> tuple[Header | None, list[Row]]:
        """A mailbox and its messages with a UID greater than `above`, ascending, as they were at one moment."""

        def work(db: sqlite3.Connection) -> tuple[Header | None, list[Row]]:
            db.execute("BEGIN")
            header = db.execute("SELECT * FROM mailboxes WHERE validity = ?", (validity,)).fetchone()
            query = (
                "SELECT uid, name, extra, modseq, born, date, size FROM messages "
                "WHERE validity = ? AND uid > ? ORDER BY uid"
            )
            rows = db.execute(query, (validity, above)).fetchall()
            if not all(map(_sound, rows)):
                raise sqlite3.DatabaseError("rows that were never written")
            return (Header(*header), rows) if header else (None, [])

        nothing: tuple[Header | None, list[Row]] = (None, [])
        return self._run(work, nothing)

    def latest(self, directory: str) -> tuple[int, int] | None:
        """Key and highest UID of the folder that was seen in a directory, for when its own file is lost."""

        def work(db: sqlite3.Connection) -> tuple[int, int] | None:
            query = "SELECT validity, last FROM mailboxes WHERE directory = ? ORDER BY validity DESC LIMIT 1"
            row: tuple[int, int] | None = db.execute(query, (directory,)).fetchone()
            return row

        return self._run(work, None)

    def save(self, header: Header, rows: Sequence[Row], vanished: Sequence[int], since: int | None) -> int | None:
        """One transaction. `vanished` get the header's MODSEQ.

        `rows` are what changed since what the generation `since` has, or all messages when that is None. Returns the
        generation that has them now; None when it was not written.
        """
        key = header.key

        def work(db: sqlite3.Connection) -> int | None:
            if since is None:
                db.execute("DELETE FROM messages WHERE validity = ? AND uid <= ?", (key, header.last))
            elif since != self.generation:
                return None
            db.execute(_SAVE_HEADER, astuple(header))
            db.executemany(
                "INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [(key, *row) for row in rows]
            )
            if vanished:
                pairs = [(key, uid) for uid in vanished]
                db.executemany("DELETE FROM messages WHERE validity = ? AND uid = ?", pairs)
                db.executemany("DELETE FROM prepared WHERE validity = ? AND uid = ?", pairs)
                db.executemany("DELETE FROM packed WHERE validity = ? AND uid = ?", pairs)
                expunges = [(key, uid, header.modseq) for uid in vanished]
                db.executemany("INSERT OR REPLACE INTO vanished VALUES (?, ?, ?)", expunges)
            return self.generation

        return self._run(work, None)

    def vanished(self, validity: int, since: int) -> list[int]:
        """UIDs expunged after a MODSEQ."""

        def work(db: sqlite3.Connection) -> list[int]:
            query = "SELECT uid FROM vanished WHERE validity = ? AND modseq > ?"
            return [uid for (uid,) in db.execute(query, (validity, since))]

        return self._run(work, [])

    def forget(self, validity: int) -> None:
        """The mailbox is gone for good."""

        def work(db: sqlite3.Connection) -> None:
            for statement in _FORGET:
                db.execute(statement, (validity,))

        self._run(work, None)

    def prepared(self, validity: int, uids: Iterable[int]) -> dict[int, Prepared]:
        """Those that were stored, of the messages asked for."""
        wanted = json.dumps(list(uids))

        def work(db: sqlite3.Connection) -> dict[int, Prepared]:
            query = (
                "SELECT uid, envelope, body, bodystructure FROM prepared "
                "WHERE validity = ? AND uid IN (SELECT value FROM json_each(?))"
            )
            return {uid: Prepared(*pieces) for uid, *pieces in db.execute(query, (validity, wanted))}

        return self._run(work, {})

    def store_prepared(self, validity: int, pieces: dict[int, Prepared]) -> None:
        rows = [(validity, uid, p.envelope, p.body, p.bodystructure) for uid, p in pieces.items()]
        self._run(lambda db: db.executemany("INSERT OR REPLACE INTO prepared VALUES (?, ?, ?, ?, ?)", rows), None)

    # The packed search text; `mark` names its file, and what is known of another file counts for nothing.

    def packed(self, validity: int, mark: int, uids: Iterable[int]) -> list[Packed]:
        """Those of these messages that are packed."""
        wanted = json.dumps(list(uids))

        def work(db: sqlite3.Connection) -> list[Packed]:
            query = (
                "SELECT uid, start, body, stop, header_sum, whole_sum FROM packed "
                "WHERE validity = ? AND mark = ? AND uid IN (SELECT value FROM json_each(?))"
            )
            return _sound_places(db.execute(query, (validity, mark, wanted)))

        return self._run(work, [])

    def store_packed(self, validity: int, mark: int, places: Iterable[Packed]) -> bool:
        """False: they were not stored."""
        rows = [(validity, place.uid, mark, *place[1:]) for place in places]

        def work(db: sqlite3.Connection) -> bool:
            db.executemany("INSERT OR REPLACE INTO packed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            return True

        return self._run(work, False)

    def forget_packed(self, validity: int, mark: int, uids: Iterable[int]) -> None:
        """Their text is damaged."""
        rows = [(validity, uid, mark) for uid in uids]
        statement = "DELETE FROM packed WHERE validity = ? AND uid = ? AND mark = ?"
        self._run(lambda db: db.executemany(statement, rows), None)

    def packed_octets(self, mark: int) -> int | None:
        """The text of all messages in the file; None when that cannot be told now."""

        def work(db: sqlite3.Connection) -> int | None:
            (octets,) = db.execute("SELECT total(stop - start) FROM packed WHERE mark = ?", (mark,)).fetchone()
            return int(octets)

        return self._run(work, None)

    def all_packed(self, mark: int) -> list[tuple[int, Packed]] | None:
        """The mailbox's key and the place of each text in the file, in order; None when that cannot be told now."""

        def work(db: sqlite3.Connection) -> list[tuple[int, Packed]] | None:
            query = (
                "SELECT validity, uid, start, body, stop, header_sum, whole_sum FROM packed "
                "WHERE mark = ? ORDER BY start"
            )
            rows = db.execute(query, (mark,)).fetchall()
            return [(validity, place) for validity, *rest in rows for place in _sound_places([rest])]

        return self._run(work, None)

    def move_packed(self, old: int, new: int, places: Iterable[tuple[int, Packed]]) -> None:
        """The texts lie in another file now; of what is not named nothing is packed there."""
        statement = (
            "UPDATE packed SET mark = ?, start = ?, body = ?, stop = ? WHERE validity = ? AND uid = ? AND mark = ?"
        )

        def work(db: sqlite3.Connection) -> None:
            rows = ((new, at.start, at.body, at.stop, validity, at.uid, old) for validity, at in places)
            db.executemany(statement, rows)
            db.execute("DELETE FROM packed WHERE mark = ?", (old,))

        self._run(work, None)

    def _run(self, work: Callable[[sqlite3.Connection], R], default: R) -> R:
        """The result of `work` as one transaction, or `default`. A damaged file is replaced and asked once more."""
        with self._lock:
            for attempt in (1, 2):
                try:
                    db = self._connect()
                    with db:
                        return work(db)
                except (sqlite3.Error, sqlite3.Warning, UnicodeError, OSError) as error:
                    log.warning("store=index path=%r error=%r", str(self._path), error)
                    self._disconnect()
                    if attempt == 2 or _passes(error) or not self._remove():
                        break
        return default

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            db = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, check_same_thread=False)
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            self._connection = db
        return self._connection

    def _prepare(self, db: sqlite3.Connection) -> None:
        self._path.chmod(0o600)
        with closing(db.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
            (version,) = cursor.execute("PRAGMA user_version").fetchone()
            if version == 0:
                marks = f"PRAGMA application_id = {secrets.randbits(31)}; PRAGMA user_version = {VERSION};"
                cursor.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {marks} COMMIT;")
            elif version != VERSION:
                raise sqlite3.DatabaseError(f"version {version}")
            (self.generation,) = cursor.execute("PRAGMA application_id").fetchone()

    def _disconnect(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error as error:
                log.warning("store=index path=%r error=%r", str(self._path), error)
            self._connection = None

    def _remove(self) -> bool:
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(INDEX_FILE + suffix).unlink(missing_ok=True)
        except OSError as error:
            log.warning("store=index path=%r error=%r", str(self._path), error)
            return False
        return True


def _sound(row: Row) -> bool:
    """Damage that SQLite does not see must not take a message's UID away."""
    return None not in row and f",U={row[0]}" in str(row[1])


def _sound_places(rows: Iterable[Sequence[object]]) -> list[Packed]:
    """Without those whose numbers cannot be; what else is wrong with one, its checksum tells."""
    places = (Packed(*row) for row in rows if all(isinstance(value, int) for value in row))  # type: ignore[arg-type]
    return [place for place in places if 0 <= place.start <= place.body <= place.stop]


def _passes(error: Exception) -> bool:
    return isinstance(error, OSError) or getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _PASSING
