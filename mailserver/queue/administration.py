"""What administrators do with the queue: look at entries that a filter selects, and change them.

Promises   Memory is bounded, however long the queue is: entries are read one by one, and changed in transactions of
           `BATCH` entries, with a pause between them for the server. A server that runs sees a change at its next look;
           what it works on meanwhile ends first. What was done stands in the history.
On failure QueueError. Batches that were done before stay done: the same command goes on with the rest.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from mailserver.mail import MailParameters, Reply
from mailserver.queue import rows
from mailserver.queue.bodies import Bodies
from mailserver.queue.database import Database, is_damage
from mailserver.queue.filter import EVERYTHING, NAMED, Filter
from mailserver.queue.history import NO_HISTORY, History
from mailserver.queue.model import Entry, NoSuchEntry, Standing, State

BATCH = 2000
PAUSE = 0.005  # seconds between two transactions, so that the server's own find their turn

# Tried before, or never held: what is held until a time has that time as its first one.
RELEASED = "(release IS NULL OR due != release)"

_OF = "entry IN (SELECT value FROM json_each(?))"
_DOMAIN = "substr(address, length(rtrim(address, replace(address, '@', ''))) + 1)"
"""What stands behind the last @."""

_FORGET = (
    "attempts = 0, waited = 0.0, failed = 0, last_attempt = ?, code = NULL, enhanced = NULL, text = NULL, host = NULL"
)

Change = Callable[[sqlite3.Connection, str, list[object]], list[str]]
"""Changes what a condition selects, in the transaction that is open; gives the ids of what changed."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one domain: how many recipients, since when the oldest, and the last reply to any of them."""

    domain: str
    recipients: int
    oldest: float
    reply: Reply | None


class Administration:
    """Blocking; safe for threads and beside other processes."""

    def __init__(
        self,
        database: Database,
        bodies: Bodies,
        history: History = NO_HISTORY,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._bodies = bodies
        self._history = history
        self._clock = clock

    # Looking

    def entries(self, filter: Filter = EVERYTHING, *, limit: int | None = None) -> Iterator[Entry]:
        """What the filter selects, the oldest first. Unreadable ones are empty but for id and state.

        What is removed meanwhile is left out. Raises QueueError.
        """
        where, values = filter.where(self._clock())
        with self._database.aside() as db:
            # The order is kept in a table on disk: a transaction that lasts while the entries are being printed would
            # keep the log of the database from being taken in.
            db.execute(
                f"CREATE TEMP TABLE chosen AS SELECT id FROM entry WHERE {where} "  # noqa: S608 - no values
                "ORDER BY created, id LIMIT ?",
                (*values, -1 if limit is None else limit),
            )
            (count,) = db.execute("SELECT count(*) FROM chosen").fetchone()
            for number in range(1, count + 1):
                (id,) = db.execute("SELECT id FROM chosen WHERE rowid = ?", (number,)).fetchone()
                try:
                    yield _shown(db, id)
                except NoSuchEntry:
                    continue

    def show(self, id: str) -> Entry:
        """Raises NoSuchEntry."""
        with self._database.reading() as db:
            return _shown(db, id)

    def counts(self, filter: Filter = EVERYTHING) -> dict[Standing, int]:
        """How many entries of each kind there are."""
        where, values = filter.where(self._clock())
        found = dict.fromkeys(Standing, 0)
        with self._database.aside() as db:
            for leased in ("NOT NULL", "NULL"):  # there is an index for each
                counted = f"SELECT state, count(*) FROM entry WHERE lease IS {leased} AND {where} GROUP BY state"  # noqa: S608
                for state, count in db.execute(counted, values):
                    found[_standing(state, leased == "NOT NULL")] += count
        return found

    def backlogs(self, filter: Filter = EVERYTHING, *, limit: int = 20) -> list[Backlog]:
        """Of the domains for which most recipients wait."""
        where, values = filter.where(self._clock())
        waiting = f"FROM recipient JOIN entry ON entry.id = recipient.entry WHERE {where}"
        with self._database.aside() as db:
            found = db.execute(
                f"SELECT {_DOMAIN} AS domain, count(*), min(created) {waiting} "
                "GROUP BY domain ORDER BY 2 DESC, 1 LIMIT ?",
                (*values, limit),
            ).fetchall()
            # SQLite takes the other columns from the row with the maximum.
            last = db.execute(
                f"SELECT {_DOMAIN} AS domain, max(last_attempt), code, enhanced, text {waiting} "  # noqa: S608
                "AND code IS NOT NULL AND domain IN (SELECT value FROM json_each(?)) GROUP BY domain",
                (*values, json.dumps([domain for domain, *_ in found])),
            )
            replies = {domain: rows.reply_of(*reply) for domain, _, *reply in last}
        return [Backlog(domain, count, oldest, replies.get(domain)) for domain, count, oldest in found]

    def standings(self, ids: Iterable[str]) -> dict[str, Standing]:
        """Of those entries that are there."""
        with self._database.reading() as db:
            found = db.execute(
                f"SELECT id, state, lease IS NOT NULL FROM entry WHERE {NAMED}",  # noqa: S608 - constant
                (json.dumps([*ids]),),
            )
            return {id: _standing(state, bool(leased)) for id, state, leased in found}

    # Changing: each gives the number of entries that changed

    def flush(self, filter: Filter) -> int:
        """Makes entries due now; those before their release only when they are named. Held ones stay held."""

        def change(db: sqlite3.Connection, where: str, values: list[object]) -> list[str]:
            ids = _updated(db, "due = 0.0", f"{where} AND state = 'queued' AND {_may_go(filter)}", values)
            _make_due(db, ids)
            return ids

        return self._change(filter, "flushed", change)

    def hold(self, filter: Filter) -> int:
        """Keeps entries from being tried."""

        def change(db: sqlite3.Connection, where: str, values: list[object]) -> list[str]:
            return _updated(db, "state = 'held'", f"{where} AND state = 'queued'", values)

        return self._change(filter, "held", change)

    def release(self, filter: Filter) -> int:
        """Lets held entries be tried, at once, and corrupt ones once more."""

        def change(db: sqlite3.Connection, where: str, values: list[object]) -> list[str]:
            held = _updated(db, "state = 'queued'", f"{where} AND state = 'held'", values)
            corrupt = _updated(db, "state = 'queued'", f"{where} AND state = 'corrupt'", values)
            # What its sender wants to wait for still waits.
            _make_due(db, _updated(db, "due = 0.0", f"{NAMED} AND {RELEASED}", [json.dumps(held)]))
            return held + corrupt

        return self._change(filter, "released", change)

    def requeue(self, filter: Filter) -> int:
        """Forgets what was tried, as if the entries had just come; they are due now. Held ones stay held."""

        def change(db: sqlite3.Connection, where: str, values: list[object]) -> list[str]:
            ids = _selected(db, f"{where} AND state IN ('queued', 'held')", values)
            due = _updated(db, "due = 0.0", f"{NAMED} AND {_may_go(filter)}", [json.dumps(ids)])
            # What still waits for its release was not tried.
            db.execute(f"UPDATE recipient SET {_FORGET} WHERE {_OF}", (self._clock(), json.dumps(due)))  # noqa: S608
            _make_due(db, due)
            return ids

        return self._change(filter, "requeued", change)

    def reroute(self, filter: Filter, via: str | None) -> int:
        """Sends entries by this transport, or as the routing table has it, and makes them due. Held ones stay held."""

        def change(db: sqlite3.Connection, where: str, values: list[object]) -> list[str]:
            ids = _updated(db, "via = ?", f"{where} AND state IN ('queued', 'held')", [via, *values])
            _make_due(db, _updated(db, "due = 0.0", f"{NAMED} AND {_may_go(filter)}", [json.dumps(ids)]))
            return ids

        return self._change(filter, "rerouted", change, via=via or "table")

    def remove(self, filter: Filter) -> int:
        """Deletes entries for ever, without telling their senders."""

        def change(db: sqlite3.Connection, where: str, values: list[object]) -> list[str]:
            ids = _selected(db, where, values)
            named = (json.dumps(ids),)
            db.execute(f"DELETE FROM body WHERE {_OF}", named)  # noqa: S608 - constant
            db.execute(f"DELETE FROM recipient WHERE {_OF}", named)  # noqa: S608 - constant
            db.execute(f"DELETE FROM entry WHERE {NAMED}", named)  # noqa: S608 - constant
            return ids

        return self._change(filter, "removed", change, then=self._bodies.remove)

    def _change(
        self,
        filter: Filter,
        action: str,
        change: Change,
        *,
        then: Callable[[str], object] | None = None,
        via: str = "",
    ) -> int:
        where, values = filter.where(self._clock())
        changed = 0
        for batch in self._batches(filter, where, values):
            with self._database.writing() as db:
                ids = change(db, f"{NAMED} AND {where}", [json.dumps(batch), *values])
            if then is not None:
                for id in ids:
                    then(id)
            self._history.administered(action, ids, via=via)
            self._history.flush()
            changed += len(ids)
            time.sleep(PAUSE)
        return changed

    def _batches(self, filter: Filter, where: str, values: list[object]) -> Iterator[list[str]]:
        """The ids of what is selected; each look is at a bounded part of the queue, however few of it are."""
        for part, bounds in self._named(filter) if filter.ids else self._parts():
            with self._database.reading() as db:
                found = _selected(db, f"{part} AND {where}", [*bounds, *values])
            if found:
                yield found

    def _named(self, filter: Filter) -> Iterator[tuple[str, tuple[str, ...]]]:
        ids = iter(filter.ids)
        while batch := list(islice(ids, BATCH)):
            yield NAMED, (json.dumps(batch),)

    def _parts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        last = ""
        while True:
            with self._database.reading() as db:
                step = "SELECT id FROM entry WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
                row = db.execute(step, (last, BATCH - 1)).fetchone()
            if row is None:
                yield "id > ?", (last,)
                return
            yield "id > ? AND id <= ?", (last, row[0])
            last = row[0]


def _may_go(filter: Filter) -> str:
    """Whoever names an entry wants it to go, even before its release."""
    return "1" if filter.names_only else RELEASED


def _standing(state: str, leased: bool) -> Standing:
    try:
        found = Standing(state)
    except ValueError:
        return Standing.CORRUPT
    return Standing.ACTIVE if leased and found is Standing.QUEUED else found


def _selected(db: sqlite3.Connection, where: str, values: list[object]) -> list[str]:
    return [id for (id,) in db.execute(f"SELECT id FROM entry WHERE {where}", values)]  # noqa: S608 - no values


def _updated(db: sqlite3.Connection, assignments: str, where: str, values: list[object]) -> list[str]:
    changed = db.execute(f"UPDATE entry SET {assignments} WHERE {where} RETURNING id", values)  # noqa: S608 - no values
    return [id for (id,) in changed]


def _make_due(db: sqlite3.Connection, ids: list[str]) -> None:
    """At 0: whoever looks at a recipient sees that an administrator wants it."""
    db.execute(f"UPDATE recipient SET next_attempt = 0.0 WHERE {_OF}", (json.dumps(ids),))  # noqa: S608 - constant


def _shown(db: sqlite3.Connection, id: str) -> Entry:
    try:
        return rows.load(db, id)
    except (ValueError, TypeError, sqlite3.DatabaseError) as error:
        if isinstance(error, sqlite3.DatabaseError) and not is_damage(error):
            raise
        return Entry(rows.printable(id), State.CORRUPT, None, MailParameters(), 0.0, False, 0, b"", ())
