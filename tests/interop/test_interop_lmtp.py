"""Mail goes by LMTP to a Dovecot, over TCP and a UNIX socket: octet for octet, with an answer for each recipient."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import dovecot
from tests.support.clients import LARGE, SAMPLES, unix, without_trace
from tests.support.dovecot import Dovecot
from tests.support.pair import submit
from tests.support.reports import reports_on
from tests.support.server import ALICE, RunningServer
from tests.support.sink import wait_until

pytestmark = pytest.mark.skipif(bool(dovecot.missing("lmtp")), reason=dovecot.missing("lmtp"))

DORA, EMIL, FULL = "dora@tcp.test", "emil@tcp.test", "full@tcp.test"
GUDRUN, HUGO = "gudrun@socket.test", "hugo@socket.test"


@pytest.fixture(scope="module")
def mailboxes() -> Iterator[Dovecot]:
    with Dovecot(accounts=[DORA, EMIL, FULL, GUDRUN, HUGO], full=[FULL]) as running:
        running.wait()
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mailboxes: Dovecot) -> Iterator[RunningServer]:
    sections = {
        "relay": {"retry_first": "1 s", "retry_max": "1 s", "idle_connection": "1 s"},
        "route": [
            {"to": ["tcp.test"], "via": "lmtp", "host": f"127.0.0.1:{mailboxes.lmtp_port}"},
            {"to": ["socket.test"], "via": "lmtp", "host": f"unix:{mailboxes.lmtp_socket}"},
        ],
    }
    with RunningServer(tmp_path_factory.mktemp("server"), sections=sections) as running:
        yield running


def delivered(mailboxes: Dovecot, address: str, before: int = 0) -> bytes:
    wait_until(lambda: len(mailboxes.delivered(address)) > before, what=f"a message for {address}")
    return mailboxes.delivered(address)[before]


@pytest.mark.parametrize("address", [DORA, GUDRUN], ids=["tcp", "socket"])
@pytest.mark.parametrize("name", SAMPLES)
def test_messages_arrive_as_they_were_sent(server: RunningServer, mailboxes: Dovecot, address: str, name: str) -> None:
    before = len(mailboxes.delivered(address))
    with server.submission() as client:
        client.sendmail(ALICE, [address], SAMPLES[name])
    message = delivered(mailboxes, address, before)
    assert message.startswith(f"Return-Path: <{ALICE}>\nDelivered-To: {address}\nReceived: ".encode())
    assert without_trace(message) == unix(SAMPLES[name])


@pytest.mark.parametrize("address", [DORA, GUDRUN], ids=["tcp", "socket"])
def test_ten_megabytes_arrive_as_they_were_sent(server: RunningServer, mailboxes: Dovecot, address: str) -> None:
    before = len(mailboxes.delivered(address))
    with server.submission() as client:
        client.sendmail(ALICE, [address], LARGE)
    assert without_trace(delivered(mailboxes, address, before)) == unix(LARGE)


@pytest.mark.parametrize("known", [[DORA, EMIL], [GUDRUN, HUGO]], ids=["tcp", "socket"])
def test_who_is_refused_is_reported_and_the_others_have_the_message(
    server: RunningServer, mailboxes: Dovecot, known: list[str]
) -> None:
    before = [len(mailboxes.delivered(address)) for address in known]
    nobody = "nobody@" + known[0].partition("@")[2]
    with server.submission() as client:
        client.sendmail(ALICE, [known[0], nobody, known[1]], SAMPLES["usual"])
    for address, count in zip(known, before, strict=True):
        assert without_trace(delivered(mailboxes, address, count)) == unix(SAMPLES["usual"])
        relayed = f"to=<{address}> relayed "
        wait_until(lambda r=relayed, n=count + 1: server.log().count(r) == n, what="a line of the log")  # type: ignore[misc]
    wait_until(lambda: reports_on(server.messages(ALICE), nobody), what="a report")
    (report,) = reports_on(server.messages(ALICE), nobody)
    assert report.outcome == ("failed", "5.1.1")
    assert report.recipient["Diagnostic-Code"].startswith("smtp; 550 5.1.1 ")
    assert not any(reports_on(server.messages(ALICE), address) for address in known)


def test_who_is_refused_after_the_content_is_reported_and_the_others_have_the_message(
    server: RunningServer, mailboxes: Dovecot
) -> None:
    before = len(mailboxes.delivered(EMIL))
    with server.submission() as client:
        client.sendmail(ALICE, [FULL, EMIL], SAMPLES["usual"])
    assert without_trace(delivered(mailboxes, EMIL, before)) == unix(SAMPLES["usual"])
    wait_until(lambda: reports_on(server.messages(ALICE), FULL), what="a report")
    (report,) = reports_on(server.messages(ALICE), FULL)
    assert report.outcome == ("failed", "5.2.2")
    assert "Quota exceeded" in report.recipient["Diagnostic-Code"]
    assert mailboxes.delivered(FULL) == []


def test_the_sender_is_told_that_it_was_handed_on(server: RunningServer, mailboxes: Dovecot) -> None:
    """Dovecot offers no DSN."""
    submit(server, HUGO, mail=["RET=HDRS"], rcpt=["NOTIFY=SUCCESS"], content=SAMPLES["usual"])
    wait_until(lambda: reports_on(server.messages(ALICE), HUGO), what="the report")
    (report,) = reports_on(server.messages(ALICE), HUGO)
    assert report.outcome == ("relayed", "2.0.0")
