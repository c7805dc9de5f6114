"""SMTP and submission sessions, with the real engine, router and intake over fakes of the disk."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mailserver.accounts import Mailbox, NotLocal, Resolution, Sending, Unknown, Visit
from mailserver.config.abuse import Abuse
from mailserver.config.model import SMTP, Limits
from mailserver.delivery.intake import Intake
from mailserver.delivery.router import Router
from mailserver.mail import UNLIMITED, Address, DeliverBy, MailParameters, Quota, Reply
from mailserver.mail.trace import Arrival
from mailserver.policy.connections import Refusal
from mailserver.policy.failures import Failures
from mailserver.policy.guard import Guard
from mailserver.policy.ledger import Ledger
from mailserver.policy.networks import Networks
from mailserver.policy.sending import SendingLimits
from mailserver.ports import TLSState
from mailserver.queue import QueueError
from mailserver.sessions import smtp
from mailserver.sessions.login import Authenticator
from mailserver.sessions.smtp.patience import IDLE_COMMANDS, REFUSED_RECIPIENTS, SLOWEST, TIMEOUTS
from mailserver.store.model import Delivery, DeliveryError
from tests.support.fakes import FakeChannel, FakeClock, FakeWorkers, PasswordsOnly, Ready, Space, converse, run

ALICE, BOB = Address("alice", "example.org"), Address("bob", "example.org")
TLS = TLSState("TLSv1.3", "TLS_AES_256_GCM_SHA384")
RULES = Abuse()


class FakeDirectory(PasswordsOnly):
    blocking = False

    allowed = Sending()

    broken = False
    quota = UNLIMITED

    def resolve(self, address: Address) -> Resolution:
        if address.domain not in ("example.org", ""):
            return NotLocal()
        known = next((a for a in (ALICE, BOB) if a.key == (address.local.casefold(), "example.org")), None)
        return Mailbox(known, self.quota) if known else Unknown()

    def may_send_as(self, account: Address, sender: Address) -> bool:
        return account.key == sender.key

    def sending(self, account: Address) -> Sending:
        return self.allowed

    def authenticate(self, username: str, password: str, visit: Visit) -> Address | None:
        if self.broken:
            raise OSError("the disk is gone")
        return ALICE if (username, password) == ("alice@example.org", "secret") else None


@dataclass
class Setup:
    rooms: smtp.SMTPRooms
    directory: FakeDirectory
    clock: FakeClock
    delivered: list[tuple[Address, bytes]] = field(default_factory=list)
    queued: list[tuple[list[str], bytes]] = field(default_factory=list)
    asked: list[MailParameters] = field(default_factory=list)
    disk_error: Exception | None = None
    full: frozenset[Address] = frozenset()
    room: int = 10**9

    def open(
        self, *, submission: bool = False, lmtp: bool = False, tls: TLSState | None = None, loopback: bool = False
    ) -> Any:
        channel = FakeChannel(tls=tls, loopback=loopback, peer="192.0.2.1")
        kind = smtp.SubmissionSession if submission else smtp.LMTPSession if lmtp else smtp.SMTPSession
        session = kind(channel, self.rooms, tls_available=True)
        channel.engine = session.engine
        run(session.opened())
        return lambda data: converse(session, channel, data), session, channel


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    directory, clock = FakeDirectory(), FakeClock()

    def deliver(delivery: Delivery) -> Ready[None]:
        def work() -> None:
            if made.disk_error:
                raise made.disk_error
            if delivery.account in made.full:
                raise DeliveryError(Reply.of(552, "5.2.2", "Full"))
            made.delivered.append((delivery.account, delivery.header + b"".join(delivery.content.chunks())))

        return Ready(work)

    def enqueue(entries: Any) -> Ready[list[str]]:
        def work() -> list[str]:
            if made.disk_error:
                raise made.disk_error
            for entry in entries:
                recipients = [str(r.address) for r in entry.envelope.recipients]
                made.asked.append(entry.envelope.parameters)
                made.queued.append((recipients, entry.header + b"".join(entry.content.chunks())))
            return ["Q1"] * len(entries)

        return Ready(work)

    router = Router(directory, "mx.example.org", workers=FakeWorkers(), clock=clock)
    guard = Guard(RULES, clock, FakeWorkers())
    rooms = smtp.SMTPRooms(
        hostname="mx.example.org",
        limits=Limits(errors=3, recipients=4, transactions=100),
        policy=SMTP(),
        spool=tmp_path,
        router=router,
        intake=Intake(
            hostname="mx.example.org",
            router=router,
            clock=clock,
            deliver=deliver,
            enqueue=enqueue,
            queued=lambda: None,
        ),
        senders=directory,
        authenticator=Authenticator(directory, FakeWorkers(), clock, Failures()),
        flush=lambda domain, subdomains: Ready(lambda: 2 if domain == "example.net" else 0),
        proxies=Networks(["198.51.100.0/24"]),
        guard=guard,
        sending=SendingLimits(RULES, clock, FakeWorkers(), guard),
        has_room=lambda account, quota, octets: made.room >= octets,
        space=Space(10**12),
        workers=FakeWorkers(),
        clock=clock,
    )
    made = Setup(rooms, directory, clock)
    return made


def plain(user: str, password: str, authorize_as: str = "") -> bytes:
    return base64.b64encode(f"{authorize_as}\0{user}\0{password}".encode())


def codes(answer: bytes) -> list[int]:
    return [int(line[:3]) for line in answer.splitlines() if line[3:4] != b"-"]


def test_a_message_is_delivered_with_its_trace(setup: Setup) -> None:
    say, _, channel = setup.open()
    assert say(b"").startswith(b"220 mx.example.org ESMTP")
    answer = say(b"EHLO client.example\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
    assert codes(answer) == [250, 250, 250, 354]
    assert codes(say(b"Subject: hi\r\n\r\n..dot\r\n.\r\nQUIT\r\n")) == [250, 221]
    assert channel.closed
    ((account, message),) = setup.delivered
    assert account == ALICE
    assert message.startswith(
        b"Return-Path: <x@example.net>\r\nDelivered-To: alice@example.org\r\nReceived: from client"
    )
    assert b"with ESMTP id test1" in message
    assert b"for <alice@example.org>" in message
    assert message.endswith(b"Subject: hi\r\n\r\n.dot\r\n")


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("<nobody@example.org>", b"550 5.1.1"),
        ("<x@example.net>", b"550 5.7.1"),
        ("<x%example.net@example.org>", b"550 5.1.1"),
        ("<example.net!x@example.org>", b"550 5.1.1"),
        ('<"x@example.net"@example.org>', b"550 5.1.1"),
        ("<@example.org:x@example.net>", b"550 5.7.1"),
        ("<x@[192.0.2.99]>", b"550 5.7.1"),
        ("<x@example.net@example.org>", b"501 5.1.3"),
        ("<Postmaster>", b"550 5.1.1"),
    ],
)
def test_strangers_reach_known_mailboxes_only(setup: Setup, recipient: str, code: bytes) -> None:
    say, _, _ = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<x@example.net>\r\n")
    assert say(f"RCPT TO:{recipient}\r\n".encode())[: len(code)] == code


def test_vrfy_tells_nothing(setup: Setup) -> None:
    say, _, _ = setup.open()
    say(b"EHLO c\r\n")
    assert say(b"VRFY alice@example.org\r\n") == say(b"VRFY nobody@example.org\r\n")


def test_a_full_disk_gives_4xx(setup: Setup) -> None:
    say, _, _ = setup.open()
    setup.disk_error = DeliveryError(Reply.of(452, "4.3.1", "No room"))
    say(b"EHLO c\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
    assert say(b"hi\r\n.\r\n").startswith(b"452 4.3.1")
    setup.disk_error = None
    say(b"MAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
    assert say(b"hi\r\n.\r\n").startswith(b"250")


def test_a_spool_that_fails_gives_452_after_all_data_is_read(setup: Setup, tmp_path: Path) -> None:
    setup.rooms.spool.rmdir()
    say, _, _ = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
    assert say(b"x" * 2_000_000 + b"\r\n") == b""
    assert say(b".\r\n").startswith(b"452 4.3.1")


def test_too_many_recipients_and_bad_commands(setup: Setup) -> None:
    say, _, channel = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<x@example.net>\r\n")
    answer = say(b"RCPT TO:<alice@example.org>\r\n" * 5)
    assert codes(answer) == [250] * 4 + [452]
    assert codes(say(b"FOO\r\n" * 9)) == [500, 500, 500, 421]
    assert channel.closed


def test_directory_harvest_is_slowed_and_ends(setup: Setup) -> None:
    say, _, channel = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<x@example.net>\r\n")
    begin = setup.clock.now
    for _ in range(30):
        say(b"RSET\r\nMAIL FROM:<x@example.net>\r\n" + b"RCPT TO:<nobody@example.org>\r\n" * 4)
    assert channel.closed
    assert setup.clock.now - begin > 90


def test_a_loop_is_broken(setup: Setup) -> None:
    say, _, _ = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
    assert say(b"Received: x\r\n" * 51 + b"\r\nhi\r\n.\r\n").startswith(b"554 5.4.6")
    assert setup.delivered == []


def test_silence_ends_with_421(setup: Setup) -> None:
    _, session, channel = setup.open()
    channel.flush()
    channel.sent = b""
    session.timed_out()
    channel.flush()
    assert channel.sent.startswith(b"421 4.4.2")


def test_a_refused_client_is_told(setup: Setup) -> None:
    assert smtp.refuse("mx.example.org", Refusal.TOTAL).startswith(b"421 mx.example.org too many")


# Submission


def log_in(setup: Setup) -> Any:
    say, session, channel = setup.open(submission=True, tls=TLS)
    say(b"EHLO c\r\n")
    assert say(b"AUTH PLAIN " + plain("alice@example.org", "secret") + b"\r\n").startswith(b"235 2.7.0")
    return say, session, channel


def test_auth_is_offered_after_tls_only(setup: Setup) -> None:
    say, session, _ = setup.open(submission=True)
    answer = say(b"EHLO c\r\n")
    assert b"STARTTLS" in answer
    assert b"AUTH" not in answer
    assert say(b"AUTH PLAIN " + plain("alice@example.org", "secret") + b"\r\n").startswith(b"538 5.7.11")
    assert say(b"MAIL FROM:<alice@example.org>\r\n").startswith(b"530 5.7.0")
    assert say(b"STARTTLS\r\n") == b"220 2.0.0 Go ahead with TLS\r\n"
    answer = say(b"EHLO c\r\n")
    assert b"STARTTLS" not in answer
    assert b"AUTH PLAIN LOGIN" in answer
    assert session.awaits_login


def test_the_history_hears_who_logged_in(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals: list[Arrival] = []
    monkeypatch.setattr(setup.rooms.intake._history, "accepted", lambda arrival, *_: arrivals.append(arrival))
    transaction = b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n", b"\r\nx\r\n.\r\n"
    for say in (setup.open()[0], log_in(setup)[0]):
        for part in (b"EHLO c\r\n", *transaction):
            say(part)
    assert [arrival.login for arrival in arrivals] == ["", "alice@example.org"]


def test_submission_needs_login_and_relays_after_it(setup: Setup) -> None:
    say, session, _ = setup.open(submission=True, tls=TLS)
    say(b"EHLO c\r\n")
    assert say(b"MAIL FROM:<alice@example.org>\r\n").startswith(b"530 5.7.0")
    say, session, _ = log_in(setup)
    assert not session.awaits_login
    answer = say(
        b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<x@example.net>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
        b"Subject: hi\r\n\r\nhello\r\n.\r\n"
    )
    assert codes(answer) == [250, 250, 250, 354, 250]
    ((recipients, message),) = setup.queued
    assert recipients == ["x@example.net"]
    assert b"with ESMTPSA id" in message
    assert re.search(rb"\r\nDate: [^\r]+ \+0000\r\nMessage-ID: <[^>]+@mx\.example\.org>\r\nSubject: hi", message)
    assert [account for account, _ in setup.delivered] == [BOB]


def test_nothing_is_added_that_the_client_gave(setup: Setup) -> None:
    say, _, _ = log_in(setup)
    content = b"message-id : <a@b>\r\nDATE: now\r\n\r\nhello\r\n"
    say(b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n" + content + b".\r\n")
    ((_, message),) = setup.delivered
    assert message.count(b"essage-") == 1
    assert b"\r\nDate:" not in message


def test_a_foreign_sender_is_refused(setup: Setup) -> None:
    say, _, _ = log_in(setup)
    assert say(b"MAIL FROM:<bob@example.org>\r\n").startswith(b"553 5.7.1")
    assert say(b"MAIL FROM:<>\r\n").startswith(b"250")


def test_a_wrong_password_an_unknown_user_and_a_foreign_identity_look_the_same(setup: Setup) -> None:
    answers = set()
    for credentials in (
        plain("alice@example.org", "wrong"),
        plain("nobody@example.org", "secret"),
        plain("alice@example.org", "secret", "bob@example.org"),
    ):
        say, _, _ = setup.open(submission=True, tls=TLS)
        say(b"EHLO c\r\n")
        answers.add(say(b"AUTH PLAIN " + credentials + b"\r\n"))
    assert answers == {b"535 5.7.8 authentication failed\r\n"}


def test_guessing_is_slowed_and_ends(setup: Setup) -> None:
    say, _, channel = setup.open(submission=True, tls=TLS)
    say(b"EHLO c\r\n")
    begin = setup.clock.now
    answers = [say(b"AUTH PLAIN " + plain("alice@example.org", str(n)) + b"\r\n")[:3] for n in range(4)]
    assert answers == [b"535", b"535", b"535", b"421"]
    assert setup.clock.now - begin == 1 + 2 + 4 + 8
    assert channel.closed


def test_login_in_two_steps_and_cancelled(setup: Setup) -> None:
    say, _, _ = setup.open(submission=True, tls=TLS)
    say(b"EHLO c\r\n")
    assert say(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    assert say(b"*\r\n").startswith(b"501 5.7.0")
    assert say(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    assert say(base64.b64encode(b"alice@example.org") + b"\r\n") == b"334 UGFzc3dvcmQ6\r\n"
    assert say(base64.b64encode(b"secret") + b"\r\n").startswith(b"235")
    assert say(b"AUTH LOGIN\r\n").startswith(b"503")


def test_a_directory_that_is_down_is_temporary(setup: Setup) -> None:
    say, _, _ = setup.open(submission=True, tls=TLS)
    setup.directory.broken = True
    say(b"EHLO c\r\n")
    assert say(b"AUTH PLAIN " + plain("alice@example.org", "secret") + b"\r\n").startswith(b"454 4.7.0")


def test_an_account_that_ends_during_its_session_sends_no_more(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    say, _, _ = setup.open(submission=True, tls=TLS)
    login = base64.b64encode(b"\0alice@example.org\0secret")
    assert b"235 " in say(b"EHLO client.example.com\r\nAUTH PLAIN " + login + b"\r\n")
    assert say(b"MAIL FROM:<>\r\n").startswith(b"250 ")
    say(b"RSET\r\n")
    monkeypatch.setattr(setup.directory, "may_send_as", lambda account, sender: False)
    assert say(b"MAIL FROM:<>\r\n").startswith(b"553 ")


# ESMTP

TO_ALICE = b"EHLO c\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\n"
TO_BOTH = TO_ALICE + b"RCPT TO:<bob@example.org>\r\n"


def refit(setup: Setup, **policy: Any) -> None:
    setup.rooms = replace(setup.rooms, policy=SMTP(**policy))


def test_content_by_bdat_is_delivered_as_by_data(setup: Setup) -> None:
    say, _, _ = setup.open()
    say(TO_ALICE)
    assert codes(say(b"BDAT 16\r\nSubject: hi\r\n\r\n.BDAT 8 LAST\r\n\r\n.\r\n..\n")) == [250, 250]
    ((_, message),) = setup.delivered
    assert message.endswith(b"Subject: hi\r\n\r\n.\r\n.\r\n..\r\n")


def test_binary_content_keeps_every_octet(setup: Setup) -> None:
    say, _, _ = setup.open()
    say(TO_ALICE.replace(b"net>", b"net> BODY=BINARYMIME"))
    octets = b"Subject: x\r\n\r\n" + bytes(range(256))
    assert codes(say(b"BDAT %d LAST\r\n%b" % (len(octets), octets))) == [250]
    assert setup.delivered[0][1].endswith(octets)


def test_lmtp_answers_each_recipient_and_queues_nothing(setup: Setup) -> None:
    say, _, _ = setup.open(lmtp=True)
    setup.full = frozenset({BOB})
    assert say(b"").startswith(b"220 mx.example.org LMTP ready")
    assert say(TO_ALICE) == b"500 5.5.1 The command is unknown\r\n" + b"503 5.5.1 Send LHLO first\r\n" * 2
    assert codes(say(TO_BOTH.replace(b"EHLO", b"LHLO") + b"RCPT TO:<nobody@example.org>\r\nDATA\r\n")) == [
        250, 250, 250, 250, 550, 354,
    ]  # fmt: skip
    answer = say(b"Subject: x\r\n\r\nx\r\n.\r\n")
    assert re.fullmatch(rb"250 2.0.0 Ok, delivered as test1.1\r\n552 5.2.2 Full\r\n", answer)
    assert [account for account, _ in setup.delivered] == [ALICE]
    assert setup.queued == []
    assert b"with LMTP id test1.1" in setup.delivered[0][1]


def test_lmtp_answers_each_recipient_also_when_the_message_is_refused(setup: Setup) -> None:
    say, _, _ = setup.open(lmtp=True)
    say(TO_BOTH.replace(b"EHLO", b"LHLO") + b"DATA\r\n")
    assert codes(say(b"bad\0\r\n.\r\nNOOP\r\n")) == [554, 554, 250]


def test_prdr_answers_each_recipient_where_they_differ(setup: Setup) -> None:
    say, _, _ = setup.open()
    setup.full = frozenset({BOB})
    say(TO_BOTH.replace(b"net>", b"net> PRDR") + b"DATA\r\n")
    assert codes(say(b"x\r\n.\r\n")) == [353, 250, 552, 250]
    assert setup.queued == [], "no report: the client knows"
    setup.full = frozenset()
    say(TO_BOTH.replace(b"net>", b"net> PRDR") + b"DATA\r\n")
    assert codes(say(b"x\r\n.\r\n")) == [250]


def test_without_prdr_a_mailbox_that_refuses_is_reported_to_the_sender(setup: Setup) -> None:
    say, _, _ = setup.open()
    setup.full = frozenset({BOB})
    say(TO_BOTH + b"DATA\r\n")
    assert codes(say(b"x\r\n.\r\n")) == [250]
    assert [recipients for recipients, _ in setup.queued] == [["x@example.net"]]


def test_smtputf8_is_told_in_the_trace(setup: Setup) -> None:
    say, _, _ = setup.open(tls=TLS)
    sender = "MAIL FROM:<jürgen@exämple.net> SMTPUTF8\r\n".encode()
    say(b"EHLO c\r\n" + sender + b"RCPT TO:<alice@example.org>\r\nDATA\r\n")
    assert codes(say("Subject: Grüße\r\n\r\nx\r\n.\r\n".encode())) == [250]
    message = setup.delivered[0][1]
    assert message.startswith("Return-Path: <jürgen@exämple.net>\r\n".encode())
    assert b"with UTF8SMTPS id" in message


def test_a_declared_size_is_held_against_the_disk(setup: Setup) -> None:
    say, _, _ = setup.open()
    setup.rooms.space.octets = 20 * 2**20
    assert codes(say(b"EHLO c\r\nMAIL FROM:<x@example.net> SIZE=1000000\r\nRSET\r\n")) == [220, 250, 250, 250]
    assert say(b"MAIL FROM:<x@example.net> SIZE=10000000\r\n").startswith(b"452 4.3.1 ")
    setup.rooms.space.octets = 0
    assert say(b"MAIL FROM:<x@example.net>\r\n").startswith(b"452 4.3.1 "), "who tells no size as well"


@pytest.mark.parametrize(
    ("size", "room", "answer"),
    [(100, 1000, b"250 2.1.5 "), (900, 100, b"452 4.2.2 The mailbox is full"), (2000, 9999, b"552 5.2.2 The message")],
)
def test_a_full_mailbox_is_told_at_rcpt(setup: Setup, size: int, room: int, answer: bytes) -> None:
    setup.directory.quota, setup.room = Quota(1000), room
    say, _, _ = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<x@example.net> SIZE=%d\r\n" % size)
    assert say(b"RCPT TO:<alice@example.org>\r\n").startswith(answer)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"Received: x\r\n" * 50, b"250 "),
        (b"Received: x\r\n" * 51, b"554 5.4.6 "),
        (b"Delivered-To: bob@example.org\r\n", b"250 "),
        (b"delivered-to:  Alice@Example.org \r\n", b"554 5.4.6 "),
        (b"X: " + b"y" * 70_000 + b"\r\n", b"552 5.3.4 The header"),
    ],
)
def test_loops_and_large_headers_are_refused(setup: Setup, header: bytes, code: bytes) -> None:
    setup.rooms = replace(setup.rooms, limits=Limits(header="64 KiB"))
    say, _, _ = setup.open()
    say(TO_ALICE + b"DATA\r\n")
    assert say(header + b"Subject: x\r\n\r\nx\r\n.\r\n").startswith(code)


@pytest.mark.parametrize("command", [b"NOOP\r\n", b"VRFY x\r\n", b"RSET\r\n", b"HELP\r\n", b"BDAT 0\r\n"])
def test_who_brings_no_message_is_sent_away(setup: Setup, command: bytes) -> None:
    say, _, channel = setup.open()
    say(TO_ALICE)
    assert not {421, 500, 503} & set(codes(say(command * IDLE_COMMANDS)))
    assert codes(say(command)) == [421] and channel.closed


def test_who_takes_too_long_for_a_message_has_no_more_time(setup: Setup) -> None:
    say, session, _ = setup.open()
    begun, patience = setup.clock.monotonic(), TIMEOUTS * setup.rooms.limits.smtp_timeout
    say(TO_ALICE + b"DATA\r\n")
    setup.clock.advance(100)
    assert session.deadline == begun + patience, "commands gain none"
    say(b"x" * 5000)
    assert session.deadline == pytest.approx(begun + patience + 5000 / SLOWEST, abs=0.01)
    say(b"\r\n.\r\n")
    assert session.deadline == begun + 100 + patience


def test_recipients_beyond_twice_the_limit_are_bad_commands(setup: Setup) -> None:
    say, _, channel = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<x@example.net>\r\n")
    answers = codes(say(b"RCPT TO:<alice@example.org>\r\n" * 20))
    assert answers == [250] * 4 + [452] * 7 + [421] and channel.closed


def test_who_guesses_names_is_slowed_and_sent_away(setup: Setup) -> None:
    say, _, channel = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<x@example.net>\r\n")
    begun = setup.clock.monotonic()
    for number in range(REFUSED_RECIPIENTS + 1):
        if number % 3 == 0:
            say(b"RSET\r\nMAIL FROM:<x@example.net>\r\n")
        answer = codes(say(b"RCPT TO:<nobody%d@example.org>\r\n" % number))
    assert answer == [421] and channel.closed
    assert setup.clock.monotonic() - begun == REFUSED_RECIPIENTS - setup.rooms.limits.errors


def test_a_message_begins_the_count_anew(setup: Setup) -> None:
    say, _, channel = setup.open()
    for _ in range(3):
        say(b"NOOP\r\n" * (IDLE_COMMANDS - 1))
        say(TO_ALICE + b"DATA\r\n")
        assert codes(say(b"Subject: x\r\n\r\nx\r\n.\r\n")) == [250]
    assert not channel.closed


def test_so_many_messages_in_one_connection(setup: Setup) -> None:
    setup.rooms = replace(setup.rooms, limits=Limits(transactions=2))
    say, _, channel = setup.open()
    assert b"250-LIMITS MAILMAX=2 RCPTMAX=1000\r\n" in say(b"EHLO c\r\n")
    assert codes(say(b"MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\n")) == [250] * 4 + [421]
    assert channel.closed


def test_who_speaks_before_the_greeting_is_sent_away(setup: Setup) -> None:
    refit(setup, greeting_pause="5 s")
    channel = FakeChannel(peer="192.0.2.1")
    session = smtp.SMTPSession(channel, setup.rooms, tls_available=True)
    channel.engine = session.engine
    session.engine.receive_data(b"EHLO spammer\r\n")
    before = setup.clock.now
    run(session.opened())
    assert setup.clock.now - before == 5
    assert channel.sent.startswith(b"421 mx.example.org you spoke before") and channel.closed
    say, _, _ = setup.open()
    assert say(b"").startswith(b"220 ")
    before = setup.clock.now
    setup.open(submission=True)
    assert setup.clock.now == before, "users do not wait"


@pytest.mark.parametrize(
    ("policy", "body", "code"),
    [
        ({}, b"a\nb\r\n", b"250 "),
        ({"bare_lf": "refuse"}, b"a\nb\r\n", b"550 5.5.2 "),
        ({}, b"a\rb\r\n", b"554 5.6.0 "),
        ({"bare_cr_and_nul": "accept"}, b"a\rb\0\r\n", b"250 "),
        ({}, b"x" * 5000 + b"\r\n", b"250 "),
        ({"long_lines": "refuse"}, b"x" * 999 + b"\r\n", b"554 5.6.0 "),
    ],
)
def test_what_content_is_refused_for_is_configurable(
    setup: Setup, policy: dict[str, Any], body: bytes, code: bytes
) -> None:
    refit(setup, **policy)
    say, _, _ = setup.open()
    say(TO_ALICE + b"DATA\r\n")
    assert say(body + b".\r\n").startswith(code)


# Submission


def submit(setup: Setup, message: bytes) -> bytes:
    say, _, _ = setup.open(submission=True, tls=TLS)
    say(b"EHLO c\r\nAUTH PLAIN " + plain("alice@example.org", "secret") + b"\r\n")
    say(b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
    return say(message + b".\r\n")


@pytest.mark.parametrize(
    ("field", "code"),
    [
        (b"From: Alice <alice@example.org>", b"250 "),
        (b"from: <alice@example.org>", b"250 "),
        (b'From: "A, B (c)" <alice@example.org> (Alice), A. B\r\n <alice@example.org>', b"250 "),
        (b"From: =?utf-8?q?=C3=84?= <ALICE@Example.Org>", b"250 "),
        (b"Subject: none", b"250 "),
        (b"From: friends: alice@example.org;", b"550 5.6.0 "),
        (b"From: CEO <bob@example.org>: alice@example.org;", b"550 5.6.0 "),
        (b"From: CEO <bob@example.org>:;", b"550 5.6.0 "),
        (b"From: bob@example.org:;", b"550 5.6.0 "),
        (b"From: <bob@example.org <alice@example.org>", b"550 5.6.0 "),
        (b"From: CEO <bob@example.org:alice@example.org>", b"550 5.6.0 "),
        (b"From: <@bob.example:alice@example.org>", b"550 5.6.0 "),
        (b"From: bob@example.org <alice@example.org>", b"550 5.6.0 "),
        (b"From: <alice@example.org>bob@example.org", b"550 5.6.0 "),
        (b"From: alice@example.org bob@example.org", b"550 5.6.0 "),
        (b"From: alice@example.org,", b"550 5.6.0 "),
        (b"From: alice(x)@example.org", b"550 5.6.0 "),
        (b"From:", b"550 5.6.0 "),
        (b"From: <>", b"550 5.6.0 "),
        (b"From: (bob@example.org)", b"550 5.6.0 "),
        (b"From: alice@example.org," + b" " * 9000 + b"bob@example.org", b"550 5.6.0 "),
        (b"From: alice@example.org\r\nFrom: alice@example.org", b"550 5.6.0 "),
        (b"a:\r\n" * 10_000 + b"From: bob@example.org", b"552 5.3.4 "),
        (b"From: Bob <bob@example.org>", b"550 5.7.1 "),
        (b"From: alice@example.org, bob@example.org", b"550 5.7.1 "),
        (b"From: alice@example.org\r\nFrom: bob@example.org", b"550 5.6.0 "),
        (b"From: alice@example.org <boss@example.net>", b"550 5.6.0 "),
        (b"From: alice", b"550 5.6.0 "),
        (b"From:\r\n bob@example.org", b"550 5.7.1 "),
    ],
)
def test_the_from_field_belongs_to_the_account(setup: Setup, field: bytes, code: bytes) -> None:
    assert submit(setup, field + b"\r\n\r\nx\r\n").startswith(code)


def test_a_message_without_an_author_gets_one(setup: Setup) -> None:
    assert submit(setup, b"Subject: s\r\n\r\nFrom: me\r\n").startswith(b"250 ")
    assert b"\r\nFrom: alice@example.org\r\n" in setup.delivered[0][1].partition(b"Subject: s")[0]


@pytest.mark.parametrize("header", [b"Subject: x\rFrom: bob@example.org\r\n", b"Subject: x\nBcc: b\r\n", b"A: \0\r\n"])
def test_binary_content_hides_no_field_from_the_check(setup: Setup, header: bytes) -> None:
    say, _, _ = setup.open(submission=True, tls=TLS)
    say(b"EHLO c\r\nAUTH PLAIN " + plain("alice@example.org", "secret") + b"\r\n")
    say(b"MAIL FROM:<alice@example.org> BODY=BINARYMIME\r\nRCPT TO:<bob@example.org>\r\n")
    message = b"From: alice@example.org\r\n" + header + b"\r\nbody"
    assert say(b"BDAT %d LAST\r\n%b" % (len(message), message)).startswith(b"550 5.6.0 ")
    assert not setup.delivered


def test_a_loop_of_one_recipient_is_no_loop_of_the_others(setup: Setup) -> None:
    say, _, _ = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
    assert say(b"Delivered-To: alice@example.org\r\n\r\nx\r\n.\r\n").startswith(b"250 ")
    assert [account for account, _ in setup.delivered] == [BOB]
    ((recipients, report),) = setup.queued
    assert recipients == ["x@example.net"] and b"alice@example.org" in report and b"Status: 5.4.6" in report
    say, _, _ = setup.open(lmtp=True)
    say(b"LHLO c\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
    assert codes(say(b"Delivered-To: alice@example.org\r\n\r\nx\r\n.\r\n")) == [554, 250]
    assert len(setup.queued) == 1


def test_nothing_of_a_confidential_message_comes_back_in_clear(setup: Setup) -> None:
    setup.full = frozenset({ALICE})
    say, _, _ = setup.open(tls=TLS)
    say(b"EHLO c\r\nMAIL FROM:<x@example.net> RET=FULL REQUIRETLS\r\n")
    say(b"RCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
    assert say(b"Subject: s\r\n\r\nthe secret\r\n.\r\n").startswith(b"250 ")
    ((recipients, report),) = setup.queued
    assert recipients == ["x@example.net"] and b"5.2.2" in report and b"the secret" not in report


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_bcc_is_taken_out_and_nothing_else_is_touched(setup: Setup, size: int) -> None:
    body = b"y" * 70 + b"\r\nBcc: in the body\r\n" + b"z" * size + b"\r\n"
    header = b"Date: d\r\nBcc: a@b.c,\r\n d@e.f\r\nMessage-ID: <1@x>\r\nX-Odd:   kept\r\nbcc: x\r\nResent-Bcc: y\r\n"
    assert submit(setup, header + b"From: alice@example.org\r\n\r\n" + body).startswith(b"250 ")
    message = setup.delivered[0][1]
    kept = b"Date: d\r\nMessage-ID: <1@x>\r\nX-Odd:   kept\r\nFrom: alice@example.org\r\n\r\n"
    assert message.endswith(kept + body)
    assert message.count(b"Date: ") == message.lower().count(b"message-id: ") == 1


# FUTURERELEASE (RFC 4865)


def submitter(setup: Setup) -> Any:
    say, _, _ = setup.open(submission=True, tls=TLS)
    answer = say(b"EHLO c\r\nAUTH PLAIN " + plain("alice@example.org", "secret") + b"\r\n")
    until = datetime.fromtimestamp(setup.clock.wall() + 30 * 86400, UTC)
    assert b"250-FUTURERELEASE 2592000 %b\r\n" % f"{until:%Y-%m-%dT%H:%M:%SZ}".encode() in answer
    return say


def at(setup: Setup, seconds: float) -> bytes:
    zone = timezone(timedelta(hours=-3, minutes=-30))
    return datetime.fromtimestamp(setup.clock.wall() + seconds, zone).isoformat(timespec="seconds").encode()


@pytest.mark.parametrize("when", ["for", "until"])
def test_a_message_is_kept_until_its_time_for_recipients_here_as_well(setup: Setup, when: str) -> None:
    say = submitter(setup)
    parameter = b"HOLDFOR=3600" if when == "for" else b"HOLDUNTIL=" + at(setup, 3600)
    say(b"MAIL FROM:<alice@example.org> " + parameter + b"\r\nRCPT TO:<bob@example.org>\r\n")
    assert say(b"RCPT TO:<x@example.net>\r\nDATA\r\n").startswith(b"250 ")
    assert say(b"From: alice@example.org\r\n\r\nx\r\n.\r\n").startswith(b"250 2.0.0 Ok, queued as ")
    ((recipients, _),) = setup.queued
    assert recipients == ["bob@example.org", "x@example.net"] and not setup.delivered
    assert setup.asked[0].release is not None
    assert int(setup.asked[0].release) == int(setup.clock.wall() + 3600)


@pytest.mark.parametrize("parameter", [b"HOLDUNTIL=1999-01-01t00:00:00.5z", b"HOLDUNTIL=0001-01-01T00:00:00+23:59"])
def test_a_time_that_has_passed_is_now(setup: Setup, parameter: bytes) -> None:
    say = submitter(setup)
    say(b"MAIL FROM:<alice@example.org> " + parameter + b"\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
    assert say(b"From: alice@example.org\r\n\r\nx\r\n.\r\n").startswith(b"250 ")
    assert len(setup.delivered) == 1 and not setup.queued


@pytest.mark.parametrize(
    "parameters",
    [
        b"HOLDFOR=2592001",
        b"HOLDFOR=",
        b"HOLDFOR=-1",
        b"HOLDFOR=0",
        b"HOLDFOR=1000000000",
        b"HOLDFOR=1 HOLDUNTIL=2030-01-01T00:00:00Z",
        b"HOLDUNTIL=9999-12-31T23:59:59Z",
        b"HOLDUNTIL=2030-02-30T00:00:00Z",
        b"HOLDUNTIL=2030-01-01",
        b"HOLDUNTIL=2030-01-01T00:00:00",
        b"HOLDUNTIL=2030-01-01T00:00:00+24:01",
    ],
)
def test_what_cannot_be_held(setup: Setup, parameters: bytes) -> None:
    assert submitter(setup)(b"MAIL FROM:<alice@example.org> " + parameters + b"\r\n").startswith(b"501 5.5.4 ")


def test_only_users_have_messages_held(setup: Setup) -> None:
    say, _, _ = setup.open()
    assert b"FUTURERELEASE" not in say(b"EHLO c\r\n")
    assert say(b"MAIL FROM:<a@example.net> HOLDFOR=60\r\n").startswith(b"555 ")


# DELIVERBY (RFC 2852) and MT-PRIORITY (RFC 6710)

MESSAGE = b"DATA\r\nFrom: alice@example.org\r\n\r\nx\r\n.\r\n"


def test_a_message_with_a_time_is_delivered_here_at_once(setup: Setup) -> None:
    say, _, _ = setup.open()
    assert b"250-DELIVERBY\r\n" in say(b"EHLO c\r\n")
    say(b"MAIL FROM:<a@example.net> BY=1;R\r\nRCPT TO:<bob@example.org>\r\n")
    assert say(MESSAGE).endswith(b"\r\n") and len(setup.delivered) == 1


def test_a_message_that_is_too_late_when_it_has_come_is_refused(setup: Setup) -> None:
    say, _, _ = setup.open()
    say(b"EHLO c\r\nMAIL FROM:<a@example.net> BY=60;R\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
    setup.clock.advance(60)
    assert say(b"x: y\r\n.\r\n") == b"554 5.4.7 The time for the delivery of the message is over\r\n"
    say(b"MAIL FROM:<a@example.net> BY=60;N\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
    setup.clock.advance(60)
    assert say(b"x: y\r\n.\r\n").startswith(b"250 ")


def test_the_time_and_the_priority_go_into_the_queue(setup: Setup) -> None:
    say = submitter(setup)
    say(b"MAIL FROM:<alice@example.org> BY=60;RT MT-PRIORITY=3\r\nRCPT TO:<x@example.net>\r\n")
    assert say(MESSAGE).splitlines()[1].startswith(b"250 ")
    (asked,) = setup.asked
    assert asked.deliver_by == DeliverBy(setup.clock.wall() + 60, returned=True, trace=True)
    assert asked.priority == 3
    ((_, content),) = setup.queued
    assert b"PRIORITY 3;\r\n" in content


def test_a_message_is_not_held_beyond_its_time(setup: Setup) -> None:
    say = submitter(setup)
    assert say(b"MAIL FROM:<alice@example.org> BY=60;R HOLDFOR=61\r\n").startswith(b"501 5.5.4 ")
    assert say(b"MAIL FROM:<alice@example.org> BY=60;R HOLDFOR=59\r\n").startswith(b"250 ")


def test_strangers_make_no_message_urgent(setup: Setup) -> None:
    say, _, _ = setup.open()
    assert b"250-MT-PRIORITY\r\n" in say(b"EHLO c\r\n")
    assert say(b"MAIL FROM:<a@example.net> MT-PRIORITY=1\r\n").startswith(b"250 2.3.6 0 ")
    say(b"RSET\r\n")
    assert say(b"MAIL FROM:<a@example.net> MT-PRIORITY=-9\r\n").startswith(b"250 2.1.0 ")
    say(b"RCPT TO:<bob@example.org>\r\n")
    say(MESSAGE)
    assert b"PRIORITY -9;\r\n" in setup.delivered[0][1]


def test_users_make_a_message_as_urgent_as_they_may(setup: Setup) -> None:
    setup.rooms = replace(setup.rooms, policy=SMTP(highest_priority=4))
    say = submitter(setup)
    assert say(b"MAIL FROM:<alice@example.org> MT-PRIORITY=9\r\n").startswith(b"250 2.3.6 4 ")
    say(b"RSET\r\n")
    assert say(b"MAIL FROM:<alice@example.org> MT-PRIORITY=4\r\n").startswith(b"250 2.1.0 ")


# XCLIENT


def test_a_proxy_speaks_for_others_and_begins_anew(setup: Setup) -> None:
    channel = FakeChannel(peer="198.51.100.7", loopback=True)
    session = smtp.SMTPSession(channel, setup.rooms, tls_available=False)
    channel.engine = session.engine
    run(session.opened())
    assert b"250-XCLIENT NAME ADDR " in converse(session, channel, b"EHLO proxy\r\n")
    answer = converse(
        session, channel, b"XCLIENT ADDR=IPV6:2001:DB8::9 NAME=[UNAVAILABLE] HELO=a+2Bb\r\nMAIL FROM:<>\r\n"
    )
    assert codes(answer) == [220, 503]
    assert (channel.peer, channel.loopback) == ("2001:db8::9", False)
    converse(session, channel, TO_ALICE + b"DATA\r\n")
    assert codes(converse(session, channel, b"x\r\n.\r\n")) == [250]
    assert b"([IPv6:2001:db8::9])" in setup.delivered[0][1]


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b" ADDR",
        b" ADDR=1.2.3.4.5",
        b" ADDR=a ADDR=b",
        b" X=1",
        b" NAME=+0Ax",
        b" NAME=+FF",
        b" NAME=",
        b" ADDR=fe80::1%x",
        b" ADDR=IPV6:fe80::1%x+20y",
    ],
)
def test_malformed_xclient_changes_nothing(setup: Setup, argument: bytes) -> None:
    channel = FakeChannel(peer="198.51.100.7")
    session = smtp.SMTPSession(channel, setup.rooms, tls_available=False)
    channel.engine = session.engine
    run(session.opened())
    assert codes(converse(session, channel, b"EHLO p\r\nXCLIENT" + argument + b"\r\n")) == [220, 250, 501]
    assert channel.peer == "198.51.100.7"


# ETRN


def test_etrn_starts_the_queue_of_configured_domains(setup: Setup) -> None:
    say, _, _ = setup.open()
    assert b"ETRN" not in say(b"EHLO c\r\n")
    refit(setup, etrn=["example.net", "quiet.example"])
    say, _, _ = setup.open()
    assert b"250-ETRN\r\n" in say(b"EHLO c\r\n")
    assert say(b"ETRN example.net\r\n") == b"253 2.0.0 2 messages for example.net are sent now\r\n"
    assert say(b"ETRN @quiet.example\r\n") == b"251 2.0.0 No messages wait for quiet.example\r\n"
    assert say(b"ETRN other.example\r\n") == b"459 4.7.1 ETRN is not allowed for other.example\r\n"


def test_etrn_when_the_queue_cannot_be_started(setup: Setup) -> None:
    async def fail(domain: str, subdomains: bool) -> int:
        raise QueueError("disk I/O error")

    refit(setup, etrn=["example.net"])
    setup.rooms = replace(setup.rooms, flush=fail)
    say, _, _ = setup.open()
    say(b"EHLO c\r\n")
    assert say(b"ETRN example.net\r\n").startswith(b"458 4.3.0 ")


# Bans, rates, and how much an account may send


def restrict(setup: Setup, path: Path, **rules: int) -> Guard:
    made = Abuse(**rules)
    guard, ledger = Guard(made, setup.clock, FakeWorkers()), Ledger(path / "bans.db")
    guard.open(ledger)
    sending = SendingLimits(made, setup.clock, FakeWorkers(), guard)
    sending.open(ledger)
    setup.rooms = replace(setup.rooms, guard=guard, sending=sending)
    return guard


def test_a_proxy_that_speaks_for_a_banned_client_is_told(setup: Setup, tmp_path: Path) -> None:
    guard = restrict(setup, tmp_path, failures=1)
    run(guard.failed("192.0.2.66", "alice@example.org"))
    for address, answer in (("192.0.2.66", [421]), ("192.0.2.67", [220, 250])):
        channel = FakeChannel(peer="198.51.100.7")
        session = smtp.SMTPSession(channel, setup.rooms, tls_available=False)
        channel.engine = session.engine
        run(session.opened())
        converse(session, channel, b"EHLO proxy\r\n")
        told = converse(session, channel, b"XCLIENT ADDR=" + address.encode() + b"\r\nEHLO c\r\n")
        assert codes(told) == answer
        assert channel.closed == (answer == [421])
        assert channel.closed == (b"too many failed logins from your address, try again in 10 min" in told)


def test_strangers_bring_as_many_messages_a_minute_as_they_may(setup: Setup, tmp_path: Path) -> None:
    restrict(setup, tmp_path, message_rate=2, recipient_rate=3)
    transaction = b"RSET\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\n"
    say, _, _ = setup.open()
    say(b"EHLO c\r\n")
    assert codes(say(transaction * 2)) == [250] * 6
    answer = say(transaction)
    assert codes(answer) == [250, 450, 503]
    assert re.search(rb"450 4\.7\.1 Your address sends too many messages a minute, try again in \d+ s\r\n", answer)
    say, _, _ = setup.open()
    assert codes(say(b"EHLO c\r\n" + transaction)) == [220, 250, 250, 450, 503], "in a new connection too"
    setup.clock.advance(120)
    assert codes(say(b"RSET\r\n" + transaction + b"RCPT TO:<bob@example.org>\r\n" * 3)) == [250] * 6 + [452]
    assert codes(say(b"DATA\r\n")) == [354], "those that were taken get it"


def test_lmtp_is_of_one_who_is_trusted(setup: Setup, tmp_path: Path) -> None:
    restrict(setup, tmp_path, message_rate=1, recipient_rate=1)
    say, _, _ = setup.open(lmtp=True)
    say(b"LHLO c\r\n")
    assert codes(say(b"RSET\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<alice@example.org>\r\n" * 3)) == [250] * 9


MAIL = b"MAIL FROM:<alice@example.org>\r\n"
WHOLE = MAIL + b"RCPT TO:<bob@example.org>\r\nDATA\r\n"


def test_an_account_sends_as_many_messages_a_day_as_it_may(setup: Setup, tmp_path: Path) -> None:
    restrict(setup, tmp_path)
    setup.directory.allowed = Sending(messages_per_day=2)
    say, _, _ = log_in(setup)
    say(MAIL + b"RSET\r\n" * 5)
    for _ in range(2):
        assert codes(say(WHOLE) + say(b"Subject: x\r\n\r\nx\r\n.\r\n")) == [250, 250, 354, 250]
    told = b"450 4.7.1 Your account has sent as many messages as it may in a day (2), try again in 24 h\r\n"
    assert say(MAIL) == told
    assert log_in(setup)[0](MAIL) == told
    setup.directory.allowed = Sending()
    assert codes(say(MAIL)) == [250], "the directory is asked again"


def test_messages_that_are_not_taken_do_not_count_and_parallel_ones_do(setup: Setup, tmp_path: Path) -> None:
    restrict(setup, tmp_path)
    setup.directory.allowed = Sending(messages_per_day=1)
    say, _, _ = log_in(setup)
    setup.disk_error = DeliveryError(Reply.of(452, "4.3.1", "No room"))
    assert codes(say(WHOLE) + say(b"Subject: x\r\n\r\nx\r\n.\r\n")) == [250, 250, 354, 452]
    assert codes(say(WHOLE) + say(b"From: x@example.net\r\n\r\nx\r\n.\r\n")) == [250, 250, 354, 550]
    setup.disk_error = None
    other, _, _ = log_in(setup)
    assert codes(say(WHOLE) + other(WHOLE)) == [250, 250, 354] * 2
    assert say(b"Subject: x\r\n\r\nx\r\n.\r\n").startswith(b"250 ")
    assert other(b"Subject: x\r\n\r\nx\r\n.\r\n").startswith(
        b"450 4.7.1 Your account has sent as many messages as it may in a day (1)"
    )
    assert len(setup.delivered) == 1


def test_an_account_has_as_many_recipients_as_it_may(setup: Setup) -> None:
    setup.directory.allowed = Sending(recipients=2)
    say, _, _ = log_in(setup)
    recipients = b"".join(b"RCPT TO:<u%d@example.net>\r\n" % n for n in range(3))
    answer = say(MAIL + recipients + b"DATA\r\n")
    assert codes(answer) == [250, 250, 250, 452, 354]
    assert b"452 4.5.3 Too many recipients" in answer
    setup.directory.allowed = Sending(recipients=1000)
    say, _, _ = log_in(setup)
    assert codes(say(MAIL + b"RCPT TO:<u@example.net>\r\n" * 5)) == [250] * 5 + [452], "no more than anybody"
