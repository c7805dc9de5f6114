"""The queue's operations. Blocking; safe for threads (one connection behind a lock) and for several processes.

A batch of new messages is one commit, so one sync of the write-ahead log serves all who wait. Bodies are written before
the lock is taken: a large one keeps nobody else waiting. A message that becomes several entries is queued in all of
them, or not at all.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mailserver.mail import Content
from mailserver.queue import rows, salvage
from mailserver.queue.administration import RELEASED, Administration
from mailserver.queue.bodies import Bodies
from mailserver.queue.database import Database, is_damage, sync_directory
from mailserver.queue.filter import Filter
from mailserver.queue.history import NO_HISTORY, History
from mailserver.queue.lease import Lease
from mailserver.queue.model import (
    Attempted,
    Entry,
    EntryLost,
    LeaseLost,
    NewEntry,
    NoSuchEntry,
    QueueError,
    State,
    Taken,
)

log = logging.getLogger(__name__)

INLINE_LIMIT = 64 * 1024

_ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"


def _new_id() -> str:
    """50 random bits, in letters that nobody mistakes for one another on the telephone."""
    bits = secrets.randbits(50)
    return "".join(_ID_LETTERS[bits >> shift & 31] for shift in range(0, 50, 5))


DEFERRED = "deferred"


class Waiting(NamedTuple):
    """How many entries, and when the oldest of them came."""

    entries: int
    oldest: float | None


NOTHING_WAITS = Waiting(0, None)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A message whose body is in memory, or when `inline` is None in a file of the name `id`."""

    id: str
    inline: bytes | None


class Queue:
    def __init__(self, directory: Path, history: History = NO_HISTORY) -> None:
        """Opens the queue, and makes it when it is missing. `history` hears what administrators do.

        Raises QueueError.
        """
        try:
            if not directory.is_dir():
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_directory(directory.parent)
            self._directory = directory
            self._bodies = Bodies(directory / "bodies")
            salvage.mend(directory)
            self._database = Database(directory / "queue.db")
        except (OSError, sqlite3.Error) as error:
            raise QueueError(f"the queue in {directory} cannot be opened: {error}") from error
        self._reading, self._writing = self._database.reading, self._database.writing
        self.administration = Administration(self._database, self._bodies, history)
        self._lease = Lease(self._database, directory / "lead")
        self._damaged: set[str] = set()  # entries that cannot even be marked as such

    def close(self) -> None:
        self._lease.give_up()
        self._database.close()

    # New entries

    def add(self, batch: Sequence[NewEntry]) -> list[str | Exception]:
        """Queues messages in one commit. For each its id, durable now, or a QueueError: then nothing is left of it."""
        taken = self.add_and_take([(new,) for new in batch], room=0)
        return [each if isinstance(each, Exception) else each[0].entry.id for each in taken]

    def add_and_take(self, batch: Sequence[Sequence[NewEntry]], *, room: int) -> list[list[Taken] | Exception]:
        """As `add`, for messages of several entries each, which are queued together or, with a QueueError, not at all.

        When this process leads up to `room` of the entries are its to work on at once, as from `due`.
        """
        ready = self._write_bodies(batch)
        leads = self.leads
        results: list[list[Taken] | Exception] = []
        try:
            with self._writing() as db:
                for entries, items in zip(batch, ready, strict=True):
                    if isinstance(items, QueueError):
                        results.append(items)
                        continue
                    taken = []
                    for new, item in zip(entries, items, strict=True):
                        active = leads and room > 0 and new.envelope.parameters.release is None
                        room -= active
                        entry = rows.entry_of_new(item.id, new, active=active)
                        rows.insert(db, entry, item.inline, lease=self._lease.token if active else None)
                        taken.append(Taken(entry, item.inline))
                    results.append(taken)
        except QueueError as error:
            for items in ready:
                self._discard(items)
            return [error] * len(batch)
        return results

    def _write_bodies(self, batch: Sequence[Sequence[NewEntry]]) -> list[list[_Ready] | QueueError]:
        """For each group of entries; the bodies are there, or none of the group is."""
        ready = [self._write_group(entries) for entries in batch]
        if any(item.inline is None for items in ready if not isinstance(items, QueueError) for item in items):
            try:
                self._bodies.sync()
            except OSError as error:
                for items in ready:
                    self._discard(items)
                return [QueueError(f"a body cannot be written: {error}")] * len(batch)
        return ready

    def _write_group(self, entries: Sequence[NewEntry]) -> list[_Ready] | QueueError:
        ready: list[_Ready] = []
        for new in entries:
            item = self._write_body(new)
            if isinstance(item, QueueError):
                self._discard(ready)
                return item
            ready.append(item)
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

    def _discard(self, ready: Iterable[_Ready] | QueueError) -> None:
        for item in () if isinstance(ready, QueueError) else ready:
            if item.inline is None:
                self._bodies.remove(item.id)

    # The queue manager's side

    def lead(self) -> bool:
        """Makes this process the one that delivers; False while another one is. To be called again every few seconds.

        Two that deliver from one queue would send everything twice. Raises QueueError.
        """
        return self._lease.take()

    @property
    def leads(self) -> bool:
        """Does the lease of the last `lead` still hold? Without it nothing is sent. Costs nothing."""
        return self._lease.held

    def due(self, now: float, *, horizon: float, limit: int, far: bool = True) -> list[Entry]:
        """Takes up to `limit` entries whose time has come, the most urgent first, and of these the longest due.

        They are this process's to work on, as long as it leads, until `record` says that the work has ended. `far`: no
        attempt is ever planned further ahead than `horizon` seconds, so an entry whose time lies beyond was planned
        before the clock was set back, and is due as well; but nothing is due before its release.
        """
        conditions = [("due <= ?", now), *([(f"due > ? AND {RELEASED}", now + horizon)] if far else [])]
        found: list[Entry] = []
        # Read before the transaction: SQLite writes nothing in one in which it met a broken page.
        with self._reading() as db:
            for priority in _priorities(db):
                for condition, bound in conditions:
                    if (room := limit - len(found)) > 0:
                        ids = self._waiting(db, priority, condition, bound, room)
                        found += [entry for id in ids if (entry := self._read(db, id)) is not None]
        if not found:
            return []
        if not self._lease.token:
            raise QueueError("the queue is not led by this process")
        take = "UPDATE entry SET lease = ? WHERE id = ? AND lease IS NULL AND state = 'queued'"
        with self._writing(durable=False) as db:
            return [entry for entry in found if db.execute(take, (self._lease.token, entry.id)).rowcount]

    def _waiting(self, db: sqlite3.Connection, priority: int, condition: str, bound: float, limit: int) -> list[str]:
        hits = db.execute(
            "SELECT id FROM entry "  # noqa: S608 - constants
            f"WHERE lease IS NULL AND state = 'queued' AND priority = ? AND {condition} ORDER BY due LIMIT ?",
            (priority, bound, limit + len(self._damaged)),
        )
        return [id for (id,) in hits if id not in self._damaged][:limit]

    def _read(self, db: sqlite3.Connection, id: str) -> Entry | None:
        """None: the entry could not be read and was set aside."""
        try:
            return rows.load(db, id)
        except NoSuchEntry:
            return None
        except (ValueError, TypeError) as error:
            self._set_aside(db, id, error)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._set_aside(db, id, error)
        return None

    def _set_aside(self, db: sqlite3.Connection, id: str, error: Exception) -> None:
        log.error("queue=%s cannot be read and is set aside: %s", rows.printable(id), error)
        try:
            db.execute("UPDATE entry SET state = ?, lease = NULL WHERE id = ?", (State.CORRUPT, id))
        except (sqlite3.DatabaseError, UnicodeEncodeError) as failure:
            if isinstance(failure, sqlite3.DatabaseError) and not is_damage(failure):
                raise
            self._damaged.add(id)

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
                self._database.check_place()
                self._set_aside(db, id, error)
                raise EntryLost(f"the body of {id} is lost: {error}") from error
            except OSError as error:  # too many open files, say: nothing is wrong with the entry
                raise QueueError(f"the body of {id} cannot be read now: {error}") from error
            return content

    def contents(self, ids: Sequence[str]) -> list[Content | Exception]:
        """`content` of several entries at once."""
        found: list[Content | Exception] = []
        for id in ids:
            try:
                found.append(self.content(id))
            except QueueError as error:
                found.append(error)
        return found

    def record(self, batch: Sequence[Attempted]) -> list[list[str] | Exception]:
        """What attempts led to, in one commit; for each of them the ids of its reports, which are queued with it.

        An entry without recipients is deleted. Instead of ids NoSuchEntry when the entry was removed meanwhile (then
        there is nothing to report), LeaseLost, or QueueError: then nothing of it was recorded.
        """
        ready = self._write_bodies([attempted.reports for attempted in batch])
        results: list[list[str] | Exception] = []
        gone: list[str] = []
        try:
            with self._writing() as db:
                for attempted, bodies in zip(batch, ready, strict=True):
                    try:
                        results.append(self._record(db, attempted, bodies, gone))
                    except QueueError as error:
                        results.append(error)
        except QueueError as error:
            if len(batch) > 1:  # one of them may have met a broken page, in the way of all
                for bodies in ready:
                    self._discard(bodies)
                return [self.record([attempted])[0] for attempted in batch]
            results, gone = [error], []
        for result, bodies in zip(results, ready, strict=True):
            if isinstance(result, Exception):
                self._discard(bodies)
        for id in gone:
            self._bodies.remove(id)
        return results

    def _record(
        self, db: sqlite3.Connection, attempted: Attempted, bodies: list[_Ready] | QueueError, gone: list[str]
    ) -> list[str]:
        """Raises before the first change, but for LeaseLost."""
        id = attempted.id
        row = db.execute(
            "SELECT lease, content IS NULL FROM entry LEFT JOIN body ON entry = id WHERE id = ?", (id,)
        ).fetchone()
        if row is None:
            raise NoSuchEntry(f"no entry {id} in the queue")
        if isinstance(bodies, QueueError):
            raise bodies
        fenced = row[0] not in (None, self._lease.token)
        forgotten = attempted.served if fenced else (*attempted.served, *attempted.told)
        db.executemany("DELETE FROM recipient WHERE entry = ? AND number = ?", [(id, number) for number in forgotten])
        if fenced:
            raise LeaseLost(f"another process works on {id} now")
        rows.update_recipients(db, id, attempted.keep)
        for report, item in zip(attempted.reports, bodies, strict=True):
            rows.insert(db, rows.entry_of_new(item.id, report, active=False), item.inline)
        (due,) = db.execute("SELECT min(next_attempt) FROM recipient WHERE entry = ?", (id,)).fetchone()
        if due is None:
            rows.delete(db, id)
            if row[1]:
                gone.append(id)
        else:
            lease = None if attempted.ended else row[0]
            values = (max(due, attempted.not_before), attempted.warned, lease, id)
            db.execute("UPDATE entry SET due = ?, warned = max(warned, ?), lease = ? WHERE id = ?", values)
            if attempted.hold:
                hold = "UPDATE entry SET state = ? WHERE id = ? AND state = ?"
                db.execute(hold, (State.HELD, id, State.QUEUED))
        return [item.id for item in bodies]

    def census(self, now: float) -> dict[str, Waiting]:
        """What waits, by state; of what is queued, that whose next attempt lies ahead is "deferred".

        From the indexes alone: 0.2 s for a million entries, and nobody waits for it. Raises QueueError.
        """
        with self._database.aside() as db:
            at_rest = db.execute(
                "SELECT state, count(*), total(due > ?1), min(CASE WHEN due > ?1 THEN NULL ELSE created END), "
                "min(CASE WHEN due > ?1 THEN created END) FROM entry WHERE lease IS NULL GROUP BY state",
                (now,),
            ).fetchall()
            active, oldest = db.execute("SELECT count(*), min(created) FROM entry WHERE lease IS NOT NULL").fetchone()
        found = dict.fromkeys((*map(str, State), DEFERRED), NOTHING_WAITS) | {"active": Waiting(active, oldest)}
        for state, count, ahead, due, deferred in at_rest:
            if state == State.QUEUED:
                found[state], found[DEFERRED] = Waiting(count - int(ahead), due), Waiting(int(ahead), deferred)
            elif state in found:
                found[state] = Waiting(count, min(filter(None, (due, deferred)), default=None))
        return found

    def sweep(self) -> int:
        """Removes body files that a crash left without an entry, once they are a day old; gives their number.

        None while a damaged database is kept: they may be of entries that could not be read.
        """
        try:
            if salvage.keeps(self._directory):
                return 0
            orphans = self._bodies.sweep(self._known)
        except OSError as error:
            raise QueueError(f"the bodies cannot be listed: {error}") from error
        for name in orphans:
            log.warning("queue: body %r without an entry removed", name)
        return len(orphans)

    def check(self) -> list[str]:
        """Looks through the whole database for damage, and says what there is; the next start mends it.

        Takes as long as reading it does, and keeps nobody waiting meanwhile. Raises QueueError.
        """
        try:
            found = salvage.faults(self._database.path)
            if found:
                salvage.mark(self._directory)
        except (OSError, sqlite3.Error) as error:
            raise QueueError(f"the queue cannot be checked: {error}") from error
        return found

    def _known(self, id: str) -> bool:
        with self._reading() as db:
            query = "SELECT 1 FROM entry WHERE id = ?1 UNION ALL SELECT 1 FROM body WHERE entry = ?1"
            return db.execute(query, (id,)).fetchone() is not None

    # The administrator's side: most of it is `administration`

    def list(self) -> list[Entry]:
        """All entries, the oldest first; for a queue that is known to be small."""
        return [*self.administration.entries()]

    def show(self, id: str) -> Entry:
        """Raises NoSuchEntry."""
        return self.administration.show(id)

    def flush_domain(self, domain: str, *, subdomains: bool = False) -> int:
        """Makes due what has a recipient in a domain, or below it, however it is written; gives the number."""
        return self.administration.flush(Filter(domain=f".{domain}" if subdomains else domain))


def _priorities(db: sqlite3.Connection) -> Iterator[int]:
    """Those that queued entries have, from the top; each is one step in the index, however many entries there are."""
    below = 1000
    while True:
        query = "SELECT max(priority) FROM entry WHERE lease IS NULL AND state = 'queued' AND priority < ?"
        (priority,) = db.execute(query, (below,)).fetchone()
        if priority is None:
            return
        yield priority
        below = priority
