"""The durable queue: what was acknowledged stays, what is unreadable is set aside, several may use it at once."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import (
    Address,
    Body,
    Content,
    DeliverBy,
    Envelope,
    MailParameters,
    Notify,
    Recipient,
    Reply,
    Return,
    parse_mailbox,
)
from mailserver.queue import Attempted, Entry, NewEntry, NoSuchEntry, Queue, QueuedRecipient, QueueError, State, rows
from mailserver.queue import database as database_module
from mailserver.queue.bodies import Bodies
from mailserver.queue.filter import EVERYTHING, Filter

NOW = 1_700_000_000.0
HORIZON = 86400.0
ALICE = Address("alice", "example.org")
LARGE = b"0123456789abcde\r\n" * 5000


def message(
    *to: str, sender: Address | None = ALICE, body: bytes = b"Subject: x\r\n\r\nhello\r\n", at: float = NOW
) -> NewEntry:
    recipients = tuple(Recipient(parse_mailbox(text)) for text in to or ("bob@example.net",))
    return NewEntry(Envelope(sender, recipients), Content(body), b"Received: here\r\n", at)


def put(queue: Queue, new: NewEntry) -> str:
    (id,) = queue.add([new])
    assert isinstance(id, str), id
    return id


def due(queue: Queue, now: float, *, horizon: float, limit: int) -> list[Entry]:
    """What is due; all of it is given back at once."""
    assert queue.lead()
    entries = queue.due(now, horizon=horizon, limit=limit)
    queue.record([Attempted(entry.id) for entry in entries])
    return entries


def record(
    queue: Queue,
    id: str,
    *,
    keep: Sequence[QueuedRecipient] = (),
    forget: Sequence[int] = (),
    warned: bool = False,
    reports: Sequence[NewEntry] = (),
) -> list[str]:
    (result,) = queue.record([Attempted(id, told=forget, keep=keep, warned=warned, reports=reports)])
    if isinstance(result, Exception):
        raise result
    return result


def whole(content: Content) -> bytes:
    return b"".join(content.chunks())


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "queue")
    yield queue
    queue.close()


@pytest.fixture
def bodies(tmp_path):
    return tmp_path / "queue" / "bodies"


def execute(tmp_path: Path, sql: str, *values: object) -> None:
    """Meddles with the database from outside."""
    db = sqlite3.connect(tmp_path / "queue" / "queue.db", isolation_level=None)
    db.execute(sql, values)
    db.close()


# What goes in comes out


def test_an_entry_comes_back_as_it_was_queued(queue):
    new = NewEntry(
        Envelope(
            None,
            (Recipient(Address("bob", "example.net"), original=Address("info", "example.org")), Recipient(ALICE)),
            MailParameters(body=Body.EIGHT_BIT),
        ),
        Content(b"Subject: x\r\n", b"\r\nbody\r\n"),
        b"Received: from there\r\n",
        NOW,
    )
    id = put(queue, new)
    (entry,) = due(queue, NOW, horizon=HORIZON, limit=10)
    assert entry == queue.show(id)
    assert (entry.id, entry.state, entry.sender, entry.parameters.body) == (id, State.QUEUED, None, Body.EIGHT_BIT)
    assert (entry.created, entry.warned, entry.header) == (NOW, False, b"Received: from there\r\n")
    assert entry.size == len(b"Received: from there\r\nSubject: x\r\n\r\nbody\r\n")
    assert [(r.number, r.address, r.original) for r in entry.recipients] == [
        (0, Address("bob", "example.net"), Address("info", "example.org")),
        (1, ALICE, None),
    ]
    assert whole(queue.content(id)) == b"Subject: x\r\n\r\nbody\r\n"


@given(
    st.builds(
        Address,
        st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30),
        st.sampled_from(["example.org", "[127.0.0.1]", "[IPv6:::1]", "xn--bcher-kva.example", "b\u00fccher.example"]),
    )
)
def test_every_address_survives_the_queue(tmp_path_factory, address):
    queue = Queue(tmp_path_factory.mktemp("queue"))
    id = put(queue, NewEntry(Envelope(address, (Recipient(address),)), Content(b"x"), b"", NOW))
    assert queue.show(id).sender == address
    assert queue.show(id).recipients[0].address == address
    queue.close()


def test_what_a_sender_wants_to_be_told_survives_the_queue(queue):
    recipients = (
        Recipient(ALICE, None, frozenset({Notify.SUCCESS, Notify.DELAY}), "rfc822;\u00e4 b"),
        Recipient(ALICE, None, frozenset({Notify.NEVER})),
        Recipient(ALICE),
    )
    id = put(
        queue,
        NewEntry(Envelope(ALICE, recipients, MailParameters(ret=Return.FULL, envid="E 1")), Content(b"x"), b"", NOW),
    )
    entry = queue.show(id)
    assert (entry.parameters.ret, entry.parameters.envid) == (Return.FULL, "E 1")
    assert tuple(each.recipient for each in entry.recipients) == recipients


def test_what_is_asked_for_a_message_survives_the_queue(queue):
    asked = MailParameters(
        body=Body.BINARY,
        smtputf8=True,
        ret=Return.HEADERS,
        envid="E",
        requiretls=True,
        release=NOW + 5,
        hold="for;5",
        deliver_by=DeliverBy(NOW + 60, returned=True, trace=True),
        priority=-9,
    )
    for parameters in (asked, replace(asked, deliver_by=DeliverBy(NOW, returned=False)), MailParameters()):
        id = put(queue, NewEntry(Envelope(ALICE, (Recipient(ALICE),), parameters), Content(b"x"), b"", NOW))
        assert queue.show(id).parameters == parameters


ADDED = {
    2: [("entry", "ret"), ("entry", "envid"), ("entry", "requiretls"), ("recipient", "notify"), ("recipient", "orcpt")],
    3: [("entry", "release")],
    4: [("entry", "hold"), ("entry", "deliver_by"), ("entry", "by_mode"), ("entry", "priority")],
    5: [("entry", "lease"), ("entry", "via")],
    6: [("recipient", "final")],
}
"""The columns that each version of the queue brought."""


def former_version(directory, version):
    db = sqlite3.connect(directory / "queue.db", isolation_level=None)
    if version < 5:
        db.execute("DROP INDEX entry_turn")
        db.execute("DROP INDEX entry_lease")
        db.execute("DROP TABLE owner")
    if version < 4:
        db.execute("CREATE INDEX entry_due ON entry (state, due)")
    elif version < 5:
        db.execute("CREATE INDEX entry_turn ON entry (state, priority, due)")
    elif version < 7:
        db.execute("DROP INDEX entry_turn")
        db.execute("DROP INDEX entry_lease")
        db.execute("CREATE INDEX entry_turn ON entry (state, priority, due) WHERE lease IS NULL")
        db.execute("CREATE INDEX entry_lease ON entry (lease) WHERE lease IS NOT NULL")
    for table, column in chain.from_iterable(ADDED[later] for later in range(version + 1, max(ADDED) + 1)):
        db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
def test_a_queue_of_a_former_version_is_taken_over(tmp_path, version):
    queue = Queue(tmp_path / "queue")
    id = put(queue, message())
    queue.close()
    former_version(tmp_path / "queue", version)
    queue = Queue(tmp_path / "queue")
    entry = queue.show(id)
    assert entry.parameters == MailParameters()
    assert (entry.recipients[0].notify, entry.recipients[0].orcpt) == (None, None)
    assert due(queue, NOW, horizon=HORIZON, limit=10) == [entry]
    queue.close()
    Queue(tmp_path / "queue").close()
    with sqlite3.connect(tmp_path / "queue" / "queue.db") as db:
        indexes = db.execute("SELECT name, sql FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%'").fetchall()
    db.close()
    Queue(tmp_path / "new").close()
    with sqlite3.connect(tmp_path / "new" / "queue.db") as db:
        fresh = db.execute("SELECT name, sql FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%'").fetchall()
    db.close()
    assert sorted(indexes) == sorted(fresh) and [name for name, _ in sorted(fresh)] == ["entry_lease", "entry_turn"]


def test_what_waits_is_counted_by_state_with_the_oldest(queue, tmp_path):
    assert queue.census(NOW) == dict.fromkeys(("queued", "deferred", "active", "held", "corrupt"), (0, None))
    ids = [put(queue, message(at=NOW - age)) for age in (50, 40, 30, 20, 20)]
    queue.administration.hold(Filter(ids=(ids[0],)))
    execute(tmp_path, "UPDATE entry SET due = ? WHERE id = ?", NOW + 60, ids[1])
    execute(tmp_path, "UPDATE entry SET state = 'corrupt' WHERE id = ?", ids[2])
    assert queue.lead() and len(queue.due(NOW, horizon=HORIZON, limit=1)) == 1
    waiting = {state: (each.entries, NOW - each.oldest) for state, each in queue.census(NOW).items()}
    assert waiting == {
        "held": (1, 50),
        "deferred": (1, 40),
        "corrupt": (1, 30),
        "active": (1, 20),
        "queued": (1, 20),
    }


def test_for_counting_the_indexes_are_enough(queue, tmp_path):
    """SQLite looks into the rows otherwise, which takes twenty times as long."""
    with sqlite3.connect(tmp_path / "queue" / "queue.db") as db:
        for counted in ("lease IS NULL GROUP BY state", "lease IS NOT NULL"):
            query = f"SELECT state, count(*), total(due > 1), min(created) FROM entry WHERE {counted}"
            query = query if "NOT" not in counted else f"SELECT count(*), min(created) FROM entry WHERE {counted}"
            assert "COVERING INDEX" in str(db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
    db.close()


def test_urgent_messages_come_first_and_of_these_the_longest_due(queue):
    def asking(priority, created):
        return NewEntry(
            Envelope(ALICE, (Recipient(ALICE),), MailParameters(priority=priority)), Content(b"x"), b"", created
        )

    wanted = [(9, NOW - 1), (9, NOW), (1, NOW - 5), (0, NOW - 9), (0, NOW), (-9, NOW - 99)]
    ids = {key: put(queue, asking(*key)) for key in (wanted[n] for n in (4, 1, 5, 0, 3, 2))}
    expected = [ids[key] for key in wanted]
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)] == expected
    queue.due(NOW, horizon=HORIZON, limit=1)
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=2)] == expected[1:3]
    queue.administration.hold(Filter(ids=tuple(expected[:2])))
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=1)] == expected[2:3]


def test_an_address_that_would_not_be_taken_today_condemns_no_entry(queue, tmp_path):
    id = put(queue, message())
    with sqlite3.connect(tmp_path / "queue" / "queue.db") as db:
        db.execute("UPDATE recipient SET address = ?", ("x@" + "i\u0307" * 40 + ".example",))
    db.close()
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)] == [id]


def test_several_processes_may_take_over_a_queue_at_once(tmp_path):
    for attempt in range(10):
        directory = tmp_path / str(attempt)
        queue = Queue(directory)
        id = put(queue, message())
        queue.close()
        former_version(directory, 1)
        with ThreadPoolExecutor(4) as pool:  # each with a connection of its own, as processes have
            for queue in list(pool.map(Queue, [directory] * 4)):
                assert [entry.id for entry in queue.list()] == [id]
                queue.close()


def test_bare_postmaster_survives_the_queue(queue):
    postmaster = Address("Postmaster", "")
    id = put(queue, NewEntry(Envelope(ALICE, (Recipient(postmaster),)), Content(b"x"), b"", NOW))
    assert queue.show(id).recipients[0].address == postmaster


def test_ids_are_short_and_all_different(queue):
    ids = queue.add([message() for _ in range(200)])
    assert len(set(ids)) == 200
    assert all(isinstance(id, str) and len(id) == 10 and id.isalnum() for id in ids)


def test_a_large_body_lies_in_a_file_and_goes_with_its_entry(queue, bodies):
    small, large = (put(queue, message(body=body)) for body in (b"small", LARGE))
    assert [path.name for path in bodies.iterdir()] == [large]
    assert (bodies / large).stat().st_mode & 0o777 == 0o600
    assert whole(queue.content(large)) == LARGE
    record(queue, large, forget=[0])
    assert not list(bodies.iterdir())
    assert whole(queue.content(small)) == b"small"


def test_a_body_being_read_survives_the_removal_of_its_entry(queue):
    id = put(queue, message(body=LARGE))
    content = queue.content(id)
    assert queue.administration.remove(Filter(ids=(id,))) == 1
    assert whole(content) == LARGE


def test_nobody_else_may_read_the_queue(queue, tmp_path):
    assert (tmp_path / "queue").stat().st_mode & 0o077 == 0


def test_a_message_without_recipients_is_refused(queue):
    (error,) = queue.add([NewEntry(Envelope(ALICE, ()), Content(b"x"), b"", NOW)])
    assert isinstance(error, QueueError)
    assert queue.list() == []


# When is what due


def test_due_gives_the_longest_due_first_up_to_the_limit(queue):
    ids = [put(queue, message(at=NOW + shift)) for shift in (3, 1, 2, 500)]
    assert [e.id for e in due(queue, NOW + 10, horizon=HORIZON, limit=2)] == [ids[1], ids[2]]
    queue.due(NOW + 10, horizon=HORIZON, limit=1)
    assert [e.id for e in due(queue, NOW + 10, horizon=HORIZON, limit=2)] == [ids[2], ids[0]]
    assert due(queue, NOW, horizon=HORIZON, limit=10) == []


def test_an_entry_is_due_when_its_first_recipient_is(queue):
    id = put(queue, message("a@example.net", "b@example.net"))
    first, second = queue.show(id).recipients
    record(queue, id, keep=[replace(first, next_attempt=NOW + 100), replace(second, next_attempt=NOW + 50)])
    assert due(queue, NOW + 49, horizon=HORIZON, limit=10) == []
    assert [e.id for e in due(queue, NOW + 50, horizon=HORIZON, limit=10)] == [id]


def test_an_attempt_planned_beyond_the_horizon_is_due_since_the_clock_went_back(queue):
    id = put(queue, message(at=NOW))
    year_ago = NOW - 365 * 86400
    assert [e.id for e in due(queue, year_ago, horizon=HORIZON, limit=10)] == [id]
    assert due(queue, NOW - HORIZON / 2, horizon=HORIZON, limit=10) == []


# Results


def test_nothing_is_due_before_its_release_not_even_by_a_flush(queue):
    late = NOW + 100 * HORIZON
    held = put(queue, replace(message(), envelope=replace(message().envelope, parameters=MailParameters(release=late))))
    other = put(queue, message())
    assert queue.show(held).parameters.release == late
    assert [each.id for each in due(queue, NOW, horizon=HORIZON, limit=10)] == [other]
    assert (
        queue.administration.flush(EVERYTHING) == 1
        and queue.flush_domain(queue.show(held).recipients[0].address.domain) == 1
    )
    assert [each.id for each in due(queue, NOW, horizon=HORIZON, limit=10)] == [other]
    assert {each.id for each in due(queue, late, horizon=HORIZON, limit=10)} == {held, other}
    assert queue.administration.flush(Filter(ids=(held,))) == 1, "who names it, wants it"
    assert {each.id for each in due(queue, NOW, horizon=HORIZON, limit=10)} == {held, other}


def test_record_keeps_the_last_reply(queue):
    id = put(queue, message())
    reply = Reply.of(451, "4.3.0", "Try\nlater")
    tried = replace(
        queue.show(id).recipients[0],
        attempts=1,
        last_attempt=NOW + 5,
        next_attempt=NOW + 300,
        waited=5.0,
        reply=reply,
        host="mx.example.net",
    )
    record(queue, id, keep=[tried], warned=True)
    assert queue.show(id).recipients == (tried,)
    assert queue.show(id).warned
    record(queue, id, keep=[replace(tried, reply=Reply(550, "No"), failed=True)])
    assert queue.show(id).recipients[0].reply == Reply(550, "No")
    assert queue.show(id).warned


def test_the_last_result_and_its_report_are_one_transaction(queue):
    id = put(queue, message())
    (report,) = record(queue, id, forget=[0], reports=[message("alice@example.org", sender=None)])
    assert [entry.id for entry in queue.list()] == [report]


def test_a_report_that_cannot_be_queued_leaves_the_result_unrecorded(queue, monkeypatch, bodies):
    id = put(queue, message())

    def full(self, name, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Bodies, "write", full)
    with pytest.raises(QueueError):
        record(queue, id, forget=[0], reports=[message(body=LARGE)])
    assert [entry.id for entry in queue.list()] == [id]
    assert len(queue.show(id).recipients) == 1


def test_results_of_a_removed_entry_report_nothing(queue, bodies):
    id = put(queue, message())
    queue.administration.remove(Filter(ids=(id,)))
    with pytest.raises(NoSuchEntry):
        record(queue, id, forget=[0], reports=[message(body=LARGE, sender=None)])
    assert queue.list() == []
    assert not list(bodies.iterdir())


# Failures


class Failing:
    """A connection whose COMMIT fails as on a full disk."""

    def __init__(self, db):
        self._db = db

    def __getattr__(self, name):
        return getattr(self._db, name)

    def execute(self, sql, *args):
        if sql == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self._db.execute(sql, *args)


def test_a_failed_commit_leaves_no_trace(queue, bodies, monkeypatch):
    monkeypatch.setattr(queue._database, "_db", Failing(queue._database._db))
    results = queue.add([message(), message(body=LARGE)])
    monkeypatch.undo()
    assert [type(result) for result in results] == [QueueError, QueueError]
    assert queue.list() == []
    assert not list(bodies.iterdir())
    assert put(queue, message())


def test_a_body_that_cannot_be_written_fails_alone(queue, bodies, monkeypatch):
    real = Content.chunks
    bad = message(body=LARGE)

    def chunks(self):
        if self is bad.content:
            yield LARGE[:1000]
            raise OSError(5, "Input/output error")
        yield from real(self)

    monkeypatch.setattr(Content, "chunks", chunks)
    good, failed, large = queue.add([message(), bad, message(body=LARGE)])
    assert isinstance(failed, QueueError)
    assert {entry.id for entry in queue.list()} == {good, large}
    assert [path.name for path in bodies.iterdir()] == [large]


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_entries_of_one_message_are_queued_together_or_not_at_all(queue, bodies, monkeypatch, bad):
    """The disk is full between two of them; others that wait for the same commit are queued."""
    write, written = Bodies.write, []

    def fails(self, name, content):
        written.append(name)
        if len(written) == bad + 1:
            raise OSError(28, "No space left on device")
        write(self, name, content)

    monkeypatch.setattr(Bodies, "write", fails)
    several = [message(to, body=LARGE) for to in ("a@example.net", "b@example.net", "c@example.net")]
    failed, good = queue.add_and_take([[*several, message()], [message("d@example.net", body=LARGE)]], room=10)
    assert isinstance(failed, QueueError)
    assert [entry.id for entry in queue.list()] == [good[0].entry.id] == [path.name for path in bodies.iterdir()]
    (taken,) = queue.add_and_take([several], room=0)
    assert [each.entry.recipients[0].address.local for each in taken] == ["a", "b", "c"]
    assert len(queue.list()) == 4


@pytest.mark.parametrize("body", [b"small", LARGE])
def test_content_that_was_closed_meanwhile_is_never_queued_empty(queue, bodies, body):
    new = message(body=body)
    new.content.close()
    (result,) = queue.add([new])
    assert isinstance(result, QueueError)
    assert queue.list() == []
    assert not list(bodies.iterdir())


def test_a_body_whose_sync_fails_is_not_acknowledged(queue, bodies, monkeypatch):
    def fail(fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    (result,) = queue.add([message(body=LARGE)])
    assert isinstance(result, QueueError)
    assert not list(bodies.iterdir())


def test_the_body_file_and_its_directory_are_synced_before_the_commit(queue, monkeypatch):
    order = []
    real = os.fsync

    def fsync(fd):
        order.append("directory" if Path(f"/proc/self/fd/{fd}").readlink().name == "bodies" else "file")
        real(fd)

    class Watching(Failing):
        def execute(self, sql, *args):
            if sql == "COMMIT":
                order.append("commit")
            return self._db.execute(sql, *args)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(queue._database, "_db", Watching(queue._database._db))
    put(queue, message(body=LARGE))
    assert order == ["file", "directory", "commit"]


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("UPDATE entry SET sender = ?", "not an address"),
        ("UPDATE entry SET sender = CAST(? AS TEXT)", b"a\xff@example.org"),
        ("UPDATE entry SET body = ?", "9BIT"),
        ("UPDATE entry SET created = ?", "yesterday"),
        ("UPDATE recipient SET address = ?", "bob@"),
        ("UPDATE recipient SET original = ?", "@"),
        ("UPDATE recipient SET attempts = ?", "many"),
        ("UPDATE recipient SET code = 550, enhanced = ?", "five"),
        ("DELETE FROM recipient WHERE 1 OR entry = ?", ""),
    ],
)
def test_an_unreadable_entry_is_set_aside_and_not_deleted(queue, tmp_path, sql, value):
    id = put(queue, message(at=NOW - 5))
    execute(tmp_path, sql, value)
    other = put(queue, message())
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)] == [other]
    assert queue.show(id).state == State.CORRUPT
    assert {entry.id for entry in queue.list()} == {id, other}
    assert whole(queue.content(id)) == b"Subject: x\r\n\r\nhello\r\n"
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)] == [other]


def test_an_id_that_cannot_be_read_is_in_nobodys_way(queue, tmp_path):
    put(queue, message(at=NOW - 5))
    execute(tmp_path, "UPDATE entry SET id = CAST(? AS TEXT)", b"k\xf9vdg")
    others = [put(queue, message()) for _ in range(2)]
    assert {entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=1)} <= {*others}
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)]
    assert sorted((entry.id, entry.state) for entry in queue.list()) == sorted(
        [(r"k\udcf9vdg", State.CORRUPT), *((id, State.QUEUED) for id in others)]
    )
    administration = queue.administration
    for change in (administration.hold, administration.release, administration.flush, administration.remove):
        assert change(EVERYTHING) >= 2
    assert [entry.state for entry in queue.list()] == [State.CORRUPT]


@pytest.mark.parametrize("harm", ["missing", "short", "row"])
def test_an_entry_without_its_body_is_set_aside(queue, tmp_path, bodies, harm):
    id = put(queue, message(body=LARGE))
    if harm == "missing":
        (bodies / id).unlink()
    elif harm == "short":
        os.truncate(bodies / id, 100)
    else:
        execute(tmp_path, "DELETE FROM body")
    with pytest.raises(QueueError):
        queue.content(id)
    assert queue.show(id).state == State.CORRUPT
    assert due(queue, NOW, horizon=HORIZON, limit=10) == []


def test_too_many_open_files_do_not_condemn_an_entry(queue, monkeypatch):
    id = put(queue, message(body=LARGE))

    def emfile(self, name):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Bodies, "open", emfile)
    with pytest.raises(QueueError):
        queue.content(id)
    assert queue.show(id).state == State.QUEUED


def test_a_body_that_is_a_symlink_is_not_followed(queue, bodies, tmp_path):
    id = put(queue, message(body=LARGE))
    (bodies / id).unlink()
    (tmp_path / "secret").write_bytes(LARGE)
    (bodies / id).symlink_to(tmp_path / "secret")
    with pytest.raises(QueueError):
        queue.content(id)


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path):
    (tmp_path / "queue.db").write_bytes(b"this is not a database " * 100)
    with pytest.raises(QueueError, match="cannot be opened"):
        Queue(tmp_path)
    assert (tmp_path / "queue.db").read_bytes().startswith(b"this is not")


def test_the_queue_of_another_version_is_refused(queue, tmp_path):
    execute(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(QueueError, match="another version"):
        Queue(tmp_path / "queue")


def test_sweep_removes_orphans_only_when_a_day_old(queue, bodies):
    id = put(queue, message(body=LARGE))
    for name, age in (("old", 90000), ("young", 600)):
        (bodies / name).write_bytes(b"x")
        then = (bodies / name).stat().st_mtime - age
        os.utime(bodies / name, (then, then))
    os.utime(bodies / id, (1, 1))
    assert queue.sweep() == 1
    assert {path.name for path in bodies.iterdir()} == {id, "young"}


def test_sweep_leaves_the_body_of_an_entry_whose_id_was_damaged(queue, tmp_path, bodies):
    id = put(queue, message(body=LARGE))
    os.utime(bodies / id, (1, 1))
    execute(tmp_path, "UPDATE entry SET id = ?", "damaged")
    assert queue.sweep() == 0
    assert (bodies / id).exists()


# The administrator, from another process


def test_a_held_entry_is_not_due_until_it_is_released(queue):
    id = put(queue, message())
    assert queue.administration.hold(Filter(ids=(id, "unknown"))) == 1
    assert due(queue, NOW, horizon=HORIZON, limit=10) == []
    assert queue.show(id).state == State.HELD
    assert queue.administration.flush(EVERYTHING) == 0
    assert queue.administration.hold(Filter(ids=(id,))) == 0
    assert queue.administration.release(Filter(ids=(id,))) == 1
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)] == [id]


def test_a_result_does_not_release_a_held_entry(queue):
    id = put(queue, message("a@example.net", "b@example.net"))
    queue.administration.hold(Filter(ids=(id,)))
    record(queue, id, forget=[0])
    assert queue.show(id).state == State.HELD


def test_flush_makes_entries_due_at_once(queue):
    first, second = (put(queue, message(at=NOW + 100)) for _ in range(2))
    assert queue.administration.flush(Filter(ids=(first, "unknown"))) == 1
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)] == [first]
    assert queue.show(first).recipients[0].next_attempt <= NOW
    assert queue.administration.flush(EVERYTHING) == 2
    assert {entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)} == {first, second}


@pytest.mark.parametrize(
    "end",
    [lambda queue, id: queue.administration.remove(Filter(ids=(id,))), lambda queue, id: record(queue, id, forget=[0])],
)
def test_nothing_of_an_entry_stays_in_the_database(queue, tmp_path, end):
    end(queue, put(queue, message()))
    db = sqlite3.connect(tmp_path / "queue" / "queue.db")
    for table in ("entry", "recipient", "body"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    db.close()


def test_remove_deletes_entry_and_body(queue, bodies):
    id = put(queue, message(body=LARGE))
    assert queue.administration.remove(Filter(ids=(id, "unknown"))) == 1
    assert queue.list() == []
    assert not list(bodies.iterdir())
    with pytest.raises(NoSuchEntry):
        queue.show(id)
    with pytest.raises(NoSuchEntry):
        queue.content(id)


def test_another_process_sees_and_changes_the_queue_meanwhile(queue, tmp_path):
    id = put(queue, message(at=NOW + 100))
    other = Queue(tmp_path / "queue")
    assert [entry.id for entry in other.list()] == [id]
    other.administration.flush(EVERYTHING)
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)] == [id]
    other.close()


def test_a_writer_waits_for_another_process(queue, tmp_path):
    db = sqlite3.connect(tmp_path / "queue" / "queue.db", isolation_level=None, check_same_thread=False)
    db.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: db.execute("COMMIT"))
    timer.start()
    assert put(queue, message())
    timer.join()
    db.close()


def test_a_queue_locked_for_too_long_refuses_and_recovers(tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.1)
    queue = Queue(tmp_path / "queue")
    db = sqlite3.connect(tmp_path / "queue" / "queue.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    (result,) = queue.add([message()])
    assert isinstance(result, QueueError)
    db.execute("COMMIT")
    db.close()
    assert put(queue, message())
    queue.close()


def test_threads_may_use_the_queue_at_once(queue):
    def work(number: int) -> str:
        id = put(queue, message(body=LARGE if number % 4 == 0 else b"x"))
        due(queue, NOW, horizon=HORIZON, limit=5)
        if number % 2:
            record(queue, id, forget=[0])
        return id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(work, range(60)))
    assert {entry.id for entry in queue.list()} == set(ids[::2])


# kill -9


WRITER = """
import sys
from pathlib import Path
from mailserver.mail import Address, Content, Envelope, Recipient
from mailserver.queue import NewEntry, Queue

queue = Queue(Path(sys.argv[1]))
while True:
    batch = [
        NewEntry(Envelope(None, (Recipient(Address("bob", "example.net")),)), Content(body), b"", 1.0)
        for body in (b"small", b"x" * 100_000)
    ]
    print(*queue.add(batch), flush=True)
"""


def test_what_was_acknowledged_is_there_after_kill_9(tmp_path):
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path / "queue")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent.parent,
        )
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(5)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        ids = [id for line in acknowledged if line.endswith("\n") for id in line.split()]
        assert len(ids) >= 10
        queue = Queue(tmp_path / "queue")
        known = {entry.id: entry for entry in queue.list()}
        for id in ids:
            assert known[id].state == State.QUEUED
            assert whole(queue.content(id)) in (b"small", b"x" * 100_000)
        queue.close()


# Its place


def test_nothing_is_taken_into_a_queue_that_was_removed(queue, tmp_path):
    put(queue, message())
    shutil.rmtree(tmp_path / "queue")
    (error,) = queue.add([message()])
    assert isinstance(error, QueueError)


def test_nothing_is_taken_into_a_queue_that_was_moved_away_or_replaced(queue, tmp_path):
    (tmp_path / "queue").rename(tmp_path / "elsewhere")
    (error,) = queue.add([message()])
    assert isinstance(error, QueueError)
    Queue(tmp_path / "queue").close()
    (error,) = queue.add([message()])
    assert "start the server again" in str(error)
    (tmp_path / "queue" / "bodies").rmdir()
    shutil.rmtree(tmp_path / "queue")
    (tmp_path / "elsewhere").rename(tmp_path / "queue")
    put(queue, message())


def test_an_entry_that_another_process_removes_while_it_is_looked_for_is_skipped(queue, monkeypatch):
    first, second = put(queue, message(at=NOW - 1)), put(queue, message())
    load = rows.load

    def removed(db, id):
        if id == first:
            raise NoSuchEntry(id)
        return load(db, id)

    monkeypatch.setattr(rows, "load", removed)
    assert [entry.id for entry in due(queue, NOW, horizon=HORIZON, limit=10)] == [second]


def test_an_entry_that_another_process_removes_while_it_is_read_is_not_taken_for_a_corrupt_one(queue, tmp_path):
    id = put(queue, message())
    other = Queue(tmp_path / "queue")
    remove = partial(other.administration.remove, Filter(ids=(id,)))
    queue._database._db.set_trace_callback(lambda sql: remove() if "FROM recipient" in sql else None)
    entry = queue.show(id)
    assert entry.state is State.QUEUED
    assert queue.list() == []
    other.close()


def test_a_domain_is_flushed_with_those_below_it_where_that_is_asked_for(queue):
    ids = {
        to: put(queue, message(to, at=NOW))
        for to in ("a@example.net", "b@Sub.example.net", "c@xexample.net", "d@ex_mple.net")
    }
    held = put(queue, message("e@example.net", at=NOW))
    queue.administration.hold(Filter(ids=(held,)))
    first = queue.show(ids["a@example.net"])
    later = [replace(each, next_attempt=NOW + 1000) for each in first.recipients]
    record(queue, first.id, keep=later)
    assert queue.flush_domain("EXAMPLE.net") == 1
    assert queue.show(first.id).recipients[0].next_attempt == 0.0
    assert queue.flush_domain("example.net", subdomains=True) == 2
    assert queue.flush_domain("ex_mple.net") == 1, "an underscore is no wildcard"
    assert queue.flush_domain("%") == 0
    put(queue, message("f@b\u00fccher.example", at=NOW))
    put(queue, message("g@xn--bcher-kva.example", at=NOW))
    assert queue.flush_domain("xn--bcher-kva.example") == queue.flush_domain("B\u00dcCHER.example") == 2
    assert queue.show(held).state is State.HELD
