"""The mailboxes and their messages, as they were last saved.

Theory     Each save of a mailbox is its next turn, and the rows that it writes are marked with it. A snapshot is all
           rows of a mailbox in one value, with the turn at which it was made: what is younger is laid over it. It is
           made from the rows themselves, so it says the same as they, whoever wrote them.
Promises   What is known of a mailbox comes out as it was at one moment, all of it or nothing. Of two processes that
           save the same mailbox neither undoes what the other knew of other messages, nor its keywords without a
           letter. Expunges are remembered from the horizon on: at least the last `EXPUNGES` of a mailbox, and as many
           as it has messages. What was saved last before the system was started is known: a power cut may have set
           the file back, and MODSEQs between that and the start may have been given and forgotten.
On failure As the package says; `save` returns None.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

from mailserver.store.columns import Change, Columns, Row, State
from mailserver.store.foreign import HIGHEST_UID
from mailserver.store.index.file import IndexFile

log = logging.getLogger(__name__)

EXPUNGES = 10_000

# Of two processes one may know less than the other. When another one saved in between, a row may be as neither of them
# knows it: then the directories must be read again.
_SAVE_HEADER = """
INSERT INTO mailboxes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, 0)
ON CONFLICT DO UPDATE SET directory = excluded.directory, last = max(last, excluded.last),
    modseq = max(modseq, excluded.modseq), horizon = max(horizon, excluded.horizon), told = max(told, excluded.told),
    new_mtime = CASE WHEN ?9 IS NULL OR turn = ?9 THEN excluded.new_mtime END,
    cur_mtime = CASE WHEN ?9 IS NULL OR turn = ?9 THEN excluded.cur_mtime END, turn = turn + 1,
    sound = CASE WHEN modseq < ?10 THEN modseq ELSE sound END
RETURNING turn
"""
_LOAD_HEADER = """
SELECT key, directory, last, modseq, horizon, told, new_mtime, cur_mtime, turn, sound FROM mailboxes WHERE key = ?
"""
_ROWS = """
SELECT uid, base, info, coalesce(words, ''), modseq, date, size, born
FROM flags JOIN messages USING (key, uid) LEFT JOIN keywords USING (key, uid)
WHERE key = ? AND uid > ? AND turn > ? ORDER BY uid
"""
_ROW_TYPES = (int, str, str, str, int, float, int, int)
_CLEAR = (
    "DELETE FROM messages WHERE key = ? AND uid <= ?",
    "DELETE FROM flags WHERE key = ? AND uid <= ?",
)
_FORGET_WORDS = "DELETE FROM keywords WHERE key = ?1 AND uid NOT IN (SELECT uid FROM flags WHERE key = ?1)"
_EXPUNGE = [
    f"DELETE FROM {table} WHERE key = ? AND uid IN (SELECT value FROM json_each(?))"  # noqa: S608
    for table in ("messages", "flags", "keywords", "prepared", "sorting", "headers", "identities", "packed")
]


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


@dataclass(frozen=True, slots=True)
class Loaded:
    """A mailbox at one moment. `late` counts the rows that no snapshot has. `lost`: MODSEQs that were never saved, and
    were given, if at all, before the system was started.
    """

    header: Header | None = None
    columns: Columns = field(default_factory=Columns)
    turn: int = 0
    late: int = 0
    lost: range = range(0)


class Saved(NamedTuple):
    """The generation that has what was saved, and the turn that it was."""

    generation: int
    turn: int


def started() -> int:
    """When the system was started, as MODSEQs tell the time."""
    return int((time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))) * 1e6)


class Mailboxes:
    """The tables of mailboxes, messages, flags, keywords without a letter, expunges, and the snapshots."""

    def __init__(self, file: IndexFile) -> None:
        self._file = file

    def load(self, key: int) -> Loaded:
        """A mailbox and all its messages."""

        def work(db: sqlite3.Connection) -> Loaded:
            db.execute("BEGIN")
            self._file.named(db)
            return _load(db, key)

        return self._file.run(work, Loaded())

    def above(self, key: int, uid: int) -> tuple[int, dict[int, Row]]:
        """The highest UID that is known to be given, and the messages with a greater UID than `uid`."""

        def work(db: sqlite3.Connection) -> tuple[int, dict[int, Row]]:
            db.execute("BEGIN")
            header = db.execute(_LOAD_HEADER, (key,)).fetchone()
            rows = {row.uid: row for row in _rows(db, key, uid, -1)}
            return (_header(header)[0].last, rows) if header else (0, {})

        nothing: tuple[int, dict[int, Row]] = (0, {})
        return self._file.run(work, nothing)

    def latest(self, directory: str) -> tuple[int, int] | None:
        """Key and highest UID of the folder that was seen in a directory, for when its own file is lost."""

        def work(db: sqlite3.Connection) -> tuple[int, int] | None:
            query = "SELECT key FROM mailboxes WHERE directory = ? ORDER BY key DESC LIMIT 1"
            for (key,) in db.execute(query, (directory,)):
                return key, _header(db.execute(_LOAD_HEADER, (key,)).fetchone())[0].last
            return None

        return self._file.run(work, None)

    def turn(self, key: int) -> tuple[int, int] | None:
        r"""The mailbox's last turn, and up to which UID messages were shown as \Recent; None: unknown. Cheap."""

        def work(db: sqlite3.Connection) -> tuple[int, int] | None:
            query = "SELECT turn, told FROM mailboxes WHERE key = ?"
            row: tuple[int, int] | None = db.execute(query, (key,)).fetchone()
            return row

        return self._file.run(work, None)

    def tell(self, key: int, upto: int) -> int | None:
        r"""UIDs up to this one are shown as \Recent now; up to which they had been. None: that cannot be told."""

        def work(db: sqlite3.Connection) -> int | None:
            db.execute("BEGIN IMMEDIATE")
            row = db.execute("SELECT told FROM mailboxes WHERE key = ?", (key,)).fetchone()
            db.execute("UPDATE mailboxes SET told = max(told, ?) WHERE key = ?", (upto, key))
            return row[0] if row else None

        return self._file.run(work, None)

    def words(self, key: int) -> tuple[int, dict[int, str]] | None:
        """The turn, and the keywords without a letter of each message that has some; None: that cannot be told."""

        def work(db: sqlite3.Connection) -> tuple[int, dict[int, str]] | None:
            db.execute("BEGIN")
            header = db.execute(_LOAD_HEADER, (key,)).fetchone()
            return (_header(header)[1], _words(db, key)) if header else None

        return self._file.run(work, None)

    def save(self, header: Header, change: Change, since: int | None, turn: int | None = None) -> Saved | None:
        """One transaction. What vanished gets the header's MODSEQ. None: it was not written.

        The change is what is new since what the generation `since` has, where it was turn `turn` of the mailbox; all
        messages are added when `since` is None.
        Keywords without a letter, which stand nowhere else, survive a power cut.
        """
        key = header.key
        words = {row.uid: ("", row.state.words) for row in change.added if row.state.words} | dict(change.words)

        def work(db: sqlite3.Connection) -> Saved | None:
            db.execute("BEGIN IMMEDIATE")
            generation = self._file.named(db)
            if since is None:
                for statement in _CLEAR:
                    db.execute(statement, (key, header.last))
                db.execute("DELETE FROM snapshots WHERE key = ?", (key,))
            elif since != generation:
                _merge_words(db, key, change.words)  # nothing else knows of those that were removed
                return None
            expected = turn if since is not None else None
            (now,) = db.execute(_SAVE_HEADER, (*astuple(header), expected, started())).fetchone()
            added = change.added
            rows = [(key, row.uid, row.base, row.date, row.size, row.born) for row in added]
            flags = [(key, row.uid, row.state.info, row.modseq, now) for row in added]
            flags += [(key, uid, info, modseq, now) for uid, info, modseq in change.flagged]
            db.executemany("INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?, ?)", rows)
            db.executemany("INSERT OR REPLACE INTO flags VALUES (?, ?, ?, ?, ?)", flags)
            if words:
                _merge_words(db, key, words)
            if since is None:
                db.execute(_FORGET_WORDS, (key,))
            if change.vanished:
                gone = json.dumps(list(change.vanished))
                for statement in _EXPUNGE:
                    db.execute(statement, (key, gone))
                expunges = [(key, header.modseq, uid, now) for uid in change.vanished]
                db.executemany("INSERT OR REPLACE INTO vanished VALUES (?, ?, ?, ?)", expunges)
                _trim(db, key)
            return Saved(generation, now)

        return self._file.run(work, None, durable=bool(words))

    def vanished(self, key: int, since: int) -> list[int] | None:
        """UIDs expunged after a MODSEQ; None when not all of them are known any more."""

        def work(db: sqlite3.Connection) -> list[int] | None:
            db.execute("BEGIN")
            (horizon,) = db.execute("SELECT horizon FROM mailboxes WHERE key = ?", (key,)).fetchone() or (None,)
            if horizon is None or since < horizon:
                return None
            query = "SELECT uid FROM vanished WHERE key = ? AND modseq > ?"
            return [uid for (uid,) in db.execute(query, (key, since))]

        return self._file.run(work, None)

    def snapshot(self, key: int) -> bool:
        """Makes the next `load` fast. False: it was not written."""

        def work(db: sqlite3.Connection) -> bool:
            db.execute("BEGIN IMMEDIATE")
            loaded = _load(db, key)
            if loaded.header is not None and loaded.late:
                row = (key, loaded.turn, loaded.columns.pack())
                db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", row)
            return True

        return self._file.run(work, False)


def _load(db: sqlite3.Connection, key: int) -> Loaded:
    record = db.execute(_LOAD_HEADER, (key,)).fetchone()
    if record is None:
        return Loaded()
    header, turn, sound = _header(record)
    columns, late = _from_snapshot(db, key, turn) or _from_rows(db, key)
    start = started()
    lost = range((header.modseq if header.modseq < start else sound) + 1, start)
    return Loaded(header, columns, turn, late, lost)


def _header(record: tuple[Any, ...]) -> tuple[Header, int, int]:
    """With the turn and `sound`. Raises sqlite3.DatabaseError as `_rows` does: no UID may come to an end by damage."""
    key, directory, last, modseq, horizon, told, new_mtime, cur_mtime, turn, sound = record
    if not (
        all(type(each) is int and 0 <= each < 2**62 for each in (last, modseq, horizon, told, turn, sound))
        and last < HIGHEST_UID
        and isinstance(directory, str)
        and isinstance(new_mtime, int | None)
        and isinstance(cur_mtime, int | None)
    ):
        raise sqlite3.DatabaseError("a mailbox that was never written")
    return Header(key, directory, last, modseq, horizon, told, new_mtime, cur_mtime), turn, sound


def _from_rows(db: sqlite3.Connection, key: int) -> tuple[Columns, int]:
    columns = Columns()
    for row in _rows(db, key, 0, -1):
        columns.append(row, columns.number(row.state))
    return columns, len(columns)


def _from_snapshot(db: sqlite3.Connection, key: int, turn: int) -> tuple[Columns, int] | None:
    """The snapshot with all that is younger. None: there is none that fits."""
    (made,) = db.execute("SELECT turn FROM snapshots WHERE key = ?", (key,)).fetchone() or (None,)
    if made is None:
        return None
    try:
        with db.blobopen("snapshots", "data", key, readonly=True) as blob:
            columns = Columns.unpack(blob.read)
    except (ValueError, TypeError) as error:
        log.warning("store=index key=%d snapshot=%r", key, error)
        return None
    late = 0
    if made < turn:
        rows = list(_rows(db, key, 0, made))
        back = {row.uid for row in rows}
        gone = {uid for (uid,) in db.execute("SELECT uid FROM vanished WHERE key = ? AND turn > ?", (key, made))}
        columns.remove(columns.places(gone - back))
        for row in rows:
            if not columns.put(row):
                return None
        late = len(rows) + len(gone)
    (count,) = db.execute("SELECT count(*) FROM flags WHERE key = ?", (key,)).fetchone()
    return (columns, late) if count == len(columns) else None


def _rows(db: sqlite3.Connection, key: int, above: int, since: int) -> Iterable[Row]:
    """Raises sqlite3.DatabaseError for damage that SQLite does not see: it must not take a message's UID away."""
    state = State("")
    for record in db.execute(_ROWS, (key, above, since)):
        uid, base, info, words, modseq, date, size, born = record
        if tuple(map(type, record)) != _ROW_TYPES or not _sound(uid, base, info, min(modseq, size, born)):
            raise sqlite3.DatabaseError("a row that was never written")
        if info != state.info or words != state.words:
            state = State(info, words)
        yield Row(uid, base, state, modseq, date, size, born)


def _sound(uid: int, base: str, info: str, least: int) -> bool:
    name = base + info
    return f",U={uid}," in f"{base}," and least >= 0 and "/" not in name and name.isascii() and name.isprintable()


def _words(db: sqlite3.Connection, key: int) -> dict[int, str]:
    return dict(db.execute("SELECT uid, words FROM keywords WHERE key = ?", (key,)).fetchall())


def _merge_words(db: sqlite3.Connection, key: int, words: Mapping[int, tuple[str, str]]) -> None:
    """Another process may have changed others of them meanwhile: those stay as they are."""
    known = _words(db, key)
    merged: list[tuple[int, int, str]] = []
    for uid, (before, after) in words.items():
        removed = set(before.split()) - set(after.split())
        merged.append((key, uid, " ".join(sorted(set(known.get(uid, "").split()) - removed | set(after.split())))))
    db.executemany("INSERT OR REPLACE INTO keywords VALUES (?, ?, ?)", (row for row in merged if row[2]))
    db.executemany("DELETE FROM keywords WHERE key = ? AND uid = ?", (row[:2] for row in merged if not row[2]))


def _trim(db: sqlite3.Connection, key: int) -> None:
    """Forgets the oldest expunges, half of them, when there are many; the horizon moves up to them."""
    (count,) = db.execute("SELECT count(*) FROM vanished WHERE key = ?", (key,)).fetchone()
    (messages,) = db.execute("SELECT count(*) FROM flags WHERE key = ?", (key,)).fetchone()
    kept = max(EXPUNGES, messages)
    if count <= 2 * kept:
        return
    query = "SELECT modseq FROM vanished WHERE key = ? ORDER BY modseq DESC LIMIT 1 OFFSET ?"
    (cut,) = db.execute(query, (key, kept)).fetchone()
    db.execute("DELETE FROM vanished WHERE key = ? AND modseq <= ?", (key, cut))
    db.execute("UPDATE mailboxes SET horizon = max(horizon, ?) WHERE key = ?", (cut, key))
