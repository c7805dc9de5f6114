"""When the indexing in the background has a process, and what is asked of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.python.failure import Failure

from mailserver import metrics
from mailserver.net.indexing import AFTER_START, HANGS_AFTER, Indexing
from mailserver.store.indexer import ROUND
from tests.support.fakes import FakeClock, FakeWorkers

EVERY = 60.0  # seconds


class Process:
    """In place of the reactor, and of a transport: a process that only tells what the test lets it tell."""

    def __init__(self) -> None:
        self.rounds = 0
        self.begun = 0
        self.signals: list[str] = []
        self.protocol: Any = None

    def spawnProcess(self, protocol: Any, *_: object, **__: object) -> None:
        self.begun += 1
        self.protocol = protocol
        protocol.transport = self

    def write(self, words: bytes) -> None:
        assert words == ROUND
        self.rounds += 1

    def closeStdin(self) -> None:
        pass

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def tell(self, rounds: int) -> None:
        line = json.dumps({"mailboxes": 0, "messages": 0, "rounds": rounds, "counted": {}})
        self.protocol.childDataReceived(1, line.encode() + b"\n")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def process(tmp_path: Path, clock: FakeClock) -> Iterator[Process]:
    made = Process()
    indexing = Indexing(
        made,
        mail=tmp_path / "mail",
        directory=tmp_path / "indexing",
        hostname="mx.example.test",
        round_every=EVERY,
        workers=FakeWorkers(),
        clock=clock,
    )
    indexing.start()
    yield made
    indexing._let_go()
    indexing._forget()


def test_a_round_that_takes_longer_than_the_time_between_two_comes_to_its_end(
    process: Process, clock: FakeClock
) -> None:
    clock.advance(AFTER_START + 1)
    assert process.rounds == 1
    clock.advance(3 * EVERY)
    assert process.rounds == 1, "else it would begin anew each time, and never come to the last accounts"
    process.tell(rounds=1)
    assert metrics.INDEXING_ROUND.values == {(): 0}
    clock.advance(2)
    assert process.rounds == 2
    process.tell(rounds=2)
    clock.advance(EVERY - 5)
    assert process.rounds == 2
    clock.advance(10)
    assert process.rounds == 3


def test_a_process_that_says_nothing_for_long_is_killed_and_another_begun(process: Process, clock: FakeClock) -> None:
    clock.advance(AFTER_START + 1)
    clock.advance(HANGS_AFTER - 10)
    process.tell(rounds=0)
    clock.advance(HANGS_AFTER - 10)
    assert process.signals == [], "it is slow"
    clock.advance(20)
    assert process.signals == ["KILL"]
    process.protocol.processEnded(Failure(ProcessTerminated(signal=9)))
    clock.advance(10)
    assert process.begun == 2
