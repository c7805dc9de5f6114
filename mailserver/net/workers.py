"""Bounded thread pools for blocking work, and group commit on top of them.

Promises   At most `threads` pieces of work run at the same time. The jobs of one group run in one batch at a time; what
           comes meanwhile makes the next batch, so that a disk is synced once for all who wait.
On failure An exception of the work comes out of the await.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from threading import Thread
from typing import Any, Generic, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mailserver.net.driving import drive

log = logging.getLogger(__name__)

BATCH = 200  # jobs done together: each may hold a file open

P = ParamSpec("P")
R = TypeVar("R")
J = TypeVar("J")


class ThreadWorkers:
    """The Workers port, over one pool of threads. `abandon`: its work changes nothing, no stop waits for it."""

    def __init__(self, reactor: Any, threads: int, name: str, *, abandon: bool = False) -> None:
        self._reactor = reactor
        self._abandon = abandon
        self._pool = ThreadPool(minthreads=0, maxthreads=threads, name=name)
        self._pool.threadFactory = _AbandonedThread if abandon else Thread
        self.spawned = 0
        """Tasks of `spawn` that have not ended."""

    def start(self) -> None:
        self._pool.start()

    def stop(self) -> None:
        """Waits for the work that has begun."""
        if not self._abandon:
            self._pool.stop()

    def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        return deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs)

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


class _AbandonedThread(Thread):
    """Keeps no process from ending."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, daemon=True)


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
