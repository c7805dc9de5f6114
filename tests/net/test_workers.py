"""Threads and group commit."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from mailserver.net.workers import BATCH, ThreadWorkers
from tests.support.reactor import in_reactor, running_reactor


@pytest.fixture
def workers() -> Iterator[ThreadWorkers]:
    workers = ThreadWorkers(running_reactor(), 4, "test")

    async def start(_: Any) -> None:
        workers.start()

    in_reactor(start)
    yield workers
    workers.stop()


def test_work_runs_in_a_thread_and_its_exception_comes_back(workers: ThreadWorkers) -> None:
    async def use(_: Any) -> tuple[int, str]:
        ident = await workers.run(threading.get_ident)
        try:
            await workers.run(int, "x")
        except ValueError as error:
            return ident, str(error)
        return ident, ""

    ident, message = in_reactor(use)
    assert ident != threading.get_ident()
    assert "invalid literal" in message


def test_jobs_that_wait_make_one_batch(workers: ThreadWorkers) -> None:
    batches: list[list[int]] = []
    gate = threading.Event()

    def work(jobs: Sequence[int]) -> list[int | Exception]:
        batches.append(list(jobs))
        gate.wait(60)
        return [ValueError("odd") if job % 2 else job * 10 for job in jobs]

    async def use(_: Any) -> list[Any]:
        add = workers.grouped(work)
        first = add(0)
        others = [add(n) for n in range(1, 5)]
        for other in others:
            other.addErrback(lambda failure: str(failure.value))
        gate.set()
        return [await first, *await gatherResults(others)]

    assert in_reactor(use) == [0, "odd", 20, "odd", 40]
    assert batches == [[0], [1, 2, 3, 4]]


def test_a_batch_that_fails_fails_for_each_of_its_jobs_and_no_other(workers: ThreadWorkers) -> None:
    calls: list[int] = []

    def work(jobs: Sequence[str]) -> list[str]:
        calls.append(len(jobs))
        if len(calls) == 1:
            raise OSError("disk")
        return [job.upper() for job in jobs]

    async def use(_: Any) -> tuple[str, str]:
        add = workers.grouped(work)
        try:
            await add("a")
        except OSError as error:
            return str(error), await add("b")
        return "", ""

    assert in_reactor(use) == ("disk", "B")


def test_a_batch_is_bounded_and_every_job_has_its_turn(workers: ThreadWorkers) -> None:
    sizes: list[int] = []

    def work(jobs: Sequence[int]) -> list[int | Exception]:
        sizes.append(len(jobs))
        return list(jobs)

    async def use(_: Any) -> list[int]:
        add = workers.grouped(work)
        return await gatherResults([add(n) for n in range(2 * BATCH + 1)])

    assert in_reactor(use) == list(range(2 * BATCH + 1))
    assert max(sizes) == BATCH


def test_a_stop_does_not_wait_for_work_that_may_be_abandoned() -> None:
    workers = ThreadWorkers(running_reactor(), 1, "test", abandon=True)
    begun, gate, daemon = threading.Event(), threading.Event(), []

    def work() -> None:
        daemon.append(threading.current_thread().daemon)
        begun.set()
        gate.wait(30)

    async def use(_: Any) -> None:
        workers.start()
        done = workers.run(work)
        while not begun.is_set():
            await deferLater(running_reactor(), 0.01)
        workers.stop()
        assert not gate.is_set()
        gate.set()
        await done

    in_reactor(use)
    assert daemon == [True]


def test_threads_are_as_many_as_there_is_work_for_and_not_more_than_allowed() -> None:
    workers, gate, seen = ThreadWorkers(running_reactor(), 3, "counted"), threading.Event(), set[str]()

    def work() -> None:
        seen.add(threading.current_thread().name)
        gate.wait(60)

    async def use(_: Any) -> None:
        early = workers.run(seen.add, "before the start")
        await deferLater(running_reactor(), 0.01)
        assert not seen
        workers.start()
        await early
        for _ in range(5):  # one after the other
            await workers.run(int, "1")
        assert len([each for each in threading.enumerate() if each.name.startswith("counted-")]) == 1
        many = [workers.run(work) for _ in range(10)]
        gate.set()
        await gatherResults(many)

    in_reactor(use)
    workers.stop()
    assert seen <= {"before the start", "counted-0", "counted-1", "counted-2"}
    assert not [each for each in threading.enumerate() if each.name.startswith("counted-")]


def test_a_stop_waits_for_what_was_asked_for_before() -> None:
    workers, done = ThreadWorkers(running_reactor(), 1, "test"), list[int]()

    async def use(_: Any) -> None:
        workers.start()
        for number in range(5):
            workers.run(done.append, number)
        workers.stop()
        workers.run(done.append, 5)

    in_reactor(use)
    assert done == [0, 1, 2, 3, 4]


def test_a_reactor_that_cannot_be_woken_ends_no_thread() -> None:
    calls: list[tuple[Any, ...]] = []

    class Deaf:
        def callFromThread(self, *call: Any) -> None:
            calls.append(call)
            raise OSError(28, "No space left on device")

    workers, got = ThreadWorkers(Deaf(), 1, "test"), list[int]()
    workers.start()
    for text in ("1", "2"):
        workers.run(int, text).addCallback(got.append)
    workers.stop()
    for call, *arguments in calls:
        call(*arguments)
    assert got == [1, 2]


def test_where_the_system_gives_no_thread_the_work_is_refused_and_where_it_gives_some_they_do_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = ThreadWorkers(running_reactor(), 4, "test")
    given = 0
    start = threading.Thread.start

    def begin(thread: threading.Thread) -> None:
        if thread.name.startswith("test-") and thread.name != f"test-{given - 1}":
            raise RuntimeError("can't start new thread")
        start(thread)

    async def use(_: Any) -> list[int]:
        nonlocal given
        workers.start()
        monkeypatch.setattr(threading.Thread, "start", begin)
        with pytest.raises(RuntimeError, match="can't start"):
            await workers.run(int)
        given = 1
        return await gatherResults([workers.run(int, str(number)) for number in range(3)])

    try:
        assert in_reactor(use) == [0, 1, 2]
    finally:
        monkeypatch.undo()
        workers.stop()
