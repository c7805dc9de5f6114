"""DSN, SMTPUTF8 and BINARYMIME from one of our servers to another, over real sockets."""

from __future__ import annotations

from pathlib import Path

from tests.support.dns import NameServer
from tests.support.pair import CAROL, NOBODY, reports, submit
from tests.support.server import ALICE, RunningServer
from tests.support.sink import SMTPSink, wait_until


def test_the_last_server_tells_the_sender_that_it_delivered(pair: tuple[RunningServer, RunningServer]) -> None:
    here, there = pair
    options = {"mail": ["ENVID=QQ+2B1", "RET=HDRS"], "rcpt": ["NOTIFY=SUCCESS", "ORCPT=rfc822;Carol+2B@other.test"]}
    submit(here, CAROL, **options, content=b"From: alice@example.test\r\nSubject: told\r\n\r\nx\r\n")
    wait_until(lambda: reports(here), what="the report")
    ((about, recipient),) = reports(here)
    assert (about["Reporting-MTA"], about["Original-Envelope-Id"]) == ("dns; mail.other.test", "QQ+1")
    assert (recipient["Action"], recipient["Original-Recipient"]) == ("delivered", "rfc822;Carol+@other.test")
    assert len(there.messages(CAROL)) == 1


def test_a_failure_brings_the_whole_message_back_and_never_is_silence(
    pair: tuple[RunningServer, RunningServer],
) -> None:
    here, _ = pair
    content = b"From: alice@example.test\r\nSubject: returned\r\n\r\nall of it\r\n"
    submit(here, NOBODY, mail=[], rcpt=["NOTIFY=NEVER"], content=content)
    submit(here, NOBODY, mail=["RET=FULL"], rcpt=["NOTIFY=FAILURE"], content=content)
    wait_until(lambda: reports(here), what="the report")
    (report,) = here.messages(ALICE)
    assert b"Content-Type: message/rfc822" in report and b"all of it" in report
    assert b"NEVER" not in report


def test_utf8_and_binary_content_arrive_octet_for_octet(pair: tuple[RunningServer, RunningServer]) -> None:
    here, there = pair
    content = b"From: alice@example.test\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\n\r\n" + bytes(range(256))
    submit(here, CAROL, mail=["BODY=BINARYMIME", "SMTPUTF8"], rcpt=[], content=content)
    wait_until(lambda: there.messages(CAROL), what="the message")
    (message,) = there.messages(CAROL)
    assert message.endswith(bytes(range(256)))
    assert b"Subject: Gr\xc3\xbc\xc3\x9fe\r\n" in message and b"with UTF8SMTPS id" in message


def test_a_server_without_dsn_leaves_the_report_to_us(tmp_path: Path) -> None:
    with NameServer() as dns, SMTPSink() as sink:
        dns.mail_domain("other.test")
        relay = {"resolver": [dns.address], "port": sink.port, "retry_first": "1 s", "retry_max": "1 s"}
        with RunningServer(tmp_path / "here", sections={"relay": relay}) as here:
            submit(here, CAROL, mail=[], rcpt=["NOTIFY=SUCCESS"], content=b"From: alice@example.test\r\n\r\nx\r\n")
            wait_until(lambda: reports(here), what="the report")
            ((_, recipient),) = reports(here)
            assert recipient["Action"] == "relayed"
