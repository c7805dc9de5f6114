"""The queue manager: tries what is due, and hands what came of it to `results`.

It looks into the queue about every second, so that it needs no alarm for the next due time, sees what other processes
change, and is not misled by a clock that jumps. An entry that is due becomes a round: its due recipients are gathered
by the site that takes their mail, as the routing table and the DNS have it, into jobs, which the schedule starts. What
waits for a site that cannot be reached is delayed without a try for each; what waits for a site that does not get on
goes back into the queue for a minute when room is needed. When the last job has ended, the round has.

Promises   What is held in memory is bounded, by entries and by recipients, over any backlog. An entry is worked on by
           one process at a time; nothing is begun when the lease is lost.
On failure What is under way when the process dies is tried again: a copy may come twice then.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from mailserver.accounts import SourceDown
from mailserver.config.relay import Relay as Settings
from mailserver.delivery.expansion import EXPANDED, copies, entries, is_told
from mailserver.delivery.local import Deliver, deliver_copies
from mailserver.delivery.locating import INTERNAL_ERROR, Hop, Locator
from mailserver.delivery.nexthop import Deliverable, Site
from mailserver.delivery.overrides import Overrides
from mailserver.delivery.results import DISCARDED, Results, delayed, given_up
from mailserver.delivery.round import Job, Round
from mailserver.delivery.router import Expanded, Local, Refused, Remote, Route, Router
from mailserver.delivery.routes import BY_MX, Discard, Hold, Refusal, Routes, Transport, parse_transport
from mailserver.delivery.schedule import Outcome, Schedule
from mailserver.mail import Action, Content, DeliveryStatus, Envelope, Recipient, Reply, parse_mailbox
from mailserver.ports import Clock, Timer, Workers
from mailserver.queue import (
    NO_HISTORY,
    Entry,
    EntryLost,
    History,
    NewEntry,
    NoSuchEntry,
    Queue,
    QueuedRecipient,
    QueueError,
    Taken,
)

log = logging.getLogger(__name__)

LOOK_INTERVAL = 1.0  # seconds
ACTIVE_LIMIT = 5000  # entries held in memory
ACTIVE_RECIPIENTS = 20_000  # when they have as many recipients, no further entry is taken in
BATCH = 100  # entries taken in at once
KEPT_CONTENT = 16 * 1024  # octets of new mail that are not read again
RECIPIENTS_PER_JOB = 100  # RFC 5321 §4.5.3.1.8: every server takes as many in one transaction
POSTPONED = 60.0  # seconds until what waits for a site that does not get on is looked at again
REASONS_KEPT = 10_000
STOP_GRACE = 5.0  # for jobs under way at the stop; after that their connections are closed

WAITING = "another process delivers this queue; this one waits"
NOW_LEADING = "the other process has ended; this one delivers now"

UNREACHABLE = ("4.4.1", "4.4.3")  # RFC 3463 §3.5: no answer from the host, directory server failure


class Outbound(Protocol):
    """What takes mail to other servers: `relay.Relay`."""

    async def locate(self, transport: Deliverable, domain: str) -> Site:
        """The servers for a domain. Raises Unroutable."""

    async def deliver(
        self, site: Site, envelope: Envelope, header: bytes, content: Content
    ) -> list[DeliveryStatus]: ...

    def abort(self) -> None: ...


class QueueManager:
    """One for each process. `ring` tells the process that delivers of new mail, when that is another one."""

    def __init__(
        self,
        queue: Queue,
        settings: Settings,
        *,
        hostname: str,
        router: Router,
        routes: Routes,
        relay: Outbound,
        deliver: Deliver,
        history: History = NO_HISTORY,
        ring: Callable[[], None] | None = None,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._queue = queue
        self._history = history
        self._ring = ring
        self._router = router
        self._routes = routes
        self._relay = relay
        self._deliver = deliver
        self._workers = workers
        self._clock = clock
        self._content = workers.grouped(queue.contents)
        self.enqueue = workers.grouped(self._enqueue)
        """Queues entries of one message together; their ids. Raises QueueError. `queued` is to be called then."""
        self._fresh: deque[Taken] = deque()  # from other threads
        self._unseen = False  # there is new mail that is to be looked for
        self._overrides = Overrides(settings)
        self._results = Results(
            queue,
            hostname=hostname,
            policy=lambda domain: self._overrides.of(domain).retry,
            double_bounces_to=parse_mailbox(settings.double_bounces_to) if settings.double_bounces_to else None,
            history=history,
            workers=workers,
            clock=clock,
        )
        self._schedule: Schedule[Job] = Schedule(settings.concurrency)
        self._active: dict[str, Round] = {}
        self._recipients = 0  # of the active rounds
        self._locator = Locator(relay.locate, workers, clock)
        self._unreachable: dict[str, Reply] = {}
        """How the last attempt at a site failed that could not be reached."""
        self._timer: Timer | None = None
        self._start_timer: Timer | None = None
        self._running = False
        self._looking = False
        self._look_again = False
        self._leads = True  # as far as the log tells
        self._backlog = False  # there was no room for what may be due
        self._far = True  # entries planned too far ahead are looked for: the clock may have been set back
        self._epoch = 0.0  # wall time at the monotonic time 0
        self._starting_jobs = False

    # Starting and stopping

    def start(self) -> None:
        self._running = True
        self._workers.spawn(self._look_after())
        self._tick()

    async def stop(self) -> None:
        """Waits a little for what is under way; what does not end stays queued."""
        self._running = False
        for timer in filter(None, (self._timer, self._start_timer)):
            timer.cancel()
        self._schedule.clear()
        await self._idle()
        self._relay.abort()
        await self._idle()
        await self._write_history()

    async def _idle(self) -> None:
        deadline = self._clock.monotonic() + STOP_GRACE
        while self._at_work() and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.05)

    def _at_work(self) -> bool:
        return self._schedule.running > 0 or self._looking or any(round.settling for round in self._active.values())

    async def _look_after(self) -> None:
        """Body files without an entry are removed; the database is looked through for damage."""
        try:
            await self._workers.run(self._queue.sweep)
            for fault in await self._workers.run(self._queue.check):
                log.error("queue: the database is damaged, the next start mends it: %s", fault)
        except QueueError as error:
            log.error("queue: %s", error)

    # Looking

    def _tick(self) -> None:
        self._timer = self._clock.call_later(LOOK_INTERVAL, self._tick)
        self.queued()
        self.wake()
        if self._history.pending:
            self._workers.spawn(self._write_history())

    async def _write_history(self) -> None:
        await self._workers.run(self._history.flush)

    def queued(self) -> None:
        """To be called after `enqueue`: begins what there is room for."""
        while self._fresh and self._running:
            fresh = self._fresh.popleft()
            self._begin(fresh.entry, self._clock.wall(), fresh.inline)
        self._start_jobs()
        if self._unseen and self._ring is not None and not self._queue.leads:
            self._unseen = False
            self._ring()
        elif self._unseen:
            self.wake()

    def wake(self) -> None:
        """Looks into the queue at once."""
        self._unseen = False
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
        if len(self._active) > ACTIVE_LIMIT // 2:
            for job in self._schedule.stalled(self._clock.monotonic()):
                self._postpone(job)
        room = min(BATCH, ACTIVE_LIMIT - len(self._active))
        self._backlog = room <= 0 or self._recipients >= ACTIVE_RECIPIENTS
        if self._backlog:
            room = 0  # the lease is renewed all the same
        now = self._clock.wall()
        self._watch_the_clock(now)
        far = self._far and room > 0
        try:
            entries = await self._workers.run(self._due, now, room, far)
        except QueueError as error:
            log.error("queue: %s", error)
            return
        if not self._running:
            return
        for entry in entries:
            self._begin(entry, now)
        self._look_again |= 0 < len(entries) == room
        self._far &= not far or len(entries) == room
        self._start_jobs()

    def _watch_the_clock(self, now: float) -> None:
        epoch = now - self._clock.monotonic()
        self._far |= epoch < self._epoch - 1.0  # set back by more than what timers are late
        self._epoch = epoch

    def _enqueue(self, batch: Sequence[Sequence[NewEntry]]) -> list[list[str] | Exception]:
        """In a thread. While there is room, new mail is tried without being looked for."""
        waiting = len(self._active) + len(self._fresh)
        room = ACTIVE_LIMIT // 2 - waiting if self._running and self._recipients < ACTIVE_RECIPIENTS // 2 else 0
        results = self._queue.add_and_take(batch, room=room)
        taken = [each for result in results if not isinstance(result, Exception) for each in result]
        self._fresh.extend(each for each in taken if each.entry.active)
        self._unseen |= not all(each.entry.active for each in taken)
        return [each if isinstance(each, Exception) else [one.entry.id for one in each] for each in results]

    def _due(self, now: float, limit: int, far: bool) -> list[Entry]:
        """None while another process delivers from the queue: an old server that is about to end, say."""
        leads = self._queue.lead()
        if leads is not self._leads:
            self._leads = leads
            log.warning("queue: %s", NOW_LEADING if leads else WAITING)
        return self._queue.due(now, horizon=self._overrides.horizon, limit=limit, far=far) if leads else []

    # A round: who is to be served, and where

    def _begin(self, entry: Entry, now: float, inline: bytes | None = None) -> None:
        by = entry.parameters.deliver_by
        recipients = map(given_up, entry.recipients) if by is not None and by.gives_up(now) else entry.recipients
        round = Round(entry, {recipient.number: recipient for recipient in recipients})
        if inline is not None and len(inline) <= KEPT_CONTENT:
            round.content = inline
        self._active[entry.id] = round
        self._recipients += len(entry.recipients)
        round.forced = any(recipient.next_attempt == 0.0 for recipient in round.recipients.values())
        latest = now + self._overrides.horizon
        due = [
            recipient
            for recipient in round.recipients.values()
            if not recipient.failed and not now < recipient.next_attempt <= latest
        ]
        if self._router.blocking:
            round.lookups = 1  # until it is known where all lead
            self._workers.spawn(self._plan_later(round, due))
        else:
            self._plan_all(round, due, self._lead(due))

    async def _plan_later(self, round: Round, due: Sequence[QueuedRecipient]) -> None:
        routes = await self._router.lookups.run(self._lead, due)
        if self._running:
            self._plan_all(round, due, routes)
            self._start_jobs()

    def _lead(self, recipients: Sequence[QueuedRecipient]) -> list[Route | Refused]:
        """Where they lead; may block where the router does."""
        return [self._router.route(each.address, may_relay=True, final=each.final) for each in recipients]

    def _plan_all(self, round: Round, due: Sequence[QueuedRecipient], routes: Sequence[Route | Refused]) -> None:
        for recipient, route in zip(due, routes, strict=True):
            self._plan(round, recipient, route)
        hops = [hop for hop in round.by_hop if hop is not None]
        round.lookups = len(hops)
        for hop in hops:
            self._locator.find(hop, partial(self._located, round, hop))
        if not hops:
            self._dispatch(round)

    def _located(self, round: Round, hop: Hop, found: Site | Reply) -> None:
        round.sites[hop] = found
        round.lookups -= 1
        if not round.lookups and self._running:
            self._dispatch(round)
            self._start_jobs()

    def _plan(self, round: Round, recipient: QueuedRecipient, route: Route | Refused) -> None:
        if not isinstance(route, Remote):
            round.by_hop.setdefault(None, []).append(recipient)
            return
        transport = self._transport(round, recipient)
        match transport:
            case Discard():
                status = DeliveryStatus(recipient.address, Action.RELAYED, DISCARDED, passed_on=True)
                round.results.append((recipient, status))
            case Hold():
                round.held.add(recipient.number)
            case Refusal(reply=reply):
                round.results.append((recipient, DeliveryStatus.of_reply(recipient.address, reply, None)))
            case _:
                domain = route.domain if transport == BY_MX else ""
                round.by_hop.setdefault((transport, domain), []).append(recipient)

    def _transport(self, round: Round, recipient: QueuedRecipient) -> Transport:
        """As an administrator chose for this message, or by the table; what somebody released is not held again."""
        entry = round.entry
        if entry.via is not None:
            try:
                return self._routes.completed(parse_transport(entry.via))
            except ValueError as error:
                log.error("queue=%s goes by the routing table: %s", entry.id, error)
        transport = self._routes.transport(recipient.address, entry.sender)
        released = round.forced or recipient.attempts > 0
        return self._routes.default if isinstance(transport, Hold) and released else transport

    def _dispatch(self, round: Round) -> None:
        """All sites are known: the recipients of one site share its jobs."""
        by_site: dict[str | None, tuple[Site | None, list[QueuedRecipient]]] = {}
        for hop, recipients in round.by_hop.items():
            site = None if hop is None else round.sites[hop]
            if isinstance(site, Reply):
                round.results += zip(
                    recipients, (DeliveryStatus.of_reply(each.address, site, None) for each in recipients), strict=True
                )
            else:
                by_site.setdefault(None if site is None else site.key, (site, []))[1].extend(recipients)
        round.by_hop.clear()
        for site, recipients in by_site.values():
            for start in range(0, len(recipients), RECIPIENTS_PER_JOB):
                self._add(Job(round, site, tuple(recipients[start : start + RECIPIENTS_PER_JOB])))
        if not round.jobs:
            self._workers.spawn(self._settle(round))

    def _add(self, job: Job) -> None:
        round, now = job.round, self._clock.monotonic()
        key, limits = None, None
        if job.site is not None:
            key, limits = job.site.key, self._overrides.of(job.recipients[0].address.domain).limits
            if self._schedule.dead(key, now) and not round.forced:
                reply = _not_tried(self._unreachable.get(key))
                round.results += zip(job.recipients, delayed(job.recipients, reply), strict=True)
                return
        priority = round.entry.parameters.priority
        taken = self._schedule.add(key, job, now, limits=limits, priority=priority, bulk=job.bulk, force=round.forced)
        if taken:
            round.jobs += 1
        else:
            round.not_before = self._clock.wall() + POSTPONED

    def _postpone(self, job: Job) -> None:
        """Back into the queue for a while; no attempt is counted."""
        job.round.jobs -= 1
        job.round.not_before = self._clock.wall() + POSTPONED
        if not job.round.settling:
            self._workers.spawn(self._settle(job.round))

    # Jobs

    def _start_jobs(self) -> None:
        if self._starting_jobs or not self._running:
            return
        self._starting_jobs = True
        try:
            while (started := self._schedule.start(self._clock.monotonic())) is not None:
                self._workers.spawn(self._run(*started))
            self._wake_for(self._schedule.next_start)
        finally:
            self._starting_jobs = False

    def _wake_for(self, time: float | None) -> None:
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        wait = None if time is None else max(time - self._clock.monotonic(), 0.0)
        if wait is not None and wait < LOOK_INTERVAL:
            self._start_timer = self._clock.call_later(wait, self._start_jobs)

    async def _run(self, key: str | None, job: Job) -> None:
        statuses = await self._attempt(job)
        outcome = _outcome(statuses)
        if key is not None and outcome is Outcome.UNREACHABLE:
            if len(self._unreachable) >= REASONS_KEPT:
                self._unreachable.clear()
            self._unreachable[key] = statuses[0].reply
        for withdrawn in self._schedule.end(key, self._clock.monotonic(), outcome, bulk=job.bulk):
            # The site cannot be reached: what waits for it is not tried now, each on its own, but delayed as well.
            self._workers.spawn(self._end(withdrawn, delayed(withdrawn.recipients, statuses[0].reply)))
        self._start_jobs()
        await self._end(job, statuses)

    async def _attempt(self, job: Job) -> list[DeliveryStatus]:
        """A status for each recipient of the job; none when the entry is gone or unreadable, or another's now."""
        entry = job.round.entry
        if not self._queue.leads:
            return []
        try:
            kept = job.round.content
            content = await self._content(entry.id) if kept is None else Content(kept)
        except (NoSuchEntry, EntryLost) as error:
            log.warning("queue=%s not tried: %s", entry.id, error)
            return []
        except QueueError as error:
            log.error("queue=%s not tried: %s", entry.id, error)
            return delayed(job.recipients, INTERNAL_ERROR)
        try:
            if job.site is None:
                return await self._deliver_here(entry, job.recipients, content)
            recipients = tuple(recipient.recipient for recipient in job.recipients)
            envelope = Envelope(entry.sender, recipients, entry.parameters)
            return await self._relay.deliver(job.site, envelope, entry.header, content)
        except Exception:
            log.exception("queue=%s delivery failed", entry.id)
            return delayed(job.recipients, INTERNAL_ERROR)
        finally:
            content.close()

    async def _deliver_here(
        self, entry: Entry, recipients: Sequence[QueuedRecipient], content: Content
    ) -> list[DeliveryStatus]:
        routes = [await self._router.find(each.address, may_relay=True, final=each.final) for each in recipients]
        local = [route for route in routes if isinstance(route, Local)]
        delivered = iter(await deliver_copies(self._deliver, local, entry.sender, entry.header, content))
        statuses = []
        for each, route in zip(recipients, routes, strict=True):
            match route:
                case Local():
                    statuses.append(next(delivered))
                case Expanded():
                    statuses.append(await self._pass_on(entry, each.recipient, route, content))
                case Refused(reply=reply):
                    statuses.append(DeliveryStatus.of_reply(each.address, reply, None))
                case Remote():  # it was here when the round began
                    statuses.append(DeliveryStatus(each.address, Action.DELAYED, INTERNAL_ERROR))
        return statuses

    async def _pass_on(self, entry: Entry, recipient: Recipient, route: Expanded, content: Content) -> DeliveryStatus:
        """Others are queued in the place of this recipient."""
        envelope = Envelope(entry.sender, (recipient,), replace(entry.parameters, release=None))  # its time has come
        made = copies([recipient], [route])
        try:
            queued = await entries(self._router, envelope, made, content, entry.header, self._clock.wall())
            ids = await self.enqueue([new for new, _ in queued])
            log.info("queue=%s to=<%s> goes on next=%s", entry.id, recipient.address, ",".join(ids))
        except Exception as error:  # others of this job were served, which is to be recorded
            foreseen = isinstance(error, QueueError | SourceDown)
            log.error(
                "queue=%s to=<%s> not passed on now: %s", entry.id, recipient.address, error, exc_info=not foreseen
            )
            return DeliveryStatus(recipient.address, Action.DELAYED, INTERNAL_ERROR)
        self.queued()
        return DeliveryStatus(recipient.address, Action.EXPANDED, EXPANDED, passed_on=not is_told(recipient, route))

    # Results

    async def _end(self, job: Job, statuses: Sequence[DeliveryStatus]) -> None:
        round = job.round
        round.jobs -= 1
        round.results += (
            (recipient, status)
            for recipient, status in zip(job.recipients, statuses, strict=bool(statuses))
            if self._running or status.action is not Action.DELAYED  # a stop is no reason to count an attempt
        )
        if not round.settling:
            await self._settle(round)

    async def _settle(self, round: Round) -> None:
        try:
            if await self._results.settle(round, lambda: self._running):
                self.wake()
        finally:
            if not round.under_way and self._active.pop(round.entry.id, None) is not None:
                self._recipients -= len(round.entry.recipients)
                if self._backlog and len(self._active) < ACTIVE_LIMIT // 2:
                    self.wake()


def _not_tried(last: Reply | None) -> Reply:
    reason = f": {last.text}" if last is not None else ""
    return Reply.of(451, "4.4.1", f"Not tried, as the server could not be reached shortly before{reason}")


def _outcome(statuses: Sequence[DeliveryStatus]) -> Outcome:
    """UNREACHABLE: no server of the site answers. A connection that broke may be the message's own fault."""
    if any(status.host is not None for status in statuses):
        return Outcome.ANSWERED
    unreachable = statuses and all(
        status.action is Action.DELAYED and str(status.reply.status) in UNREACHABLE for status in statuses
    )
    return Outcome.UNREACHABLE if unreachable else Outcome.NOTHING
