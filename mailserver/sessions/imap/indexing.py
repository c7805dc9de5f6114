"""Pieces and search text of a mailbox's messages are made while nobody waits, so that FETCH and SEARCH find them made.

Promises   Small batches with pauses between them: commands are not held up, and most of a processor stays free. It ends
           when nothing remains, or the session has left the mailbox.
On failure It ends; FETCH and SEARCH answer the same without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mailserver.ports import Clock, Workers
from mailserver.store import AccountStore, StoreError

log = logging.getLogger(__name__)

BATCH = 100  # messages
PAUSE = 0.05  # seconds


async def index(
    account: AccountStore, name: str, *, wanted: Callable[[], bool], workers: Workers, clock: Clock
) -> None:
    """As long as it is `wanted`."""
    try:
        await clock.sleep(PAUSE)  # the first commands come first
        mailbox = await workers.run(account.open, name)  # a use of its own, whatever the session does meanwhile
        try:
            for make in (mailbox.prepare, mailbox.pack):
                while wanted() and await workers.run(make, BATCH) > 0:
                    await clock.sleep(PAUSE)
        finally:
            await workers.run(mailbox.close)
    except StoreError as error:
        log.info("imap=indexing mailbox=%r ended: %s", name, error)
