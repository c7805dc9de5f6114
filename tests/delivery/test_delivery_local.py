"""Local delivery over the real store."""

import pytest

from mailserver.delivery.local import deliver_copies
from mailserver.delivery.router import Local
from mailserver.mail import Action, Address, Content, Quota
from mailserver.store import Store
from tests.support.fakes import FakeWorkers, run

SENDER = Address("sender", "example.com")
ALICE, BOB = Address("alice", "example.org"), Address("bob", "example.org")
BODY = b"Subject: hi\r\n\r\n.body\r\n"


@pytest.fixture
def deliver(tmp_path):
    store = Store(tmp_path, hostname="mail.example.org")
    return FakeWorkers().grouped(store.deliver)


def files(tmp_path, address):
    return [path.read_bytes() for path in (tmp_path / address.domain / address.local).glob("new/*")]


def test_each_mailbox_gets_its_own_copy(tmp_path, deliver):
    routes = [Local(ALICE, Address("info", "example.org")), Local(BOB, BOB), Local(ALICE, ALICE)]
    statuses = run(deliver_copies(deliver, routes, SENDER, b"Received: x\r\n", Content(BODY)))
    assert [(status.recipient, status.action) for status in statuses] == [
        (Address("info", "example.org"), Action.DELIVERED),
        (BOB, Action.DELIVERED),
        (ALICE, Action.DELIVERED),
    ]
    assert files(tmp_path, ALICE) == [
        b"Return-Path: <sender@example.com>\nDelivered-To: info@example.org\nReceived: x\nSubject: hi\n\n.body\n"
    ]
    assert files(tmp_path, BOB) == [
        b"Return-Path: <sender@example.com>\nDelivered-To: bob@example.org\nReceived: x\nSubject: hi\n\n.body\n"
    ]


def test_a_mailbox_over_its_quota_fails_for_good_and_leaves_no_trace(tmp_path, deliver):
    routes = [Local(ALICE, ALICE, Quota(10)), Local(BOB, BOB, Quota(10_000))]
    full, fine = run(deliver_copies(deliver, routes, None, b"", Content(BODY)))
    assert (full.action, str(full.reply.status), full.host) == (Action.FAILED, "5.2.2", None)
    assert fine.action is Action.DELIVERED
    assert files(tmp_path, ALICE) == []
    assert len(files(tmp_path, BOB)) == 1


def test_a_subaddress_cannot_become_a_path(tmp_path, deliver):
    evil = Local(ALICE, Address("alice+../../../../etc/passwd", "example.org"))
    (status,) = run(deliver_copies(deliver, [evil], SENDER, b"", Content(BODY)))
    assert status.action is Action.DELIVERED
    assert len(files(tmp_path, ALICE)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["example.org"]


def test_a_mailbox_that_cannot_be_written_is_tried_again(tmp_path, deliver):
    (tmp_path / "example.org").write_text("in the way")
    (status,) = run(deliver_copies(deliver, [Local(ALICE, ALICE)], SENDER, b"", Content(BODY)))
    assert status.action is Action.DELAYED
