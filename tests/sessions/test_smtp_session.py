"""SMTP and submission sessions, with the real engine, router and intake over fakes of the disk."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mailserver.accounts import Mailbox, NotLocal, Resolution, Unknown
from mailserver.config.model import Limits
from mailserver.delivery.intake import Intake
from mailserver.delivery.router import Router
from mailserver.mail import Address, Reply
from mailserver.policy.connections import Refusal
from mailserver.policy.failures import Failures
from mailserver.ports import TLSState
from mailserver.sessions import smtp
from mailserver.sessions.login import Authenticator
from mailserver.store.model import Delivery, DeliveryError
from tests.support.fakes import FakeChannel, FakeClock, FakeWorkers, PasswordsOnly, Ready, converse, run

ALICE, BOB = Address("alice", "example.org"), Address("bob", "example.org")
TLS = TLSState("TLSv1.3", "TLS_AES_256_GCM_SHA384")


class FakeDirectory(PasswordsOnly):
    broken = False

    def resolve(self, address: Address) -> Resolution:
        if address.domain not in ("example.org", ""):
            return NotLocal()
        known = next((a for a in (ALICE, BOB) if a.key == (address.local.casefold(), "example.org")), None)
        return Mailbox(known, None) if known else Unknown()

    def may_send_as(self, account: Address, sender: Address) -> bool:
        return account.key == sender.key

    def authenticate(self, username: str, password: str) -> Address | None:
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
    disk_error: Exception | None = None

    def open(self, *, submission: bool = False, tls: TLSState | None = None, loopback: bool = False) -> Any:
        channel = FakeChannel(tls=tls, loopback=loopback, peer="192.0.2.1")
        kind = smtp.SubmissionSession if submission else smtp.SMTPSession
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
            made.delivered.append((delivery.account, delivery.header + b"".join(delivery.content.chunks())))

        return Ready(work)

    def enqueue(entry: Any) -> Ready[str]:
        def work() -> str:
            if made.disk_error:
                raise made.disk_error
            recipients = [str(r.address) for r in entry.envelope.recipients]
            made.queued.append((recipients, entry.header + b"".join(entry.content.chunks())))
            return "Q1"

        return Ready(work)

    rooms = smtp.SMTPRooms(
        hostname="mx.example.org",
        limits=Limits(errors=3, recipients=4),
        spool=tmp_path,
        router=Router(directory, "mx.example.org"),
        intake=Intake(hostname="mx.example.org", clock=clock, deliver=deliver, enqueue=enqueue, queued=lambda: None),
        senders=directory,
        authenticator=Authenticator(directory, FakeWorkers(), clock, Failures()),
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
    assert say(b"STARTTLS\r\nEHLO injected\r\n") == b"220 2.0.0 Go ahead with TLS\r\n"
    answer = say(b"EHLO c\r\n")
    assert b"STARTTLS" not in answer
    assert b"AUTH PLAIN LOGIN" in answer
    assert session.awaits_login


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
