"""What nobody uses is kept for a while: a client that comes again soon finds its mailbox in memory, its index open.

Promises   At most `MAILBOXES` are kept, with at most `MESSAGES` messages in all, and none for longer than `LIFETIME`
           after its last use, as far as somebody closes one then. At most `INDEXES` are open that nobody uses. Those
           used last stay. Thread-safe.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from mailserver.store.index import Index
from mailserver.store.mailbox import Mailbox

MAILBOXES = 200
MESSAGES = 100_000
LIFETIME = 600.0  # seconds
INDEXES = 32


@dataclass(frozen=True, slots=True)
class _Kept:
    since: float
    messages: int
    evict: Callable[[Mailbox], None]


class Warm:
    """One for each process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Mailbox, _Kept] = OrderedDict()
        self._messages = 0
        self._indexes: OrderedDict[Index, None] = OrderedDict()

    def rest(self, index: Index) -> None:
        """Nobody uses it now. It may be closed at any time, and opens itself again."""
        closed = []
        with self._lock:
            self._indexes[index] = None
            self._indexes.move_to_end(index)
            while len(self._indexes) > INDEXES:
                closed.append(self._indexes.popitem(last=False)[0])
        for each in closed:
            each.close()

    def keep(self, mailbox: Mailbox, evict: Callable[[Mailbox], None]) -> None:
        """Its last user has left. `evict` is called by `trim`, perhaps when the mailbox is in use again."""
        with self._lock:
            kept = self._kept[mailbox] = _Kept(time.monotonic(), mailbox.message_count, evict)
            self._messages += kept.messages

    def take(self, mailbox: Mailbox) -> None:
        """It is in use again, or gone."""
        with self._lock:
            self._take(mailbox)

    def trim(self) -> None:
        """Lets go what is too much or too old. The caller holds no account's lock."""
        evicted = []
        with self._lock:
            oldest = time.monotonic() - LIFETIME
            for mailbox, kept in list(self._kept.items()):
                if kept.since >= oldest and len(self._kept) <= MAILBOXES and self._messages <= MESSAGES:
                    break
                self._take(mailbox)
                evicted.append((mailbox, kept.evict))
        for mailbox, evict in evicted:
            evict(mailbox)

    def _take(self, mailbox: Mailbox) -> None:
        kept = self._kept.pop(mailbox, None)
        if kept is not None:
            self._messages -= kept.messages
