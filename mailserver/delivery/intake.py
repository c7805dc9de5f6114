"""Taking responsibility for a message (RFC 5321 §6.1): the step between the end of the data and its reply.

Promises   A positive reply means that every recipient's copy is durable, in the mailbox or in the queue. What is for
           elsewhere is queued before the mailboxes are written: when that fails, no mailbox has a copy yet.
           A mailbox that cannot be written for now sends its copy to the queue, not back to the sender.
           The entries that a message becomes by forwarding are queued all together, or none of them is.
On failure 4xx when nothing was accepted and trying again may help, 5xx when no mailbox will ever take it. When only
           what follows from refusals of mailboxes cannot be queued, 451: a copy may come twice then, but none is lost.
           A report of success that cannot be queued is left out. `accept` never raises.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mailserver.accounts import SourceDown
from mailserver.delivery.dsn import HEAD_LIMIT, Problem, Subject, failure_report, success_report
from mailserver.delivery.expansion import EXPANDED, Copy, copies, entries, is_told
from mailserver.delivery.local import Deliver, deliver_copies
from mailserver.delivery.router import Local, Refused, Remote, Route, Router
from mailserver.mail import Action, Address, Content, DeliveryStatus, Envelope, Notify, Recipient, Reply
from mailserver.mail.trace import Arrival, received_field
from mailserver.ports import Clock
from mailserver.queue import NO_HISTORY, Destination, History, NewEntry, QueueError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`reply` is for the whole message, `each` for its recipients in order."""

    reply: Reply
    each: tuple[Reply, ...]


Enqueue = Callable[[Sequence[NewEntry]], Awaitable[list[str]]]
"""Queues entries together, or none of them: gives their ids, raises QueueError."""

TROUBLE = Reply.of(451, "4.3.0", "The message cannot be stored now, try again later")


@dataclass(frozen=True, slots=True)
class _Taking:
    """A message that is being taken. `header`: what is put on top of its content. `each`: see `Intake.accept`."""

    envelope: Envelope
    content: Content
    arrival: Arrival
    header: bytes
    now: float
    each: bool

    def subject(self, sender: Address) -> Subject:
        head = self.content.head(HEAD_LIMIT)
        return Subject(sender, self.now, head, self.content.size, self.envelope.parameters)


class Intake:
    """One for the whole server. `queued` is called after something was queued: it wakes the queue manager.

    `history` hears where messages went; somebody else writes it out.
    """

    def __init__(
        self,
        *,
        hostname: str,
        clock: Clock,
        router: Router,
        deliver: Deliver,
        enqueue: Enqueue,
        queued: Callable[[], object],
        history: History = NO_HISTORY,
    ) -> None:
        self._hostname = hostname
        self._clock = clock
        self._router = router
        self._deliver = deliver
        self._enqueue = enqueue
        self._queued = queued
        self._history = history

    async def accept(
        self,
        envelope: Envelope,
        content: Content,
        arrival: Arrival,
        routes: Sequence[Route | Refused],
        *,
        prepend: bytes = b"",
        each: bool = False,
    ) -> Outcome:
        """`routes`: where each recipient leads, in their order, at least one; Refused: this message does not go there.
        `prepend`: header fields in CRLF form that are put on top of the content, below the trace fields.

        `each`: the client is told what became of each recipient (LMTP, PRDR), so a mailbox that refuses its copy is the
        client's to try again: nothing is queued for it, and no report is made.
        """
        now = self._clock.wall()
        single = envelope.recipients[0].address if len(envelope.recipients) == 1 else None
        received = received_field(
            arrival, by=self._hostname, when=now, recipient=single, priority=envelope.parameters.priority
        )
        header = received + prepend
        made = copies(envelope.recipients, routes)
        taking = _Taking(envelope, content, arrival, header, now, each)
        try:
            return await self._take(taking, made, routes)
        except (QueueError, SourceDown) as error:
            log.error("message=%s not accepted: %s", arrival.id, error)
        except Exception:
            log.exception("message=%s not accepted", arrival.id)
        to = (Destination(recipient.address, reply=TROUBLE) for recipient in envelope.recipients)
        return self._end(taking, TROUBLE, [TROUBLE] * len(routes), to)

    async def _take(self, taking: _Taking, made: Sequence[Copy], routes: Sequence[Route | Refused]) -> Outcome:
        envelope, content, arrival = taking.envelope, taking.content, taking.arrival
        held = envelope.parameters.release is not None
        away = [copy for copy in made if isinstance(copy.route, Remote) or (held and isinstance(copy.route, Local))]
        elsewhere = set(away)
        here = [copy for copy in made if copy not in elsewhere]
        queued = await entries(self._router, envelope, away, content, taking.header, taking.now) if away else []
        ids = await self._queue([entry for entry, _ in queued])
        places = {copy: id for id, (_, group) in zip(ids, queued, strict=True) for copy in group}
        statuses = await self._deliver_here(here, taking)
        taken = {copy.of for copy in away} | {
            copy.of for copy, status in statuses.items() if status.action is Action.DELIVERED
        }
        if not taken:
            return self._refused(taking, made, statuses)
        # what the client will not send again: to several at once it would send all again
        local = [
            (copy.recipient, status)
            for copy, status in statuses.items()
            if not taking.each or (copy.several and copy.of in taken)
        ]
        follow_ups = await self._queue(self._follow_ups(taking, local))
        asked = [
            recipient
            for of, (recipient, route) in enumerate(zip(envelope.recipients, routes, strict=True))
            if of in taken and is_told(recipient, route)
        ]
        successes = await self._told(arrival, self._successes(taking, statuses, asked))
        later = follow_ups[0] if any(status.action is Action.DELAYED for _, status in local) else None
        reports = follow_ups[1:] if later is not None else follow_ups
        self._log(taking, [*ids, *follow_ups, *successes], statuses, places)
        first = next(iter([*ids, *follow_ups, *successes]), None)
        reply = Reply.of(250, "2.0.0", f"Ok, queued as {first}" if first else f"Ok, delivered as {arrival.id}")
        replies = _replies(len(routes), taken, statuses, reply)
        to = [_destination(copy, places.get(copy), statuses.get(copy), later) for copy in made]
        outcome = self._end(taking, reply, replies, to)
        for kind, told in (("failure", reports), ("success", successes)):
            for id in told:
                self._history.reported(arrival.id, id, envelope.sender, kind)
        return outcome

    async def _deliver_here(self, here: Sequence[Copy], taking: _Taking) -> dict[Copy, DeliveryStatus]:
        local = [copy.route for copy in here if isinstance(copy.route, Local)]
        delivered = iter(
            await deliver_copies(self._deliver, local, taking.envelope.sender, taking.header, taking.content)
        )
        return {
            copy: DeliveryStatus(copy.recipient.address, Action.FAILED, copy.route.reply)
            if isinstance(copy.route, Refused)
            else next(delivered)
            for copy in here
        }

    def _end(self, taking: _Taking, reply: Reply, replies: Iterable[Reply], to: Iterable[Destination]) -> Outcome:
        self._history.accepted(taking.arrival, taking.envelope.sender, taking.content.size, [*to], reply)
        return Outcome(reply, tuple(replies))

    def _refused(self, taking: _Taking, made: Sequence[Copy], statuses: Mapping[Copy, DeliveryStatus]) -> Outcome:
        """No copy was made: the client keeps the message, or gives it up when none of the mailboxes will take it."""
        said = [status.reply for status in statuses.values()]
        reply = next((each for each in said if each.temporary), said[0])
        log.warning("message=%s refused: %s", taking.arrival.id, reply)
        replies = _replies(len(taking.envelope.recipients), (), statuses, reply)
        return self._end(taking, reply, replies, (_destination(copy, None, statuses[copy], None) for copy in made))

    def _log(
        self,
        taking: _Taking,
        ids: Sequence[str],
        statuses: Mapping[Copy, DeliveryStatus],
        places: Mapping[Copy, str],
    ) -> None:
        id = taking.arrival.id
        log.info(
            "session=%s message=%s accepted from=<%s> size=%d priority=%d queue=%s",
            id.rpartition(".")[0],
            id,
            taking.envelope.sender or "",
            taking.content.size,
            taking.envelope.parameters.priority,
            ",".join(ids) or "-",
        )
        for status in statuses.values():
            log.info("message=%s to=<%s> %s reply=%r", id, status.recipient, status.action, str(status.reply))
        for copy, entry in places.items():
            log.info("message=%s to=<%s> queued queue=%s", id, copy.recipient.address, entry)

    async def _queue(self, new: Sequence[NewEntry]) -> list[str]:
        if not new:
            return []
        ids = await self._enqueue(new)
        self._queued()
        return ids

    async def _told(self, arrival: Arrival, reports: Sequence[NewEntry]) -> list[str]:
        """As `_queue`; but for a report of success that cannot be queued nobody shall send the message again."""
        try:
            return await self._queue(reports)
        except QueueError as error:
            log.error("message=%s success not reported: %s", arrival.id, error)
            return []

    def _follow_ups(self, taking: _Taking, local: Sequence[tuple[Recipient, DeliveryStatus]]) -> list[NewEntry]:
        """What is left to do when others were served: mailboxes to try again, and a report on those that refused."""
        envelope, now = taking.envelope, taking.now
        later = [recipient for recipient, status in local if status.action is Action.DELAYED]
        failed = [
            _problem(recipient, status.reply, now)
            for recipient, status in local
            if status.action is Action.FAILED and recipient.wants(Notify.FAILURE)
        ]
        left: list[NewEntry] = []
        if later:
            left.append(NewEntry(replace(envelope, recipients=tuple(later)), taking.content, taking.header, now))
        if failed and envelope.sender is not None:
            left.append(failure_report(taking.subject(envelope.sender), failed, hostname=self._hostname, now=now))
        return left

    def _successes(
        self, taking: _Taking, statuses: Mapping[Copy, DeliveryStatus], expanded: Sequence[Recipient]
    ) -> list[NewEntry]:
        """Reports on copies in their mailboxes and on addresses that led to several (RFC 3461 §5.2.3, §5.2.7.2).

        For a sender who asked for them.
        """
        sender, now = taking.envelope.sender, taking.now
        if sender is None:
            return []
        delivered = [
            _problem(copy.recipient, status.reply, now)
            for copy, status in statuses.items()
            if status.action is Action.DELIVERED and copy.recipient.wants(Notify.SUCCESS)
        ]
        passed_on = [_problem(recipient, EXPANDED, now) for recipient in expanded]
        return [
            success_report(taking.subject(sender), action, told, hostname=self._hostname, now=now)
            for action, told in ((Action.DELIVERED, delivered), (Action.EXPANDED, passed_on))
            if told
        ]


def _replies(count: int, taken: Container[int], statuses: Mapping[Copy, DeliveryStatus], reply: Reply) -> list[Reply]:
    """For each recipient `reply`, or what was said of it when no copy was taken: what is temporary counts more."""
    said: dict[int, Reply] = {}
    for copy, status in statuses.items():
        if copy.of not in taken and (copy.of not in said or (status.reply.temporary and not said[copy.of].temporary)):
            said[copy.of] = status.reply
    return [said.get(of, reply) for of in range(count)]


def _destination(copy: Copy, entry: str | None, status: DeliveryStatus | None, later: str | None) -> Destination:
    """Where a copy went: into the queue as `entry`, or what `status` tells of the mailbox.

    `later`: the queue id of mailboxes to try again.
    """
    recipient = copy.recipient
    if status is None:
        return Destination(recipient.address, queue=entry, original=recipient.original)
    mailbox = copy.route.account if isinstance(copy.route, Local) else None
    queue = later if status.action is Action.DELAYED else None
    return Destination(recipient.address, queue, mailbox, status.reply, recipient.original)


def _problem(recipient: Recipient, reply: Reply, now: float) -> Problem:
    return Problem(recipient.address, recipient.original, reply, None, now, recipient.orcpt)
