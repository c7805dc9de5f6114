"""The queue's operations. Blocking; safe for threads (one connection behind a lock) and for several processes.

A batch of new entries is one commit, so one sync of the write-ahead log serves all who wait. Bodies are written before
the lock is taken: a large one keeps nobody else waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mailserver.mail import Content, MailParameters
from mailserver.mail.address import forms_of_domain
from mailserver.queue import rows
from mailserver.queue.bodies import Bodies, sync_directory
from mailserver.queue.model import Entry, EntryLost, NewEntry, NoSuchEntry, QueuedRecipient, QueueError, State

log = logging.getLogger(__name__)

INLINE_LIMIT = 64 * 1024
BUSY_TIMEOUT = 15.0  # seconds to wait for another process

# Tried before, or never held: what is held until a time has that time as its first one.
_RELEASED = "(release IS NULL OR due != release)"
_ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"


def _new_id() -> str:
    """50 random bits, in letters that nobody mistakes for one another on the telephone."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(10))


@dataclass(frozen=True, slots=True)
class _Ready:
    """A message whose body is in memory, or when `inline` is None in a file of the name `id`."""

    id: str
    inline: bytes | None


class Queue:
    def __init__(self, directory: Path) -> None:
        """Opens the queue, and makes it when it is missing. Raises QueueError."""
        try:
            if not directory.is_dir():
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_directory(directory.parent)
            self._bodies = Bodies(directory / "bodies")
            self._path = directory / "queue.db"
            self._db = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                sync_directory(directory)  # the names of the database and of its log
                self._file = _identity(self._path)
            except BaseException:
                self._db.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise QueueError(f"the queue in {directory} cannot be opened: {error}") from error
        self._lock = threading.Lock()
        self._lease: int | None = None

    def _prepare(self) -> None:
        db = self._db
        db.text_factory = bytes.decode  # so that broken text is a ValueError, and of one entry only
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
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
            if self._lease is not None:
                os.close(self._lease)
                self._lease = None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise QueueError(f"the queue cannot be read: {error}") from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; durable when the block has ended without an exception."""
        with self._lock:
            self._check_place()
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise QueueError(f"the queue cannot be written: {error}") from error
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _check_place(self) -> None:
        """A database that was removed or moved away while it is open still takes writes, which nobody would find."""
        try:
            found = _identity(self._path)
        except OSError as error:
            raise QueueError(f"the queue is not at its place: {error}") from error
        if found != self._file:
            raise QueueError(f"{self._path} is another file than the one that was opened; start the server again")

    # New entries

    def add(self, batch: Sequence[NewEntry]) -> list[str | Exception]:
        """Queues messages in one commit. For each its id, durable now, or a QueueError: then nothing is left of it."""
        ready = self._write_bodies(batch)
        try:
            with self._writing() as db:
                for new, item in zip(batch, ready, strict=True):
                    if isinstance(item, _Ready):
                        rows.insert(db, item.id, new, item.inline)
        except QueueError as error:
            self._discard(ready)
            return [error] * len(batch)
        return [item.id if isinstance(item, _Ready) else item for item in ready]

    def _write_bodies(self, batch: Sequence[NewEntry]) -> list[_Ready | QueueError]:
        ready = [self._write_body(new) for new in batch]
        if any(isinstance(item, _Ready) and item.inline is None for item in ready):
            try:
                self._bodies.sync()
            except OSError as error:
                self._discard(ready)
                return [QueueError(f"a body cannot be written: {error}")] * len(batch)
        return ready

    def _write_body(self, new: NewEntry) -> _Ready | QueueError:
        if not new.envelope.recipients:
            return QueueError("a message without recipients")
        id = _new_id()
        try:
            if new.content.size <= INLINE_LIMIT:
                inline = b"".join(new.content.chunks())
                if len(inline) != new.content.size:
                    raise OSError("the content is not complete")
                return _Ready(id, inline)
            self._bodies.write(id, new.content)
        except OSError as error:
            return QueueError(f"a body cannot be written: {error}")
        return _Ready(id, None)

    def _discard(self, ready: Iterable[_Ready | QueueError]) -> None:
        for item in ready:
            if isinstance(item, _Ready) and item.inline is None:
                self._bodies.remove(item.id)

    # The queue manager's side

    def lead(self) -> bool:
        """Makes this process the one that delivers, until `close` or its end; False while another one is.

        Two that deliver from one queue would send everything twice. Raises QueueError.
        """
        with self._lock:
            if self._lease is None:
                try:
                    lease = os.open(self._path.with_name("lead"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    try:
                        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:
                        os.close(lease)
                        raise
                except BlockingIOError:
                    return False
                except OSError as error:
                    raise QueueError(f"the queue cannot be locked: {error}") from error
                self._lease = lease
            return True

    def due(self, now: float, *, horizon: float, limit: int, exclude: Collection[str] = ()) -> list[Entry]:
        """Up to `limit` entries whose time has come, the most urgent first, and of these the longest due.

        No attempt is ever planned further ahead than `horizon` seconds: an entry whose time lies beyond was planned
        before the clock was set back, and is due as well; but nothing is due before its release.
        """
        conditions = (("due <= ?", now), (f"due > ? AND {_RELEASED}", now + horizon))
        with self._reading() as db:
            found: list[str] = []
            for priority in _priorities(db):
                for condition, bound in conditions:
                    hits = db.execute(
                        "SELECT id FROM entry "  # noqa: S608 - constants
                        f"WHERE state = 'queued' AND priority = ? AND {condition} ORDER BY due LIMIT ?",
                        (priority, bound, limit + len(exclude)),
                    )
                    found += (id for (id,) in hits if id not in exclude)
                if len(found) >= limit:
                    break
            return [entry for id in found[:limit] if (entry := self._read(db, id)) is not None]

    def _read(self, db: sqlite3.Connection, id: str) -> Entry | None:
        """None: the entry was removed meanwhile, or could not be read and was set aside."""
        try:
            return _load(db, id)
        except NoSuchEntry:
            return None
        except (ValueError, TypeError) as error:
            log.error("queue=%s cannot be read and is set aside: %s", id, error)
            _set_aside(db, id)
            return None

    def content(self, id: str) -> Content:
        """The message without `Entry.header`.

        Raises NoSuchEntry; EntryLost, and the entry is set aside; QueueError when it cannot be read now.
        """
        with self._reading() as db:
            row = db.execute(
                "SELECT size - length(header), content, entry FROM entry LEFT JOIN body ON entry = id WHERE id = ?",
                (id,),
            ).fetchone()
            if row is None:
                raise NoSuchEntry(f"no entry {id} in the queue")
            size, inline, present = row
            try:
                if present is None:
                    raise ValueError("the body is missing")
                content = self._bodies.open(id) if inline is None else Content(inline)
                if content.size != size:
                    raise ValueError(f"the body has {content.size} octets and not {size}")
            except (FileNotFoundError, ValueError) as error:
                self._check_place()
                log.error("queue=%s has lost its body and is set aside: %s", id, error)
                _set_aside(db, id)
                raise EntryLost(f"the body of {id} is lost: {error}") from error
            except OSError as error:  # too many open files, say: nothing is wrong with the entry
                raise QueueError(f"the body of {id} cannot be read now: {error}") from error
            return content

    def record(
        self,
        id: str,
        *,
        keep: Iterable[QueuedRecipient] = (),
        forget: Iterable[int] = (),
        warned: bool = False,
        reports: Sequence[NewEntry] = (),
    ) -> list[str]:
        """What an attempt led to, in one transaction: the ids of the reports, which are queued with it.

        `keep` replaces recipients of the same number, `forget` drops the numbers; an entry without recipients is
        deleted. Raises NoSuchEntry when the entry was removed meanwhile (then there is nothing to report), QueueError.
        """
        ready = self._write_bodies(reports)
        try:
            gone = self._record(id, keep, forget, warned, reports, ready)
        except QueueError:
            self._discard(ready)
            raise
        if gone:
            self._bodies.remove(id)
        return [item.id for item in ready if isinstance(item, _Ready)]

    def _record(
        self,
        id: str,
        keep: Iterable[QueuedRecipient],
        forget: Iterable[int],
        warned: bool,
        reports: Sequence[NewEntry],
        ready: Sequence[_Ready | QueueError],
    ) -> bool:
        with self._writing() as db:
            if db.execute("SELECT 1 FROM entry WHERE id = ?", (id,)).fetchone() is None:
                raise NoSuchEntry(f"no entry {id} in the queue")
            db.executemany("DELETE FROM recipient WHERE entry = ? AND number = ?", [(id, number) for number in forget])
            rows.put_recipients(db, id, keep)
            for report, item in zip(reports, ready, strict=True):
                if not isinstance(item, _Ready):
                    raise item
                rows.insert(db, item.id, report, item.inline)
            (due,) = db.execute("SELECT min(next_attempt) FROM recipient WHERE entry = ?", (id,)).fetchone()
            if due is None:
                db.execute("DELETE FROM entry WHERE id = ?", (id,))
                return True
            db.execute("UPDATE entry SET due = ?, warned = max(warned, ?) WHERE id = ?", (due, warned, id))
            return False

    def sweep(self) -> int:
        """Removes body files that a crash left without an entry, once they are a day old; gives their number."""
        with self._reading() as db:
            known = {id for (id,) in db.execute("SELECT id FROM entry")}
        try:
            orphans = self._bodies.sweep(known)
        except OSError as error:
            raise QueueError(f"the bodies cannot be listed: {error}") from error
        for name in orphans:
            log.warning("queue: body %r without an entry removed", name)
        return len(orphans)

    # The administrator's side; a running server sees these changes at its next look

    def list(self) -> list[Entry]:
        """All entries, the oldest first. Unreadable ones are empty but for id, state and what else can be read."""
        with self._reading() as db:
            ids = [id for (id,) in db.execute("SELECT id FROM entry ORDER BY created, id")]
            return [self._shown(db, id) for id in ids]

    def show(self, id: str) -> Entry:
        """Raises NoSuchEntry."""
        with self._reading() as db:
            return self._shown(db, id)

    def _shown(self, db: sqlite3.Connection, id: str) -> Entry:
        try:
            return _load(db, id)
        except (ValueError, TypeError):
            return Entry(id, State.CORRUPT, None, MailParameters(), 0.0, False, 0, b"", ())

    def flush(self, ids: Collection[str] | None = None) -> int:
        """Makes entries due now: those named, or all but those before their release. Held ones stay held.

        Gives the number of those that changed.
        """
        with self._writing() as db:
            if ids is None:
                ids = [id for (id,) in db.execute(f"SELECT id FROM entry WHERE {_RELEASED}")]  # noqa: S608 - constant
            flushed = 0
            for id in ids:
                if db.execute("UPDATE entry SET due = 0.0 WHERE id = ? AND state = 'queued'", (id,)).rowcount:
                    db.execute("UPDATE recipient SET next_attempt = 0.0 WHERE entry = ?", (id,))
                    flushed += 1
            return flushed

    def flush_domain(self, domain: str, *, subdomains: bool = False) -> int:
        """As `flush`, for the entries that have a recipient in a domain, or below it, however it is written."""
        patterns = []
        for form in forms_of_domain(domain.lower()):
            escaped = form.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
            patterns += [f"%@{escaped}", *([f"%.{escaped}"] if subdomains else [])]
        with self._reading() as db:
            wanted = " OR ".join(["address LIKE ? ESCAPE '\\'"] * len(patterns))
            named = f"SELECT entry FROM recipient WHERE {wanted}"  # noqa: S608 - placeholders
            hits = db.execute(f"SELECT id FROM entry WHERE {_RELEASED} AND id IN ({named})", patterns)  # noqa: S608
            ids = [id for (id,) in hits]
        return self.flush(ids)

    def hold(self, ids: Collection[str]) -> int:
        """Keeps entries from being tried; gives the number of those that changed."""
        return self._move(ids, State.QUEUED, State.HELD)

    def release(self, ids: Collection[str]) -> int:
        """Lets held entries be tried again, and corrupt ones once more; gives the number of those that changed."""
        return self._move(ids, State.HELD, State.QUEUED) + self._move(ids, State.CORRUPT, State.QUEUED)

    def _move(self, ids: Collection[str], old: State, new: State) -> int:
        with self._writing() as db:
            return sum(
                db.execute("UPDATE entry SET state = ? WHERE id = ? AND state = ?", (new, id, old)).rowcount
                for id in ids
            )

    def remove(self, ids: Collection[str]) -> int:
        """Deletes entries for ever, without telling their senders; gives their number."""
        with self._writing() as db:
            gone = [id for id in ids if db.execute("DELETE FROM entry WHERE id = ?", (id,)).rowcount]
        for id in gone:
            self._bodies.remove(id)
        return len(gone)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _priorities(db: sqlite3.Connection) -> Iterator[int]:
    """Those that queued entries have, from the top; each is one step in the index, however many entries there are."""
    below = 1000
    while True:
        query = "SELECT max(priority) FROM entry WHERE state = 'queued' AND priority < ?"
        (priority,) = db.execute(query, (below,)).fetchone()
        if priority is None:
            return
        yield priority
        below = priority


def _load(db: sqlite3.Connection, id: str) -> Entry:
    """Raises NoSuchEntry; ValueError or TypeError when it cannot be read."""
    db.execute("BEGIN")  # one state of both tables, whatever another process does meanwhile
    try:
        row = db.execute(
            f"SELECT {rows.ENTRY_COLUMNS} FROM entry WHERE id = ?",  # noqa: S608 - constants
            (id,),
        ).fetchone()
        if row is None:
            raise NoSuchEntry(f"no entry {id} in the queue")
        recipients = db.execute(
            f"SELECT {rows.RECIPIENT_COLUMNS} FROM recipient WHERE entry = ? ORDER BY number",  # noqa: S608 - constants
            (id,),
        )
        return rows.entry_of(row, recipients)
    finally:
        db.execute("COMMIT")


def _set_aside(db: sqlite3.Connection, id: str) -> None:
    db.execute("UPDATE entry SET state = ? WHERE id = ?", (State.CORRUPT, id))
