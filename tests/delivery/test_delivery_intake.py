"""Taking responsibility: every order in which storing can fail, and what the client is told."""

import email

import pytest

from mailserver.accounts import NotLocal, Unknown
from mailserver.delivery.intake import Intake
from mailserver.delivery.local import DELIVERED
from mailserver.delivery.router import Expanded, Leaf, Local, Refused, Remote, Router
from mailserver.mail import UNLIMITED, Address, Body, Content, Envelope, MailParameters, Notify, Quota, Recipient, Reply
from mailserver.mail.srs import SRS
from mailserver.mail.trace import Arrival
from mailserver.queue import Destination, NoHistory, QueueError
from mailserver.store import DeliveryError
from tests.support.fakes import FakeClock, FakeWorkers, run

HOST = "mail.example.org"
SENDER = Address("sender", "example.com")
ALICE, BOB = Address("alice", "example.org"), Address("bob", "example.org")
ERIN = Address("erin", "example.org")
CAROL, DAVE = Address("carol", "example.net"), Address("dave", "example.com")
ARRIVAL = Arrival("client.example.com", "192.0.2.1", "ESMTPS", "abc123", "TLSv1.3 X")
BODY = b"Subject: hi\r\n\r\nbody\r\n"
LATER = Reply.of(451, "4.3.0", "Disk trouble")
FULL = Reply.of(552, "5.2.2", "The mailbox is full")


class Told(NoHistory):
    """Keeps what it is told: the routes of recipients, and reports."""

    def __init__(self):
        super().__init__()
        self.accepted_as = []
        self.reports = []

    def accepted(self, arrival, sender, size, recipients, reply):
        assert size == len(BODY)
        self.accepted_as.append((str(reply.status), sender, recipients))

    def reported(self, queue_id, report_id, to=None, kind=""):
        self.reports.append((queue_id, report_id, to, kind))


class Abroad:
    """Only example.org is here."""

    blocking = False

    def resolve(self, address):
        return Unknown() if address.domain == "example.org" else NotLocal()


class World:
    """A store and a queue that fail as told; `log` keeps the order of what happened."""

    def __init__(self, failures=None, queue_fails=()):
        self.failures = failures or {}  # account -> exception
        self.queue_fails = set(queue_fails)  # numbers of the add that fails
        self.log = []
        self.delivered = []
        self.queued = []
        self.woken = 0
        self.history = Told()
        workers = FakeWorkers()
        clock = FakeClock()
        self.intake = Intake(
            hostname=HOST,
            router=Router(Abroad(), HOST, srs=SRS(b"secret"), workers=workers, clock=clock),
            clock=clock,
            deliver=workers.grouped(self._deliver),
            enqueue=workers.grouped(self._add),
            queued=self._wake,
            history=self.history,
        )

    def _deliver(self, batch):
        return [self._deliver_one(delivery) for delivery in batch]

    def _deliver_one(self, delivery):
        self.log.append(f"deliver {delivery.account}")
        failure = self.failures.get(delivery.account)
        if failure is None:
            self.delivered.append(delivery)
        return failure or "a path"

    def _add(self, batch):
        return [self._add_together(entries) for entries in batch]

    def _add_together(self, entries):
        for entry in entries:
            self.log.append("queue " + " ".join(str(r.address) for r in entry.envelope.recipients))
            if sum(line.startswith("queue") for line in self.log) in self.queue_fails:
                return QueueError("disk full")
        self.queued += entries
        return [f"id{len(self.queued) - len(entries) + number}" for number in range(1, len(entries) + 1)]

    def _wake(self):
        self.woken += 1

    def accept(self, *routes, sender=SENDER, prepend=b"", body=Body.SEVEN_BIT, each=False):
        recipients = tuple(
            Recipient(route.recipient if isinstance(route, Local) else address) for route, address in routes
        )
        envelope = Envelope(sender, recipients, MailParameters(body=body))
        self.outcome = run(
            self.intake.accept(
                envelope, Content(BODY), ARRIVAL, [route for route, _ in routes], prepend=prepend, each=each
            )
        )
        return self.outcome.reply


def local(account, recipient=None, quota=UNLIMITED):
    return Local(account, recipient or account, quota), recipient or account


def remote(address):
    return Remote(address.domain), address


TEAM = Address("team", "example.org")


def team(*leaves):
    """A group of ours that leads to these mailboxes and addresses elsewhere."""
    ends = [
        Leaf(each, Local(each, each) if each.domain == "example.org" else Remote(each.domain), TEAM) for each in leaves
    ]
    return Expanded(tuple(ends)), TEAM


# When all goes well


def test_a_group_gets_its_copies_here_and_elsewhere():
    world = World()
    assert world.accept(team(ALICE, CAROL), remote(DAVE)).code == 250
    assert [copy.account for copy in world.delivered] == [ALICE]
    assert b"Delivered-To: alice@example.org" in world.delivered[0].header
    forwarded, plain = world.queued
    assert [str(r.address) for r in forwarded.envelope.recipients] == [str(CAROL)]
    assert forwarded.header.startswith(b"Delivered-To: team@example.org\r\nReceived:")
    assert forwarded.envelope.sender.domain == "example.org"
    assert (plain.envelope.sender, [r.address for r in plain.envelope.recipients]) == (SENDER, [DAVE])
    ((_, _, recipients),) = world.history.accepted_as
    assert recipients == [
        Destination(ALICE, mailbox=ALICE, reply=DELIVERED, original=TEAM),
        Destination(CAROL, queue="id1", original=TEAM),
        Destination(DAVE, queue="id2"),
    ]


@pytest.mark.parametrize("each", [False, True])
def test_a_group_is_taken_when_one_of_its_copies_is_and_the_others_are_followed_up(each):
    world = World({BOB: DeliveryError(LATER), ERIN: DeliveryError(FULL)})
    world.accept(team(ALICE, BOB), local(ERIN), each=each)
    assert world.outcome.each[0].code == 250
    assert world.outcome.each[1] == FULL
    again = [[r.address for r in entry.envelope.recipients] for entry in world.queued]
    assert again[0] == [BOB], "the client will not send it again for one member"
    assert world.queued[0].envelope.recipients[0].final
    assert again[1:] == ([] if each else [[SENDER]]), "what the client is told is not reported"


@pytest.mark.parametrize("each", [False, True])
def test_a_group_none_of_whose_copies_is_taken_stays_with_the_client(each):
    world = World({ALICE: DeliveryError(FULL), BOB: DeliveryError(LATER)})
    assert world.accept(team(ALICE, BOB), each=each) == LATER
    assert world.outcome.each == (LATER,)
    assert world.queued == []


def test_who_asked_hears_that_a_group_was_expanded():
    world = World()
    route, _ = team(ALICE, BOB)
    recipient = Recipient(TEAM, None, frozenset({Notify.SUCCESS}))
    run(world.intake.accept(Envelope(SENDER, (recipient,)), Content(BODY), ARRIVAL, [route]))
    (report,) = world.queued
    text = report.header + b"".join(report.content.chunks())
    assert b"Action: expanded" in text and b"team@example.org" in text
    assert b"alice@example.org" not in text, "who is behind it is not told"


def test_a_local_copy_has_its_own_trace_fields_on_top():
    world = World()
    reply = world.accept(local(ALICE, Address("Info", "example.org"), Quota(1000)), prepend=b"Date: now\r\n")
    assert (reply.code, str(reply.status)) == (250, "2.0.0")
    (copy,) = world.delivered
    assert (copy.account, copy.quota, copy.folder) == (ALICE, Quota(1000), "INBOX")
    lines = copy.header.decode().replace("\r\n\t", " ").split("\r\n")
    assert lines[0] == "Return-Path: <sender@example.com>"
    assert lines[1] == "Delivered-To: Info@example.org"
    assert lines[2].startswith("Received: from client.example.com ([192.0.2.1])")
    assert "by mail.example.org with ESMTPS id abc123 for <Info@example.org>;" in lines[2]
    assert lines[3:] == ["Date: now", ""]
    assert b"".join(copy.content.chunks()) == BODY
    assert world.queued == []
    assert world.woken == 0


def test_a_queued_message_has_received_and_nothing_of_final_delivery():
    world = World()
    reply = world.accept(remote(CAROL), prepend=b"Message-ID: <1@x>\r\n", body=Body.EIGHT_BIT)
    assert reply.code == 250
    assert "id1" in reply.text
    (entry,) = world.queued
    assert entry.envelope == Envelope(SENDER, (Recipient(CAROL),), MailParameters(body=Body.EIGHT_BIT))
    assert entry.header.startswith(b"Received: ")
    assert entry.header.endswith(b"\r\nMessage-ID: <1@x>\r\n")
    assert b"Return-Path" not in entry.header
    assert b"Delivered-To" not in entry.header
    assert entry.created == FakeClock().wall()
    assert world.woken == 1


def test_remote_recipients_make_one_entry_which_is_queued_before_the_mailboxes_are_written():
    world = World()
    assert world.accept(local(ALICE), remote(CAROL), local(BOB), remote(DAVE)).code == 250
    assert world.log == [f"queue {CAROL} {DAVE}", f"deliver {ALICE}", f"deliver {BOB}"]


def test_several_recipients_are_not_told_of_each_other_in_the_trace():
    world = World()
    world.accept(local(ALICE), local(BOB))
    for copy, other in zip(world.delivered, (b"bob", b"alice"), strict=True):
        assert other not in copy.header


def test_an_account_that_two_recipients_lead_to_gets_one_copy():
    world = World()
    assert world.accept(local(ALICE), local(ALICE, Address("info", "example.org")), local(BOB)).code == 250
    assert [copy.account for copy in world.delivered] == [ALICE, BOB]


def test_the_null_reverse_path_is_kept():
    world = World()
    world.accept(local(ALICE), remote(CAROL), sender=None)
    assert world.delivered[0].header.startswith(b"Return-Path: <>\r\n")
    assert world.queued[0].envelope.sender is None


# When storing fails


def test_when_the_queue_fails_nothing_has_happened():
    world = World(queue_fails={1})
    reply = world.accept(local(ALICE), remote(CAROL))
    assert (reply.code, str(reply.status)) == (451, "4.3.0")
    assert world.delivered == world.queued == []
    assert world.log == [f"queue {CAROL}"]


def test_when_the_only_mailbox_fails_for_now_the_client_keeps_the_message():
    world = World({ALICE: DeliveryError(LATER)})
    assert world.accept(local(ALICE)) == LATER
    assert world.queued == []


def test_when_the_only_mailbox_is_full_the_client_is_told():
    world = World({ALICE: DeliveryError(FULL)})
    assert world.accept(local(ALICE)) == FULL
    assert world.queued == []


@pytest.mark.parametrize(("first", "second", "reply"), [(FULL, FULL, FULL), (FULL, LATER, LATER), (LATER, FULL, LATER)])
def test_when_no_mailbox_took_it_the_client_keeps_the_message_if_any_may_take_it_later(first, second, reply):
    world = World({ALICE: DeliveryError(first), BOB: DeliveryError(second)})
    assert world.accept(local(ALICE), local(BOB)) == reply
    assert world.queued == []


def test_a_mailbox_that_fails_for_now_beside_others_is_tried_again_from_the_queue():
    world = World({BOB: DeliveryError(LATER)})
    assert world.accept(local(ALICE), local(BOB, Address("robert", "example.org"))).code == 250
    (entry,) = world.queued
    assert entry.envelope.sender == SENDER
    assert [recipient.address for recipient in entry.envelope.recipients] == [Address("robert", "example.org")]
    assert b"Return-Path" not in entry.header
    assert world.woken == 1


def test_a_full_mailbox_beside_others_is_reported_to_the_sender():
    world = World({BOB: DeliveryError(FULL)})
    assert world.accept(local(ALICE), local(BOB)).code == 250
    (entry,) = world.queued
    assert entry.envelope.sender is None
    assert [recipient.address for recipient in entry.envelope.recipients] == [SENDER]
    report = email.message_from_bytes(b"".join(entry.content.chunks()))
    (_, status) = report.get_payload()[1].get_payload()
    assert (status["Final-Recipient"], status["Action"], status["Status"]) == (
        "rfc822; bob@example.org",
        "failed",
        "5.2.2",
    )
    assert "alice" not in str(report.get_payload()[1])


def test_a_full_mailbox_is_not_reported_to_the_null_reverse_path():
    world = World({BOB: DeliveryError(FULL)})
    assert world.accept(local(ALICE), local(BOB), sender=None).code == 250
    assert world.queued == []


def test_a_full_mailbox_beside_a_queued_recipient_is_reported():
    world = World({ALICE: DeliveryError(FULL)})
    assert world.accept(local(ALICE), remote(CAROL)).code == 250
    assert [entry.envelope.sender for entry in world.queued] == [SENDER, None]


@pytest.mark.parametrize("failure", [LATER, FULL])
def test_when_the_follow_up_cannot_be_queued_the_client_keeps_the_message(failure):
    world = World({BOB: DeliveryError(failure)}, queue_fails={1})
    assert world.accept(local(ALICE), local(BOB)).code == 451
    assert len(world.delivered) == 1  # a duplicate is allowed, loss is not


@pytest.mark.parametrize("number", [1, 2])
def test_follow_ups_are_queued_together_or_not_at_all(number):
    carl = Address("carl", "example.org")
    world = World({BOB: DeliveryError(LATER), carl: DeliveryError(FULL)}, queue_fails={number})
    assert world.accept(local(ALICE), local(BOB), local(carl)).code == 451
    assert (world.queued, world.woken) == ([], 0)
    world.queue_fails.clear()
    assert world.accept(local(ALICE), local(BOB), local(carl)).code == 250
    assert [str(r.address) for entry in world.queued for r in entry.envelope.recipients] == [str(BOB), str(SENDER)]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_several_forwarders_pass_on_is_queued_together_or_not_at_all(number):
    lists = Address("lists", "example.org")
    to_lists = Expanded((Leaf(DAVE, Remote("example.net"), lists), Leaf(ALICE, Local(ALICE, ALICE), lists))), lists
    world = World(queue_fails={number})
    assert world.accept(remote(CAROL), team(BOB, DAVE), to_lists).code == 451
    assert (world.queued, world.delivered, world.woken) == ([], [], 0)
    world.queue_fails.clear()
    assert world.accept(remote(CAROL), team(BOB, DAVE), to_lists).code == 250
    assert [[r.address for r in entry.envelope.recipients] for entry in world.queued] == [[CAROL], [DAVE], [DAVE]]
    assert world.woken == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug")])
def test_an_unexpected_failure_of_the_store_is_temporary(error):
    assert World({ALICE: error}).accept(local(ALICE)).code == 451
    world = World({BOB: error})
    assert world.accept(local(ALICE), local(BOB)).code == 250
    assert [str(r.address) for entry in world.queued for r in entry.envelope.recipients] == ["bob@example.org"]


def test_a_hostile_hello_cannot_inject_into_the_trace():
    world = World()
    arrival = Arrival("x\r\nBcc: v@example.com", "192.0.2.1", "SMTP", "abc")
    envelope = Envelope(SENDER, (Recipient(ALICE),))
    run(world.intake.accept(envelope, Content(BODY), arrival, [local(ALICE)[0]]))
    assert b"\nBcc" not in world.delivered[0].header


def test_an_unforeseen_error_of_the_queue_is_temporary_for_all(monkeypatch):
    world = World()

    async def enqueue(entries):
        raise RuntimeError("a fault")

    monkeypatch.setattr(world.intake, "_enqueue", enqueue)
    outcome = world.accept(remote(CAROL), local(ALICE)), *world.outcome.each
    assert [reply.code for reply in outcome] == [451] * 3
    assert world.delivered == []


def test_each_recipient_has_its_answer_and_nothing_follows():
    carol = Address("carol", "example.org")
    world = World({BOB: DeliveryError(LATER), carol: DeliveryError(FULL)})
    assert world.accept(local(ALICE), local(BOB), remote(DAVE), local(carol), each=True).code == 250
    assert [reply.code for reply in world.outcome.each] == [250, 451, 250, 552]
    assert [line for line in world.log if line.startswith("queue")] == [f"queue {DAVE}"]
    assert world.accept(local(BOB), local(carol), each=True).code == 451
    assert [reply.code for reply in world.outcome.each] == [451, 552]


def test_a_sender_who_asks_is_told_of_delivery_and_one_who_does_not_want_is_told_nothing():
    carol = Address("carol", "example.org")
    world = World({carol: DeliveryError(FULL)})
    envelope = Envelope(
        SENDER,
        (
            Recipient(ALICE, None, frozenset({Notify.SUCCESS}), "rfc822;old@example.org"),
            Recipient(BOB, None, frozenset({Notify.DELAY})),
            Recipient(carol, None, frozenset({Notify.NEVER})),
        ),
        MailParameters(envid="E1"),
    )
    routes = [local(address)[0] for address in (ALICE, BOB, carol)]
    outcome = run(world.intake.accept(envelope, Content(BODY), ARRIVAL, routes))
    assert outcome.reply.code == 250
    (report,) = world.queued
    text = b"".join(report.content.chunks()).decode()
    assert str(report.envelope.recipients[0].address) == str(SENDER)
    assert "Original-Envelope-Id: E1" in text and "Original-Recipient: rfc822;old@example.org" in text
    assert "Action: delivered" in text and str(BOB) not in text and str(carol) not in text


def test_nobody_is_told_when_the_sender_is_null():
    world = World()
    envelope = Envelope(None, (Recipient(ALICE, None, frozenset({Notify.SUCCESS})),))
    run(world.intake.accept(envelope, Content(BODY), ARRIVAL, [local(ALICE)[0]]))
    assert world.queued == []


def test_a_report_of_success_that_cannot_be_queued_sends_no_message_twice():
    world = World(queue_fails={1})
    envelope = Envelope(SENDER, (Recipient(ALICE, None, frozenset({Notify.SUCCESS})),))
    outcome = run(world.intake.accept(envelope, Content(BODY), ARRIVAL, [local(ALICE)[0]]))
    assert outcome.reply.code == 250 and len(world.delivered) == 1


def test_what_is_held_waits_in_the_queue_and_what_is_refused_stays_refused():
    world = World()
    bob, carol = local(BOB)[0], Address("carol", "far.example")
    envelope = Envelope(SENDER, (Recipient(ALICE), Recipient(BOB), Recipient(carol)), MailParameters(release=4e9))
    routes = [Refused(FULL), bob, remote(carol)[0]]
    outcome = run(world.intake.accept(envelope, Content(BODY), ARRIVAL, routes))
    assert [reply.code for reply in outcome.each] == [552, 250, 250]
    assert world.delivered == []
    held, report = world.queued
    assert [each.address for each in held.envelope.recipients] == [
        BOB,
        carol,
    ] and held.envelope.parameters.release == 4e9
    assert report.envelope.parameters.release is None and report.envelope.sender is None


# What the history is told


def test_the_history_hears_where_each_recipient_went():
    account = Address("alice", "example.org")
    world = World(failures={BOB: DeliveryError(LATER), DAVE: DeliveryError(FULL)})
    reply = world.accept(local(account, Address("info", "example.org")), remote(CAROL), local(BOB), local(DAVE))
    assert reply.code == 250
    assert world.history.accepted_as == [
        (
            "2.0.0",
            SENDER,
            [
                Destination(Address("info", "example.org"), mailbox=ALICE, reply=DELIVERED),
                Destination(CAROL, queue="id1"),
                Destination(BOB, queue="id2", mailbox=BOB, reply=LATER),
                Destination(DAVE, mailbox=DAVE, reply=FULL),
            ],
        )
    ]
    assert world.history.reports == [("abc123", "id3", SENDER, "failure")]


def test_the_history_hears_of_reports_of_success():
    world = World()
    envelope = Envelope(SENDER, (Recipient(ALICE, None, frozenset({Notify.SUCCESS})),))
    run(world.intake.accept(envelope, Content(BODY), ARRIVAL, [Local(ALICE, ALICE)]))
    assert world.history.reports == [("abc123", "id1", SENDER, "success")]


def test_the_history_hears_of_what_nobody_got():
    world = World(failures={ALICE: DeliveryError(FULL)})
    world.accept(local(ALICE), sender=None)
    assert world.history.accepted_as == [("5.2.2", None, [Destination(ALICE, mailbox=ALICE, reply=FULL)])]
    world = World(queue_fails={1})
    world.accept(remote(CAROL), local(ALICE))
    ((status, _, to),) = world.history.accepted_as
    assert status == "4.3.0" and [each.reply.code for each in to] == [451, 451]
    assert world.history.reports == []
