"""What will be asked for next is made while the answer to what was asked is on its way.

Theory     Clients list a mailbox in its order, and a session takes it in batches. So whoever asks for some messages in
           a row has a thread make them and those behind them, and waits for their part. The thread goes on as long as
           more is asked for. So making, keeping and telling happen at the same time.
Promises   Any thread may ask. There is one thread at work; it ends when it has made `AHEAD` messages since it was last
           asked, or when there are no more.
On failure Logged. Whoever asked makes by itself what it does not find.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

log = logging.getLogger(__name__)

WORTH = 100  # messages in a row that are worth a thread
AHEAD = 1000

Work = Callable[[Sequence[int]], Iterable[int]]
"""Makes and keeps what is missing of messages; gives the UID up to which that is done, each time that some are."""
Follow = Callable[[int, int], Sequence[int]]
"""From a UID on, the UIDs of the mailbox, ascending, as many as that."""


class Ahead:
    """Of one mailbox."""

    def __init__(self, work: Work, follow: Follow) -> None:
        self._work = work
        self._follow = follow
        self._changed = threading.Condition()
        self._running = False
        self._first = self._done = 0
        """Where the thread began, and up to which UID it is done."""
        self._left = 0

    def wait_for(self, uids: Sequence[int]) -> bool:
        """Until these were made, as far as they could be. False: nobody makes them here."""
        if not WORTH <= len(uids) <= AHEAD or list(self._follow(uids[0], len(uids))) != uids:
            return False
        with self._changed:
            if not self._running:
                self._first, self._done = uids[0], uids[0] - 1
                if not self._begin():
                    return False
            elif uids[0] < self._first or uids[-1] > max(self._follow(self._done + 1, AHEAD), default=0):
                return False  # it is at work elsewhere
            self._left = AHEAD
            self._changed.wait_for(lambda: self._done >= uids[-1] or not self._running)
        return True

    def _begin(self) -> bool:
        try:
            threading.Thread(target=self._run, name="ahead", daemon=True).start()
        except RuntimeError as error:  # there can be no more threads
            log.error("store=ahead error=%r", error)
            return False
        self._running = True
        return True

    def _run(self) -> None:
        try:
            while uids := self._next():
                for done in self._work(uids):
                    self._advance(done)
                self._advance(uids[-1])
        except Exception:
            log.exception("store=ahead")
        finally:
            with self._changed:
                self._running = False
                self._changed.notify_all()

    def _next(self) -> Sequence[int]:
        with self._changed:
            uids = self._follow(self._done + 1, self._left) if self._left else []
            self._left -= len(uids)
            return uids

    def _advance(self, done: int) -> None:
        with self._changed:
            self._done = done
            self._changed.notify_all()
