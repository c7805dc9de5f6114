"""Packing the search text of a mailbox while nobody waits for it, so that SEARCH need not read its messages.

Promises   Small batches with pauses between them: commands are not held up, and most of a processor stays free. It ends
           when nothing remains, or the session has left the mailbox.
On failure It ends; SEARCH finds the same without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mailserver.ports import Clock, Workers
from mailserver.store import AccountStore, StoreError

log = logging.getLogger(__name__)

BATCH = 50  # messages
PAUSE = 0.05  # seconds


async def pack(account: AccountStore, name: str, *, wanted: Callable[[], bool], workers: Workers, clock: Clock) -> None:
    """Packs as long as it is `wanted`."""
    try:
        mailbox = await workers.run(account.open, name)  # a use of its own, whatever the session does meanwhile
        try:
            while wanted() and await workers.run(mailbox.pack, BATCH) > 0:
                await clock.sleep(PAUSE)
        finally:
            await workers.run(mailbox.close)
    except StoreError as error:
        log.info("imap=packing mailbox=%r ended: %s", name, error)
