"""Which job of the queue manager runs next, and how many at the same time to whom. Pure; times are monotonic.

Mail goes to sites: the servers that share the mail of some domains. A site that nothing is known of gets two jobs at
the same time; with each success a little more, up to its limit; with each failure to connect half of it. When none is
left, the site is dead: it is not tried for a while, and then by one job, whose end decides.

Promises   More urgent jobs come before less urgent ones, whomever they are for. Sites take turns. At one site small
           jobs come before bulk, and bulk leaves a place free, but for every fifth job it has its turn.
           Never more than `total` jobs run to other servers, nor more than the limit of a site to that, nor are more
           started in a minute than its rate. Sites that have not answered yet may use three quarters of the total.
           Jobs for this server's own mailboxes have a total of their own.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

J = TypeVar("J")

FIRST = 2.0  # jobs at the same time to a site that is not known
SMALL_IN_A_ROW = 4
UNPROVEN_SHARE = 0.75
STALL = 5.0  # seconds without the end of a job
WAITING_AT_STALLED = 2  # jobs kept for a site that does not get on
DEAD_FIRST, DEAD_LONGEST = 60.0, 900.0  # seconds
SITES_KEPT = 10_000


class Outcome(Enum):
    """What a job showed of its site."""

    ANSWERED = "answered"
    UNREACHABLE = "unreachable"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one site: jobs at the same time, and in a minute (0: as many as there are).

    `probe_first` and `probe_longest`: seconds that it is left alone when it is dead.
    """

    concurrency: int
    rate: int = 0
    probe_first: float = DEAD_FIRST
    probe_longest: float = DEAD_LONGEST


@dataclass(slots=True, eq=False)
class _Lanes(Generic[J]):
    """Jobs of one priority for one site."""

    small: deque[J] = field(default_factory=deque)
    bulk: deque[J] = field(default_factory=deque)
    in_a_row: int = 0

    def __len__(self) -> int:
        return len(self.small) + len(self.bulk)

    def takeable(self, *, bulk_too: bool) -> bool:
        return bool(self.small or (bulk_too and self.bulk))

    def take(self, *, bulk_too: bool) -> tuple[J, bool]:
        """A job that is `takeable`, and whether it is bulk."""
        if bulk_too and self.bulk and (not self.small or self.in_a_row >= SMALL_IN_A_ROW):
            self.in_a_row = 0
            return self.bulk.popleft(), True
        self.in_a_row += 1
        return self.small.popleft(), False


@dataclass(slots=True, eq=False)
class _Site(Generic[J]):
    key: str | None
    limits: Limits
    window: float
    lanes: dict[int, _Lanes[J]] = field(default_factory=dict)
    running: int = 0
    bulk_running: int = 0
    proven: bool = False
    last_end: float = 0.0
    failures: int = 0  # in a row, each of which ended in death
    dead_until: float = 0.0
    next_start: float = 0.0
    timed: bool = False  # it stands in the heap

    @property
    def slots(self) -> int:
        return max(1, int(self.window)) - self.running

    @property
    def bulk_too(self) -> bool:
        """There is room for one more bulk job."""
        return self.bulk_running < max(1, int(self.window) - 1)

    @property
    def most_urgent(self) -> int | None:
        """The priority of the job that is next."""
        takeable = (priority for priority, lanes in self.lanes.items() if lanes.takeable(bulk_too=self.bulk_too))
        return max(takeable, default=None)

    @property
    def waiting(self) -> int:
        return sum(map(len, self.lanes.values()))

    @property
    def kept(self) -> int:
        """Jobs that may wait for it while it does not get on."""
        return max(WAITING_AT_STALLED, self.limits.rate)


class Schedule(Generic[J]):
    """The site None stands for this server's own mailboxes."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._sites: dict[str | None, _Site[J]] = {}
        self._ready: dict[int, dict[str | None, _Site[J]]] = {}
        """By priority, in the order of turns: sites with a job that may start but for the bounds on the total."""
        self._timed: list[tuple[float, int, _Site[J]]] = []
        self._running = 0
        self._unproven = 0
        self._local = 0

    @property
    def running(self) -> int:
        return self._running + self._local

    @property
    def next_start(self) -> float | None:
        """When a site that waits for its time may start a job."""
        return self._timed[0][0] if self._timed else None

    def add(
        self,
        site: str | None,
        job: J,
        now: float,
        *,
        limits: Limits | None = None,
        priority: int = 0,
        bulk: bool = False,
        force: bool = False,
    ) -> bool:
        """A higher `priority` is more urgent. `force`: also to a site that is dead or does not get on. `limits` are
        those of the site from now on; at first the total.

        False: it is not taken; the site does not get on, and enough wait for it.
        """
        at = self._site(site, now)
        if limits is not None:
            at.limits = limits
            at.window = min(at.window, float(limits.concurrency))
        if force:
            at.dead_until = 0.0
        elif self._stalled(at, now) and at.waiting >= at.kept:
            return False
        lanes = at.lanes.setdefault(priority, _Lanes())
        (lanes.bulk if bulk else lanes.small).append(job)
        self._place(at, now)
        return True

    def dead(self, site: str, now: float) -> bool:
        """It is not tried now."""
        known = self._sites.get(site)
        return known is not None and now < known.dead_until

    def start(self, now: float) -> tuple[str | None, J] | None:
        """The next job that may run, counted as running from now on."""
        while self._timed and self._timed[0][0] <= now:
            _, _, due = heapq.heappop(self._timed)
            due.timed = False
            self._place(due, now)
        for priority in sorted(self._ready, reverse=True):
            if (site := self._next(self._ready[priority])) is not None:
                return site.key, self._begin(site, priority, now)
        return None

    def _next(self, ready: dict[str | None, _Site[J]]) -> _Site[J] | None:
        """The first in turn that the bounds on the total let start."""
        if self._running >= self._total:
            return ready.get(None)
        if self._unproven < self._total * UNPROVEN_SHARE:
            return next(iter(ready.values()))
        return next((site for site in ready.values() if site.proven), None)

    def _begin(self, site: _Site[J], priority: int, now: float) -> J:
        job, bulk = site.lanes[priority].take(bulk_too=site.bulk_too)
        site.running += 1
        site.bulk_running += bulk
        if site.key is None:
            self._local += 1
        else:
            self._running += 1
            self._unproven += not site.proven
        if site.running == 1:
            site.last_end = now  # it begins to be waited for
        if not site.lanes[priority]:
            del site.lanes[priority]
        if site.limits.rate:
            site.next_start = max(now, site.next_start) + 60.0 / site.limits.rate
        self._place(site, now)
        return job

    def end(self, key: str | None, now: float, outcome: Outcome, *, bulk: bool = False) -> list[J]:
        """A job has ended. Gives the jobs that waited for the site when it is dead by that."""
        site = self._sites[key]
        site.running -= 1
        site.bulk_running -= bulk
        if key is None:
            self._local -= 1
        else:
            self._running -= 1
            self._unproven -= not site.proven
        withdrawn: list[J] = []
        if outcome is not Outcome.NOTHING:
            site.last_end = now
        if outcome is Outcome.ANSWERED:
            if not site.proven:
                site.proven = True
                self._unproven -= site.running if key is not None else 0
            site.failures = 0
            site.dead_until = 0.0
            site.window = min(site.window + 1.0 / site.window, float(site.limits.concurrency))
        elif outcome is Outcome.UNREACHABLE:
            withdrawn = self._failed(site, now)
        self._place(site, now)
        return withdrawn

    def _failed(self, site: _Site[J], now: float) -> list[J]:
        alive = site.proven and site.window >= 2.0
        if alive:
            site.window /= 2.0
            return []
        if site.proven:
            site.proven = False
            self._unproven += site.running
        site.window = 1.0
        site.failures += 1
        wait = site.limits.probe_first * 2.0 ** min(site.failures - 1, 10)
        site.dead_until = now + min(wait, site.limits.probe_longest)
        withdrawn = [job for lanes in site.lanes.values() for job in (*lanes.small, *lanes.bulk)]
        site.lanes.clear()
        return withdrawn

    def stalled(self, now: float) -> list[J]:
        """Takes back what waits for sites that do not get on, but for a few each: others need the room."""
        withdrawn: list[J] = []
        for site in self._sites.values():
            if not self._stalled(site, now):
                continue
            kept = site.kept
            for priority in sorted(site.lanes, reverse=True):
                lanes = site.lanes[priority]
                for lane in (lanes.small, lanes.bulk):
                    withdrawn += [lane.pop() for _ in range(len(lane) - kept)]
                    kept -= len(lane)
                if not lanes:
                    del site.lanes[priority]
            self._place(site, now)
        return withdrawn

    def clear(self) -> None:
        """Takes back all that wait."""
        for site in self._sites.values():
            site.lanes.clear()
        self._ready.clear()

    def _stalled(self, site: _Site[J], now: float) -> bool:
        if site.key is None:
            return False
        waits_for_its_time = site.limits.rate > 0 and site.next_start > now
        return (site.running > 0 and now - site.last_end > STALL) or now < site.dead_until or waits_for_its_time

    def _site(self, key: str | None, now: float) -> _Site[J]:
        site = self._sites.get(key)
        if site is None:
            if len(self._sites) >= SITES_KEPT:
                self._forget(now)
            window = float(self._total) if key is None else FIRST
            site = self._sites[key] = _Site(key, Limits(self._total), window, last_end=now, proven=key is None)
        return site

    def _forget(self, now: float) -> None:
        for key, site in [*self._sites.items()]:
            if not site.running and not site.lanes and site.dead_until <= now:
                del self._sites[key]

    def _place(self, site: _Site[J], now: float) -> None:
        """Puts the site at the end of those that may start a job, or takes it out, as it is now."""
        for formerly in [*self._ready]:
            ready = self._ready[formerly]
            ready.pop(site.key, None)
            if not ready:
                del self._ready[formerly]
        priority = site.most_urgent
        if priority is None or site.slots <= 0:
            return
        at = max(site.next_start, site.dead_until)
        if at > now:
            if not site.timed:
                site.timed = True
                heapq.heappush(self._timed, (at, id(site), site))
            return
        self._ready.setdefault(priority, {})[site.key] = site
