"""When to try again, and when to stop trying. Pure.

Promises   No wait is longer than `longest`, and none ends after the lifetime. Only time that was seen to pass between
           two attempts counts, at most `longest` for each: a clock that jumps a year ahead returns no mail, one that
           jumps back keeps none for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mailserver.mail import Action, DeliverBy, DeliveryStatus, Reply
from mailserver.queue import QueuedRecipient

TIME_OVER = Reply.of(554, "5.4.7", "The time for the delivery of the message is over")
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
        self,
        recipient: QueuedRecipient,
        status: DeliveryStatus,
        now: float,
        chance: float,
        deliver_by: DeliverBy | None = None,
    ) -> QueuedRecipient | None:
        """The recipient after an attempt that ended at `now`; None when its copy was taken.

        The time of `deliver_by` is not slept through: something is to be done then (RFC 2852 §4.1.3), and at once when
        it passed during the attempt.
        """
        if status.reply.positive:
            return None
        waited = self.waited(recipient.waited, recipient.last_attempt, now)
        time_over = deliver_by is not None and deliver_by.gives_up(now)
        failed = status.action is Action.FAILED or waited >= self.lifetime or time_over
        attempts = recipient.attempts + 1
        following = now if failed else now + self.wait(attempts, waited, chance)
        if deliver_by is not None and now < deliver_by.time < following:
            following = deliver_by.time
        return replace(
            recipient,
            next_attempt=following,
            last_attempt=now,
            attempts=attempts,
            waited=waited,
            failed=failed,
            reply=status.reply,
            host=status.host,
        )

    def late(self, recipient: QueuedRecipient, now: float, deliver_by: DeliverBy | None = None) -> bool:
        """Is the sender to be told that it takes long? Who named a time hears of it then, and not before."""
        if recipient.failed or not recipient.attempts:
            return False
        if deliver_by is not None and not deliver_by.returned:
            return now >= deliver_by.time
        return recipient.waited >= self.warning
