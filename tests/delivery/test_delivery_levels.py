"""How much waits, as the process that delivers tells it, and what looking may cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver import metrics
from mailserver.delivery.levels import LAG_ROUND, QUEUE_EVERY, SHARE, Levels
from mailserver.queue import Queue, QueueError
from mailserver.queue.queue import Waiting
from tests.support.counted import counting
from tests.support.fakes import FakeClock, FakeWorkers, run


class FakeQueue:
    leads = True

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.takes = 0.0
        self.found: dict[str, Waiting] | QueueError = {"queued": Waiting(3, 0.0), "held": Waiting(0, None)}

    def census(self, now: float) -> dict[str, Waiting]:
        self.clock.advance(self.takes)
        if isinstance(self.found, QueueError):
            raise self.found
        return self.found


class World:
    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.queue = FakeQueue(self.clock)
        (directory / "example.org" / "alice").mkdir(parents=True)
        self.levels = Levels(self.queue, directory, workers=FakeWorkers(), clock=self.clock)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with counting():
        yield World(tmp_path)


def test_who_delivers_tells_it(world: World) -> None:
    assert run(world.levels.look_at_queue()) == QUEUE_EVERY
    assert metrics.QUEUE_ENTRIES.values == {("queued",): 3, ("held",): 0}
    assert metrics.QUEUE_AGE.values == {("queued",): world.clock.wall(), ("held",): 0.0}
    assert run(world.levels.look_at_indexes()) >= LAG_ROUND
    assert metrics.INDEX_LAG.values == {(): 0}


def test_who_no_longer_does_tells_nothing(world: World) -> None:
    run(world.levels.look_at_queue())
    run(world.levels.look_at_indexes())
    world.queue.leads = False
    run(world.levels.look_at_queue())
    run(world.levels.look_at_indexes())
    assert not metrics.QUEUE_ENTRIES.values and not metrics.QUEUE_AGE.values and not metrics.INDEX_LAG.values


def test_the_longer_it_takes_the_rarer_it_is(world: World) -> None:
    world.queue.takes = 2.0
    assert run(world.levels.look_at_queue()) == pytest.approx(2.0 / SHARE)


def test_a_queue_that_cannot_be_read_is_told_as_it_was(world: World, caplog: pytest.LogCaptureFixture) -> None:
    run(world.levels.look_at_queue())
    world.queue.found = QueueError("locked")
    assert run(world.levels.look_at_queue()) == QUEUE_EVERY
    assert metrics.QUEUE_ENTRIES.values["queued",] == 3 and "locked" in caplog.text


def test_the_states_are_those_of_a_real_queue(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    assert set(queue.census(0.0)) == {"queued", "deferred", "active", "held", "corrupt"}
    queue.close()
