"""The tables of the queue, and the way between rows and values.

Promises   `entry_of` never gives half an entry: what it cannot read in full it refuses.
On failure ValueError or TypeError for a row that is not of the form that `add` writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from mailserver.mail import Address, Body, DeliverBy, EnhancedCode, MailParameters, Notify, Reply, Return, restored
from mailserver.queue.model import Entry, NewEntry, NoSuchEntry, QueuedRecipient, State

VERSION = 7
REPLY_TEXT_LIMIT = 1000  # characters kept of a remote's words

# `due` is the earliest next attempt of an entry's recipients, kept here so that one index answers what is due.
# `by_mode` is N or R, perhaps with a T behind it, as in RFC 2852. `lease` is the token of the owner that works on the
# entry; `via` the transport that an administrator chose for it. `until` is in seconds since the start `boot`.
# `created` stands in the indexes so that they alone tell what waits since when, and `lease` since SQLite would look it
# up in the row otherwise.
SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    due REAL NOT NULL,
    created REAL NOT NULL,
    sender TEXT,
    body TEXT NOT NULL,
    smtputf8 INTEGER NOT NULL,
    ret TEXT,
    envid TEXT,
    requiretls INTEGER NOT NULL DEFAULT 0,
    release REAL,
    hold TEXT,
    deliver_by REAL,
    by_mode TEXT,
    priority INTEGER NOT NULL DEFAULT 0,
    warned INTEGER NOT NULL,
    size INTEGER NOT NULL,
    header BLOB NOT NULL,
    lease TEXT,
    via TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_turn ON entry (state, priority, due, created, lease) WHERE lease IS NULL;
CREATE INDEX IF NOT EXISTS entry_lease ON entry (lease, created) WHERE lease IS NOT NULL;
CREATE TABLE IF NOT EXISTS owner (
    token TEXT PRIMARY KEY,
    boot TEXT NOT NULL,
    until REAL NOT NULL,
    locked INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recipient (
    entry TEXT NOT NULL,
    number INTEGER NOT NULL,
    address TEXT NOT NULL,
    original TEXT,
    next_attempt REAL NOT NULL,
    last_attempt REAL NOT NULL,
    attempts INTEGER NOT NULL,
    waited REAL NOT NULL,
    failed INTEGER NOT NULL,
    code INTEGER,
    enhanced TEXT,
    text TEXT,
    host TEXT,
    notify TEXT,
    orcpt TEXT,
    final INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (entry, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS body (
    entry TEXT PRIMARY KEY,
    content BLOB
);
"""

MIGRATIONS = {
    1: """
ALTER TABLE entry ADD COLUMN ret TEXT;
ALTER TABLE entry ADD COLUMN envid TEXT;
ALTER TABLE entry ADD COLUMN requiretls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recipient ADD COLUMN notify TEXT;
ALTER TABLE recipient ADD COLUMN orcpt TEXT;
""",
    2: "ALTER TABLE entry ADD COLUMN release REAL;",
    3: """
ALTER TABLE entry ADD COLUMN hold TEXT;
ALTER TABLE entry ADD COLUMN deliver_by REAL;
ALTER TABLE entry ADD COLUMN by_mode TEXT;
ALTER TABLE entry ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
DROP INDEX IF EXISTS entry_due;
CREATE INDEX IF NOT EXISTS entry_turn ON entry (state, priority, due);
""",
    4: """
ALTER TABLE entry ADD COLUMN lease TEXT;
ALTER TABLE entry ADD COLUMN via TEXT;
DROP INDEX IF EXISTS entry_turn;
CREATE INDEX IF NOT EXISTS entry_turn ON entry (state, priority, due) WHERE lease IS NULL;
CREATE INDEX IF NOT EXISTS entry_lease ON entry (lease) WHERE lease IS NOT NULL;
CREATE TABLE IF NOT EXISTS owner (
    token TEXT PRIMARY KEY,
    boot TEXT NOT NULL,
    until REAL NOT NULL,
    locked INTEGER NOT NULL
) WITHOUT ROWID;
""",
    5: "ALTER TABLE recipient ADD COLUMN final INTEGER NOT NULL DEFAULT 0;",
    6: """
DROP INDEX IF EXISTS entry_turn;
CREATE INDEX IF NOT EXISTS entry_turn ON entry (state, priority, due, created, lease) WHERE lease IS NULL;
DROP INDEX IF EXISTS entry_lease;
CREATE INDEX IF NOT EXISTS entry_lease ON entry (lease, created) WHERE lease IS NOT NULL;
""",
}
"""What makes the next version of each one."""

PARAMETER_COLUMNS = "body, smtputf8, ret, envid, requiretls, release, hold, deliver_by, by_mode, priority"
ENTRY_COLUMNS = f"{PARAMETER_COLUMNS}, id, state, sender, created, warned, size, header, lease, via"
RECIPIENT_COLUMNS = (
    "number, address, original, next_attempt, last_attempt, attempts, waited, failed, code, enhanced, text, host, "
    "notify, orcpt, final"
)


def _insertion(table: str, columns: str) -> str:
    places = ", ".join("?" * len(columns.split(",")))
    return f"INSERT INTO {table} ({columns}) VALUES ({places})"  # noqa: S608 - constants


_INSERT_ENTRY = _insertion("entry", f"{ENTRY_COLUMNS}, due")
_INSERT_RECIPIENT = _insertion("recipient", f"entry, {RECIPIENT_COLUMNS}")


def entry_of_new(id: str, new: NewEntry, *, active: bool) -> Entry:
    """As it is when it has been inserted."""
    envelope = new.envelope
    release = envelope.parameters.release
    first_attempt = new.created if release is None else release
    return Entry(
        id=id,
        state=State.QUEUED,
        sender=envelope.sender,
        parameters=envelope.parameters,
        created=new.created,
        warned=False,
        size=len(new.header) + new.content.size,
        header=new.header,
        recipients=tuple(
            QueuedRecipient(
                number,
                recipient.address,
                recipient.original,
                first_attempt,
                first_attempt,
                notify=recipient.notify,
                orcpt=recipient.orcpt,
                final=recipient.final,
            )
            for number, recipient in enumerate(envelope.recipients)
        ),
        active=active,
    )


def insert(db: sqlite3.Connection, entry: Entry, inline: bytes | None, *, lease: str | None = None) -> None:
    """`inline` None: the body lies in a file."""
    row = (
        *_parameter_values(entry.parameters),
        entry.id,
        entry.state,
        None if entry.sender is None else str(entry.sender),
        entry.created,
        entry.warned,
        entry.size,
        entry.header,
        lease,
        entry.via,
        min(recipient.next_attempt for recipient in entry.recipients),
    )
    db.execute(_INSERT_ENTRY, row)
    db.executemany(_INSERT_RECIPIENT, ((entry.id, *_recipient_values(recipient)) for recipient in entry.recipients))
    db.execute("INSERT INTO body VALUES (?, ?)", (entry.id, inline))


def _parameter_values(asked: MailParameters) -> tuple[object, ...]:
    """For `PARAMETER_COLUMNS`."""
    by = asked.deliver_by
    mode = None if by is None else ("R" if by.returned else "N") + "T" * by.trace
    return (
        asked.body,
        asked.smtputf8,
        asked.ret,
        asked.envid,
        asked.requiretls,
        asked.release,
        asked.hold,
        None if by is None else by.time,
        mode,
        asked.priority,
    )


def delete(db: sqlite3.Connection, id: str) -> bool:
    """Was it there?"""
    db.execute("DELETE FROM body WHERE entry = ?", (id,))
    db.execute("DELETE FROM recipient WHERE entry = ?", (id,))
    return db.execute("DELETE FROM entry WHERE id = ?", (id,)).rowcount > 0


def update_recipients(db: sqlite3.Connection, id: str, recipients: Iterable[QueuedRecipient]) -> None:
    """Those that are still there: nobody who was served meanwhile comes back."""
    columns = ", ".join(f"{name} = ?" for name in RECIPIENT_COLUMNS.split(", ")[1:])
    db.executemany(
        f"UPDATE recipient SET {columns} WHERE number = ? AND entry = ?",  # noqa: S608 - constants
        ((*values[1:], values[0], id) for values in map(_recipient_values, recipients)),
    )


def _recipient_values(r: QueuedRecipient) -> tuple[object, ...]:
    """For `RECIPIENT_COLUMNS`."""
    return (
        r.number,
        str(r.address),
        None if r.original is None else str(r.original),
        r.next_attempt,
        r.last_attempt,
        r.attempts,
        r.waited,
        r.failed,
        None if r.reply is None else r.reply.code,
        None if r.reply is None or r.reply.enhanced is None else str(r.reply.enhanced),
        None if r.reply is None else r.reply.text[:REPLY_TEXT_LIMIT],
        r.host,
        None if r.notify is None else ",".join(sorted(r.notify)),
        r.orcpt,
        r.final,
    )


def load(db: sqlite3.Connection, id: str) -> Entry:
    """Raises NoSuchEntry; ValueError or TypeError when it cannot be read."""
    db.execute("BEGIN")  # one state of both tables, whatever another process does meanwhile
    try:
        row = db.execute(
            f"SELECT {ENTRY_COLUMNS} FROM entry WHERE id = ?",  # noqa: S608 - constants
            (id,),
        ).fetchone()
        if row is None:
            raise NoSuchEntry(f"no entry {id} in the queue")
        recipients = db.execute(
            f"SELECT {RECIPIENT_COLUMNS} FROM recipient WHERE entry = ? ORDER BY number",  # noqa: S608 - constants
            (id,),
        )
        return entry_of(_readable(row), map(_readable, recipients))
    finally:
        db.execute("COMMIT")


def printable(id: str) -> str:
    """An id that may be what cannot be read."""
    return id.encode(errors="backslashreplace").decode()


def _readable(row: tuple[object, ...]) -> tuple[object, ...]:
    """Raises ValueError for text that is no UTF-8 on disk."""
    for value in row:
        if isinstance(value, str):
            value.encode()
    return row


def entry_of(row: tuple[object, ...], recipients: Iterable[tuple[object, ...]]) -> Entry:
    """From `ENTRY_COLUMNS` and `RECIPIENT_COLUMNS`. Raises ValueError, TypeError."""
    *asked, id, state, sender, created, warned, size, header, lease, via = row
    if not (
        isinstance(id, str)
        and isinstance(created, float)
        and isinstance(size, int)
        and isinstance(header, bytes)
        and isinstance(via, str | None)
    ):
        raise TypeError("a column of the entry has another type")
    waiting = tuple(map(_recipient_of, recipients))
    if not waiting:
        raise ValueError("the entry has no recipients")
    return Entry(
        id=id,
        state=State(str(state)),
        sender=_optional_address(sender),
        parameters=_parameters_of(asked),
        created=created,
        warned=bool(warned),
        size=size,
        header=header,
        recipients=waiting,
        active=lease is not None,
        via=via,
    )


def _parameters_of(row: Sequence[object]) -> MailParameters:
    """From `PARAMETER_COLUMNS`. Raises ValueError, TypeError."""
    body, smtputf8, ret, envid, requiretls, release, hold, deliver_by, by_mode, priority = row
    if not (
        isinstance(envid, str | None)
        and isinstance(release, float | None)
        and isinstance(hold, str | None)
        and isinstance(deliver_by, float | None)
        and isinstance(priority, int)
    ):
        raise TypeError("a column of the entry has another type")
    mode = str(by_mode)
    return MailParameters(
        body=Body(str(body)),
        smtputf8=bool(smtputf8),
        ret=None if ret is None else Return(str(ret)),
        envid=envid,
        requiretls=bool(requiretls),
        release=release,
        hold=hold,
        deliver_by=None if deliver_by is None else DeliverBy(deliver_by, "R" in mode, "T" in mode),
        priority=priority,
    )


def _recipient_of(row: tuple[object, ...]) -> QueuedRecipient:
    (
        number, address, original, next_attempt, last_attempt, attempts, waited, failed, code, enhanced, text, host,
        notify, orcpt, final,
    ) = row  # fmt: skip
    if not (
        isinstance(number, int)
        and isinstance(attempts, int)
        and isinstance(next_attempt, float)
        and isinstance(last_attempt, float)
        and isinstance(waited, float)
        and isinstance(code, int | None)
        and isinstance(host, str | None)
        and isinstance(orcpt, str | None)
    ):
        raise TypeError("a column of the recipient has another type")
    return QueuedRecipient(
        number=number,
        address=restored(str(address)),
        original=_optional_address(original),
        next_attempt=next_attempt,
        last_attempt=last_attempt,
        attempts=attempts,
        waited=waited,
        failed=bool(failed),
        reply=None if code is None else reply_of(code, enhanced, text),
        host=host,
        notify=None if notify is None else frozenset(map(Notify, str(notify).split(","))),
        orcpt=orcpt,
        final=bool(final),
    )


def reply_of(code: int, enhanced: object, text: object) -> Reply:
    """Raises ValueError."""
    return Reply(code, str(text), None if enhanced is None else EnhancedCode.parse(str(enhanced)))


def _optional_address(text: object) -> Address | None:
    return None if text is None else restored(str(text))
