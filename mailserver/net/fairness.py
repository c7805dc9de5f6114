"""Threads for costly work that strangers ask for, as the hash of a password: who asks for much keeps nobody waiting.

Promises   At most `threads` pieces of work are begun at the same time. Of those that wait, each source has one done in
           turn, so that a source that has many waiting delays the others by one of its own at most for each thread.
           Nobody waits longer than `PATIENCE`, and the number of those who wait is bounded, in all and for each source.
On failure `Crowded` for whoever would have to wait too long. An exception of the work comes out of the await.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailserver.net.workers import ThreadWorkers
from mailserver.ports import Clock, Crowded, Timer

R = TypeVar("R")

PATIENCE = 30.0  # seconds; well below the login timeout
WAITING_EACH = 64  # of one source: more than it may have connections
WAITING = 2000


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    done: Deferred[Any]
    timer: Timer | None = field(default=None)


class FairThreads:
    """The FairWorkers port. `workers` is for this alone."""

    def __init__(self, workers: ThreadWorkers, clock: Clock, threads: int) -> None:
        self._workers = workers
        self._clock = clock
        self._free = threads
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()  # whose turn is next stands first
        self._count = 0

    def run_for(self, source: str, work: Callable[[], R]) -> Deferred[R]:
        job = _Job(work, Deferred())
        if self._free:
            self._begin(job)
        elif self._count >= WAITING or len(self._waiting.get(source, ())) >= WAITING_EACH:
            job.done.errback(Crowded())
        else:
            self._count += 1
            self._waiting.setdefault(source, deque()).append(job)
            job.timer = self._clock.call_later(PATIENCE, lambda: self._give_up(source, job))
        return job.done

    def _begin(self, job: _Job) -> None:
        self._free -= 1
        self._workers.run(job.work).addBoth(self._ended, job.done)

    def _ended(self, result: Any, done: Deferred[Any]) -> None:
        self._free += 1
        if self._waiting:
            source, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            self._count -= 1
            if jobs:
                self._waiting[source] = jobs  # behind all others
            if job.timer is not None:
                job.timer.cancel()
            self._begin(job)
        if isinstance(result, Failure):
            done.errback(result)
        else:
            done.callback(result)

    def _give_up(self, source: str, job: _Job) -> None:
        jobs = self._waiting[source]
        jobs.remove(job)
        self._count -= 1
        if not jobs:
            del self._waiting[source]
        job.done.errback(Crowded())
