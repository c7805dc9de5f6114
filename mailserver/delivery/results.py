"""What becomes of the recipients of a queued message after an attempt: recorded, and told to the sender.

Promises   A recipient is forgotten only when its copy was taken, or when the report on it is queued: with the last
           results of a round goes, in the same transaction, one report on all recipients that failed in it. At most one
           report on the failure of a recipient and one warning for an entry. What the null reverse-path sent is told to
           nobody but the address for reports that cannot be delivered, and what that one does not get, to the log.
On failure Results that cannot be recorded now are recorded later.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mailserver.delivery.dsn import (
    HEAD_LIMIT,
    Problem,
    Subject,
    delay_report,
    double_bounce,
    failure_report,
    success_report,
)
from mailserver.delivery.locating import INTERNAL_ERROR
from mailserver.delivery.retry import TIME_OVER, RetryPolicy
from mailserver.delivery.round import Result, Round
from mailserver.mail import Action, Address, DeliverBy, DeliveryStatus, Notify, Recipient, Reply
from mailserver.ports import Clock, Workers
from mailserver.queue import (
    Attempted,
    Entry,
    History,
    LeaseLost,
    NewEntry,
    NoSuchEntry,
    Queue,
    QueuedRecipient,
    QueueError,
)

log = logging.getLogger(__name__)

RECORD_INTERVAL = 5.0  # seconds before results that could not be recorded are recorded again

DISCARDED = Reply.of(250, "2.0.0", "Discarded by the routing table")


@dataclass(frozen=True, slots=True)
class _Report:
    """`kind`: in the words of the history."""

    kind: str
    entry: NewEntry


class Results:
    """`policy`: how long mail for a domain is tried. `double_bounces_to` gets reports that cannot be delivered."""

    def __init__(
        self,
        queue: Queue,
        *,
        hostname: str,
        policy: Callable[[str], RetryPolicy],
        double_bounces_to: Address | None,
        history: History,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._queue = queue
        self._history = history
        self._hostname = hostname
        self._policy = policy
        self._double_bounces_to = double_bounces_to
        self._workers = workers
        self._clock = clock
        self._record = workers.grouped(self._record_all)

    def _record_all(self, batch: Sequence[Attempted]) -> Sequence[list[str] | Exception]:
        return self._queue.record(batch)

    async def settle(self, round: Round, running: Callable[[], bool]) -> bool:
        """Records what has come, one transaction after the other; jobs that end meanwhile leave theirs to this one.

        Gives whether a report was queued. While `running` it does not give up.
        """
        reported = False
        round.settling = True
        try:
            while True:
                results, round.results = round.results, []
                last = not (round.jobs or round.lookups)
                reported |= await self._save(*await self._attempted(round, results, last=last), round.entry, running)
                if not round.results and (last or round.jobs or round.lookups):
                    return reported
        finally:
            round.settling = False

    async def _attempted(
        self, round: Round, results: Sequence[Result], *, last: bool
    ) -> tuple[Attempted, Sequence[_Report]]:
        now = self._clock.wall()
        entry, known = round.entry, round.recipients
        by = entry.parameters.deliver_by
        touched = {recipient.number for recipient, _ in results}
        served: list[int] = []
        done: list[Result] = []
        for recipient, status in results:
            _log_result(entry, status)
            if _to_be_told(recipient.recipient, status, by, now):
                done.append((recipient, status))
            after = self._policy(recipient.address.domain).after(recipient, status, now, random.random(), by)
            following = None if after is None or after.failed else after.next_attempt
            if status.reply is DISCARDED:
                self._history.discarded(entry.id, recipient.address)
            else:
                self._history.attempted(entry.id, status, next_attempt=following)
            if after is None:
                del known[recipient.number]
                served.append(recipient.number)
            else:
                known[recipient.number] = after
        failed = [recipient for recipient in known.values() if recipient.failed] if last else []
        warn = last and not entry.warned and entry.sender is not None
        late = [recipient for recipient in known.values() if self._late(recipient, now, by)] if warn else []
        try:
            reports = await self._reports(entry, failed, late, done, now)
        except Exception:  # no report now, but the results are recorded: nothing is sent twice
            log.exception("queue=%s a report cannot be made", entry.id)
            failed, late, reports = [], [], []
        for recipient in failed:
            del known[recipient.number]
        attempted = Attempted(
            entry.id,
            served=served,
            told=[recipient.number for recipient in failed],
            keep=[known[number] for number in touched if number in known],
            warned=bool(late),
            reports=[report.entry for report in reports],
            ended=last,
            not_before=round.not_before if last else 0.0,
            hold=last and bool(known) and known.keys() <= round.held,
        )
        return attempted, reports

    def _late(self, recipient: QueuedRecipient, now: float, by: DeliverBy | None) -> bool:
        return self._policy(recipient.address.domain).late(recipient, now, by)

    async def _save(
        self, attempted: Attempted, reports: Sequence[_Report], entry: Entry, running: Callable[[], bool]
    ) -> bool:
        while True:
            try:
                ids = await self._record(attempted)
            except NoSuchEntry:
                log.info("queue=%s was removed meanwhile", entry.id)
                self._history.removed(entry.id)
                return False
            except LeaseLost as error:
                log.error("queue=%s %s; of its results only what was taken is recorded", entry.id, error)
                return False
            except QueueError as error:
                log.error("queue=%s results cannot be recorded now: %s", entry.id, error)
            except Exception:
                log.exception("queue=%s results cannot be recorded now", entry.id)
            else:
                break
            if not running():
                return False
            await self._clock.sleep(RECORD_INTERVAL)
        if attempted.hold:
            self._history.held(entry.id)
        for id, report in zip(ids, reports, strict=True):
            to = report.entry.envelope.recipients[0].address
            log.info("queue=%s report=%s to=<%s>", entry.id, id, to)
            self._history.reported(entry.id, id, to, report.kind)
        return bool(ids)

    # Reports

    async def _reports(
        self,
        entry: Entry,
        failed: Sequence[QueuedRecipient],
        late: Sequence[QueuedRecipient],
        done: Sequence[Result],
        now: float,
    ) -> list[_Report]:
        """What the sender wants to be told (RFC 3461 §5.2, §6)."""
        if entry.sender is None:
            return await self._double_bounce(entry, failed, now) if failed else []
        failed = [each for each in failed if each.recipient.wants(Notify.FAILURE)]
        late = [each for each in late if each.recipient.wants(Notify.DELAY)]
        if not (failed or late or done):
            return []
        head, size = await self._workers.run(self._head, entry)
        subject = Subject(entry.sender, entry.created, head, size, entry.parameters)
        reports = []
        for action in (Action.DELIVERED, Action.EXPANDED, Action.RELAYED):
            told = [_done(recipient, status, now) for recipient, status in done if status.action is action]
            if told:
                report = success_report(subject, action, told, hostname=self._hostname, now=now)
                reports.append(_Report("success", report))
        if failed:
            report = failure_report(subject, _problems(failed), hostname=self._hostname, now=now)
            reports.append(_Report("failure", report))
        if late:
            until = now + max(self._policy(each.address.domain).lifetime - each.waited for each in late)
            report = delay_report(subject, _problems(late), hostname=self._hostname, now=now, until=until)
            reports.append(_Report("delay", report))
        return reports

    async def _double_bounce(self, entry: Entry, failed: Sequence[QueuedRecipient], now: float) -> list[_Report]:
        """Told to the address for such reports, but not that it cannot be reached itself."""
        to = self._double_bounces_to
        for recipient in failed:
            log.warning(
                "queue=%s to=<%s> a report cannot be delivered; %s",
                entry.id,
                recipient.address,
                f"told to <{to}>" if to is not None and recipient.address != to else "nobody is told",
            )
        failed = [each for each in failed if each.address != to]
        if to is None or not failed:
            return []
        head, size = await self._workers.run(self._head, entry)
        subject = Subject(to, entry.created, head, size)
        return [_Report("double bounce", double_bounce(subject, _problems(failed), hostname=self._hostname, now=now))]

    def _head(self, entry: Entry) -> tuple[bytes, int]:
        """The beginning of the message and its size; nothing when it cannot be read: reports go out all the same."""
        try:
            content = self._queue.content(entry.id)
        except QueueError:
            return b"", 0
        try:
            return content.head(HEAD_LIMIT), content.size
        finally:
            content.close()


def given_up(recipient: QueuedRecipient) -> QueuedRecipient:
    """No further attempt is made: the time is over."""
    return replace(recipient, failed=True, reply=recipient.reply or TIME_OVER)


def delayed(recipients: Iterable[QueuedRecipient], reply: Reply) -> list[DeliveryStatus]:
    return [DeliveryStatus(recipient.address, Action.DELAYED, reply) for recipient in recipients]


def _to_be_told(recipient: Recipient, status: DeliveryStatus, by: DeliverBy | None, now: float) -> bool:
    """Is a report due on a copy that was taken? RFC 3461 §5.2.3; where there is a time, RFC 2852 §4.1.4."""
    if not status.reply.positive:
        return False
    if not status.passed_on and recipient.wants(Notify.SUCCESS):
        return True
    if by is None or status.action is not Action.RELAYED or recipient.wants(Notify.NEVER):
        return False
    return by.trace or not (status.in_time or by.returned or now >= by.time)


def _problems(recipients: Iterable[QueuedRecipient]) -> list[Problem]:
    return [
        Problem(r.address, r.original, r.reply or INTERNAL_ERROR, r.host, r.last_attempt, r.orcpt) for r in recipients
    ]


def _done(recipient: QueuedRecipient, status: DeliveryStatus, now: float) -> Problem:
    return Problem(recipient.address, recipient.original, status.reply, status.host, now, recipient.orcpt)


def _log_result(entry: Entry, status: DeliveryStatus) -> None:
    log.info(
        "queue=%s from=<%s> to=<%s> %s host=%s reply=%r",
        entry.id,
        entry.sender or "",
        status.recipient,
        status.action,
        status.host or "-",
        str(status.reply)[:500],
    )
