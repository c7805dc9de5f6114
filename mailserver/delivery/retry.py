"""When to try again, and when to stop trying. Pure.

Promises   No wait is longer than `longest`, and none ends after the lifetime. Only time that was seen to pass between
           two attempts counts, at most `longest` for each: a clock that jumps a year ahead returns no mail, one that
           jumps back keeps none for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mailserver.mail import Action, DeliveryStatus
from mailserver.queue import QueuedRecipient

JITTER = 0.25  # part of a wait that chance may take away, so that what failed together does not come back together
SHORTEST = 1.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """All in seconds: the first and the longest wait, when the sender is warned, when mail is returned."""

    first: float
    longest: float
    warning: float
    lifetime: float

    @property
    def horizon(self) -> float:
        """No attempt is planned further ahead."""
        return max(self.longest, SHORTEST)

    def waited(self, so_far: float, last_attempt: float, now: float) -> float:
        """The time waited, `now` counted in; the two moments are wall time."""
        return so_far + min(max(now - last_attempt, 0.0), self.longest)

    def wait(self, attempts: int, waited: float, chance: float) -> float:
        """How long to wait after `attempts` attempts, at least one; `chance` is a random number in [0, 1)."""
        doubled: float = min(self.first * 2.0 ** min(attempts - 1, 60), self.longest)
        return max(SHORTEST, min(doubled * (1.0 - JITTER * chance), self.lifetime - waited))

    def after(
        self, recipient: QueuedRecipient, status: DeliveryStatus, now: float, chance: float
    ) -> QueuedRecipient | None:
        """The recipient after an attempt that ended at `now`; None when its copy was taken."""
        if status.reply.positive:
            return None
        waited = self.waited(recipient.waited, recipient.last_attempt, now)
        failed = status.action is Action.FAILED or waited >= self.lifetime
        attempts = recipient.attempts + 1
        return replace(
            recipient,
            next_attempt=now if failed else now + self.wait(attempts, waited, chance),
            last_attempt=now,
            attempts=attempts,
            waited=waited,
            failed=failed,
            reply=status.reply,
            host=status.host,
        )

    def late(self, recipient: QueuedRecipient) -> bool:
        """Is the sender to be told that it takes long?"""
        return not recipient.failed and recipient.attempts > 0 and recipient.waited >= self.warning
