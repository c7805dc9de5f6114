"""What administrators do with many entries at once: in batches, whole, and beside a server that runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailserver.mail import Address, Content, Envelope, MailParameters, Recipient, Reply, parse_mailbox
from mailserver.queue import Attempted, Entry, Filter, History, NewEntry, Queue, Standing, State
from mailserver.queue import administration as administration_module
from mailserver.queue.administration import Administration, Backlog
from mailserver.queue.filter import EVERYTHING

NOW = 1_700_000_000.0
BUSY = Reply.of(450, "4.2.1", "Busy")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path / "queue", History(tmp_path / "history", 1e9, clock=lambda: NOW))
    yield queue
    queue.close()


@pytest.fixture
def administration(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Administration:
    monkeypatch.setattr(administration_module, "BATCH", 3)
    monkeypatch.setattr(administration_module, "PAUSE", 0.0)
    queue.administration._clock = lambda: NOW
    return queue.administration


def put(queue: Queue, *to: str, at: float = NOW, release: float | None = None, body: bytes = b"x\r\n") -> str:
    recipients = tuple(Recipient(parse_mailbox(text)) for text in to or ("bob@example.net",))
    envelope = Envelope(Address("alice", "example.org"), recipients, MailParameters(release=release))
    (id,) = queue.add([NewEntry(envelope, Content(body), b"", at)])
    assert isinstance(id, str)
    return id


def tried(queue: Queue, id: str, *, failed: bool = False, reply: Reply = BUSY, at: float = NOW) -> None:
    keep = [
        replace(
            r, attempts=3, waited=500.0, last_attempt=at, next_attempt=at + 900, failed=failed, reply=reply, host="mx"
        )
        for r in queue.show(id).recipients
    ]
    queue.record([Attempted(id, keep=keep, warned=True)])


def states(queue: Queue) -> set[State]:
    return {entry.state for entry in queue.list()}


def noted(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in (tmp_path / "history").iterdir() for line in path.read_text().splitlines()]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7, 20])
def test_changes_reach_every_entry_whatever_the_size_of_a_batch(
    queue: Queue, administration: Administration, tmp_path: Path, count: int
) -> None:
    ids = [put(queue) for _ in range(count)]
    assert administration.hold(EVERYTHING) == count
    assert states(queue) == {State.HELD}
    assert administration.release(Filter(ids=tuple(ids))) == count
    assert states(queue) == {State.QUEUED}
    assert administration.remove(Filter(domain="example.net")) == count
    assert queue.list() == []
    for action in ("held", "released", "removed"):
        done = [id for line in noted(tmp_path) if line["event"] == action for id in line["ids"]]  # type: ignore[attr-defined]
        assert sorted(done) == sorted(ids)


def test_a_batch_is_a_transaction_and_the_rest_is_left(
    queue: Queue, administration: Administration, tmp_path: Path
) -> None:
    """Another process sees whole batches only."""
    for _ in range(10):
        put(queue)
    seen = []
    other = sqlite3.connect(tmp_path / "queue" / "queue.db")
    look = "SELECT count(*) FROM entry WHERE state = 'held'"
    queue._database._db.set_trace_callback(lambda sql: seen.append(*other.execute(look).fetchone()))
    administration.hold(EVERYTHING)
    other.close()
    assert set(seen) == {0, 3, 6, 9}


def test_what_comes_in_and_goes_while_entries_are_listed(queue: Queue, administration: Administration) -> None:
    ids = [put(queue, at=NOW + number) for number in range(5)]
    listed = administration.entries()
    assert next(listed).id == ids[0]
    put(queue, at=NOW + 10)
    administration.remove(Filter(ids=(ids[2],)))
    assert [entry.id for entry in listed] == [ids[1], ids[3], ids[4]]


def test_a_list_that_is_looked_at_for_long_keeps_no_transaction_open(
    queue: Queue, administration: Administration, tmp_path: Path
) -> None:
    for _ in range(3):
        put(queue)
    listed = administration.entries()
    next(listed)
    db = sqlite3.connect(tmp_path / "queue" / "queue.db")
    assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    db.close()
    listed.close()  # type: ignore[attr-defined]


def test_requeue_forgets_what_was_tried_and_who_failed(queue: Queue, administration: Administration) -> None:
    first, held = put(queue, at=NOW - 1000), put(queue, at=NOW - 1000)
    for id in (first, held):
        tried(queue, id, failed=True, at=NOW - 500)
    administration.reroute(Filter(ids=(first,)), "discard")
    administration.hold(Filter(ids=(held,)))
    assert administration.requeue(EVERYTHING) == 2
    for id in (first, held):
        (recipient,) = queue.show(id).recipients
        assert (recipient.attempts, recipient.waited, recipient.failed, recipient.next_attempt) == (0, 0.0, False, 0.0)
        assert (recipient.reply, recipient.host, recipient.last_attempt) == (None, None, NOW)
        assert queue.show(id).warned, "nobody is told twice that it takes long"
    assert (queue.show(first).via, queue.show(held).state) == ("discard", State.HELD)
    assert queue.lead() and [entry.id for entry in queue.due(1.0, horizon=1e12, limit=9)] == [first]


def test_what_waits_for_its_release_goes_before_only_when_it_is_named(
    queue: Queue, administration: Administration
) -> None:
    release = NOW + 5000
    id = put(queue, release=release)

    def next_attempt() -> float:
        return queue.show(id).recipients[0].next_attempt

    assert administration.flush(EVERYTHING) == 0
    assert administration.flush(Filter(ids=(id,), domain="example.net")) == 0, "this speaks of many"
    assert administration.requeue(EVERYTHING) == administration.reroute(EVERYTHING, "mx") == 1
    administration.hold(EVERYTHING)
    assert administration.release(EVERYTHING) == 1
    assert (next_attempt(), queue.show(id).recipients[0].last_attempt) == (release, release)
    assert administration.requeue(Filter(ids=(id,))) == 1
    assert next_attempt() == 0.0


def test_reroute_chooses_a_way_and_makes_due(queue: Queue, administration: Administration) -> None:
    id = put(queue)
    tried(queue, id)
    assert administration.reroute(EVERYTHING, "lmtp:unix:/run/x") == 1
    (recipient,) = queue.show(id).recipients
    assert (queue.show(id).via, recipient.next_attempt, recipient.attempts) == ("lmtp:unix:/run/x", 0.0, 3)
    assert administration.reroute(EVERYTHING, None) == 1
    assert queue.show(id).via is None


def test_corrupt_entries_are_only_released_or_removed(
    queue: Queue, administration: Administration, tmp_path: Path
) -> None:
    id = put(queue)
    db = sqlite3.connect(tmp_path / "queue" / "queue.db")
    db.execute("UPDATE entry SET state = 'corrupt', body = 'unknown'")
    db.commit()
    db.close()
    for change in (administration.flush, administration.hold, administration.requeue):
        assert change(EVERYTHING) == 0
    assert administration.reroute(EVERYTHING, "mx") == 0
    (entry,) = administration.entries(Filter(standing=Standing.CORRUPT))
    assert entry == Entry(id, State.CORRUPT, None, MailParameters(), 0.0, False, 0, b"", ())
    assert administration.counts()[Standing.CORRUPT] == 1
    assert administration.release(EVERYTHING) == administration.remove(EVERYTHING) == 1


def test_bodies_go_with_their_entries(queue: Queue, administration: Administration, tmp_path: Path) -> None:
    for _ in range(4):
        put(queue, body=b"x" * 100_000)
    assert len(list((tmp_path / "queue" / "bodies").iterdir())) == 4
    assert administration.remove(EVERYTHING) == 4
    assert list((tmp_path / "queue" / "bodies").iterdir()) == []


def test_counts_and_standings(queue: Queue, administration: Administration) -> None:
    first, held, _ = (put(queue) for _ in range(3))
    administration.hold(Filter(ids=(held,)))
    assert queue.lead()
    (taken,) = queue.due(NOW, horizon=1e9, limit=1)
    assert administration.counts() == {
        Standing.QUEUED: 1, Standing.ACTIVE: 1, Standing.HELD: 1, Standing.CORRUPT: 0
    }  # fmt: skip
    assert administration.standings([taken.id, held, "unknown"]) == {
        taken.id: Standing.ACTIVE,
        held: Standing.HELD,
    }
    assert queue.show(taken.id).standing is Standing.ACTIVE
    assert first in {entry.id for entry in administration.entries()}


def test_what_waits_for_which_domain(queue: Queue, administration: Administration) -> None:
    old = put(queue, "a@example.net", "b@example.net", "c@other.example", at=NOW - 1000)
    new = put(queue, '"x@y"@example.net', at=NOW)
    tried(queue, old, at=NOW - 500)
    tried(queue, new, reply=Reply(451, "Later"), at=NOW - 10)
    put(queue, "d@third.example", at=NOW - 5)
    assert administration.backlogs() == [
        Backlog("example.net", 3, NOW - 1000, Reply(451, "Later")),
        Backlog("other.example", 1, NOW - 1000, BUSY),
        Backlog("third.example", 1, NOW - 5, None),
    ]
    assert administration.backlogs(limit=1) == administration.backlogs()[:1]
    assert administration.backlogs(Filter(ids=(new,))) == [Backlog("example.net", 1, NOW, Reply(451, "Later"))]
