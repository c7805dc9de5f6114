"""Pieces and search text of a mailbox's messages are made while nobody waits, so that FETCH and SEARCH find them made.

Promises   Small batches with pauses between them: commands are not held up, and most of a processor stays free. It ends
           when nothing remains, or the session has left the mailbox.
On failure It ends; FETCH and SEARCH answer the same without it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mailserver import metrics
from mailserver.ports import Clock, Workers
from mailserver.store import AccountStore, StoreError

log = logging.getLogger(__name__)

BATCH = 100  # messages
PAUSE = 0.05  # seconds
FIRST_PAUSE = 1.0  # seconds; what a client asks for as it opens a mailbox is not to share Python's lock with this


async def index(
    account: AccountStore, name: str, *, wanted: Callable[[], bool], workers: Workers, clock: Clock
) -> None:
    """As long as it is `wanted`."""
    try:
        await clock.sleep(FIRST_PAUSE)
        if not wanted():
            return
        mailbox = await workers.run(account.open, name)  # a use of its own, whatever the session does meanwhile
        try:
            for work, make in (("prepare", mailbox.prepare), ("pack", mailbox.pack)):
                while wanted() and await workers.run(_batch, work, make) > 0:
                    await clock.sleep(PAUSE)
        finally:
            await workers.run(mailbox.close)
    except StoreError as error:
        log.info("imap=indexing mailbox=%r ended: %s", name, error)


def _batch(work: str, make: Callable[[int], int]) -> int:
    """Blocking."""
    begun = time.perf_counter()
    try:
        return make(BATCH)
    finally:
        metrics.INDEX_TIMES.observe(time.perf_counter() - begun, work)
