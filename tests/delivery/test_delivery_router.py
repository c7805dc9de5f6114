"""Where addresses lead, and the tricks by which strangers have made servers relay."""

import pytest

from mailserver.accounts import Mailbox, NotLocal, Unknown
from mailserver.delivery.router import NO_SUCH_MAILBOX, RELAYING_DENIED, Local, Refused, Remote, Router
from mailserver.delivery.routes import DISCARD, Refusal, Routes, Rule
from mailserver.mail import UNLIMITED, Address, AddressError, Quota, Reply, parse_forward_path
from tests.support.fakes import FakeClock, FakeWorkers, run

ALICE = Address("alice", "example.org")
BOB = Address("bob", "example.org")
OUTBOX = Address("outbox", "example.org")


class Directory:
    """example.org with alice (who is postmaster) and bob."""

    blocking = False

    def resolve(self, address):
        if not address.domain:
            return Mailbox(ALICE, UNLIMITED) if address.local.lower() == "postmaster" else NotLocal()
        if address.domain != "example.org":
            return NotLocal()
        users = {
            "alice": Mailbox(ALICE, UNLIMITED),
            "postmaster": Mailbox(ALICE, UNLIMITED),
            "bob": Mailbox(BOB, Quota(1000)),
        }
        return users.get(address.local.lower(), Unknown())


WORLD = {"workers": FakeWorkers(), "clock": FakeClock()}
ROUTER = Router(Directory(), "mx.example.org", **WORLD)
DEMO = Router(Directory(), "mx.example.org", outbox=OUTBOX, **WORLD)


def test_a_mailbox_is_local_with_its_quota_and_the_address_it_was_sent_to():
    to = Address("BOB", "example.org")
    assert ROUTER.route(to, may_relay=False) == Local(BOB, to, Quota(1000))


def test_an_unknown_user_is_refused_whoever_asks():
    for may_relay in (False, True):
        assert ROUTER.route(Address("nobody", "example.org"), may_relay=may_relay) == Refused(NO_SUCH_MAILBOX)
    assert (NO_SUCH_MAILBOX.code, str(NO_SUCH_MAILBOX.status)) == (550, "5.1.1")


def test_another_domain_is_remote_for_those_who_may_relay_only():
    carol = Address("carol", "example.net")
    assert ROUTER.route(carol, may_relay=True) == Remote("example.net")
    assert ROUTER.route(carol, may_relay=False) == Refused(RELAYING_DENIED)
    assert (RELAYING_DENIED.code, str(RELAYING_DENIED.status)) == (550, "5.7.1")


def test_bare_postmaster_and_the_postmaster_of_the_host_name_are_local():
    for address in (Address("Postmaster", ""), Address("PostMaster", "mx.example.org")):
        assert ROUTER.route(address, may_relay=False) == Local(ALICE, address)


def test_nobody_else_has_mail_at_the_host_name_and_it_is_never_relayed_to():
    for may_relay in (False, True):
        assert ROUTER.route(Address("alice", "mx.example.org"), may_relay=may_relay) == Refused(NO_SUCH_MAILBOX)


def test_demo_mode_sends_nothing_outside():
    carol = Address("carol", "example.net")
    assert DEMO.route(carol, may_relay=True) == Local(OUTBOX, carol)
    assert DEMO.route(Address("x", "[192.0.2.1]"), may_relay=True) == Local(OUTBOX, Address("x", "[192.0.2.1]"))
    assert DEMO.route(carol, may_relay=False) == Refused(RELAYING_DENIED)


RELAY_ATTEMPTS = [
    "<carol%example.net@example.org>",
    "<carol%example.net@mx.example.org>",
    "<example.net!carol@example.org>",
    "<example.net!carol@mx.example.org>",
    '<"carol@example.net"@example.org>',
    '<"carol%example.net"@example.org>',
    "<@example.org:carol@example.net>",
    "<@example.org,@example.com:carol@example.net>",
    "<carol@example.net>",
    "<carol@[192.0.2.1]>",
    "<carol@[127.0.0.1]>",
    "<carol@[IPv6:::1]>",
    "<alice@[127.0.0.1]>",
    "<carol@localhost>",
    '<"|/bin/sh"@example.org>',
    "</etc/passwd@example.org>",
    '<":include:/etc/passwd"@example.org>',
    "<alice\uff20example.org@example.net>",
]


@pytest.mark.parametrize("path", RELAY_ATTEMPTS)
def test_a_stranger_cannot_relay_by(path):
    route = ROUTER.route(parse_forward_path(path), may_relay=False)
    assert isinstance(route, Refused)
    assert route.reply.permanent


@pytest.mark.parametrize(
    "path",
    [
        "<carol@example.net@example.org>",
        "<carol@example.org@example.net>",
        "<carol@example.net\0@example.org>",
        "<carol@example.net\n@example.org>",
        "<carol@example.net\r\nRCPT TO:<x@y.example>@example.org>",
        "<carol@example.net>@example.org",
        "carol@example.net",
        "<@example.org:@example.net:carol@example.com>",
    ],
)
def test_an_address_that_two_servers_could_read_differently_is_malformed(path):
    with pytest.raises(AddressError):
        parse_forward_path(path)


@pytest.mark.parametrize("local", ["carol%example.net", "example.net!carol", "carol@example.net", "|/bin/sh", "../bob"])
def test_a_catch_all_takes_odd_local_parts_as_mail_and_never_as_an_order(local):
    class CatchAll(Directory):
        def resolve(self, address):
            found = super().resolve(address)
            return Mailbox(ALICE, UNLIMITED) if isinstance(found, Unknown) else found

    address = Address(local, "example.org")
    for may_relay in (False, True):
        assert Router(CatchAll(), "mx.example.org", **WORLD).route(address, may_relay=may_relay) == Local(
            ALICE, address
        )


def test_what_the_routing_table_sends_back_is_refused_before_it_is_taken():
    moved = Reply.of(550, "5.1.6", "It has moved")
    rules = [Rule(["a.example"], ["bob@example.org"], Refusal(moved)), Rule(["b.example"], None, DISCARD)]
    router = Router(Directory(), "mx.example.org", routes=Routes(rules), **WORLD)
    to = Address("x", "a.example")
    assert run(router.admit(to, may_relay=True, sender=BOB)) == Refused(moved)
    assert run(router.admit(to, may_relay=True, sender=ALICE)) == Remote("a.example")
    assert run(router.admit(to, may_relay=False, sender=BOB)) == Refused(RELAYING_DENIED)
    assert run(router.admit(Address("x", "b.example"), may_relay=True, sender=BOB)) == Remote("b.example")
    assert router.route(to, may_relay=True) == Remote("a.example"), "what was taken is the queue manager's to judge"
