"""Forwarding to another server and the way back of reports: two servers and a name server."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.test_relay import CAROL, NOBODY, Pair
from tests.support.dns import NameServer
from tests.support.server import ALICE, BOB, RunningServer
from tests.support.sink import wait_until

DAVE = "dave@third.test"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """`there` hosts other.test and third.test."""
    with NameServer() as dns:
        for domain in ("other.test", "third.test", "example.test"):
            dns.mail_domain(domain)
        made = Pair(tmp_path, dns)
        made.there = RunningServer(tmp_path / "two", hostname="mail.other.test", accounts={CAROL: [], DAVE: []})
        made.here = RunningServer(tmp_path / "one")
        for one, other in ((made.here, made.there), (made.there, made.here)):
            relay = {"resolver": [dns.address], "port": other.ports.smtp, "retry_first": "1 s"}
            one.write_configuration({"relay": relay})
        with made.there, made.here:
            yield made


def send(server: RunningServer, sender: str, recipient: str) -> None:
    message = f"From: {DAVE}\r\nTo: {recipient}\r\nSubject: forwarded\r\n\r\nHello.\r\n"
    with smtplib.SMTP("127.0.0.1", server.ports.smtp) as client:
        client.sendmail(sender, [recipient], message)


def lead(pair: Pair, *words: str) -> None:
    """An edit of the accounts, and the moment until it is in force."""
    taken_over = pair.here.log().count("accounts taken over")
    pair.command(*words)

    def look() -> bool:
        with smtplib.SMTP("127.0.0.1", pair.here.ports.smtp) as client:
            client.ehlo()
            client.mail(DAVE)
            client.rcpt(BOB)
        return pair.here.log().count("accounts taken over") > taken_over

    wait_until(look, what="the new accounts")


def return_path(message: bytes) -> str:
    return message.split(b"\n", 1)[0].decode().removeprefix("Return-Path: <").removesuffix(">")


def test_mail_is_forwarded_with_a_copy_and_a_report_on_it_comes_back_to_the_first_sender(pair: Pair) -> None:
    lead(pair, "account", "forward", ALICE, CAROL)
    send(pair.here, DAVE, ALICE)
    wait_until(lambda: pair.there.messages(CAROL), what="the forwarded copy")
    assert [return_path(message) for message in pair.here.messages(ALICE)] == [DAVE]
    (forwarded,) = pair.there.messages(CAROL)
    rewritten = return_path(forwarded)
    assert rewritten.startswith("SRS0=") and rewritten.endswith("=third.test=dave@example.test")
    assert forwarded.count(b"Delivered-To: ") == 2 and f"Delivered-To: {ALICE}".encode() in forwarded
    send(pair.here, "", rewritten)
    wait_until(lambda: pair.there.messages(DAVE), what="the report")
    assert [return_path(message) for message in pair.there.messages(DAVE)] == [""]
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="reports on forwarded mail only"):
        send(pair.here, DAVE, rewritten)
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="no such mailbox"):
        send(pair.here, "", rewritten.replace("=dave@", "=carol@"))


def test_a_forwarding_that_fails_is_reported_to_the_first_sender(pair: Pair) -> None:
    lead(pair, "account", "forward", ALICE, NOBODY, "--no-copy")
    send(pair.here, DAVE, ALICE)
    wait_until(lambda: pair.there.messages(DAVE), what="the report")
    (report,) = pair.there.messages(DAVE)
    assert return_path(report) == "" and b"Action: failed" in report and NOBODY.encode() in report
    assert pair.here.messages(ALICE) == []
    wait_until(lambda: pair.queue() == [], what="an empty queue")


def test_two_servers_that_forward_to_each_other_stop(pair: Pair) -> None:
    """What comes round is known by the Delivered-To field of its first passage, and reported."""
    lead(pair, "account", "forward", ALICE, CAROL, "--no-copy")
    there = Pair.command.__get__(type("Other", (), {"here": pair.there})())
    there("account", "forward", CAROL, ALICE, "--no-copy")
    wait_until(lambda: "carol" in (pair.there.directory / "accounts.toml").read_text(), what="the edit")
    pair.there.stop()
    pair.there.start()
    send(pair.here, DAVE, ALICE)
    wait_until(lambda: "goes in circles" in pair.here.log(), what="the loop to be seen")
    wait_until(lambda: pair.queue() == [], what="an empty queue")


def test_a_group_with_members_inside_and_outside(pair: Pair) -> None:
    lead(pair, "alias", "add", "team@example.test", BOB, CAROL)
    send(pair.here, DAVE, "Team@example.test")
    wait_until(lambda: pair.there.messages(CAROL), what="the copy outside")
    assert len(pair.here.messages(BOB)) == len(pair.there.messages(CAROL)) == 1
