"""Bounded thread pools for blocking work, and group commit on top of them.

Promises   At most `threads` pieces of work run at the same time. The jobs of one group run in one batch at a time; what
           comes meanwhile makes the next batch, so that a disk is synced once for all who wait.
On failure An exception of the work comes out of the await; so does that the system gives no thread at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from mailserver.net.driving import drive

log = logging.getLogger(__name__)

BATCH = 200  # jobs done together: each may hold a file open

P = ParamSpec("P")
R = TypeVar("R")
J = TypeVar("J")

_Work = tuple[Callable[[], object], Deferred[Any]]


class ThreadWorkers:
    """The Workers port, over threads of its own. `abandon`: its work changes nothing, no stop waits for it.

    Twisted's ThreadPool takes twice as long to hand over a piece of work and its result. All but the work itself is of
    the reactor's thread.
    """

    def __init__(self, reactor: Any, threads: int, name: str, *, abandon: bool = False) -> None:
        self._reactor = reactor
        self._abandon = abandon
        self._most = threads
        self._name = name
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._busy = 0  # pieces of work whose result is not here yet
        self._running = False
        self.spawned = 0
        """Tasks of `spawn` that have not ended."""

    def start(self) -> None:
        self._running = True
        self._begin_threads()

    def stop(self) -> None:
        """Waits for the work that was asked for; nothing is begun any more."""
        self._running = False
        for _ in self._threads:
            self._work.put(None)
        if not self._abandon:
            for thread in self._threads:
                thread.join()

    def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        done: Deferred[R] = Deferred()
        self._busy += 1
        if self._running:
            try:
                self._begin_threads()
            except RuntimeError:
                self._busy -= 1
                return fail()
        self._work.put((partial(work, *args, **kwargs), done))
        return done

    def _begin_threads(self) -> None:
        """As many as there is work for. Where the system gives no more, those that there are do it."""
        while len(self._threads) < min(self._busy, self._most):
            name = f"{self._name}-{len(self._threads)}"
            thread = Thread(target=self._work_on, name=name, daemon=self._abandon)
            try:
                thread.start()
            except RuntimeError:
                if not self._threads:
                    raise
                return
            self._threads.append(thread)

    def _work_on(self) -> None:
        """A thread's life. What it has done it does not hold on to."""
        while (asked := self._work.get()) is not None:
            work, done = asked
            try:
                result = work()
            except BaseException:  # noqa: BLE001 - it comes out of the await
                result = Failure()
            try:
                self._reactor.callFromThread(self._end, done, result)
            except OSError as error:  # it knows of the call, and makes it when something else wakes it
                log.error("the reactor cannot be woken: %s", error)
            del asked, work, done, result

    def _end(self, done: Deferred[Any], result: object) -> None:
        self._busy -= 1
        done.callback(result)

    def grouped(self, work: Callable[[Sequence[J]], Sequence[R | Exception]]) -> Callable[[J], Deferred[R]]:
        return _Group(self, work).add

    def call_from_thread(self, call: Callable[[], object]) -> None:
        self._reactor.callFromThread(call)

    def spawn(self, task: Coroutine[Any, Any, object]) -> None:
        self.spawned += 1
        drive(task, self._ended, self._failed)

    def _ended(self) -> None:
        self.spawned -= 1

    def _failed(self, failure: Failure) -> None:
        log.critical("a task failed: %s", failure.getTraceback())
        self._ended()


class _Group(Generic[J, R]):
    def __init__(self, workers: ThreadWorkers, work: Callable[[Sequence[J]], Sequence[R | Exception]]) -> None:
        self._workers = workers
        self._work = work
        self._waiting: list[tuple[J, Deferred[R]]] = []
        self._running = False

    def add(self, job: J) -> Deferred[R]:
        done: Deferred[R] = Deferred()
        self._waiting.append((job, done))
        if not self._running:
            self._workers.spawn(self._run())
        return done

    async def _run(self) -> None:
        self._running = True
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                results: Sequence[R | Exception]
                try:
                    results = await self._workers.run(self._work, [job for job, _ in batch])
                except Exception as error:  # noqa: BLE001 - whatever the work raises belongs to those who wait
                    results = [error] * len(batch)
                for (_, done), result in zip(batch, results, strict=True):
                    if isinstance(result, Exception):
                        done.errback(result)
                    else:
                        done.callback(result)
        finally:
            self._running = False
