"""Which site a way to go leads to: looked up once for all who ask, and remembered for a while.

Promises   A way is looked up once at a time, however many messages wait for it. What is remembered is bounded.
On failure The reply that the recipients get instead of a site.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from mailserver.delivery.nexthop import Deliverable, Site, Unroutable
from mailserver.mail import Reply
from mailserver.ports import Clock, Workers

log = logging.getLogger(__name__)

FOUND_FOR = 30.0  # seconds
FAILED_FOR = 1.0  # so that it is found soon after it is there; how often the DNS is asked is the resolver's care
KEPT = 10_000

INTERNAL_ERROR = Reply.of(451, "4.3.0", "An error in this server")

Hop = tuple[Deliverable, str]
"""A way to go and, where it goes by MX, a domain."""

Then = Callable[[Site | Reply], None]


class Locator:
    """`locate` raises Unroutable."""

    def __init__(self, locate: Callable[[Deliverable, str], Awaitable[Site]], workers: Workers, clock: Clock) -> None:
        self._locate = locate
        self._workers = workers
        self._clock = clock
        self._found: dict[Hop, tuple[Site | Reply, float]] = {}
        self._waiting: dict[Hop, list[Then]] = {}

    def find(self, hop: Hop, then: Then) -> None:
        """Calls `then` with what there is: at once when that is known."""
        found, until = self._found.get(hop, (None, 0.0))
        if found is not None and self._clock.monotonic() <= until:
            then(found)
            return
        waiting = self._waiting.setdefault(hop, [])
        waiting.append(then)
        if len(waiting) == 1:
            self._workers.spawn(self._look_up(hop))

    async def _look_up(self, hop: Hop) -> None:
        found: Site | Reply
        try:
            found = await self._locate(*hop)
        except Unroutable as error:
            found = error.reply
        except Exception:
            log.exception("no next hop could be looked for")
            found = INTERNAL_ERROR
        if len(self._found) >= KEPT:
            self._found.clear()
        lasts = FAILED_FOR if isinstance(found, Reply) else FOUND_FOR
        self._found[hop] = (found, self._clock.monotonic() + lasts)
        for then in self._waiting.pop(hop):
            then(found)
