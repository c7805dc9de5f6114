"""How much waits: in the queue, and to be packed for search. One process of a server looks, the one that delivers.

Promises   Looking takes `SHARE` of the time of one thread at most, however long the queue is and however many accounts
           there are.
On failure What cannot be seen now is told as it was; QueueError and OSError are logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from mailserver import metrics
from mailserver.ports import Clock, Workers
from mailserver.queue import Queue, QueueError
from mailserver.store.lag import Lag

log = logging.getLogger(__name__)

SHARE = 0.01
QUEUE_EVERY = 5.0  # seconds, at the most often
LAG_AT_ONCE = 0.05  # seconds that are spent on accounts before there is a pause
LAG_ROUND = 30.0  # seconds from one round over all accounts to the next, at the most often


class Levels:
    """`mail`: below which the accounts lie. Both looks give the seconds until the next one."""

    def __init__(self, queue: Queue, mail: Path, *, workers: Workers, clock: Clock) -> None:
        self._queue = queue
        self._workers = workers
        self._clock = clock
        self._lag = Lag(mail)
        self._round: Iterator[None] | None = None

    async def look_at_queue(self) -> float:
        if not self._queue.leads:
            metrics.QUEUE_ENTRIES.forget()
            metrics.QUEUE_AGE.forget()
            return 1.0
        now, begun = self._clock.wall(), self._clock.monotonic()
        try:
            found = await self._workers.run(self._queue.census, now)
        except QueueError as error:
            log.warning("queue: not counted: %s", error)
            return QUEUE_EVERY
        for state, waiting in found.items():
            metrics.QUEUE_ENTRIES.put(waiting.entries, state)
            metrics.QUEUE_AGE.put(max(0.0, now - waiting.oldest) if waiting.oldest is not None else 0.0, state)
        return max(QUEUE_EVERY, (self._clock.monotonic() - begun) / SHARE)

    async def look_at_indexes(self) -> float:
        if not self._queue.leads:
            metrics.INDEX_LAG.forget()
            return 1.0
        try:
            took, done = await self._workers.run(self._some_accounts)
        except OSError as error:
            log.warning("store: accounts are not counted: %s", error)
            self._round = None
            return LAG_ROUND
        metrics.INDEX_LAG.put(self._lag.messages)
        return max(LAG_ROUND if done else 0.0, took / SHARE)

    def _some_accounts(self) -> tuple[float, bool]:
        """The seconds that it took, and whether the round is over. Blocking."""
        begun = time.monotonic()
        self._round = self._round or self._lag.round()
        done = False
        while not done and time.monotonic() < begun + LAG_AT_ONCE:
            done = next(self._round, self) is self
        if done:
            self._round = None
        return time.monotonic() - begun, done
