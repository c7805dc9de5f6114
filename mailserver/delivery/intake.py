"""Taking responsibility for a message (RFC 5321 §6.1): the step between the end of the data and its reply.

Promises   A positive reply means that every recipient's copy is durable, in the mailbox or in the queue. What is for
           elsewhere is queued before the mailboxes are written: when that fails, nothing has happened yet.
           A mailbox that cannot be written for now sends its copy to the queue, not back to the sender.
On failure 4xx when nothing was accepted and trying again may help, 5xx when no mailbox will ever take it. When only a
           follow-up cannot be queued, 451: a copy may come twice then, but none is lost; a report of success is
           then left out. `accept` never raises.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mailserver.delivery.dsn import HEAD_LIMIT, Problem, Subject, failure_report, success_report
from mailserver.delivery.local import Deliver, deliver_copies
from mailserver.delivery.router import Local, Refused, Remote, Route
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


Enqueue = Callable[[NewEntry], Awaitable[str]]
"""`Workers.grouped(queue.add)`: gives the id, raises QueueError."""

TROUBLE = Reply.of(451, "4.3.0", "The message cannot be stored now, try again later")


class Intake:
    """One for the whole server. `queued` is called after something was queued: it wakes the queue manager.

    `history` hears where messages went; somebody else writes it out.
    """

    def __init__(
        self,
        *,
        hostname: str,
        clock: Clock,
        deliver: Deliver,
        enqueue: Enqueue,
        queued: Callable[[], object],
        history: History = NO_HISTORY,
    ) -> None:
        self._hostname = hostname
        self._clock = clock
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
        pairs = list(zip(envelope.recipients, routes, strict=True))
        held = envelope.parameters.release is not None

        def waits(route: Route | Refused) -> bool:
            return isinstance(route, Remote) or (held and isinstance(route, Local))

        away = [recipient for recipient, route in pairs if waits(route)]
        here = [(recipient, route) for recipient, route in pairs if not (isinstance(route, Remote) or waits(route))]

        def end(reply: Reply, replies: Iterable[Reply], to: Iterable[Destination]) -> Outcome:
            self._history.accepted(arrival, envelope.sender, content.size, [*to], reply)
            return Outcome(reply, tuple(replies))

        def in_trouble() -> Outcome:
            to = (Destination(recipient.address, reply=TROUBLE) for recipient in envelope.recipients)
            return end(TROUBLE, [TROUBLE] * len(pairs), to)

        try:
            ids = await self._queue([self._entry(envelope, away, content, header, now)] if away else [])
            local_routes = [route for _, route in here if isinstance(route, Local)]
            copies = iter(await deliver_copies(self._deliver, local_routes, envelope.sender, header, content))
            statuses = [
                next(copies)
                if isinstance(route, Local)
                else DeliveryStatus(recipient.address, Action.FAILED, route.reply)
                for recipient, route in here
            ]
            if not away and all(status.action is not Action.DELIVERED for status in statuses):
                nowhere = (_destination(*pair, status) for pair, status in zip(here, statuses, strict=True))
                return end(self._refused(arrival, statuses), [status.reply for status in statuses], nowhere)
            local = [(recipient, status) for (recipient, _), status in zip(here, statuses, strict=True)]
            follow_ups = await self._queue([] if each else self._follow_ups(envelope, content, header, local, now))
            successes = await self._told(arrival, self._successes(envelope, content, local, now))
        except QueueError as error:
            log.error("message=%s not accepted: %s", arrival.id, error)
            return in_trouble()
        except Exception:
            log.exception("message=%s not accepted", arrival.id)
            return in_trouble()
        entry = ids[0] if ids else None
        ids += follow_ups + successes
        log.info(
            "message=%s accepted from=<%s> size=%d priority=%d queue=%s",
            arrival.id,
            envelope.sender or "",
            content.size,
            envelope.parameters.priority,
            ",".join(ids) or "-",
        )
        for status in statuses:
            log.info("message=%s to=<%s> %s reply=%r", arrival.id, status.recipient, status.action, str(status.reply))
        for recipient in away:
            log.info("message=%s to=<%s> queue=%s", arrival.id, recipient.address, entry)
        reply = Reply.of(250, "2.0.0", f"Ok, queued as {ids[0]}" if ids else f"Ok, delivered as {arrival.id}")
        later = follow_ups.pop(0) if follow_ups and any(s.action is Action.DELAYED for s in statuses) else None
        told = iter(statuses)
        replies: list[Reply] = []
        to: list[Destination] = []
        for recipient, route in pairs:
            if waits(route):
                replies.append(reply)
                to.append(Destination(recipient.address, queue=entry, original=recipient.original))
            else:
                status = next(told)
                replies.append(reply if status.reply.positive else status.reply)
                to.append(_destination(recipient, route, status, later))
        outcome = end(reply, replies, to)
        for kind, reports in (("failure", follow_ups), ("success", successes)):
            for id in reports:
                self._history.reported(arrival.id, id, envelope.sender, kind)
        return outcome

    def _entry(
        self, envelope: Envelope, recipients: Sequence[Recipient], content: Content, header: bytes, now: float
    ) -> NewEntry:
        return NewEntry(replace(envelope, recipients=tuple(recipients)), content, header, now)

    async def _queue(self, entries: Sequence[NewEntry]) -> list[str]:
        if not entries:
            return []
        begun = [self._enqueue(entry) for entry in entries]  # all before the first is awaited: one commit
        ids: list[str] = []
        failure: Exception | None = None
        for entry in begun:  # all are awaited, whatever becomes of the first: the content is in use until then
            try:
                ids.append(await entry)
            except Exception as error:  # noqa: BLE001 - raised below
                failure = error
        self._queued()
        if failure is not None:
            raise failure
        return ids

    async def _told(self, arrival: Arrival, reports: Sequence[NewEntry]) -> list[str]:
        """As `_queue`; but for a report of success that cannot be queued nobody shall send the message again."""
        try:
            return await self._queue(reports)
        except QueueError as error:
            log.error("message=%s success not reported: %s", arrival.id, error)
            return []

    def _follow_ups(
        self,
        envelope: Envelope,
        content: Content,
        header: bytes,
        local: Sequence[tuple[Recipient, DeliveryStatus]],
        now: float,
    ) -> list[NewEntry]:
        """What is left to do when others were served: mailboxes to try again, and a report on those that refused."""
        later = [recipient for recipient, status in local if status.action is Action.DELAYED]
        failed = [
            _problem(recipient, status, now)
            for recipient, status in local
            if status.action is Action.FAILED and recipient.wants(Notify.FAILURE)
        ]
        entries = [self._entry(envelope, later, content, header, now)] if later else []
        if failed and envelope.sender is not None:
            subject = _subject(envelope, envelope.sender, content, now)
            entries.append(failure_report(subject, failed, hostname=self._hostname, now=now))
        return entries

    def _successes(
        self,
        envelope: Envelope,
        content: Content,
        local: Sequence[tuple[Recipient, DeliveryStatus]],
        now: float,
    ) -> list[NewEntry]:
        """The report on copies that are in their mailboxes, for a sender who asked for it (RFC 3461 §5.2.3)."""
        told = [
            _problem(recipient, status, now)
            for recipient, status in local
            if status.action is Action.DELIVERED and recipient.wants(Notify.SUCCESS)
        ]
        if not told or envelope.sender is None:
            return []
        subject = _subject(envelope, envelope.sender, content, now)
        return [success_report(subject, Action.DELIVERED, told, hostname=self._hostname, now=now)]

    def _refused(self, arrival: Arrival, statuses: Sequence[DeliveryStatus]) -> Reply:
        """No copy was made: the client keeps the message, or gives it up when none of the mailboxes will take it."""
        replies = [status.reply for status in statuses]
        reply = next((reply for reply in replies if reply.temporary), replies[0])
        log.warning("message=%s refused: %s", arrival.id, reply)
        return reply


def _destination(
    recipient: Recipient, route: Route | Refused, status: DeliveryStatus, later: str | None = None
) -> Destination:
    """What became of a recipient that was not queued at once. `later`: the queue id of mailboxes to try again."""
    mailbox = route.account if isinstance(route, Local) else None
    queue = later if status.action is Action.DELAYED else None
    return Destination(recipient.address, queue, mailbox, status.reply, recipient.original)


def _problem(recipient: Recipient, status: DeliveryStatus, now: float) -> Problem:
    return Problem(recipient.address, recipient.original, status.reply, None, now, recipient.orcpt)


def _subject(envelope: Envelope, sender: Address, content: Content, now: float) -> Subject:
    head = content.head(HEAD_LIMIT)
    return Subject(sender, now, head, content.size, envelope.parameters)
