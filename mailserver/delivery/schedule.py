"""Which job of the queue manager runs next. Pure.

Promises   More urgent jobs come before less urgent ones, whomever they are for.
           Never more than `total` jobs run to other servers, nor more than `per_hop` to one next hop. Next hops take
           turns, so that many messages for a slow one do not keep the others waiting. Jobs for this server's own
           mailboxes are bounded by `total` for themselves: slow remotes do not keep them waiting either.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Generic, TypeVar

J = TypeVar("J")


class Schedule(Generic[J]):
    """`hop` None stands for this server's own mailboxes."""

    def __init__(self, total: int, per_hop: int) -> None:
        self._total = total
        self._per_hop = per_hop
        self._waiting: dict[int, dict[str | None, deque[J]]] = {}  # by priority; the next hops in the order of turns
        self._running: Counter[str | None] = Counter()

    @property
    def running(self) -> int:
        return self._running.total()

    def add(self, hop: str | None, job: J, priority: int = 0) -> None:
        """A higher `priority` is more urgent."""
        self._waiting.setdefault(priority, {}).setdefault(hop, deque()).append(job)

    def start(self) -> tuple[str | None, J] | None:
        """The next job that may run, counted as running from now on."""
        for priority in sorted(self._waiting, reverse=True):
            for hop in self._candidates(priority):
                if self._running[hop] < (self._total if hop is None else self._per_hop):
                    self._running[hop] += 1
                    return hop, self._take(priority, hop)
        return None

    def _candidates(self, priority: int) -> Iterable[str | None]:
        """The next hops with jobs, in the order of turns; when `total` is reached only this server's mailboxes."""
        waiting = self._waiting[priority]
        if self.running - self._running[None] < self._total:
            return waiting
        return [None] if None in waiting else []

    def _take(self, priority: int, hop: str | None) -> J:
        """The oldest job; after it the next hop is the last in turn."""
        waiting = self._waiting[priority]
        jobs = waiting.pop(hop)
        job = jobs.popleft()
        if jobs:
            waiting[hop] = jobs
        elif not waiting:
            del self._waiting[priority]
        return job

    def end(self, hop: str | None) -> None:
        self._running[hop] -= 1
        if not self._running[hop]:
            del self._running[hop]

    def withdraw(self, hop: str | None) -> list[J]:
        """Takes back the jobs that wait for this next hop."""
        jobs = [job for waiting in self._waiting.values() for job in waiting.pop(hop, ())]
        self._waiting = {priority: waiting for priority, waiting in self._waiting.items() if waiting}
        return jobs

    def clear(self) -> None:
        """Takes back all that wait."""
        self._waiting.clear()
