"""Which job of the queue manager runs next. Pure.

Promises   Never more than `total` jobs run to other servers, nor more than `per_hop` to one next hop. Next hops take
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
        self._waiting: dict[str | None, deque[J]] = {}  # in the order of turns
        self._running: Counter[str | None] = Counter()

    @property
    def running(self) -> int:
        return self._running.total()

    def add(self, hop: str | None, job: J) -> None:
        self._waiting.setdefault(hop, deque()).append(job)

    def start(self) -> tuple[str | None, J] | None:
        """The next job that may run, counted as running from now on."""
        for hop in self._candidates():
            if self._running[hop] < (self._total if hop is None else self._per_hop):
                break
        else:
            return None
        jobs = self._waiting.pop(hop)
        job = jobs.popleft()
        if jobs:
            self._waiting[hop] = jobs
        self._running[hop] += 1
        return hop, job

    def _candidates(self) -> Iterable[str | None]:
        """The next hops with jobs, in the order of turns; when `total` is reached only this server's mailboxes."""
        if self.running - self._running[None] < self._total:
            return self._waiting
        return [None] if None in self._waiting else []

    def end(self, hop: str | None) -> None:
        self._running[hop] -= 1
        if not self._running[hop]:
            del self._running[hop]

    def withdraw(self, hop: str | None) -> list[J]:
        """Takes back the jobs that wait for this next hop."""
        return list(self._waiting.pop(hop, ()))

    def clear(self) -> None:
        """Takes back all that wait."""
        self._waiting.clear()
