"""One process delivers at a time; what it works on goes on elsewhere when it ends or hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailserver.mail import Address, Content, Envelope, Recipient
from mailserver.queue import Attempted, Filter, LeaseLost, NewEntry, Queue, QueueError, State
from mailserver.queue import lease as lease_module

NOW = 1_700_000_000.0
DAY = 86400.0


class Uptime:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def uptime(monkeypatch: pytest.MonkeyPatch) -> Uptime:
    uptime = Uptime()
    monkeypatch.setattr(lease_module, "uptime", uptime)
    return uptime


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Queue]]:
    queues: list[Queue] = []

    def another() -> Queue:
        queues.append(Queue(tmp_path / "queue"))
        return queues[-1]

    yield another
    for queue in queues:
        queue.close()


def put(queue: Queue, *locals: str) -> str:
    recipients = tuple(Recipient(Address(local, "example.net")) for local in locals or ("bob",))
    (id,) = queue.add([NewEntry(Envelope(None, recipients), Content(b"x\r\n"), b"", NOW)])
    assert isinstance(id, str)
    return id


def taken(queue: Queue) -> list[str]:
    return [entry.id for entry in queue.due(NOW, horizon=DAY, limit=10)]


def test_one_process_at_a_time_leads(opened: Callable[[], Queue], uptime: Uptime) -> None:
    queue, other = opened(), opened()
    assert not queue.leads
    assert queue.lead() and queue.leads
    assert queue.lead()
    assert not other.lead() and not other.leads
    put(other)
    queue.close()
    assert other.lead()
    other.close()


def test_an_entry_is_taken_once_until_the_work_on_it_has_ended(opened: Callable[[], Queue]) -> None:
    queue = opened()
    assert queue.lead()
    id = put(queue, "bob", "carol")
    assert taken(queue) == [id]
    assert queue.show(id).active
    assert taken(queue) == []
    assert queue.record([Attempted(id, served=[0], ended=False)]) == [[]]
    assert taken(queue) == [], "another recipient is under way"
    assert queue.record([Attempted(id)]) == [[]]
    assert not queue.show(id).active
    assert taken(queue) == [id]


def test_who_does_not_lead_takes_nothing(opened: Callable[[], Queue]) -> None:
    queue = opened()
    put(queue)
    with pytest.raises(QueueError, match="not led"):
        taken(queue)
    assert queue.lead()
    assert len(taken(queue)) == 1


def test_the_entries_of_a_process_that_ended_go_on_at_once(opened: Callable[[], Queue], uptime: Uptime) -> None:
    queue, other = opened(), opened()
    id = put(queue)
    assert queue.lead() and taken(queue) == [id]
    assert not other.lead()
    assert other.show(id).active
    queue.close()
    assert not other.show(id).active
    assert other.lead()
    assert taken(other) == [id]


LEADER = """
import sys, time
from pathlib import Path
from mailserver.queue import Queue

queue = Queue(Path(sys.argv[1]))
print(queue.lead(), [entry.id for entry in queue.due(float(sys.argv[2]), horizon=1e6, limit=10)], flush=True)
time.sleep(60)
"""


def test_the_entries_of_a_process_that_was_killed_go_on_at_once(tmp_path: Path, opened: Callable[[], Queue]) -> None:
    queue = opened()
    id = put(queue)
    command = [sys.executable, "-c", textwrap.dedent(LEADER), str(tmp_path / "queue"), str(NOW)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"True ['{id}']\n"
        assert not queue.lead()
        os.kill(process.pid, signal.SIGSTOP)
        assert not queue.lead(), "it may go on at any moment"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert queue.lead()
    assert taken(queue) == [id]


def test_a_process_that_hangs_loses_the_lease_and_its_word(opened: Callable[[], Queue], uptime: Uptime) -> None:
    queue, other = opened(), opened()
    first, second = put(queue, "bob", "carol"), put(queue, "dave")
    assert queue.lead() and set(taken(queue)) == {first, second}
    uptime.now += lease_module.LENGTH + 1
    assert not queue.leads, "known without a look into the database, before anything is sent"
    assert other.lead(), "though the lock file is still held"
    assert set(taken(other)) == {first, second}
    waiting = queue.show(first).recipients
    stale = Attempted(
        first, served=[0], keep=[replace(waiting[1], attempts=7)], told=[1], reports=[_report()], ended=True
    )
    (refused,) = queue.record([stale])
    assert isinstance(refused, LeaseLost)
    assert [each.address.local for each in other.show(first).recipients] == ["carol"], "who was served stays served"
    assert other.show(first).recipients[0].attempts == 0
    assert len(other.list()) == 2, "no report"
    assert not queue.lead()
    assert other.record([Attempted(first, keep=[replace(waiting[0], attempts=1)], ended=True)]) == [[]]
    assert [each.address.local for each in other.show(first).recipients] == ["carol"], "nor does he come back"
    assert other.lead()


def _report() -> NewEntry:
    return NewEntry(Envelope(None, (Recipient(Address("a", "b.example")),)), Content(b"x"), b"", NOW)


def test_a_process_without_the_lock_file_keeps_the_lease_when_the_one_that_hung_ends(
    opened: Callable[[], Queue], uptime: Uptime
) -> None:
    hung, leading, third = opened(), opened(), opened()
    assert hung.lead()
    uptime.now += lease_module.LENGTH + 1
    assert leading.lead()
    hung.close()
    assert not third.lead()
    third.close()
    uptime.now += lease_module.RENEWED_AFTER + 1
    assert leading.lead()
    leading.close()
    last = opened()
    assert last.lead(), "the lock file came to the one that leads"


def test_a_lease_is_renewed_in_time(opened: Callable[[], Queue], uptime: Uptime) -> None:
    queue, other = opened(), opened()
    assert queue.lead()
    for _ in range(20):
        uptime.now += lease_module.LENGTH - 1
        assert queue.leads
        assert queue.lead()
        assert not other.lead()


def test_the_lease_of_another_start_of_the_machine_is_void(
    opened: Callable[[], Queue], uptime: Uptime, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, other = opened(), opened()
    assert queue.lead()
    monkeypatch.setattr(lease_module, "_this_boot", lambda: "another")
    uptime.now = 5.0
    assert other.lead()


def test_what_is_held_while_it_is_worked_on_stays_held(opened: Callable[[], Queue]) -> None:
    queue = opened()
    id = put(queue)
    assert queue.lead() and taken(queue) == [id]
    assert queue.administration.hold(Filter(ids=(id,))) == 1
    assert queue.record([Attempted(id, keep=queue.show(id).recipients)]) == [[]]
    assert queue.show(id).state is State.HELD
    assert not queue.show(id).active
    assert queue.administration.release(Filter(ids=(id,))) == 1
    assert taken(queue) == [id]


def test_one_commit_records_for_many(opened: Callable[[], Queue]) -> None:
    queue = opened()
    assert queue.lead()
    ids = [put(queue) for _ in range(3)]
    results = queue.record([Attempted(ids[0], served=[0]), Attempted("gone"), Attempted(ids[2], told=[0])])
    assert [type(result).__name__ for result in results] == ["list", "NoSuchEntry", "list"]
    assert [entry.id for entry in queue.list()] == [ids[1]]
