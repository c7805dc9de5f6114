"""Mail for elsewhere, from the client's submission to the other server's mailbox: two servers and a name server."""

from __future__ import annotations

import email
import email.policy
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.dns import Fault, NameServer
from tests.support.server import ALICE, RunningServer
from tests.support.sink import wait_until

CAROL = "carol@other.test"
NOBODY = "nobody@other.test"


class Pair:
    """`here` hosts example.test and relays; `there` hosts other.test."""

    def __init__(self, directory: Path, dns: NameServer, retry: str = "1 s") -> None:
        self.dns = dns
        self.there = RunningServer(directory / "there", hostname="mail.other.test", accounts={CAROL: []})
        relay = {"resolver": [dns.address], "port": self.there.ports.smtp, "retry_first": retry, "retry_max": retry}
        self.here = RunningServer(directory / "here", sections={"relay": relay})

    def submit(self, *recipients: str, subject: str = "hello", sender: str = ALICE) -> None:
        message = f"From: {sender}\r\nTo: {', '.join(recipients)}\r\nSubject: {subject}\r\n\r\nHello.\r\n..\r\n.dot\r\n"
        with self.here.submission() as client:
            client.sendmail(sender, recipients, message.encode())

    def command(self, *words: str) -> Any:
        """What `mailserver ...` on this configuration prints, as JSON when asked for."""
        program = str(Path(sys.executable).parent / "mailserver")
        done = subprocess.run(
            [program, "--config", str(self.here.config), *words], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def queue(self) -> Any:
        return self.command("queue", "list", "--json")


@pytest.fixture
def dns() -> Iterator[NameServer]:
    with NameServer() as server:
        server.mail_domain("other.test")
        yield server


@pytest.fixture
def pair(tmp_path: Path, dns: NameServer) -> Iterator[Pair]:
    made = Pair(tmp_path, dns)
    with made.here:
        yield made
        if made.there.process is not None:
            made.there.stop()


def reports(pair: Pair) -> list[EmailMessage]:
    parsed = [email.message_from_bytes(m, policy=email.policy.default) for m in pair.here.messages(ALICE)]
    return [m for m in parsed if m.get_content_type() == "multipart/report"]  # type: ignore[misc]


def test_relays_by_mx_over_tls_byte_for_byte(pair: Pair) -> None:
    pair.there.start()
    pair.submit(CAROL)
    wait_until(lambda: pair.there.messages(CAROL), what="delivery to carol")
    (message,) = pair.there.messages(CAROL)
    assert message.startswith(
        f"Return-Path: <{ALICE}>\nDelivered-To: {CAROL}\nReceived: from mail.example.test".encode()
    )
    assert b"by mail.other.test with ESMTPS id" in message
    assert b"by mail.example.test with ESMTPSA id" in message
    assert message.endswith(b"\n\nHello.\n..\n.dot\n")
    wait_until(lambda: pair.queue() == [], what="an empty queue")
    assert ("other.test", "MX") in pair.dns.questions
    assert ("mx.other.test", "AAAA") in pair.dns.questions


def test_waits_while_the_other_server_is_down_and_delivers_after_its_return(pair: Pair) -> None:
    pair.submit(CAROL)
    wait_until(lambda: "no connection" in pair.here.log(), what="a first attempt")
    (entry,) = pair.queue()
    assert entry["sender"] == ALICE
    pair.here.kill()
    pair.here.start()
    assert [e["id"] for e in pair.queue()] == [entry["id"]]
    pair.there.start()
    wait_until(lambda: pair.there.messages(CAROL), what="delivery after the return")
    wait_until(lambda: pair.queue() == [], what="an empty queue")
    time.sleep(2)
    assert len(pair.there.messages(CAROL)) == 1
    assert reports(pair) == []


def test_a_refused_recipient_is_reported_to_the_sender_the_others_get_their_copy(pair: Pair) -> None:
    pair.there.start()
    pair.submit(NOBODY, CAROL, subject="two")
    wait_until(lambda: reports(pair), what="a report for alice")
    (report,) = reports(pair)
    assert report["From"].endswith("<MAILER-DAEMON@mail.example.test>") or "example.test" in report["From"]
    assert report["Return-Path"] == "<>"
    assert report.get_param("report-type") == "delivery-status"
    human, status, original = report.iter_parts()
    assert NOBODY in human.get_content()
    fields = str(status)
    assert "Final-Recipient: rfc822; " + NOBODY in fields.replace("rfc822;n", "rfc822; n")
    assert "Action: failed" in fields
    assert "Status: 5.1.1" in fields
    assert "550 5.1.1" in fields
    assert "Subject: two" in str(original)
    assert len(pair.there.messages(CAROL)) == 1
    wait_until(lambda: pair.queue() == [], what="an empty queue")


def test_a_domain_that_does_not_exist_is_reported_a_dead_resolver_is_waited_for(pair: Pair) -> None:
    pair.submit("x@nowhere.test")
    wait_until(lambda: reports(pair), what="a report for alice")
    assert "nowhere.test" in str(reports(pair)[0])
    pair.dns.faults["other.test"] = Fault.SERVFAIL
    pair.submit(CAROL)
    wait_until(lambda: "cannot be looked up" in pair.here.log(), what="a failed lookup")
    pair.there.start()
    del pair.dns.faults["other.test"]
    wait_until(lambda: pair.there.messages(CAROL), what="delivery after the DNS is back")
    assert len(reports(pair)) == 1


def test_null_mx_is_reported_at_once(pair: Pair) -> None:
    pair.dns.zone["nomail.test", "MX"] = ["0 ."]
    pair.submit("x@nomail.test")
    wait_until(lambda: reports(pair), what="a report for alice")
    assert "5.1.10" in str(reports(pair)[0])


def test_a_domain_without_mx_is_reached_by_its_address_and_a_dead_address_is_passed_over(pair: Pair) -> None:
    pair.there.write_configuration({})
    pair.dns.zone.clear()
    pair.dns.zone["other.test", "AAAA"] = ["::1"]
    pair.dns.zone["other.test", "A"] = ["127.0.0.1"]
    pair.there.start()
    pair.submit(CAROL)
    wait_until(lambda: pair.there.messages(CAROL), what="delivery by A")


def test_flush_and_remove_reach_a_running_server(tmp_path: Path, dns: NameServer) -> None:
    pair = Pair(tmp_path, dns, retry="1 h")
    with pair.here:
        pair.submit(CAROL)
        pair.submit(CAROL, subject="to be removed")
        wait_until(lambda: pair.here.log().count("delayed") >= 2, what="the first attempts")
        entries = pair.queue()
        assert len(entries) == 2
        for entry in entries:
            show = partial(pair.command, "queue", "show", entry["id"])
            assert CAROL in show()
            wait_until(lambda show=show: "no connection" in show(), what="a word of the first attempt")
        pair.command("queue", "remove", entries[1]["id"])
        with pair.there:
            pair.command("queue", "flush", "--all")
            wait_until(lambda: pair.there.messages(CAROL), what="delivery after the flush")
            wait_until(lambda: pair.queue() == [], what="an empty queue")
            assert len(pair.there.messages(CAROL)) == 1
