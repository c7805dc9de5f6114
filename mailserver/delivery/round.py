"""One pass over the due recipients of a queued message, and the jobs that it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailserver.delivery.locating import Hop
from mailserver.delivery.nexthop import Site
from mailserver.mail import DeliveryStatus, Reply
from mailserver.queue import Entry, QueuedRecipient

Result = tuple[QueuedRecipient, DeliveryStatus]

BULK_SIZE = 256 * 1024  # octets
BULK_RECIPIENTS = 50


@dataclass(slots=True, eq=False)
class Round:
    """`recipients`: those that wait, by number. `jobs` counts those that have not ended, `lookups` sites to be found.

    `held`: numbers of those that a route holds. `not_before`: when the next round may be, wall time. `forced`: somebody
    wants it to be tried now.
    """

    entry: Entry
    recipients: dict[int, QueuedRecipient]
    content: bytes | None = None  # when it is at hand
    by_hop: dict[Hop | None, list[QueuedRecipient]] = field(default_factory=dict)  # until their sites are known
    sites: dict[Hop, Site | Reply] = field(default_factory=dict)
    jobs: int = 0
    lookups: int = 0
    results: list[Result] = field(default_factory=list)  # not yet recorded
    held: set[int] = field(default_factory=set)
    not_before: float = 0.0
    forced: bool = False
    settling: bool = False

    @property
    def under_way(self) -> bool:
        return bool(self.jobs or self.lookups or self.settling)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Recipients of one round at the same site; None: at this server."""

    round: Round
    site: Site | None
    recipients: tuple[QueuedRecipient, ...]

    @property
    def bulk(self) -> bool:
        return self.round.entry.size > BULK_SIZE or len(self.recipients) >= BULK_RECIPIENTS
