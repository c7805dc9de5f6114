"""DELIVERBY (RFC 2852) and MT-PRIORITY (RFC 6710) from one of our servers to another, over real sockets."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.support.dns import NameServer
from tests.support.pair import CAROL, reports, submit
from tests.support.server import ALICE, RunningServer
from tests.support.sink import SMTPSink, wait_until

CONTENT = b"From: alice@example.test\r\nSubject: in time\r\n\r\nx\r\n"


def test_a_message_goes_on_in_time_with_its_priority_and_is_traced(pair: tuple[RunningServer, RunningServer]) -> None:
    here, there = pair
    submit(here, CAROL, mail=["BY=100;RT", "MT-PRIORITY=4"], rcpt=[], content=CONTENT)
    wait_until(lambda: there.messages(CAROL) and reports(here), what="the message and the report")
    (message,) = there.messages(CAROL)
    theirs, ours = re.findall(rb"(?m)^Received:.*\n(?:[ \t].*\n)*", message)
    assert b"PRIORITY 4;" in ours, "a user may"
    assert b"PRIORITY" not in theirs, "a stranger may not"
    ((about, recipient),) = reports(here)
    assert recipient["Action"] == "relayed" and about["Deliver-By-Date"]


def test_a_message_that_is_late_comes_back_when_its_sender_said(tmp_path: Path) -> None:
    with NameServer() as dns:
        dns.mail_domain("other.test")
        relay = {"resolver": [dns.address], "port": 1, "retry_first": "100 s", "retry_max": "100 s"}  # nobody is there
        with RunningServer(tmp_path / "here", sections={"relay": relay}) as here:
            begun = time.time()
            submit(here, CAROL, mail=["BY=4;R", "ENVID=back"], rcpt=[], content=CONTENT)
            submit(here, CAROL, mail=["BY=4;N", "ENVID=told"], rcpt=[], content=CONTENT)
            wait_until(lambda: len(reports(here)) == 2, what="the reports")
            assert 4 <= time.time() - begun < 60
            told = {
                about["Original-Envelope-Id"]: (fields["Action"], fields["Status"]) for about, fields in reports(here)
            }
            assert told == {"back": ("failed", "5.4.7"), "told": ("delayed", "4.4.7")}


def test_no_promise_is_made_for_a_server_that_makes_none(tmp_path: Path) -> None:
    with NameServer() as dns, SMTPSink() as sink:
        dns.mail_domain("other.test")
        relay = {"resolver": [dns.address], "port": sink.port, "retry_first": "1 s", "retry_max": "1 s"}
        with RunningServer(tmp_path / "here", sections={"relay": relay}) as here:
            submit(here, CAROL, mail=["BY=100;R", "ENVID=back"], rcpt=[], content=CONTENT)
            submit(here, CAROL, mail=["BY=100;N", "ENVID=on"], rcpt=[], content=CONTENT)
            wait_until(lambda: len(reports(here)) == 2, what="the reports")
            told = {
                about["Original-Envelope-Id"]: (fields["Action"], fields["Status"]) for about, fields in reports(here)
            }
            assert told["back"] == ("failed", "5.3.3") and told["on"][0] == "relayed"
            assert len(here.messages(ALICE)) == 2
