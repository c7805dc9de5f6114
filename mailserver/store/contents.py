"""What is known of a mailbox, in memory: messages by UID, and what changed when.

Promises   Thread-safe; no call waits for a disk. Lists ascend by UID. Changes since a recent MODSEQ cost as much as
           there are changes, not as there are messages.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from mailserver.store.model import Message

_MODSEQ = itemgetter(0)
_JOURNAL_MINIMUM = 1000


@dataclass(slots=True)
class Journal:
    """Pairs of MODSEQ and UID, ascending; complete for what is newer than `start`."""

    start: int
    entries: list[tuple[int, int]] = field(default_factory=list)

    def add(self, modseq: int, uids: Iterable[int]) -> None:
        self.entries.extend((modseq, uid) for uid in uids)

    def since(self, modseq: int) -> set[int] | None:
        """The UIDs noted after a MODSEQ; None when that is too long ago."""
        if modseq < self.start:
            return None
        return {uid for _, uid in self.entries[bisect_right(self.entries, modseq, key=_MODSEQ) :]}

    def trim(self, limit: int) -> None:
        if len(self.entries) > limit:
            cut = bisect_right(self.entries, self.entries[-limit // 2][0], key=_MODSEQ)
            if cut:
                self.start = self.entries[cut - 1][0]
                del self.entries[:cut]


class Contents:
    """The messages of one mailbox. Only one thread at a time may change them; any may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: dict[int, Message] = {}
        self._sorted: list[Message] | None = None
        self._changed = Journal(0)
        self._vanished = Journal(0)
        self.names: dict[str, int] = {}
        """File name to UID; for the one who changes."""
        self.modseq = 0

    def load(self, messages: Iterable[Message], modseq: int) -> None:
        """Begins with these, ascending by UID."""
        with self._lock:
            self._messages = {message.uid: message for message in messages}
            self._sorted = None
            self.names = {message.name: message.uid for message in self._messages.values()}
            self._changed, self._vanished = Journal(modseq), Journal(modseq)
            self.modseq = modseq

    def next_modseq(self) -> int:
        """Greater than all before, also than those of an index that was lost (unless the clock went back)."""
        return max(self.modseq + 1, time.time_ns() // 1000)

    def change(self, put: Mapping[int, Message], vanished: Sequence[int], modseq: int) -> None:
        """`put` replaces and adds; UIDs that are added are greater than all that are there."""
        with self._lock:
            for uid in vanished:
                del self.names[self._messages.pop(uid).name]
            for uid, message in sorted(put.items()):
                known = self._messages.get(uid)
                if known is not None:
                    self.names.pop(known.name, None)
                self._messages[uid] = message
            self.names.update((message.name, uid) for uid, message in put.items())
            self._changed.add(modseq, put)
            self._vanished.add(modseq, vanished)
            limit = _JOURNAL_MINIMUM + len(self._messages)
            self._changed.trim(limit)
            self._vanished.trim(limit)
            self._sorted = None
            self.modseq = modseq

    def __len__(self) -> int:
        return len(self._messages)

    def __contains__(self, uid: int) -> bool:
        return uid in self._messages

    def get(self, uid: int) -> Message | None:
        return self._messages.get(uid)

    def uids(self) -> set[int]:
        with self._lock:
            return set(self._messages)

    def select(self, uids: Iterable[int]) -> list[Message]:
        """Those that exist, ascending."""
        with self._lock:
            return [self._messages[uid] for uid in sorted(set(uids)) if uid in self._messages]

    def all(self) -> list[Message]:
        """The list is the caller's own."""
        with self._lock:
            if self._sorted is None:
                self._sorted = list(self._messages.values())
            return self._sorted.copy()

    def above(self, uid: int) -> set[int]:
        """UIDs greater than this one."""
        with self._lock:
            found = set()
            for known in reversed(self._messages):
                if known <= uid:
                    break
                found.add(known)
            return found

    def changed_since(self, modseq: int) -> tuple[list[Message], set[int] | None, int]:
        """Messages that appeared or changed; UIDs that vanished, None when too long ago; the MODSEQ now."""
        with self._lock:
            uids = self._changed.since(modseq)
            if uids is None:
                found = [message for message in self._messages.values() if message.modseq > modseq]
            else:
                found = [self._messages[uid] for uid in sorted(uids) if uid in self._messages]
            return found, self._vanished.since(modseq), self.modseq
