"""The folders that wait to be indexed, each with the moment from which on it may be.

Promises   A folder waits once. What failed waits longer each time, up to `LONGEST`; then it is left to the next round.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from mailserver.store.arrivals import Place

FIRST, LONGEST = 60.0, 3600.0  # seconds


class Backlog:
    """Times are those of one clock, which does not go back."""

    def __init__(self) -> None:
        self._due: dict[Place, float] = {}
        self._heap: list[tuple[float, int, Place]] = []  # with moments that no longer hold
        self._numbers = count()
        self._delays: dict[Place, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, place: Place) -> bool:
        return place in self._due

    def __iter__(self) -> Iterator[Place]:
        return iter(tuple(self._due))

    def add(self, place: Place, at: float) -> None:
        """An earlier moment counts, but for what failed."""
        if place not in self._due or (at < self._due[place] and place not in self._delays):
            self._due[place] = at
            heapq.heappush(self._heap, (at, next(self._numbers), place))

    def take(self, now: float) -> Place | None:
        """The one that has been due for the longest time; it waits no more."""
        while self._heap and self._heap[0][0] <= now:
            at, _, place = heapq.heappop(self._heap)
            if self._due.get(place) == at:
                del self._due[place]
                return place
        return None

    def due(self, now: float) -> bool:
        return bool(self._heap) and self._heap[0][0] <= now

    def succeeded(self, place: Place) -> None:
        self._delays.pop(place, None)

    def failed(self, place: Place, now: float) -> bool:
        """Whether it is the first time."""
        delay = self._delays.get(place, 0.0) * 2 or FIRST
        if delay > LONGEST:
            del self._delays[place]
            return False
        first = place not in self._delays
        self._delays[place] = delay
        self.add(place, now + delay)
        return first
