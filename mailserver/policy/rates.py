"""How often something may happen in a minute, for each source or account, over all processes.

The minute slides: what happened in the minute of the clock before this one counts by the part of it that is less than
a minute ago.

Promises   Memory is bounded: what happened longest ago is forgotten first. Two processes that count at the same moment
           may each let one too many through.
On failure Nothing here fails.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from mailserver.policy.shared import SharedRates

KEYS = 20_000
MINUTE = 60.0


class Rate:
    """At most `limit` a minute for each key; 0: as many as there are. `name` keeps several rates apart."""

    def __init__(self, name: str, limit: int, shared: SharedRates | None = None) -> None:
        self._name = name
        self._limit = limit
        self._shared = shared
        self._counts: OrderedDict[str, tuple[int, int, int]] = OrderedDict()  # minute, in it, in the one before

    def take(self, key: str, now: float) -> float:
        """0: it may happen, and is counted. Else the seconds until it may."""
        if not self._limit:
            return 0.0
        minute, passed = int(now // MINUTE), now % MINUTE / MINUTE
        own, own_before = _at(minute, self._counts.get(key))
        others, others_before = (0, 0) if self._shared is None else self._shared.others(self._place(key), minute)
        here, before = own + others, own_before + others_before
        if here + before * (1.0 - passed) > self._limit - 1:
            return self._until_room(here, before, passed)
        self._counts[key] = (minute, own + 1, own_before)
        self._counts.move_to_end(key)
        if len(self._counts) > KEYS:
            self._counts.popitem(last=False)
        if self._shared is not None:
            self._shared.put(self._place(key), minute, own + 1, own_before)
        return 0.0

    def _until_room(self, here: int, before: int, passed: float) -> float:
        """For one more, if nothing else happens."""
        room = self._limit - 1 - here
        part = 1.0 - room / before if room >= 0 and before else inf  # of this minute, then there is room
        if part > 1.0:
            part = 1.0 + max(0.0, 1.0 - (self._limit - 1) / here)
        return max(0.001, (part - passed) * MINUTE)

    def _place(self, key: str) -> str:
        return f"{self._name} {key}"


def _at(minute: int, known: tuple[int, int, int] | None) -> tuple[int, int]:
    """How often in this minute, and in the one before."""
    if known is None or known[0] not in (minute, minute - 1):
        return 0, 0
    return known[1:] if known[0] == minute else (0, known[1])
