"""The queue manager over a real queue, on virtual time."""

import email
import json
import logging
import sqlite3
from dataclasses import replace
from itertools import pairwise

import pytest

from mailserver.accounts import Mailbox, Members, NotLocal, SourceDown, Unknown
from mailserver.config.relay import Relay as Settings
from mailserver.config.relay import Route
from mailserver.delivery import locating as locating_module
from mailserver.delivery import manager as manager_module
from mailserver.delivery import results as results_module
from mailserver.delivery.manager import QueueManager
from mailserver.delivery.nexthop import Site, Unroutable
from mailserver.delivery.router import Router
from mailserver.delivery.routes import BY_MX, Routes
from mailserver.mail import (
    Action,
    Address,
    Content,
    DeliverBy,
    DeliveryStatus,
    Envelope,
    MailParameters,
    Notify,
    Recipient,
    Reply,
    parse_mailbox,
)
from mailserver.mail.srs import SRS
from mailserver.queue import Attempted, History, NewEntry, Queue, QueueError, State, rows
from mailserver.queue.filter import EVERYTHING, Filter
from mailserver.store import DeliveryError
from tests.support.loop import Loop, LoopWorkers, Promise

ALICE = Address("alice", "example.org")
LATER = Reply.of(451, "4.7.1", "Greylisted")
NEVER = Reply.of(550, "5.1.1", "No such user")
TAKEN = Reply.of(250, "2.0.0", "Taken")
UNREACHABLE = Reply.of(451, "4.4.1", "No connection")
DAY = 86400.0
HOUR = 3600.0


class Directory:
    blocking = False

    def resolve(self, address):
        if address.domain != "example.org":
            return NotLocal()
        if address.local == "team":
            return Members((Address("bob", "example.org"), Address("x", "a.example")))
        if address.local == "away":
            return Mailbox(address, None, (Address("x", "a.example"),), keep_copy=False)
        return Mailbox(address, None) if address.local in ("alice", "bob") else Unknown()


class FakeRelay:
    """Answers at once by recipient or domain; `pause` makes deliveries wait for `release`."""

    def __init__(self, loop):
        self.loop = loop
        self.answers = {}  # address or domain as text -> Reply, or a function that gives one
        self.hosts = True
        self.sites = {}  # domain -> name of its site, or the reply of Unroutable
        self.located = []
        self.passes_on = self.in_time = False
        self.calls = []  # (time, next hop, recipients)
        self.sent = []  # (sender, header + content)
        self.pause = False
        self.running = []
        self.most = {}
        self.aborted = False
        self._waiting = []

    async def locate(self, transport, domain):
        self.located.append(domain)
        answer = self.sites.get(domain, domain)
        if isinstance(answer, Reply):
            raise Unroutable(answer)
        return Site(answer if transport == BY_MX else str(transport), transport)

    def abort(self):
        self.aborted = True
        self.release()

    def release(self, count=None):
        waiting, self._waiting = self._waiting[:count], self._waiting[count or len(self._waiting) :]
        for promise in waiting:
            promise.resolve(None)

    async def deliver(self, site, envelope, header, content):
        next_hop = site.key
        sender, recipients = envelope.sender, [recipient.address for recipient in envelope.recipients]
        self.calls.append((self.loop.monotonic(), next_hop, tuple(map(str, recipients))))
        self.running.append(next_hop)
        for key, count in ((next_hop, self.running.count(next_hop)), ("all", len(self.running))):
            self.most[key] = max(self.most.get(key, 0), count)
        if self.pause:
            promise = Promise(self.loop)
            self._waiting.append(promise)
            await promise
        self.running.remove(next_hop)
        self.sent.append((sender, header + b"".join(content.chunks())))
        if self.aborted:
            return [DeliveryStatus(r, Action.DELAYED, UNREACHABLE) for r in recipients]
        host = f"mx.{next_hop}" if self.hosts else None
        statuses = [DeliveryStatus.of_reply(r, self._answer(r), host) for r in recipients]
        return [replace(status, passed_on=self.passes_on, in_time=self.in_time) for status in statuses]

    def _answer(self, recipient):
        answer = self.answers.get(str(recipient), self.answers.get(recipient.domain, TAKEN))
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer

    def attempts(self, domain):
        return [time for time, next_hop, _ in self.calls if next_hop == domain]


class World:
    def __init__(self, path, settings=None, routes=()):
        self.routes = routes
        self.loop = Loop()
        self.workers = LoopWorkers(self.loop)
        self.queue = Queue(path / "queue")
        self.relay = FakeRelay(self.loop)
        self.mailboxes = []  # deliveries
        self.mailbox_failures = {}
        self.settings = settings or Settings()
        self.directory = Directory()
        self.manager = self.new_manager()

    def new_manager(self, srs=None):
        return QueueManager(
            self.queue,
            self.settings,
            hostname="mail.example.org",
            router=Router(self.directory, "mail.example.org", srs=srs, workers=self.workers, clock=self.loop),
            routes=Routes.of(self.routes, self.settings),
            relay=self.relay,
            deliver=self.workers.grouped(self._deliver),
            workers=self.workers,
            clock=self.loop,
        )

    def _deliver(self, batch):
        results = []
        for delivery in batch:
            failure = self.mailbox_failures.get(str(delivery.account))
            if failure is None:
                self.mailboxes.append((delivery, b"".join(delivery.content.chunks())))
            results.append(DeliveryError(failure) if failure else "path")
        return results

    def put(self, *to, sender=ALICE, body=b"Subject: x\r\n\r\nhello\r\n", notify=None, at=0.0, **asked):
        recipients = tuple(Recipient(parse_mailbox(text), notify=notify) for text in to)
        entry = NewEntry(
            Envelope(sender, recipients, MailParameters(**asked)),
            Content(body),
            b"Received: x\r\n",
            self.loop.wall() + at,
        )
        (id,) = self.queue.add([entry])
        assert isinstance(id, str)
        return id

    def start(self):
        self.manager.start()
        self.loop.settle()

    def reports(self):
        """The delivery-status parts of the reports that came into alice's mailbox: lists of per-recipient fields."""
        found = []
        for delivery, content in self.mailboxes:
            if delivery.header.startswith(b"Return-Path: <>"):
                message = email.message_from_bytes(content)
                found.append([dict(fields) for fields in message.get_payload()[1].get_payload()[1:]])
        return found

    def close(self):
        assert self.loop.failures == []
        self.queue.close()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def patient(monkeypatch):
    """Looks once a minute, so that days pass quickly."""
    monkeypatch.setattr(manager_module, "LOOK_INTERVAL", 60.0)


# Delivery


def test_a_due_entry_is_relayed_and_forgotten(world):
    world.put("carol@example.net")
    world.start()
    assert world.relay.calls == [(1000.0, "example.net", ("carol@example.net",))]
    assert world.relay.sent == [(ALICE, b"Received: x\r\nSubject: x\r\n\r\nhello\r\n")]
    assert world.queue.list() == []


def test_wake_finds_a_new_entry_at_once_and_the_poll_finds_it_within_two_seconds(world):
    world.start()
    world.loop.advance(10.5)
    world.put("carol@example.net")
    world.manager.wake()
    world.loop.settle()
    assert len(world.relay.calls) == 1
    world.put("dave@example.net")
    world.loop.advance(2.0)
    assert len(world.relay.calls) == 2


def test_recipients_are_grouped_by_next_hop_and_a_hundred_to_a_transaction(world):
    world.put("a@example.net", "b@example.com", "c@example.net", *(f"u{n}@large.example" for n in range(250)))
    world.start()
    groups = sorted((hop, len(recipients)) for _, hop, recipients in world.relay.calls)
    assert groups == [
        ("example.com", 1),
        ("example.net", 2),
        ("large.example", 50),
        ("large.example", 100),
        ("large.example", 100),
    ]
    assert world.queue.list() == []


def test_local_recipients_are_delivered_with_fields_of_their_own(world):
    world.put("alice@example.org", "bob@example.org")
    world.start()
    assert [str(delivery.account) for delivery, _ in world.mailboxes] == ["alice@example.org", "bob@example.org"]
    assert world.mailboxes[1][0].header == (
        b"Return-Path: <alice@example.org>\r\nDelivered-To: bob@example.org\r\nReceived: x\r\n"
    )
    assert world.queue.list() == []


def test_a_local_mailbox_that_is_gone_is_reported(world):
    world.put("nobody@example.org")
    world.start()
    assert [[fields["Status"] for fields in report] for report in world.reports()] == [["5.1.1"]]


def test_a_local_mailbox_that_fails_for_now_is_tried_again(world):
    world.mailbox_failures["bob@example.org"] = Reply.of(451, "4.3.0", "Disk trouble")
    world.put("bob@example.org")
    world.start()
    assert len(world.queue.list()) == 1
    world.mailbox_failures.clear()
    world.loop.advance(301)
    assert len(world.mailboxes) == 1
    assert world.queue.list() == []


# Trying again


def test_a_temporary_failure_is_tried_again_with_growing_waits(world, patient):
    world.relay.answers["example.net"] = LATER
    world.put("carol@example.net")
    world.start()
    world.loop.advance(DAY)
    times = world.relay.attempts("example.net")
    waits = [after - before for before, after in pairwise(times)]
    for number, wait in enumerate(waits):
        full = min(300 * 2**number, 4 * HOUR)
        assert full * 0.75 <= wait <= full + 60
    assert len(waits) >= 8


def test_only_the_recipients_that_failed_are_tried_again(world):
    world.relay.answers["bob@example.net"] = LATER
    world.put("bob@example.net", "carol@example.net", "dave@example.com")
    world.start()
    (entry,) = world.queue.list()
    assert [str(recipient.address) for recipient in entry.recipients] == ["bob@example.net"]
    assert (entry.recipients[0].attempts, entry.recipients[0].reply) == (1, LATER)
    world.relay.answers.clear()
    world.loop.advance(301)
    assert world.relay.calls[-1][2] == ("bob@example.net",)
    assert world.queue.list() == []


def test_an_exception_in_the_relay_delays(world):
    world.relay.answers["example.net"] = OSError("a bug")
    world.put("carol@example.net")
    world.start()
    (entry,) = world.queue.list()
    assert entry.recipients[0].attempts == 1


def test_flush_by_another_process_is_seen_soon(world, tmp_path):
    world.relay.answers["example.net"] = LATER
    world.put("carol@example.net")
    world.start()
    other = Queue(tmp_path / "queue")
    other.administration.flush(EVERYTHING)
    other.close()
    world.loop.advance(2)
    assert len(world.relay.calls) == 2


def test_a_held_entry_is_not_tried(world):
    id = world.put("carol@example.net")
    world.queue.administration.hold(Filter(ids=(id,)))
    world.start()
    world.loop.advance(HOUR)
    assert world.relay.calls == []
    world.queue.administration.release(Filter(ids=(id,)))
    world.loop.advance(2)
    assert len(world.relay.calls) == 1


def test_an_entry_removed_while_it_is_tried_leaves_nothing(world):
    world.relay.pause = True
    world.relay.answers["example.net"] = NEVER
    id = world.put("carol@example.net")
    world.start()
    world.queue.administration.remove(Filter(ids=(id,)))
    world.relay.release()
    world.loop.advance(10)
    assert world.queue.list() == []
    assert world.reports() == []


# Reports


def test_a_permanent_failure_is_reported_once_to_the_sender(world, patient):
    world.relay.answers["example.net"] = NEVER
    world.put("carol@example.net")
    world.start()
    world.loop.advance(10 * DAY)
    ((fields,),) = world.reports()
    assert (fields["Final-Recipient"], fields["Action"], fields["Status"]) == (
        "rfc822; carol@example.net",
        "failed",
        "5.1.1",
    )
    assert fields["Remote-MTA"] == "dns; mx.example.net"
    assert len(world.relay.calls) == 1
    assert world.queue.list() == []


def test_failures_of_one_round_share_one_report(world):
    world.relay.answers |= {"a.example": NEVER, "b.example": NEVER, "c.example": LATER}
    world.relay.pause = True
    world.put("u@a.example", "v@b.example", "w@c.example", "x@d.example")
    world.start()
    for _ in range(4):
        world.relay.release(1)
        world.loop.advance(1)
    (report,) = world.reports()
    assert {fields["Final-Recipient"] for fields in report} == {"rfc822; u@a.example", "rfc822; v@b.example"}
    (entry,) = world.queue.list()
    assert [str(recipient.address) for recipient in entry.recipients] == ["w@c.example"]


def test_the_report_for_a_remote_sender_is_relayed_with_the_null_reverse_path(world):
    world.relay.answers["example.net"] = NEVER
    world.put("carol@example.net", sender=Address("remote", "example.com"))
    world.start()
    world.loop.advance(2)
    assert world.relay.calls[-1][1:] == ("example.com", ("remote@example.com",))
    assert world.relay.sent[-1][0] is None


@pytest.mark.parametrize("answer", [NEVER, LATER])
def test_the_null_reverse_path_is_never_reported_to(world, patient, answer):
    world.relay.answers["example.net"] = answer
    world.put("carol@example.net", sender=None)
    world.start()
    world.loop.advance(7 * DAY)
    assert world.queue.list() == []
    assert world.mailboxes == []
    assert {hop for _, hop, _ in world.relay.calls} == {"example.net"}


def test_a_report_that_fails_makes_no_other_report(world, patient):
    world.relay.answers |= {"example.net": NEVER, "example.com": NEVER}
    world.put("carol@example.net", sender=Address("forged", "example.com"))
    world.start()
    world.loop.advance(DAY)
    assert [hop for _, hop, _ in world.relay.calls] == ["example.net", "example.com"]
    assert world.queue.list() == []


def test_a_message_expires_after_its_lifetime(world, patient):
    world.relay.answers["example.net"] = LATER
    world.put("carol@example.net")
    world.start()
    world.loop.advance(5 * DAY - 60)
    assert [fields["Action"] for report in world.reports() for fields in report] == ["delayed"]
    world.loop.advance(300)
    _, (fields,) = world.reports()
    assert (fields["Action"], fields["Status"]) == ("failed", "4.4.7")
    assert fields["Diagnostic-Code"] == "smtp; 451 4.7.1 Greylisted"
    assert world.queue.list() == []
    last = world.relay.attempts("example.net")[-1]
    assert last - 1000 == pytest.approx(5 * DAY, abs=240)


def test_a_delay_is_warned_of_once(world, patient):
    world.relay.answers |= {"example.net": LATER, "example.com": LATER}
    world.put("carol@example.net", "dave@example.com")
    world.start()
    world.loop.advance(3 * HOUR)
    assert world.reports() == []
    world.loop.advance(4 * DAY)
    warnings = world.reports()
    assert len(warnings) == 1
    assert {fields["Action"] for fields in warnings[0]} == {"delayed"}
    assert "Will-Retry-Until" in warnings[0][0]


# The clock jumps


@pytest.mark.parametrize("jump", [-365 * DAY, -HOUR, 365 * DAY, 30 * DAY])
def test_a_clock_that_jumps_neither_returns_mail_nor_keeps_it_for_ever(world, patient, jump):
    world.relay.answers["example.net"] = LATER
    world.put("carol@example.net")
    world.start()
    world.loop.advance(700)
    before = len(world.relay.calls)
    world.loop.epoch += jump
    world.loop.advance(HOUR * 5)
    assert before < len(world.relay.calls) < before + 12
    assert not any(fields["Action"] == "failed" for report in world.reports() for fields in report)
    world.loop.epoch -= jump
    world.relay.answers.clear()
    world.loop.advance(HOUR * 5)
    assert world.queue.list() == []


def test_a_year_ahead_and_back_does_not_make_a_storm(world):
    world.relay.answers["example.net"] = LATER
    world.put("carol@example.net")
    world.start()
    for _ in range(4):
        world.loop.epoch += 365 * DAY
        world.loop.advance(10)
        world.loop.epoch -= 365 * DAY
        world.loop.advance(10)
    assert len(world.relay.calls) <= 10
    assert not any(fields["Action"] == "failed" for report in world.reports() for fields in report)


# Bounds


def test_concurrency_is_bounded_in_all_and_for_each_next_hop(tmp_path):
    world = World(tmp_path, Settings(concurrency=6, concurrency_per_host=2))
    world.relay.pause = True
    for n in range(10):
        world.put(f"u{n}@a.example")
    for n in range(10):
        world.put(f"u{n}@b{n}.example")
    world.start()
    for _ in range(40):
        world.relay.release(1)
        world.loop.advance(0.1)
    assert world.relay.most["a.example"] == 2
    assert world.relay.most["all"] in (5, 6), "a quarter is for sites that answered"
    assert len(world.relay.calls) == 20
    assert world.queue.list() == []
    world.close()


def test_a_slow_next_hop_does_not_keep_the_others_waiting(tmp_path):
    world = World(tmp_path, Settings(concurrency=4, concurrency_per_host=2))
    world.relay.pause = True
    for n in range(20):
        world.put(f"u{n}@slow.example")
    world.put("x@fast.example")
    world.start()
    assert "fast.example" in [hop for _, hop, _ in world.relay.calls]
    world.relay.release()
    world.relay.pause = False
    world.loop.advance(5)
    world.close()


def test_when_a_next_hop_is_unreachable_what_waits_for_it_is_delayed_without_trying(tmp_path):
    world = World(tmp_path, Settings(concurrency_per_host=1))
    world.relay.answers["example.net"] = UNREACHABLE
    world.relay.hosts = False
    world.relay.pause = True
    for n in range(30):
        world.put(f"u{n}@example.net")
    world.start()
    world.relay.release()
    world.loop.advance(5)
    assert len(world.relay.calls) == 1
    assert [entry.recipients[0].attempts for entry in world.queue.list()] == [1] * 30
    assert {entry.recipients[0].reply for entry in world.queue.list()} == {UNREACHABLE}
    world.close()


def test_the_active_set_is_bounded_and_refilled(world, monkeypatch):
    monkeypatch.setattr(manager_module, "ACTIVE_LIMIT", 8)
    for n in range(50):
        world.put(f"u{n}@example.net")
    sizes = []
    real = world.manager._begin

    def begin(entry, now):
        real(entry, now)
        sizes.append(len(world.manager._active))

    monkeypatch.setattr(world.manager, "_begin", begin)
    world.start()
    assert world.queue.list() == []
    assert max(sizes) == 8
    assert world.loop.monotonic() == 1000.0  # the backlog does not wait for the next look


def test_the_active_set_is_bounded_by_recipients_too(world, monkeypatch):
    monkeypatch.setattr(manager_module, "ACTIVE_RECIPIENTS", 10)
    monkeypatch.setattr(manager_module, "BATCH", 1)
    for n in range(20):
        world.put(*(f"u{m}@d{n}.example" for m in range(5)))
    world.relay.pause = True
    world.start()
    assert len(world.relay.calls) == 2
    world.relay.pause = False
    world.relay.release()
    world.loop.advance(30)
    assert len(world.relay.calls) == 20
    assert world.queue.list() == []


# Failures of the queue itself


def test_results_that_cannot_be_recorded_are_recorded_later_without_trying_again(world, monkeypatch):
    real, failures = world.queue.record, [QueueError("disk full")] * 3

    def record(*args, **kwargs):
        if failures:
            raise failures.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(world.queue, "record", record)
    world.put("carol@example.net")
    world.start()
    assert len(world.queue.list()) == 1
    world.loop.advance(HOUR)
    assert len(world.relay.calls) == 1
    assert world.queue.list() == []


def test_a_queue_that_cannot_be_read_is_looked_at_again(world, monkeypatch):
    world.put("carol@example.net")
    real, failures = world.queue.due, [QueueError("locked")]

    def due(*args, **kwargs):
        if failures:
            raise failures.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(world.queue, "due", due)
    world.start()
    assert world.relay.calls == []
    world.loop.advance(1)
    assert len(world.relay.calls) == 1


def test_content_that_cannot_be_read_now_delays(world, monkeypatch):
    def content(id):
        raise QueueError("too many open files")

    monkeypatch.setattr(world.queue, "content", content)
    world.put("carol@example.net")
    world.start()
    world.loop.advance(60)
    (entry,) = world.queue.list()
    assert (entry.state, entry.recipients[0].attempts) == (State.QUEUED, 1)


def test_an_entry_that_lost_its_body_is_set_aside_and_the_others_go_on(world, tmp_path):
    lost = world.put("carol@example.net", body=b"x" * 100_000)
    world.put("dave@example.net")
    (tmp_path / "queue" / "bodies" / lost).unlink()
    world.start()
    world.loop.advance(HOUR)
    assert [call[2] for call in world.relay.calls] == [("dave@example.net",)]
    assert [(entry.id, entry.state) for entry in world.queue.list()] == [(lost, State.CORRUPT)]


def test_failures_recorded_before_a_crash_are_reported_after_it(world):
    """The process died after one job of a round had failed, and before its last one had ended."""
    id = world.put("u@a.example", "v@b.example")
    first, second = world.queue.show(id).recipients
    now = world.loop.wall()
    keep = [
        replace(first, failed=True, reply=NEVER, host="mx.a.example", attempts=1),
        replace(second, next_attempt=now + 500, attempts=1),
    ]
    world.queue.record([Attempted(id, keep=keep)])
    world.start()
    world.loop.advance(2)
    ((fields,),) = world.reports()
    assert fields["Final-Recipient"] == "rfc822; u@a.example"
    assert world.relay.calls == []
    (entry,) = world.queue.list()
    assert [str(recipient.address) for recipient in entry.recipients] == ["v@b.example"]


# Stopping


def test_stop_waits_for_what_is_under_way_and_records_it(world):
    world.relay.pause = True
    world.put("carol@example.net")
    world.start()
    world.loop.call_later(2.0, world.relay.release)
    world.loop.run(world.manager.stop())
    assert not world.relay.running
    assert world.queue.list() == []


def test_stop_breaks_off_what_does_not_end_and_it_stays_queued_as_it_was(world):
    world.relay.pause = True
    id = world.put("carol@example.net")
    world.start()
    begun = world.loop.monotonic()
    world.loop.run(world.manager.stop())
    assert world.relay.aborted
    assert world.loop.monotonic() - begun < 11
    assert world.queue.show(id).recipients[0].attempts == 0
    world.loop.advance(HOUR)
    assert len(world.relay.calls) == 1  # nothing is looked for after the stop


def test_what_had_not_begun_at_the_stop_is_delivered_after_the_next_start(tmp_path):
    world = World(tmp_path, Settings(concurrency=1))
    world.relay.pause = True
    world.put("a@a.example", "b@b.example", "c@c.example")
    world.start()
    world.relay.answers["a.example"] = NEVER
    world.loop.call_later(1.0, world.relay.release)
    world.loop.run(world.manager.stop())
    assert len(world.relay.calls) == 1
    world.relay.pause = world.relay.aborted = False
    world.queue.close()
    world.queue = Queue(tmp_path / "queue")
    world.manager = world.new_manager()
    world.start()
    world.loop.advance(5)
    assert {call[2] for call in world.relay.calls} == {("a@a.example",), ("b@b.example",), ("c@c.example",)}
    assert [[fields["Final-Recipient"] for fields in report] for report in world.reports()] == [["rfc822; a@a.example"]]
    assert world.queue.list() == []
    world.close()


def test_a_stop_before_the_start_is_no_fault(world):
    world.loop.run(world.manager.stop())
    assert world.relay.calls == []


def test_orphaned_bodies_are_swept_at_the_start(world, monkeypatch):
    swept = []
    monkeypatch.setattr(world.queue, "sweep", lambda: swept.append(True))
    world.start()
    assert swept == [True]


def test_a_stop_waits_for_results_that_another_job_of_the_entry_has_to_record(world, monkeypatch):
    world.settings = Settings(concurrency_per_host=1)
    world.manager = world.new_manager()
    world.relay.hosts = False
    world.relay.answers["down.example"] = UNREACHABLE
    id = world.put(*(f"u{n}@down.example" for n in range(101)), "z@z.example")
    record, refusals = world.queue.record, [True]

    def fails_at_first(*args, **kwargs):
        if refusals and refusals.pop():
            raise QueueError("disk full")
        return record(*args, **kwargs)

    monkeypatch.setattr(world.queue, "record", fails_at_first)
    world.relay.pause = True
    world.start()
    world.relay.release(1)
    world.loop.settle()
    world.relay.release()
    world.loop.settle()
    assert len(world.relay.calls) == 2
    world.loop.run(world.manager.stop())
    assert "z@z.example" not in [str(r.address) for r in world.queue.show(id).recipients]


def test_a_report_that_cannot_be_made_does_not_let_a_copy_be_sent_twice(world, monkeypatch):
    def fault(*_, **__):
        raise RuntimeError("a fault in the report")

    world.relay.answers["bad@example.net"] = NEVER
    id = world.put("good@example.net", "bad@example.net")
    with monkeypatch.context() as patch:
        patch.setattr(results_module, "failure_report", fault)
        world.start()
        world.loop.advance(10)
        assert [str(r.address) for r in world.queue.show(id).recipients] == ["bad@example.net"]
    world.loop.advance(10)
    assert len(world.relay.calls) == 1
    assert [[fields["Final-Recipient"] for fields in report] for report in world.reports()] == [
        ["rfc822; bad@example.net"]
    ]


def test_a_fault_in_recording_is_no_reason_to_send_again(world, monkeypatch):
    record, faults = world.queue.record, [RuntimeError("a fault"), RuntimeError("a fault")]

    def faulty(*args, **kwargs):
        if faults:
            raise faults.pop()
        return record(*args, **kwargs)

    monkeypatch.setattr(world.queue, "record", faulty)
    world.put("carol@example.net")
    world.start()
    world.loop.advance(20)
    assert len(world.relay.calls) == 1
    assert world.queue.list() == []


def test_a_message_that_breaks_its_connection_does_not_delay_the_others_for_its_next_hop(world):
    world.relay.hosts = False
    world.relay.answers["poison@example.net"] = Reply.of(451, "4.4.2", "The remote closed the connection")
    world.relay.pause = True
    for _ in range(world.settings.concurrency_per_host):
        world.put("poison@example.net")
    world.start()
    world.put("carol@example.net")
    world.loop.advance(2)
    world.relay.pause = False
    world.relay.release()
    world.loop.settle()
    assert ("carol@example.net",) in [call[2] for call in world.relay.calls]


def test_a_second_process_on_the_same_queue_waits_for_the_end_of_the_first(world, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    world.start()
    other = Queue(tmp_path / "queue")
    world.queue, first = other, world.queue
    world.loop.run(world.manager.stop())
    world.manager = world.new_manager()
    world.start()
    world.put("carol@example.net")
    world.loop.advance(10)
    assert world.relay.calls == []
    assert caplog.text.count(manager_module.WAITING) == 1
    first.close()
    world.loop.advance(5)
    assert len(world.relay.calls) == 1
    assert caplog.text.count(manager_module.WAITING) == caplog.text.count(manager_module.NOW_LEADING) == 1


# What the sender wants to be told (RFC 3461)


def told(world):
    return [(fields["Final-Recipient"], fields["Action"]) for report in world.reports() for fields in report]


@pytest.mark.parametrize(
    ("notify", "passes_on", "expected"),
    [
        (None, False, []),
        ({Notify.SUCCESS}, False, [("rfc822; carol@example.net", "relayed")]),
        ({Notify.SUCCESS}, True, []),
        ({Notify.FAILURE, Notify.DELAY}, False, []),
        ({Notify.NEVER}, False, []),
    ],
)
def test_a_message_that_was_handed_on(world, notify, passes_on, expected):
    world.relay.passes_on = passes_on
    world.put("carol@example.net", notify=notify and frozenset(notify))
    world.start()
    world.loop.advance(5)
    assert told(world) == expected
    assert world.queue.list() == []


def test_a_message_that_waited_for_its_mailbox_is_told_of_when_it_is_there(world):
    world.put("bob@example.org", notify=frozenset({Notify.SUCCESS}))
    world.start()
    world.loop.advance(5)
    assert told(world) == [("rfc822; bob@example.org", "delivered")]


@pytest.mark.parametrize(
    ("notify", "expected"),
    [(None, ["failed"]), ({Notify.FAILURE}, ["failed"]), ({Notify.SUCCESS}, []), ({Notify.NEVER}, [])],
)
def test_a_message_that_failed(world, notify, expected):
    world.relay.answers["carol@example.net"] = NEVER
    world.put("carol@example.net", notify=notify and frozenset(notify))
    world.start()
    world.loop.advance(5)
    assert [action for _, action in told(world)] == expected
    assert world.queue.list() == []


@pytest.mark.parametrize(
    ("notify", "expected"), [(None, ["delayed"]), ({Notify.DELAY}, ["delayed"]), ({Notify.FAILURE}, [])]
)
def test_a_message_that_is_late(world, notify, expected):
    world.relay.answers["carol@example.net"] = LATER
    world.put("carol@example.net", notify=notify and frozenset(notify))
    world.start()
    world.loop.advance(6 * HOUR)
    assert [action for _, action in told(world)] == expected
    assert len(world.queue.list()) == 1


# DELIVERBY (RFC 2852) and MT-PRIORITY (RFC 6710)


def in_an_hour(world, **asked):
    return DeliverBy(world.loop.wall() + HOUR, **asked)


def test_who_wants_it_back_after_an_hour_gets_it_then_and_no_attempt_is_made_later(world):
    world.relay.answers["carol@example.net"] = LATER
    world.put("carol@example.net", deliver_by=in_an_hour(world, returned=True))
    world.start()
    world.loop.advance(HOUR - 5)
    assert world.reports() == [] and len(world.relay.calls) > 1
    tries = len(world.relay.calls)
    world.loop.advance(10)
    (((_, fields),),) = [[("", each) for each in report] for report in world.reports()]
    assert (fields["Action"], fields["Status"], fields["Diagnostic-Code"]) == (
        "failed",
        "5.4.7",
        "smtp; 451 4.7.1 Greylisted",
    )
    assert len(world.relay.calls) == tries and world.queue.list() == []


def test_what_comes_into_the_queue_too_late_goes_back_untried(world):
    world.put("carol@example.net", "bob@example.org", deliver_by=DeliverBy(world.loop.wall() - 1, returned=True))
    world.start()
    (fields,) = [[each["Status"] for each in report] for report in world.reports()]
    assert fields == ["5.4.7", "5.4.7"]
    assert world.relay.calls == [] and len(world.mailboxes) == 1, "the report alone"


@pytest.mark.parametrize(
    ("notify", "expected"), [(None, ["4.4.7"]), ({Notify.DELAY}, ["4.4.7"]), ({Notify.FAILURE}, []), ({"NEVER"}, [])]
)
def test_who_wants_to_be_told_after_an_hour_is_told_then_and_the_attempts_go_on(world, notify, expected):
    world.relay.answers["carol@example.net"] = LATER
    by = in_an_hour(world, returned=False)
    world.put("carol@example.net", notify=notify and frozenset(map(Notify, notify)), deliver_by=by)
    world.start()
    world.loop.advance(HOUR - 5)
    assert world.reports() == []
    world.loop.advance(10)
    assert [fields["Status"] for report in world.reports() for fields in report] == expected
    tries = len(world.relay.calls)
    world.loop.advance(12 * HOUR)
    assert len(world.reports()) == len(expected) and len(world.relay.calls) > tries
    assert len(world.queue.list()) == 1


@pytest.mark.parametrize(
    ("notify", "asked", "in_time", "told_of"),
    [
        (None, {"returned": False}, False, True),
        (None, {"returned": False}, True, False),
        ({Notify.FAILURE}, {"returned": False}, False, True),
        ({Notify.NEVER}, {"returned": False}, False, False),
        (None, {"returned": True}, True, False),
        (None, {"returned": True, "trace": True}, True, True),
        (None, {"returned": False, "trace": True}, True, True),
        ({Notify.NEVER}, {"returned": False, "trace": True}, True, False),
    ],
)
def test_a_message_with_a_time_that_was_handed_on(world, notify, asked, in_time, told_of):
    world.relay.in_time, world.relay.passes_on = in_time, True
    world.put("carol@example.net", notify=notify and frozenset(notify), deliver_by=in_an_hour(world, **asked))
    world.start()
    world.loop.advance(5)
    assert [action for _, action in told(world)] == ["relayed"] * told_of


def test_a_message_whose_time_is_over_and_that_was_handed_on(world):
    world.put("carol@example.net", deliver_by=DeliverBy(world.loop.wall() - 5, returned=False))
    world.start()
    world.loop.advance(5)
    assert told(world) == [] and len(world.relay.calls) == 1


def test_urgent_messages_are_handed_on_first_and_reports_are_as_urgent(tmp_path):
    world = World(tmp_path, Settings(concurrency=1))
    world.relay.answers["x@fails.example"] = NEVER
    for to, priority in (("a@low.example", -3), ("b@usual.example", 0), ("x@fails.example", 9), ("c@high.example", 4)):
        world.put(to, priority=priority)
    world.relay.pause = True
    world.start()
    for _ in range(4):
        world.relay.release()
        world.loop.settle()
    hops = [next_hop for _, next_hop, _ in world.relay.calls]
    assert hops == ["fails.example", "high.example", "usual.example", "low.example"]
    world.close()


def test_a_report_is_as_urgent_as_its_message(world, monkeypatch):
    world.relay.answers["x@fails.example"] = NEVER
    world.put("x@fails.example", sender=parse_mailbox("far@away.example"), priority=7)
    world.relay.answers["far@away.example"] = LATER
    world.start()
    world.loop.advance(5)
    assert [(str(entry.sender), entry.parameters.priority) for entry in world.queue.list()] == [("None", 7)]


# Sites


def test_domains_with_the_same_servers_are_one_site(world):
    world.relay.sites |= {"a.example": "mx.shared", "b.example": "mx.shared"}
    world.put("u@a.example", "v@b.example", "w@c.example")
    world.start()
    assert sorted((hop, recipients) for _, hop, recipients in world.relay.calls) == [
        ("c.example", ("w@c.example",)),
        ("mx.shared", ("u@a.example", "v@b.example")),
    ]


def test_a_domain_is_looked_up_once_for_many_messages(world):
    for n in range(20):
        world.put(f"u{n}@a.example", f"u{n}@b.example")
    world.start()
    world.loop.advance(1)
    assert sorted(world.relay.located) == ["a.example", "b.example"]
    assert world.queue.list() == []
    world.loop.advance(locating_module.FOUND_FOR + 1)
    world.put("u@a.example")
    world.loop.advance(2)
    assert world.relay.located.count("a.example") == 2, "the DNS may have changed"


def test_a_domain_that_cannot_be_looked_up_delays_its_own_mail_alone(world):
    world.relay.sites["a.example"] = Reply.of(451, "4.4.3", "No DNS")
    world.put("u@a.example", "v@b.example")
    world.start()
    assert [recipients for _, _, recipients in world.relay.calls] == [("v@b.example",)]
    (entry,) = world.queue.list()
    assert str(entry.recipients[0].reply) == "451 4.4.3 No DNS"


def test_a_dns_that_is_dead_for_an_hour_loses_nothing_and_is_not_stormed(world, patient):
    domains = [f"d{n}.example" for n in range(10)]
    world.relay.sites |= dict.fromkeys(domains, Reply.of(451, "4.4.3", "No DNS"))
    for n in range(100):
        world.put(f"u{n}@{domains[n % 10]}")
    world.start()
    world.loop.advance(HOUR)
    assert world.relay.calls == []
    assert len(world.queue.list()) == 100
    assert len(world.relay.located) <= 10 * HOUR / 60, "one question a minute and domain at most, whatever waits"
    world.relay.sites.clear()
    world.loop.advance(2 * HOUR)
    assert world.queue.list() == []
    assert len({recipient for _, _, recipients in world.relay.calls for recipient in recipients}) == 100
    assert world.reports() == []


def test_a_domain_that_does_not_exist_is_reported(world):
    world.relay.sites["a.example"] = Reply.of(550, "5.1.2", "No such domain")
    world.put("u@a.example")
    world.start()
    assert [[fields["Status"] for fields in report] for report in world.reports()] == [["5.1.2"]]


def test_mail_for_a_dead_site_waits_without_a_try_until_the_probe(world, patient):
    world.relay.answers["a.example"] = UNREACHABLE
    world.relay.hosts = False
    world.put("first@a.example")
    world.start()
    assert len(world.relay.calls) == 1
    world.put("second@a.example")
    world.manager.wake()
    world.loop.settle()
    assert len(world.relay.calls) == 1
    second = next(entry for entry in world.queue.list() if entry.recipients[0].address.local == "second")
    assert second.recipients[0].attempts == 1
    assert str(second.recipients[0].reply) == (
        "451 4.4.1 Not tried, as the server could not be reached shortly before: No connection"
    )
    del world.relay.answers["a.example"]
    world.loop.advance(HOUR)
    assert world.queue.list() == []


def test_a_flush_tries_a_dead_site_at_once(world):
    world.relay.answers["a.example"] = UNREACHABLE
    world.relay.hosts = False
    world.put("first@a.example")
    world.start()
    del world.relay.answers["a.example"]
    world.queue.administration.flush(EVERYTHING)
    world.loop.advance(2)
    assert world.queue.list() == []


def test_what_waits_for_sites_that_hang_makes_room_for_the_others(world, monkeypatch):
    monkeypatch.setattr(manager_module, "ACTIVE_LIMIT", 40)
    world.relay.pause = True
    for n in range(200):
        world.put(f"u{n}@hanging{n % 5}.example", at=-100)
    world.start()
    for n in range(10):
        world.put(f"u{n}@good.example")
    world.loop.advance(60)
    assert "good.example" in {hop for _, hop, _ in world.relay.calls}
    hanging = [entry for entry in world.queue.list() if "hanging" in entry.recipients[0].address.domain]
    assert len(hanging) == 200
    assert {entry.recipients[0].attempts for entry in hanging} == {0}, "no attempt is counted"
    world.relay.pause = False
    world.relay.release()
    world.loop.advance(HOUR)
    assert world.queue.list() == []


# The routing table


def routed(tmp_path, *routes, **settings):
    return World(tmp_path, Settings(**settings), [Route.model_validate(route) for route in routes])


def test_mail_goes_where_its_route_leads(tmp_path):
    world = routed(
        tmp_path,
        {"to": ["a.example"], "via": "smarthost", "host": "smart.example:587"},
        {"to": [".lists.example"], "via": "lmtp", "host": "unix:/run/lists"},
        {"from": ["bob@example.org"], "via": "smarthost", "host": "bobs.example:25"},
    )
    world.put("u@a.example", "v@x.lists.example", "w@c.example")
    world.put("w@d.example", sender=Address("bob", "example.org"))
    world.start()
    assert sorted(hop for _, hop, _ in world.relay.calls) == [
        "c.example",
        "lmtp:unix:/run/lists",
        "smarthost:bobs.example:25",
        "smarthost:smart.example:587",
    ]
    world.close()


def test_what_is_discarded_counts_as_delivered_and_is_not_told(tmp_path):
    world = routed(tmp_path, {"to": ["a.example"], "via": "discard"})
    world.put("u@a.example", notify=frozenset({Notify.SUCCESS}))
    world.start()
    assert (world.queue.list(), world.relay.calls, world.reports()) == ([], [], [])
    world.close()


def test_a_queued_recipient_that_leads_to_others_is_replaced_by_them(tmp_path):
    world = World(tmp_path)
    id = world.put("team@example.org", notify=frozenset({Notify.SUCCESS}))
    world.start()
    world.loop.advance(5)
    assert [str(delivery.account) for delivery, _ in world.mailboxes if b"Return-Path: <alice" in delivery.header] == [
        "bob@example.org"
    ]
    ((sender, sent),) = world.relay.sent
    assert sender == ALICE, "one of ours needs no other address"
    assert sent.startswith(b"Delivered-To: team@example.org\r\nReceived: x\r\n")
    assert [[fields["Action"] for fields in report] for report in world.reports()] == [["expanded"]]
    assert list(world.queue.list()) == [] and id
    world.close()


@pytest.mark.parametrize("bad", [1, 2])
def test_what_takes_the_place_of_a_recipient_is_queued_together_or_not_at_all(tmp_path, monkeypatch, bad):
    world = World(tmp_path)
    insert, inserted = rows.insert, []
    world.put("team@example.org", sender=Address("carol", "b.example"))

    def fails(*arguments, **options):
        inserted.append(None)
        if len(inserted) == bad:
            raise sqlite3.OperationalError("database or disk is full")
        insert(*arguments, **options)

    monkeypatch.setattr(rows, "insert", fails)
    world.start()
    world.loop.advance(5)
    (entry,) = world.queue.list()
    assert [str(each.address) for each in entry.recipients] == ["team@example.org"]
    assert (world.mailboxes, world.relay.sent) == ([], [])
    world.loop.advance(2 * HOUR)
    assert [str(delivery.account) for delivery, _ in world.mailboxes] == ["bob@example.org"]
    assert len(world.relay.sent) == 1 and list(world.queue.list()) == []
    world.close()


def test_what_is_forwarded_is_tried_again_at_its_new_address_alone(tmp_path):
    world = World(tmp_path)
    world.relay.answers["a.example"] = LATER
    world.put("away@example.org", sender=Address("carol", "b.example"))
    world.start()
    world.loop.advance(5)
    (entry,) = world.queue.list()
    (waiting,) = entry.recipients
    assert (str(waiting.address), str(waiting.original), waiting.final) == ("x@a.example", "away@example.org", True)
    world.relay.answers.clear()
    world.loop.advance(2 * HOUR)
    assert [sent.count(b"Delivered-To: away@example.org") for _, sent in world.relay.sent] == [1, 1]
    assert list(world.queue.list()) == []
    world.close()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("error", [SourceDown("no connection"), RuntimeError("nobody thought of this")])
def test_the_queue_waits_while_the_directory_cannot_be_asked(tmp_path, error, blocking):
    world = World(tmp_path)
    down = [True]

    class Remote(Directory):
        def resolve(self, address):
            if down:
                raise error
            return super().resolve(address)

    world.directory = Remote()
    world.directory.blocking = blocking
    world.manager = world.new_manager()
    world.put("bob@example.org", "y@a.example")
    world.start()
    world.loop.advance(5)
    (entry,) = world.queue.list()
    assert [(str(r.reply.status), r.attempts) for r in entry.recipients] == [("4.3.0", 1)] * 2
    down.clear()
    world.loop.advance(2 * HOUR)
    assert list(world.queue.list()) == [] and len(world.relay.sent) == len(world.mailboxes) == 1
    world.close()


@pytest.mark.parametrize("error", [SourceDown("no connection"), RuntimeError("nobody thought of this")])
def test_a_directory_that_fails_when_mail_is_passed_on_costs_no_recipient(tmp_path, error):
    """Where all lead was known; whether the sender is one of ours cannot be."""
    world = World(tmp_path)
    carol, down = Address("carol", "b.example"), [True]

    class Forgetful(Directory):
        def resolve(self, address):
            if down and address == carol:
                raise error
            return super().resolve(address)

    world.directory = Forgetful()
    world.manager = world.new_manager(srs=SRS(b"secret"))
    world.put("team@example.org", "alice@example.org", sender=carol)
    world.start()
    world.loop.advance(5)
    (entry,) = world.queue.list()
    assert [(str(r.address), str(r.reply.status)) for r in entry.recipients] == [("team@example.org", "4.3.0")]
    assert [str(delivery.account) for delivery, _ in world.mailboxes] == ["alice@example.org"]
    down.clear()
    world.loop.advance(2 * HOUR)
    assert [str(delivery.account) for delivery, _ in world.mailboxes] == ["alice@example.org", "bob@example.org"]
    assert len(world.relay.sent) == 1 and list(world.queue.list()) == []
    world.close()


def test_the_history_hears_what_the_routing_table_did(tmp_path):
    world = routed(tmp_path, {"to": ["a.example"], "via": "discard"}, {"to": ["b.example"], "via": "hold"})
    history = History(tmp_path / "history", DAY)
    world.manager = QueueManager(
        world.queue,
        world.settings,
        hostname="mail.example.org",
        router=Router(Directory(), "mail.example.org", workers=world.workers, clock=world.loop),
        routes=Routes.of(world.routes, world.settings),
        relay=world.relay,
        history=history,
        deliver=world.workers.grouped(world._deliver),
        workers=world.workers,
        clock=world.loop,
    )
    world.put("u@a.example", "v@b.example", "w@c.example")
    world.start()
    world.loop.run(world.manager.stop())
    (file,) = (tmp_path / "history").iterdir()
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted((event["event"], event.get("recipient", "")) for event in events) == [
        ("attempted", "w@c.example"),
        ("discarded", "u@a.example"),
        ("held", ""),
    ]
    world.close()


def test_what_is_refused_goes_back(tmp_path):
    world = routed(tmp_path, {"to": ["a.example"], "via": "error", "text": "5.1.6 It has moved"})
    world.put("u@a.example")
    world.start()
    assert [[fields["Status"] for fields in report] for report in world.reports()] == [["5.1.6"]]
    world.close()


def test_what_is_held_waits_for_its_release_and_is_not_held_again(tmp_path):
    world = routed(tmp_path, {"to": ["a.example"], "via": "hold"})
    id = world.put("u@a.example", "v@b.example")
    world.start()
    assert [recipients for _, _, recipients in world.relay.calls] == [("v@b.example",)]
    assert world.queue.show(id).state is State.HELD
    world.loop.advance(HOUR)
    assert len(world.relay.calls) == 1
    assert world.queue.administration.release(Filter(ids=(id,))) == 1
    world.loop.advance(2)
    assert world.relay.calls[-1][2] == ("u@a.example",)
    assert world.queue.list() == []
    world.close()


def test_what_was_released_and_failed_for_now_is_not_held_again(tmp_path):
    world = routed(tmp_path, {"to": ["a.example"], "via": "hold"})
    world.relay.answers["a.example"] = LATER
    id = world.put("u@a.example")
    world.start()
    world.queue.administration.release(Filter(ids=(id,)))
    world.loop.advance(2)
    del world.relay.answers["a.example"]
    world.loop.advance(301)
    assert world.queue.list() == []
    world.close()


def test_a_domain_may_be_tried_for_a_shorter_time(tmp_path, patient):
    world = routed(tmp_path, domain={"a.example": {"lifetime": "2 h", "retry_max": "10 min"}})
    world.relay.answers |= {"a.example": LATER, "b.example": LATER}
    world.put("u@a.example")
    world.put("v@b.example")
    world.start()
    world.loop.advance(3 * HOUR)
    assert [[fields["Final-Recipient"] for fields in report] for report in world.reports()] == [["rfc822; u@a.example"]]
    assert len(world.relay.attempts("a.example")) > len(world.relay.attempts("b.example"))
    world.close()


def test_a_rate_for_each_site(tmp_path):
    world = routed(tmp_path, domain={"a.example": {"rate": 30}})
    for n in range(10):
        world.put(f"u{n}@a.example")
    world.start()
    world.loop.advance(60)
    times = world.relay.attempts("a.example")
    assert len(times) == 10
    assert all(after - before >= 1.99 for before, after in pairwise(times))
    world.close()


# Reports that cannot be delivered


def test_a_report_that_cannot_be_delivered_is_told_to_the_address_for_such(tmp_path):
    world = routed(tmp_path, double_bounces_to="alice@example.org")
    world.relay.answers["a.example"] = NEVER
    world.put("gone@a.example", sender=None, body=b"Subject: Your message could not be delivered\r\n\r\nx\r\n")
    world.start()
    ((fields,),) = world.reports()
    assert (fields["Final-Recipient"], fields["Status"]) == ("rfc822; gone@a.example", "5.1.1")
    assert b"Subject: A report could not be delivered" in world.mailboxes[0][1]
    assert world.queue.list() == []
    world.close()


def test_the_address_for_such_reports_is_not_told_of_itself(tmp_path, caplog):
    world = routed(tmp_path, double_bounces_to="gone@a.example")
    world.relay.answers["a.example"] = NEVER
    world.put("gone@a.example", sender=None)
    with caplog.at_level(logging.WARNING):
        world.start()
    assert "nobody is told" in caplog.text
    assert (world.reports(), world.queue.list()) == ([], [])
    world.close()


# New mail


def accept(world, *to, body=b"Subject: x\r\n\r\nhello\r\n", **asked):
    """Through the manager, as the intake does it."""
    recipients = tuple(Recipient(parse_mailbox(text)) for text in to)
    entry = NewEntry(
        Envelope(ALICE, recipients, MailParameters(**asked)), Content(body), b"Received: x\r\n", world.loop.wall()
    )
    (id,) = world.loop.run(world.manager.enqueue([entry]))
    world.manager.queued()
    world.loop.settle()
    return id


def test_new_mail_is_tried_without_being_looked_for(world, monkeypatch):
    world.start()
    monkeypatch.setattr(world.queue, "due", None)
    monkeypatch.setattr(world.queue, "content", None)
    accept(world, "carol@example.net")
    assert world.relay.sent == [(ALICE, b"Received: x\r\nSubject: x\r\n\r\nhello\r\n")]
    assert world.queue.list() == []


def test_new_mail_with_a_large_body_is_read_when_it_is_its_turn(world):
    world.start()
    accept(world, "carol@example.net", "dave@example.com", body=b"0123456789abcde\r\n" * 10_000)
    assert [len(octets) for _, octets in world.relay.sent] == [170_000 + 13] * 2
    assert world.queue.list() == []


def test_new_mail_waits_in_the_queue_while_there_is_no_room(world, monkeypatch):
    monkeypatch.setattr(manager_module, "ACTIVE_LIMIT", 4)
    world.relay.pause = True
    world.start()
    ids = [accept(world, f"u{n}@example.net") for n in range(5)]
    assert [world.queue.show(id).active for id in ids].count(True) <= 4
    world.relay.pause = False
    world.relay.release()
    world.loop.advance(5)
    assert world.queue.list() == []
    assert len(world.relay.calls) == 5


def test_new_mail_that_fails_for_now_is_tried_again(world):
    world.relay.answers["example.net"] = LATER
    world.start()
    id = accept(world, "carol@example.net")
    assert not world.queue.show(id).active
    world.relay.answers.clear()
    world.loop.advance(301)
    assert world.queue.list() == []


def test_new_mail_before_its_release_waits(world):
    world.start()
    accept(world, "carol@example.net", release=world.loop.wall() + 100)
    assert world.relay.calls == []
    world.loop.advance(102)
    assert len(world.relay.calls) == 1


def test_new_mail_in_a_process_that_does_not_deliver_rings_for_the_one_that_does(world, tmp_path):
    rung = []
    world.start()
    other = World(tmp_path)
    other.manager._ring = lambda: rung.append(True)
    other.start()
    id = accept(other, "carol@example.net")
    assert not other.queue.show(id).active
    assert rung == [True]
    assert other.relay.calls == []
    world.manager.wake()
    world.loop.settle()
    assert len(world.relay.calls) == 1
    other.close()


def test_the_lease_is_renewed_while_there_is_no_room(world, monkeypatch):
    monkeypatch.setattr(manager_module, "ACTIVE_LIMIT", 2)
    led = []
    lead = world.queue.lead
    monkeypatch.setattr(world.queue, "lead", lambda: led.append(True) or lead())
    world.relay.pause = True
    for n in range(5):
        world.put(f"u{n}@d{n}.example")
    world.start()
    led.clear()
    world.loop.advance(30)
    assert len(world.relay.calls) == 2
    assert len(led) >= 29
    world.relay.pause = False
    world.relay.release()
    world.loop.advance(5)
    assert world.queue.list() == []
