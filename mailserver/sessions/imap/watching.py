"""A mailbox that is watched for a session.

Theory     A change made in this process calls back at once, one by another program as soon as the kernel tells of it;
           changes that it does not tell of are looked for every few seconds.
Promises   Nothing is left running after `close`.
On failure A look that fails is logged and tried again at the next turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mailserver.ports import Clock, Timer, Workers
from mailserver.store import Mailbox, StoreError

log = logging.getLogger(__name__)

POLL = 5.0
"""Seconds between two looks at what other programs did."""


class Watch:
    """Calls `stirred`, on the main thread, when there may be something new; also when the mailbox is gone."""

    def __init__(self, mailbox: Mailbox, workers: Workers, clock: Clock, stirred: Callable[[], None]) -> None:
        self._mailbox = mailbox
        self._workers = workers
        self._clock = clock
        self._stirred = stirred
        self._active = True
        self._cancel = mailbox.subscribe(lambda: workers.call_from_thread(self._stir))
        self._timer: Timer = clock.call_later(POLL, self._poll)

    def close(self) -> None:
        self._active = False
        self._cancel()
        self._timer.cancel()

    def _stir(self) -> None:
        if self._active:
            self._stirred()

    def _poll(self) -> None:
        self._workers.spawn(self._look())

    async def _look(self) -> None:
        try:
            await self._workers.run(self._mailbox.sync)
        except StoreError as error:
            log.warning("mailbox=%r cannot be looked at: %s", self._mailbox.name, error)
            if not self._mailbox.alive:
                self._stir()
        finally:
            if self._active:
                self._timer = self._clock.call_later(POLL, self._poll)
