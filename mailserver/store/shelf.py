"""What was read of mailboxes and may be read again is held in memory, bounded in octets for the whole process.

Promises   What was used last stays. Thread-safe.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from itertools import count
from typing import Generic, Protocol, TypeVar


class _Held(Protocol):
    @property
    def octets(self) -> int:
        """What it takes in memory, about."""


H = TypeVar("H", bound=_Held)


class Shelf(Generic[H]):
    """Up to `limit` octets."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.octets = 0
        self._owners = count()
        self._columns: OrderedDict[tuple[int, Hashable], H] = OrderedDict()
        self._lock = threading.Lock()

    def owner(self) -> int:
        """A number that nobody else has, to keep one's columns under."""
        return next(self._owners)

    def get(self, owner: int, name: Hashable) -> H | None:
        with self._lock:
            column = self._columns.get((owner, name))
            if column is not None:
                self._columns.move_to_end((owner, name))
            return column

    def put(self, owner: int, name: Hashable, column: H) -> None:
        """What is larger than all that may be held is not kept."""
        with self._lock:
            before = self._columns.pop((owner, name), None)
            self.octets -= before.octets if before is not None else 0
            if column.octets > self.limit:
                return
            self._columns[owner, name] = column
            self.octets += column.octets
            while self.octets > self.limit:
                _, oldest = self._columns.popitem(last=False)
                self.octets -= oldest.octets
