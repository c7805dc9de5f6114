"""Damage to the queue's database: looking for it, and getting the entries out of it.

A database with broken pages is copied, entry by entry, into a new one that takes its place. What cannot be read in full
is set aside there in the state "corrupt", with all that could be read. The broken file is kept beside it.

Promises   Nothing is dropped: what stood in the old database stands in the new one or in the file that is kept. If the
           power fails meanwhile, one of the two is in place, complete.
On failure QueueError, and the old database is as it was.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from mailserver.queue import rows
from mailserver.queue.database import Database, is_damage, sync_directory
from mailserver.queue.model import QueueError, State

log = logging.getLogger(__name__)

CHECKED_AT_START = 64 * 1024 * 1024  # octets of a database that is checked before it is used: about half a second
FAULTS_TOLD = 10

_MARK = "damaged"
"""A file of this name asks for a salvage at the next start."""

_KEPT = ".damaged-"

_IDS = (
    "SELECT id FROM entry ORDER BY id",
    "SELECT id FROM entry ORDER BY id DESC",
    "SELECT id FROM entry INDEXED BY entry_turn WHERE lease IS NULL ORDER BY state, priority, due",
    "SELECT entry FROM recipient ORDER BY entry",
    "SELECT entry FROM recipient ORDER BY entry DESC",
    "SELECT entry FROM body ORDER BY entry",
    "SELECT entry FROM body ORDER BY entry DESC",
)
"""Ways to the names of entries; a broken page is in the way of some of them only."""

_STUB = (
    "INSERT INTO entry (id, state, due, created, body, smtputf8, warned, size, header) "
    "VALUES (?, ?, 0, 0, '', 0, 0, 0, x'')"
)

_KEYS = {"entry": "id", "recipient": "entry", "body": "entry"}


class _Text(bytes):
    """A value of the type TEXT."""


class _InUse(Exception):
    """Nothing can be mended now."""


def mark(directory: Path) -> None:
    """The database is broken: the next start mends it."""
    (directory / _MARK).touch()


def keeps(directory: Path) -> bool:
    """A damaged database lies there still."""
    return any(_KEPT in path.name for path in directory.iterdir())


def faults(path: Path) -> list[str]:
    """What is broken in a database that others may use meanwhile; empty: nothing. Raises sqlite3.Error."""
    db = sqlite3.connect(path)
    try:
        found = [text for (text,) in db.execute(f"PRAGMA quick_check({FAULTS_TOLD})")]
    except UnicodeDecodeError as error:  # what is wrong is said in words of the broken schema
        return [str(error)]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return [str(error)]
    finally:
        db.close()
    return [] if found == ["ok"] else [line for text in found for line in text.splitlines()]


def mend(directory: Path) -> None:
    """Looks whether the database is sound, when that is quick or was asked for, and salvages one that is not.

    To be called before it is opened. Raises QueueError.
    """
    path = directory / "queue.db"
    try:
        marked = (directory / _MARK).exists()
        if not path.exists() or not (marked or path.stat().st_size <= CHECKED_AT_START):
            return
        if found := faults(path):
            _told(path, found)
            _salvage(path)
        (directory / _MARK).unlink(missing_ok=True)
    except _InUse as error:  # what can be read goes on meanwhile
        log.error("queue: %s", error)
        mark(directory)
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        raise QueueError(f"the queue in {directory} cannot be opened: {error}") from error


def _told(path: Path, found: Iterable[str]) -> None:
    for line in found:
        log.error("queue: %s is damaged: %s", path, line)


def _salvage(path: Path) -> None:
    kept = path.with_name(f"{path.name}{_KEPT}{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    made = path.with_name(f"{path.name}.new")
    for leftover in path.parent.glob(f"{made.name}*"):
        leftover.unlink()
    old = sqlite3.connect(path, isolation_level=None)
    old.text_factory = _Text
    old.execute("PRAGMA writable_schema = ON")  # a file that was cut is read as far as it goes, too
    new: Database | None = None
    try:
        (version,) = old.execute("PRAGMA user_version").fetchone()
        if version != rows.VERSION:
            raise QueueError(f"{path} is damaged, and of a former version; nothing was changed")
        try:
            old.execute("PRAGMA journal_mode = DELETE")  # a change for which it must be ours alone
        except sqlite3.OperationalError as error:
            raise _InUse(f"{path} is damaged, and another process uses it; the next start mends it") from error
        new = Database(made)
        whole, broken = _copy(old, new)
    finally:
        if new is not None:
            new.close()
        old.close()
    owner = path.stat()
    os.chown(made, owner.st_uid, owner.st_gid)  # root may have asked for it
    os.link(path, kept)
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    made.replace(path)
    sync_directory(path.parent)
    log.error("queue: %d entries were salvaged, %d set aside; the damaged file is kept as %s", whole, broken, kept)


def _copy(old: sqlite3.Connection, new: Database) -> tuple[int, int]:
    """How many entries came over whole, and how many did not."""
    whole = broken = 0
    ids = dict.fromkeys(id for query in _IDS for id in _names(old, query))
    with new.writing() as db:
        for id in ids:
            found = {table: _rows(old, table, key, id) for table, key in _KEYS.items()}
            complete = all(readable and table_rows for readable, table_rows in found.values())
            if not found["entry"][1]:
                db.execute(_STUB, (id, State.CORRUPT))
            for table, (_, table_rows) in found.items():
                for row in table_rows:
                    _insert(db, table, row)
            if complete:
                whole += 1
            else:
                db.execute("UPDATE entry SET state = ? WHERE id = ?", (State.CORRUPT, id))
                log.error("queue=%s cannot be read and is set aside", id)
                broken += 1
    return whole, broken


def _names(old: sqlite3.Connection, query: str) -> Iterator[str]:
    try:
        for (id,) in old.execute(query):
            if isinstance(id, _Text) and id.isascii():
                yield id.decode()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise


def _rows(old: sqlite3.Connection, table: str, key: str, id: str) -> tuple[bool, list[dict[str, object]]]:
    """Those of an entry, and whether they are all that there are."""
    found: list[dict[str, object]] = []
    try:
        cursor = old.execute(f"SELECT * FROM {table} WHERE {key} = ?", (id,))  # noqa: S608 - constants
        columns = [name for name, *_ in cursor.description]
        found.extend(dict(zip(columns, row, strict=True)) for row in cursor)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return False, found
    return True, found


def _insert(db: sqlite3.Connection, table: str, row: dict[str, object]) -> None:
    """As it was, text that is no UTF-8 as well."""
    names = ", ".join(row)
    places = ", ".join("CAST(? AS TEXT)" if isinstance(value, _Text) else "?" for value in row.values())
    db.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({places})", tuple(row.values()))  # noqa: S608
