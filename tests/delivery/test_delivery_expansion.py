"""Aliases, groups and forwarding: where they end, what is queued for them, and what their senders hear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.accounts import Disabled, Mailbox, Members, NotLocal, SourceDown, Unknown
from mailserver.delivery.expansion import copies, entries, is_told
from mailserver.delivery.router import (
    EXPANSION_LIMIT,
    MAILBOX_DISABLED,
    NO_REPORT,
    NO_SUCH_MAILBOX,
    NOT_KNOWN_NOW,
    TOO_MANY,
    Expanded,
    Leaf,
    Local,
    Refused,
    Remote,
    Router,
)
from mailserver.mail import UNLIMITED, Address, Content, Envelope, Notify, Recipient, parse_mailbox
from mailserver.mail.srs import SRS
from mailserver.sessions.smtp.head import DELIVERED_BEFORE, Head
from tests.support.fakes import FakeClock, FakeWorkers, run

HERE = "example.org"
SENDER = Address("sender", "example.com")
A = parse_mailbox


def at(local):
    return Address(local, HERE)


class Directory:
    """`known`: by local part at example.org, what it leads to."""

    blocking = False

    def __init__(self, **known):
        self.known = known

    def resolve(self, address):
        if address.domain == "down.example":
            raise SourceDown("the database does not answer")
        if address.domain != HERE:
            return NotLocal()
        return self.known.get(address.local.lower(), Unknown())


def box(local, *forward, keep_copy=True):
    return Mailbox(at(local), UNLIMITED, tuple(map(A, forward)), keep_copy)


def members(*addresses):
    return Members(tuple(map(A, addresses)))


def router(directory, *, outbox=None):
    return Router(directory, "mail.example.org", outbox, srs=SRS(b"s"), workers=FakeWorkers(), clock=FakeClock())


def ends(route):
    """Mailboxes and addresses elsewhere, with the addresses here that led there."""
    assert isinstance(route, Expanded)
    return [
        (str(leaf.route.account) if isinstance(leaf.route, Local) else str(leaf.address), leaf.forwarder.local)
        for leaf in route.leaves
    ]


def test_a_group_has_members_here_and_elsewhere():
    known = Directory(
        team=members("alice@example.org", "carol@elsewhere.example", "board@example.org"),
        board=members("bob@example.org", "dave@elsewhere.example", "alice@example.org"),
        alice=box("alice"),
        bob=box("bob"),
    )
    assert ends(router(known).route(at("team"), may_relay=False)) == [
        ("alice@example.org", "team"),
        ("carol@elsewhere.example", "team"),
        ("bob@example.org", "board"),
        ("dave@elsewhere.example", "board"),
    ]


def test_what_leads_to_one_mailbox_is_that_mailbox():
    known = Directory(info=members("sales@example.org"), sales=members("alice@example.org"), alice=box("alice"))
    assert router(known).route(at("info"), may_relay=False) == Local(at("alice"), at("info"))


def test_forwarding_with_and_without_a_copy():
    known = Directory(
        alice=box("alice", "alice@elsewhere.example"),
        bob=box("bob", "bob@elsewhere.example", keep_copy=False),
    )
    assert ends(router(known).route(at("alice"), may_relay=False)) == [
        ("alice@example.org", "alice"),
        ("alice@elsewhere.example", "alice"),
    ]
    assert router(known).route(at("bob"), may_relay=False) == Expanded(
        (Leaf(A("bob@elsewhere.example"), Remote("elsewhere.example"), at("bob")),)
    )


def test_a_circle_ends_in_a_mailbox():
    known = Directory(
        alice=box("alice", "bob@example.org", keep_copy=False),
        bob=box("bob", "alice@example.org", keep_copy=False),
        loop=members("pool@example.org"),
        pool=members("loop@example.org", "bob@example.org"),
    )
    assert router(known).route(at("alice"), may_relay=False) == Local(at("alice"), at("alice"))
    assert router(known).route(at("loop"), may_relay=False) == Local(at("bob"), at("loop"))


def test_an_alias_that_leads_nowhere_is_refused():
    known = Directory(team=members("gone@example.org"), away=members("off@example.org"), off=Disabled())
    assert router(known).route(at("team"), may_relay=True) == Refused(NO_SUCH_MAILBOX)
    assert router(known).route(at("away"), may_relay=True) == Refused(MAILBOX_DISABLED)
    assert router(known).route(at("off"), may_relay=True) == Refused(MAILBOX_DISABLED)


def test_aliases_that_lead_in_a_circle_are_refused_and_told(caplog):
    known = Directory(one=members("two@example.org"), two=members("one@example.org"))
    assert router(known).route(at("one"), may_relay=True) == Refused(NO_SUCH_MAILBOX)
    assert "<one@example.org> leads to nobody who takes mail" in caplog.text


def test_members_that_are_gone_do_not_hinder_the_others():
    known = Directory(team=members("gone@example.org", "off@example.org", "alice@example.org"), alice=box("alice"))
    assert router(known).route(at("team"), may_relay=False) == Local(at("alice"), at("team"))


def test_an_address_leads_to_a_bounded_number_of_others():
    many = [f"u{n}@elsewhere.example" for n in range(EXPANSION_LIMIT)]
    assert router(Directory(all=members(*many))).route(at("all"), may_relay=False) == Refused(TOO_MANY)
    assert len(router(Directory(all=members(*many[:-1]))).route(at("all"), may_relay=False).leaves) == len(many) - 1


def test_what_cannot_be_looked_up_now_is_no_unknown_user():
    known = Directory(team=members("x@down.example"))
    for address in (Address("x", "down.example"), at("team")):
        assert router(known).route(address, may_relay=True) == Refused(NOT_KNOWN_NOW)
    assert NOT_KNOWN_NOW.temporary


def test_a_directory_that_may_block_is_asked_in_a_thread():
    known = Directory(alice=box("alice"))
    known.blocking = True
    asked = []

    class Workers(FakeWorkers):
        def run(self, work, *args, **kwargs):
            asked.append(work)
            return super().run(work, *args, **kwargs)

    blocking = Router(known, "mail.example.org", workers=Workers(), clock=FakeClock())
    assert run(blocking.find(at("alice"), may_relay=False)) == Local(at("alice"), at("alice"))
    assert len(asked) == 1


def test_in_demo_mode_nothing_is_forwarded_outside():
    known = Directory(alice=box("alice", "x@elsewhere.example", keep_copy=False), outbox=box("outbox"))
    found = router(known, outbox=at("outbox")).route(at("alice"), may_relay=False)
    assert found == Local(at("outbox"), at("alice"))


def test_what_was_expanded_once_is_not_again():
    known = Directory(alice=box("alice", "x@elsewhere.example"))
    assert router(known).route(at("alice"), may_relay=True, final=True) == Local(at("alice"), at("alice"))


# what chance may configure


@st.composite
def worlds(draw):
    names = ["a", "b", "c", "d", "e"]
    known = {}
    for name in names:
        to = draw(st.lists(st.sampled_from([*names, "gone", "out"]), max_size=3))
        targets = tuple(Address("x", "elsewhere.example") if each == "out" else at(each) for each in to)
        kind = draw(st.sampled_from(["alias", "account", "off"]))
        if kind == "alias" and targets:
            known[name] = Members(targets)
        elif kind == "off":
            known[name] = Disabled()
        else:
            known[name] = Mailbox(at(name), UNLIMITED, targets, draw(st.booleans()) or not targets)
    return Directory(**known)


@given(worlds(), st.sampled_from("abcde"))
def test_mail_that_an_account_is_sent_never_vanishes(known, start):
    """Every walk ends, no copy comes twice, and the mail of an account in use is somewhere."""
    route = router(known).route(at(start), may_relay=False)
    match known.known[start]:
        case Mailbox(keep_copy=True, forward=forward):
            kept = Local(at(start), at(start))
            assert route == kept or (forward and kept in [leaf.route for leaf in route.leaves])
        case Mailbox():
            assert isinstance(route, Local | Expanded)
        case Disabled():
            assert route == Refused(MAILBOX_DISABLED)
    if isinstance(route, Expanded):
        found = [leaf.route.account if isinstance(leaf.route, Local) else leaf.address for leaf in route.leaves]
        assert len(found) == len(set(found))


# the way back of reports


def test_a_report_on_forwarded_mail_finds_the_first_sender_and_only_a_report_does():
    known = router(Directory(alice=box("alice")))
    back = SRS(b"s").rewritten(SENDER, HERE, FakeClock().wall())
    leads = Expanded((Leaf(SENDER, Remote("example.com"), None),))
    assert known.route(back, may_relay=False) == leads
    assert run(known.admit(back, may_relay=False, sender=None)) == leads
    assert run(known.admit(back, may_relay=False, sender=SENDER)) == Refused(NO_REPORT)
    forged = Address(back.local.replace("sender", "victim"), HERE)
    assert known.route(forged, may_relay=True) == Refused(NO_SUCH_MAILBOX)


def test_a_catch_all_does_not_swallow_reports():
    class CatchAll(Directory):
        def resolve(self, address):
            found = super().resolve(address)
            return box("alice") if isinstance(found, Unknown) else found

    back = SRS(b"s").rewritten(SENDER, HERE, FakeClock().wall())
    assert isinstance(router(CatchAll()).route(back, may_relay=False), Expanded)
    forged = Address(back.local.replace("sender", "victim"), HERE)
    assert router(CatchAll()).route(forged, may_relay=False) == Local(at("alice"), forged)


# copies and entries

TWO = Expanded(
    (
        Leaf(at("alice"), Local(at("alice"), at("alice")), at("team")),
        Leaf(A("x@elsewhere.example"), Remote("elsewhere.example"), at("team")),
    )
)
ONE = Expanded((Leaf(A("x@elsewhere.example"), Remote("elsewhere.example"), at("bob")),))


@pytest.mark.parametrize(
    ("asked", "passed_on", "told"),
    [
        (None, None, False),
        ({Notify.SUCCESS}, {Notify.NEVER}, True),
        ({Notify.SUCCESS, Notify.FAILURE}, {Notify.FAILURE}, True),
        ({Notify.DELAY}, {Notify.DELAY}, False),
        ({Notify.NEVER}, {Notify.NEVER}, False),
    ],
)
def test_the_sender_hears_of_a_group_that_it_was_expanded_and_of_no_success_of_its_members(asked, passed_on, told):
    """RFC 3461 §5.2.7.2."""
    notify = None if asked is None else frozenset(asked)
    recipient = Recipient(at("team"), None, notify, "rfc822;team@example.org")
    made = copies([recipient], [TWO])
    assert [copy.recipient.notify for copy in made] == [passed_on and frozenset(passed_on)] * 2
    assert {(copy.recipient.original, copy.recipient.orcpt, copy.recipient.final) for copy in made} == {
        (at("team"), "rfc822;team@example.org", True)
    }
    assert is_told(recipient, TWO) is told
    (alone,) = copies([recipient], [ONE])
    assert alone.recipient.notify == notify and not is_told(recipient, ONE)


def queued(sender, routes):
    recipients = tuple(Recipient(at(name)) for name in ("one", "two", "three")[: len(routes)])
    made = copies(recipients, routes)
    away = [copy for copy in made if isinstance(copy.route, Remote)]
    envelope = Envelope(sender, recipients)
    return run(entries(router(Directory(sender=box("sender"))), envelope, away, Content(b"x"), b"Received: r\r\n", 0.0))


def test_forwarded_mail_has_a_trace_and_a_sender_that_may_come_from_here():
    plain, forwarded = queued(SENDER, [Remote("plain.example"), TWO])
    entry, group = plain
    assert (entry.envelope.sender, entry.header) == (SENDER, b"Received: r\r\n")
    assert [str(each.address) for each in entry.envelope.recipients] == ["one@example.org"]
    entry, group = forwarded
    assert entry.header == b"Delivered-To: team@example.org\r\nReceived: r\r\n"
    assert entry.envelope.sender.domain == HERE and "=example.com=sender" in entry.envelope.sender.local
    assert SRS(b"s").original(entry.envelope.sender, FakeClock().wall()) == SENDER
    assert [str(each.address) for each in entry.envelope.recipients] == ["x@elsewhere.example"]
    assert [copy.of for copy in group] == [1]


@pytest.mark.parametrize("sender", [None, at("sender"), at("nobody")])
def test_the_null_sender_and_our_own_need_no_rewriting(sender):
    ((entry, _),) = queued(sender, [ONE])
    assert entry.envelope.sender == sender


# what was there before


def test_mail_that_was_at_a_forwarding_address_does_not_go_on_from_there_again():
    def again(*fields):
        content = Content(b"".join(b"Delivered-To: %b\r\n" % field for field in fields) + b"Subject: x\r\n\r\n")
        return Head.of(content, 65536).without_loops([TWO, ONE])

    assert again() == [TWO, ONE]
    assert again(b"Bob@example.org") == [TWO, Refused(DELIVERED_BEFORE)]
    assert again(b"team@example.org") == [Expanded(TWO.leaves[:1]), ONE]
    assert again(b"alice@example.org") == [Expanded(TWO.leaves[1:]), ONE]
    assert again(b"alice@example.org", b"team@example.org") == [Refused(DELIVERED_BEFORE), ONE]


def test_a_member_whose_forwarding_leads_nowhere_keeps_its_copy():
    known = Directory(
        team=members("a@example.org", "c@example.org"),
        a=box("a", "b@example.org", keep_copy=False),
        b=box("b", "a@example.org", keep_copy=False),
        c=box("c"),
        other=members("d@example.org", "c@example.org"),
        d=box("d", "off@example.org", keep_copy=False),
        off=Disabled(),
        fine=members("e@example.org", "c@example.org"),
        e=box("e", "c@example.org", keep_copy=False),
    )
    assert ends(router(known).route(at("team"), may_relay=False)) == [
        ("c@example.org", "team"),
        ("a@example.org", "team"),
    ]
    assert ends(router(known).route(at("other"), may_relay=False)) == [
        ("c@example.org", "other"),
        ("d@example.org", "other"),
    ]
    assert router(known).route(at("fine"), may_relay=False) == Local(at("c"), at("fine"))


def test_a_directory_that_fails_in_an_unforeseen_way_is_a_temporary_failure_too():
    class Broken(Directory):
        def resolve(self, address):
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    assert router(Broken()).route(at("alice"), may_relay=False) == Refused(NOT_KNOWN_NOW)
