"""Work that is done again and again, each time when the last one has ended and some seconds have passed.

Promises   Never twice at the same time. After `stop` nothing is begun, and what was under way has ended.
On failure An exception of the work is logged, and the next time comes after `AFTER_FAILURE` seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from mailserver.ports import Clock, Timer, Workers

log = logging.getLogger(__name__)

AFTER_FAILURE = 60.0


class Repeating:
    """`work` gives the seconds until the next time."""

    def __init__(self, work: Callable[[], Awaitable[float]], *, workers: Workers, clock: Clock) -> None:
        self._work = work
        self._workers = workers
        self._clock = clock
        self._timer: Timer | None = None
        self._running = False
        self._at_work = False

    def start(self) -> None:
        self._running = True
        self._begin()

    def _begin(self) -> None:
        self._at_work = True
        self._workers.spawn(self._once())

    async def _once(self) -> None:
        pause = AFTER_FAILURE
        try:
            pause = await self._work()
        except Exception:
            log.exception("%s failed", getattr(self._work, "__qualname__", "repeated work"))
        finally:
            self._at_work = False
        if self._running:
            self._timer = self._clock.call_later(pause, self._begin)

    @property
    def running(self) -> bool:
        """It was started and not stopped."""
        return self._running

    async def stop(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        while self._at_work:
            await self._clock.sleep(0.01)
