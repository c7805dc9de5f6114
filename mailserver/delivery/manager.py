"""The queue manager: tries what is due, records what came of it, and tells senders of trouble.

It looks into the queue about every second, so that it needs no alarm for the next due time, sees what other processes
change, and is not misled by a clock that jumps. An entry that is due becomes a round: its due recipients are grouped by
next hop into jobs. Each job's results are recorded as they come; with the last ones of a round goes, in the same
transaction, one report on all recipients that failed in it.

Promises   A recipient is forgotten only when its copy was taken, or when the report on it is queued. At most one report
           on the failure of a recipient and one warning for an entry, none for the null reverse-path.
           What is held in memory is bounded, by entries and by recipients.
On failure Results that cannot be recorded now are recorded later; until then the entry is not tried again. What is
           under way when the process dies is tried again: a copy may come twice then.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mailserver.config.model import Relay as Settings
from mailserver.delivery.dsn import HEAD_LIMIT, Problem, Subject, delay_report, failure_report, success_report
from mailserver.delivery.local import Deliver, deliver_copies
from mailserver.delivery.retry import TIME_OVER, RetryPolicy
from mailserver.delivery.router import Local, Refused, Router
from mailserver.delivery.schedule import Schedule
from mailserver.mail import Action, Address, Content, DeliverBy, DeliveryStatus, Envelope, Notify, Recipient, Reply
from mailserver.ports import Clock, Timer, Workers
from mailserver.queue import Entry, EntryLost, NewEntry, NoSuchEntry, Queue, QueuedRecipient, QueueError

log = logging.getLogger(__name__)

LOOK_INTERVAL = 1.0  # seconds
ACTIVE_LIMIT = 5000  # entries held in memory: many, so that those for a slow next hop leave room for the others
ACTIVE_RECIPIENTS = 20_000  # when they have as many recipients, no further entry is taken in
BATCH = 50  # entries taken in at once
RECIPIENTS_PER_JOB = 100  # RFC 5321 §4.5.3.1.8: every server takes as many in one transaction
RECORD_INTERVAL = 5.0  # before results that could not be recorded are recorded again
STOP_GRACE = 5.0  # for jobs under way at the stop; after that their connections are closed

WAITING = "another process delivers this queue; this one waits"
NOW_LEADING = "the other process has ended; this one delivers now"

INTERNAL_ERROR = Reply.of(451, "4.3.0", "An error in this server")
UNREACHABLE = ("4.4.1", "4.4.3")  # RFC 3463 §3.5: no answer from the host, directory server failure


class Transport(Protocol):
    """What takes mail to other servers: `relay.Relay`."""

    def next_hop(self, domain: str) -> str: ...

    async def deliver(
        self, next_hop: str, envelope: Envelope, header: bytes, content: Content
    ) -> list[DeliveryStatus]: ...

    def abort(self) -> None: ...


Result = tuple[QueuedRecipient, DeliveryStatus]


@dataclass(slots=True, eq=False)
class _Round:
    """One pass over the due recipients of an entry. `jobs` counts those that have not ended."""

    entry: Entry
    recipients: dict[int, QueuedRecipient]
    jobs: int = 0
    results: list[Result] = field(default_factory=list)  # not yet recorded
    settling: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    """Recipients of one round with the same next hop."""

    round: _Round
    recipients: tuple[QueuedRecipient, ...]


class QueueManager:
    """`wake` after something was queued in this process; it is looked for at once then."""

    def __init__(
        self,
        queue: Queue,
        settings: Settings,
        *,
        hostname: str,
        router: Router,
        relay: Transport,
        deliver: Deliver,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._queue = queue
        self._hostname = hostname
        self._router = router
        self._relay = relay
        self._deliver = deliver
        self._workers = workers
        self._clock = clock
        self._policy = RetryPolicy(settings.retry_first, settings.retry_max, settings.delay_warning, settings.lifetime)
        self._schedule: Schedule[_Job] = Schedule(settings.concurrency, settings.concurrency_per_host)
        self._active: dict[str, _Round] = {}
        self._timer: Timer | None = None
        self._running = False
        self._looking = False
        self._look_again = False
        self._leads = True  # as far as the log tells
        self._backlog = False  # there was no room for what may be due
        self._starting_jobs = False

    # Starting and stopping

    def start(self) -> None:
        self._running = True
        self._workers.spawn(self._sweep())
        self._tick()

    async def stop(self) -> None:
        """Waits a little for what is under way; what does not end stays queued."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        self._schedule.clear()
        await self._idle()
        self._relay.abort()
        await self._idle()

    async def _idle(self) -> None:
        deadline = self._clock.monotonic() + STOP_GRACE
        while self._at_work() and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.05)

    def _at_work(self) -> bool:
        return self._schedule.running > 0 or self._looking or any(round.settling for round in self._active.values())

    async def _sweep(self) -> None:
        try:
            await self._workers.run(self._queue.sweep)
        except QueueError as error:
            log.error("queue: %s", error)

    # Looking

    def _tick(self) -> None:
        self._timer = self._clock.call_later(LOOK_INTERVAL, self._tick)
        self.wake()

    def wake(self) -> None:
        self._look_again = True
        if self._running and not self._looking:
            self._looking = True
            self._workers.spawn(self._look())

    async def _look(self) -> None:
        try:
            while self._look_again and self._running:
                self._look_again = False
                await self._take_due()
        finally:
            self._looking = False

    async def _take_due(self) -> None:
        room = min(BATCH, ACTIVE_LIMIT - len(self._active))
        recipients = sum(len(round.recipients) for round in self._active.values())
        self._backlog = room <= 0 or recipients >= ACTIVE_RECIPIENTS
        if self._backlog:
            return
        now = self._clock.wall()
        try:
            entries = await self._workers.run(self._due, now, room, frozenset(self._active))
        except QueueError as error:
            log.error("queue: %s", error)
            return
        if not self._running:
            return
        for entry in entries:
            self._begin(entry, now)
        self._look_again |= len(entries) == room
        self._start_jobs()

    def _due(self, now: float, limit: int, exclude: frozenset[str]) -> list[Entry]:
        """None while another process delivers from the queue: an old server that is about to end, say."""
        leads = self._queue.lead()
        if leads is not self._leads:
            self._leads = leads
            log.warning("queue: %s", NOW_LEADING if leads else WAITING)
        if not leads:
            return []
        return self._queue.due(now, horizon=self._policy.horizon, limit=limit, exclude=exclude)

    def _begin(self, entry: Entry, now: float) -> None:
        by = entry.parameters.deliver_by
        recipients = map(_given_up, entry.recipients) if by is not None and by.gives_up(now) else entry.recipients
        round = _Round(entry, {recipient.number: recipient for recipient in recipients})
        latest = now + self._policy.horizon
        by_hop: dict[str | None, list[QueuedRecipient]] = {}
        for recipient in round.recipients.values():
            if not recipient.failed and not now < recipient.next_attempt <= latest:
                by_hop.setdefault(self._next_hop(recipient), []).append(recipient)
        self._active[entry.id] = round
        for hop, due in by_hop.items():
            for start in range(0, len(due), RECIPIENTS_PER_JOB):
                job = _Job(round, tuple(due[start : start + RECIPIENTS_PER_JOB]))
                self._schedule.add(hop, job, entry.parameters.priority)
                round.jobs += 1
        if not round.jobs:  # the time is over, or failures were not reported, since the process died before
            self._workers.spawn(self._settle(round))

    def _next_hop(self, recipient: QueuedRecipient) -> str | None:
        """None: it is for this server, to be delivered or refused."""
        route = self._router.route(recipient.address, may_relay=True)
        return None if isinstance(route, Local | Refused) else self._relay.next_hop(route.domain)

    # Jobs

    def _start_jobs(self) -> None:
        if self._starting_jobs or not self._running:
            return
        self._starting_jobs = True
        try:
            while (started := self._schedule.start()) is not None:
                self._workers.spawn(self._run(*started))
        finally:
            self._starting_jobs = False

    async def _run(self, hop: str | None, job: _Job) -> None:
        try:
            statuses = await self._attempt(hop, job)
            if hop is not None and statuses and all(map(_unreachable, statuses)):
                self._workers.spawn(self._defer(self._schedule.withdraw(hop), statuses[0].reply))
            await self._end(job, statuses)
        finally:
            self._schedule.end(hop)
            self._start_jobs()

    async def _attempt(self, hop: str | None, job: _Job) -> list[DeliveryStatus]:
        """A status for each recipient of the job; none when the entry is gone or unreadable."""
        entry = job.round.entry
        addresses = [recipient.address for recipient in job.recipients]
        try:
            content = await self._workers.run(self._queue.content, entry.id)
        except (NoSuchEntry, EntryLost) as error:
            log.warning("queue=%s not tried: %s", entry.id, error)
            return []
        except QueueError as error:
            log.error("queue=%s not tried: %s", entry.id, error)
            return _delayed(addresses, INTERNAL_ERROR)
        try:
            if hop is None:
                return await self._deliver_here(entry, addresses, content)
            recipients = tuple(recipient.recipient for recipient in job.recipients)
            envelope = Envelope(entry.sender, recipients, entry.parameters)
            return await self._relay.deliver(hop, envelope, entry.header, content)
        except Exception:
            log.exception("queue=%s delivery failed", entry.id)
            return _delayed(addresses, INTERNAL_ERROR)
        finally:
            content.close()

    async def _deliver_here(self, entry: Entry, addresses: Sequence[Address], content: Content) -> list[DeliveryStatus]:
        routes = {address: self._router.route(address, may_relay=True) for address in addresses}
        local = [route for route in routes.values() if isinstance(route, Local)]
        copies = await deliver_copies(self._deliver, local, entry.sender, entry.header, content)
        delivered = {status.recipient: status for status in copies}
        return [
            DeliveryStatus(address, Action.FAILED, route.reply)
            if isinstance(route := routes[address], Refused)
            else delivered.get(address) or DeliveryStatus(address, Action.DELAYED, INTERNAL_ERROR)
            for address in addresses
        ]

    async def _defer(self, jobs: Sequence[_Job], reply: Reply) -> None:
        """The next hop cannot be reached: what waits for it is not tried now, each on its own, but delayed as well."""
        for job in jobs:
            await self._end(job, _delayed([recipient.address for recipient in job.recipients], reply))

    # Results

    async def _end(self, job: _Job, statuses: Sequence[DeliveryStatus]) -> None:
        round = job.round
        round.jobs -= 1
        round.results += (
            (recipient, status)
            for recipient, status in zip(job.recipients, statuses, strict=bool(statuses))
            if self._running or status.action is not Action.DELAYED  # a stop is no reason to count an attempt
        )
        if not round.settling:
            await self._settle(round)

    async def _settle(self, round: _Round) -> None:
        """Records what has come, one transaction after the other; jobs that end meanwhile leave theirs to this one."""
        round.settling = True
        try:
            while True:
                results, round.results = round.results, []
                last = not round.jobs
                await self._record(round, results, last=last)
                if not round.results and (last or round.jobs):
                    break
        finally:
            round.settling = False
            if not round.jobs:
                del self._active[round.entry.id]
                if self._backlog and len(self._active) < ACTIVE_LIMIT // 2:
                    self.wake()

    async def _record(self, round: _Round, results: Sequence[Result], *, last: bool) -> None:
        now = self._clock.wall()
        entry, known = round.entry, round.recipients
        by = entry.parameters.deliver_by
        touched = {recipient.number for recipient, _ in results}
        done: list[Result] = []
        for recipient, status in results:
            _log_result(entry, status)
            if _to_be_told(recipient.recipient, status, by, now):
                done.append((recipient, status))
            after = self._policy.after(recipient, status, now, random.random(), by)
            if after is None:
                del known[recipient.number]
            else:
                known[recipient.number] = after
        failed = [recipient for recipient in known.values() if recipient.failed] if last else []
        warn = last and not entry.warned and entry.sender is not None
        late = [recipient for recipient in known.values() if self._policy.late(recipient, now, by)] if warn else []
        try:
            reports = await self._reports(entry, failed, late, done, now)
        except Exception:  # no report now, but the results are recorded: nothing is sent twice
            log.exception("queue=%s a report cannot be made", entry.id)
            failed, late, reports = [], [], []
        for recipient in failed:
            touched.add(recipient.number)
            del known[recipient.number]
        if touched or late:
            await self._save(
                entry,
                keep=[known[number] for number in touched if number in known],
                forget=[number for number in touched if number not in known],
                warned=bool(late),
                reports=reports,
            )

    async def _save(
        self,
        entry: Entry,
        *,
        keep: Sequence[QueuedRecipient],
        forget: Sequence[int],
        warned: bool,
        reports: Sequence[NewEntry],
    ) -> None:
        while True:
            try:
                ids = await self._workers.run(
                    self._queue.record, entry.id, keep=keep, forget=forget, warned=warned, reports=reports
                )
            except NoSuchEntry:
                log.info("queue=%s was removed meanwhile", entry.id)
                return
            except QueueError as error:
                log.error("queue=%s results cannot be recorded now: %s", entry.id, error)
            except Exception:
                log.exception("queue=%s results cannot be recorded now", entry.id)
            else:
                break
            if not self._running:
                return
            await self._clock.sleep(RECORD_INTERVAL)
        for id in ids:
            log.info("queue=%s report=%s to=<%s>", entry.id, id, entry.sender)
            self.wake()

    # Reports

    async def _reports(
        self,
        entry: Entry,
        failed: Sequence[QueuedRecipient],
        late: Sequence[QueuedRecipient],
        done: Sequence[Result],
        now: float,
    ) -> list[NewEntry]:
        """What the sender wants to be told (RFC 3461 §5.2, §6)."""
        if entry.sender is None:
            for recipient in failed:
                log.warning("queue=%s to=<%s> dropped: nobody to report to", entry.id, recipient.address)
            return []
        failed = [each for each in failed if each.recipient.wants(Notify.FAILURE)]
        late = [each for each in late if each.recipient.wants(Notify.DELAY)]
        if not (failed or late or done):
            return []
        head, size = await self._workers.run(self._head, entry)
        subject = Subject(entry.sender, entry.created, head, size, entry.parameters)
        reports = []
        for action in (Action.DELIVERED, Action.RELAYED):
            told = [_done(recipient, status, now) for recipient, status in done if status.action is action]
            if told:
                reports.append(success_report(subject, action, told, hostname=self._hostname, now=now))
        if failed:
            reports.append(failure_report(subject, _problems(failed), hostname=self._hostname, now=now))
        if late:
            until = now + self._policy.lifetime - max(recipient.waited for recipient in late)
            reports.append(delay_report(subject, _problems(late), hostname=self._hostname, now=now, until=until))
        return reports

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


def _given_up(recipient: QueuedRecipient) -> QueuedRecipient:
    return replace(recipient, failed=True, reply=recipient.reply or TIME_OVER)


def _to_be_told(recipient: Recipient, status: DeliveryStatus, by: DeliverBy | None, now: float) -> bool:
    """Is a report due on a copy that was taken? RFC 3461 §5.2.3; where there is a time, RFC 2852 §4.1.4."""
    if not status.reply.positive:
        return False
    if not status.passed_on and recipient.wants(Notify.SUCCESS):
        return True
    if by is None or status.action is not Action.RELAYED or recipient.wants(Notify.NEVER):
        return False
    return by.trace or not (status.in_time or by.returned or now >= by.time)


def _delayed(addresses: Sequence[Address], reply: Reply) -> list[DeliveryStatus]:
    return [DeliveryStatus(address, Action.DELAYED, reply) for address in addresses]


def _problems(recipients: Iterable[QueuedRecipient]) -> list[Problem]:
    return [
        Problem(r.address, r.original, r.reply or INTERNAL_ERROR, r.host, r.last_attempt, r.orcpt) for r in recipients
    ]


def _done(recipient: QueuedRecipient, status: DeliveryStatus, now: float) -> Problem:
    return Problem(recipient.address, recipient.original, status.reply, status.host, now, recipient.orcpt)


def _unreachable(status: DeliveryStatus) -> bool:
    """No server of the next hop answers or can be looked up. A connection that broke may be the message's own fault."""
    return status.action is Action.DELAYED and status.host is None and str(status.reply.status) in UNREACHABLE


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
