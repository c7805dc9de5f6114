"""Mail goes out to a Postfix and comes in from it: octet for octet, encrypted, with the reports that are due."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from benchmarks.ports import free_ports
from tests.support import dovecot, postfix
from tests.support.clients import LARGE, SAMPLES, sample, unix, without_trace
from tests.support.dns import NameServer
from tests.support.dovecot import Dovecot
from tests.support.pair import submit
from tests.support.postfix import Postfix
from tests.support.reports import reports_on
from tests.support.server import ALICE, BOB, PASSWORD, RunningServer
from tests.support.sink import wait_until

pytestmark = pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())

ANNA, BEN, JÖRG = "anna@postfix.test", "ben@postfix.test", "jörg@postfix.test"
# Their mail goes to servers of Postfix that differ: one without any extension, one that takes small messages only.
BARE, SMALL = "bare@postfix.test", "small@postfix.test"
# As Postfix sends it: only encrypted to a certificate that holds, and by LMTP.
SECURE, TCP, SOCKET, SOCKET_TOO = "s@secure.test", "t@tcp.test", "u@socket.test", "v@socket.test"
SMALL_LIMIT = 20_000
EXTENSIONS = "pipelining,size,starttls,enhancedstatuscodes,8bitmime,dsn,smtputf8,chunking"


@dataclass
class Peers:
    """`there`, a Postfix, and `here`, which send each other what their domains' users write."""

    here: RunningServer
    there: Postfix
    relay: dict[str, object]
    clear: int
    """The port of Postfix without encryption."""

    def given(self, sender: str, recipients: Sequence[str], message: bytes, options: Sequence[str] = ()) -> None:
        """To Postfix, so that it sends it on."""
        with smtplib.SMTP("127.0.0.1", self.clear, local_hostname="client.test", timeout=30) as client:
            client.sendmail(sender, recipients, message, options)

    def sent(self, recipients: Sequence[str], message: bytes) -> None:
        """By Alice, with her own server."""
        with self.here.submission() as client:
            client.sendmail(ALICE, recipients, message)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    directory = tmp_path_factory.mktemp("here")
    there = Postfix(mailboxes=["anna", "ben", "jörg", "bare", "small"])
    with NameServer() as dns:
        dns.mail_domain("postfix.test")
        relay: dict[str, object] = {
            "resolver": [dns.address],
            "port": there.port,
            "retry_first": "1 s",
            "retry_max": "1 s",
            "idle_connection": "1 s",
        }
        bare = there.listener(smtpd_discard_ehlo_keywords=EXTENSIONS)
        small = there.listener(message_size_limit=str(SMALL_LIMIT))
        clear = there.listener(smtpd_tls_security_level="none")
        routes = [
            {"to": [BARE], "via": "smarthost", "host": f"127.0.0.1:{bare}"},
            {"to": [SMALL], "via": "smarthost", "host": f"127.0.0.1:{small}"},
        ]
        (lmtp,) = free_ports(1)
        socket = there.directory / "lmtp"
        endpoints = (f"tcp:{lmtp}:interface=127.0.0.1", f"unix:{socket}")
        listeners = [{"protocol": "lmtp", "endpoint": endpoint, "tls": "none"} for endpoint in endpoints]
        here = RunningServer(
            directory,
            accounts=dict.fromkeys((ALICE, BOB, SECURE, TCP, SOCKET, SOCKET_TOO), ()),
            sections={"relay": relay, "route": routes, "listener": listeners},
        )
        there.client("clear", smtp_tls_security_level="none")
        there.client(
            "secure",
            smtp_tls_security_level="secure",
            smtp_tls_secure_cert_match=here.hostname,
            smtp_tls_CAfile=str(here.ca_file),
            smtp_tls_loglevel="1",
        )
        there.transports = {
            "example.test": f"clear:[127.0.0.1]:{here.ports.smtp}",
            "secure.test": f"secure:[127.0.0.1]:{here.ports.smtp}",
            "tcp.test": f"lmtp:inet:127.0.0.1:{lmtp}",
            "socket.test": f"lmtp:unix:{socket}",
        }
        there.settings |= encryption(directory) | {
            "smtpd_tls_received_header": "yes",
            "smtp_line_length_limit": "0",
        }
        with there, here:
            yield Peers(here, there, relay, clear)


def encryption(directory: Path) -> dict[str, str]:
    """Settings for a server of Postfix that offers it, whose authority's certificate is in postfix-ca.pem."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(directory / "postfix-ca.pem"))
    certificate = ca.issue_cert(postfix.HOSTNAME)
    certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "postfix.pem"))
    return {"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": str(directory / "postfix.pem")}


def arrives(there: Postfix, mailbox: str, before: int) -> bytes:
    """The message that comes after so many others."""
    wait_until(lambda: len(there.messages(mailbox)) > before, what=f"a message for {mailbox}")
    return there.messages(mailbox)[before]


def comes(here: RunningServer, address: str, before: int = 0) -> bytes:
    wait_until(lambda: len(here.messages(address)) > before, what=f"a message for {address}")
    return here.messages(address)[before]


# Out to Postfix


@pytest.mark.parametrize("name", SAMPLES)
def test_messages_go_encrypted_to_the_exchanger_as_they_are(peers: Peers, name: str) -> None:
    before = len(peers.there.messages("anna"))
    peers.sent([ANNA], SAMPLES[name])
    message = arrives(peers.there, "anna", before)
    assert message.startswith(
        b"Return-Path: <alice@example.test>\nDelivered-To: anna@postfix.test\nReceived: from mail.example.test "
    )
    assert b"(using TLSv1.3 with cipher " in message and b"by mx.postfix.test (Postfix) with ESMTPS id " in message
    assert without_trace(message) == unix(SAMPLES[name])


def test_ten_megabytes_go_as_they_are(peers: Peers) -> None:
    before = len(peers.there.messages("anna"))
    peers.sent([ANNA], LARGE)
    assert without_trace(arrives(peers.there, "anna", before)) == unix(LARGE)


def test_all_mail_goes_to_the_smarthost(peers: Peers, tmp_path: Path) -> None:
    before = len(peers.there.messages("anna"))
    relay = peers.relay | {"smarthost": f"127.0.0.1:{peers.there.port}", "resolver": ["127.0.0.1:1"]}
    with RunningServer(tmp_path / "behind", hostname="behind.example.test", sections={"relay": relay}) as behind:
        with behind.submission() as client:
            client.sendmail(ALICE, [ANNA], SAMPLES["dots"])
        message = arrives(peers.there, "anna", before)
    assert b"Received: from behind.example.test " in message
    assert without_trace(message) == unix(SAMPLES["dots"])


def test_who_is_refused_is_reported_and_the_others_have_the_message(peers: Peers) -> None:
    before, also_before = len(peers.there.messages("anna")), len(peers.there.messages("ben"))
    logged = len(peers.there.log())
    nobody = "nobody@postfix.test"
    peers.sent([ANNA, nobody, BEN], SAMPLES["usual"])
    for mailbox, count in (("anna", before), ("ben", also_before)):
        assert without_trace(arrives(peers.there, mailbox, count)) == unix(SAMPLES["usual"])
    wait_until(lambda: reports_on(peers.here.messages(ALICE), nobody), what="a report")
    (report,) = reports_on(peers.here.messages(ALICE), nobody)
    assert report.outcome == ("failed", "5.1.1")
    assert report.about["Reporting-MTA"] == "dns; mail.example.test"
    assert report.recipient["Remote-MTA"] == "dns; mx.postfix.test"
    assert "User unknown in virtual mailbox table" in " ".join(report.recipient["Diagnostic-Code"].split())
    wait_until(lambda: "nrcpt=2 (queue active)" in peers.there.log()[logged:], what="both in one transaction")
    for known in (ANNA, BEN):
        assert reports_on(peers.here.messages(ALICE), known) == []


def test_international_addresses_and_headers_go_as_they_are(peers: Peers) -> None:
    content = "From: alice@example.test\r\nTo: jörg@postfix.test\r\nSubject: Grüße\r\n\r\nÄ\r\n".encode()
    submit(peers.here, JÖRG, mail=["SMTPUTF8", "BODY=8BITMIME"], rcpt=[], content=content)
    message = arrives(peers.there, "jörg", 0)
    assert b"with UTF8SMTPS id" in message
    assert without_trace(message).endswith(unix(content)[len("From: alice@example.test\n") :])


def test_postfix_tells_the_sender_that_it_delivered(peers: Peers) -> None:
    options = {"mail": ["ENVID=QQ+2B1", "RET=HDRS"], "rcpt": ["NOTIFY=SUCCESS", "ORCPT=rfc822;Ben+2B@postfix.test"]}
    submit(peers.here, BEN, **options, content=b"From: alice@example.test\r\nSubject: told\r\n\r\nx\r\n")
    wait_until(lambda: reports_on(peers.here.messages(ALICE), BEN), what="the report")
    (report,) = reports_on(peers.here.messages(ALICE), BEN)
    assert (report.about["Reporting-MTA"], report.about["Original-Envelope-Id"]) == ("dns; mx.postfix.test", "QQ+1")
    assert report.outcome[0] == "delivered"
    assert report.recipient["Original-Recipient"] == "rfc822;Ben+@postfix.test"


def test_a_message_that_is_too_large_is_reported_without_being_sent(peers: Peers) -> None:
    peers.sent([SMALL], sample("fits", b"x" * 70 + b"\r\n"))
    arrives(peers.there, "small", 0)
    peers.sent([SMALL], sample("large", (b"x" * 70 + b"\r\n") * 300))
    wait_until(lambda: reports_on(peers.here.messages(ALICE), SMALL), what="a report")
    (report,) = reports_on(peers.here.messages(ALICE), SMALL)
    assert report.outcome == ("failed", "5.3.4")
    assert str(SMALL_LIMIT).encode() in report.text
    assert len(peers.there.messages("small")) == 1
    assert "message size" not in peers.there.log()


def test_a_server_without_extensions_takes_what_it_can(peers: Peers) -> None:
    before = len(peers.there.messages("bare"))
    peers.sent([BARE], SAMPLES["dots"])
    message = arrives(peers.there, "bare", before)
    assert b"by mx.postfix.test (Postfix) with ESMTP id " in message
    assert without_trace(message) == unix(SAMPLES["dots"])
    peers.sent([BARE], SAMPLES["eight-bit"])
    wait_until(lambda: reports_on(peers.here.messages(ALICE), BARE), what="a report")
    submit(peers.here, BARE, mail=[], rcpt=["NOTIFY=SUCCESS"], content=SAMPLES["usual"])
    wait_until(lambda: len(reports_on(peers.here.messages(ALICE), BARE)) == 2, what="a second report")
    assert {report.outcome for report in reports_on(peers.here.messages(ALICE), BARE)} == {
        ("failed", "5.6.3"),
        ("relayed", "2.0.0"),
    }
    assert len(peers.there.messages("bare")) == before + 2


def test_messages_that_follow_each_other_share_connections(peers: Peers) -> None:
    time.sleep(1.2)  # until what is open is closed
    before, logged = len(peers.there.messages("anna")), len(peers.there.log())
    with peers.here.submission() as client:
        for number in range(10):
            client.sendmail(ALICE, [ANNA], sample(f"number-{number}", b"x\r\n"))
    arrives(peers.there, "anna", before + 9)
    sent = f"to=<{ANNA}>, "

    def all_sent() -> bool:
        lines = peers.there.log()[logged:].splitlines()
        return sum(sent in line and "status=sent (delivered to maildir)" in line for line in lines) >= 10

    wait_until(all_sent, what="all lines of the log")
    assert peers.there.log()[logged:].count("]: connect from ") < 10


@pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing())
def test_logs_in_at_the_smarthost_whose_certificate_holds(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "right").write_text(f"{PASSWORD}\n")
    (here / "wrong").write_text("wrong\n")
    there = Postfix(mailboxes=["anna", "ben"])
    with NameServer() as dns, Dovecot(password=PASSWORD) as users:
        dns.zone[postfix.HOSTNAME, "A"] = ["127.0.0.1"]
        there.settings |= encryption(here) | {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": f"inet:127.0.0.1:{users.auth_port}",
            "smtpd_tls_auth_only": "yes",
            "smtpd_relay_restrictions": "permit_sasl_authenticated,reject",
            "smtpd_recipient_restrictions": "permit_sasl_authenticated,reject",
        }
        smarthost = {"via": "smarthost", "host": f"{postfix.HOSTNAME}:{there.port}", "user": "customer"}
        sections = {
            "relay": {"resolver": [dns.address], "retry_first": "1 s", "retry_max": "1 s"},
            "route": [smarthost | {"to": [BEN], "password_file": "wrong"}, smarthost | {"password_file": "right"}],
        }
        trusting = {"SSL_CERT_FILE": str(here / "postfix-ca.pem")}
        with there, RunningServer(here, sections=sections, environment=trusting) as server:
            with server.submission() as client:
                client.sendmail(ALICE, [ANNA], SAMPLES["usual"])
                assert b"with ESMTPSA id" in arrives(there, "anna", 0)
                client.sendmail(ALICE, [BEN], SAMPLES["usual"])
            wait_until(lambda: "sasl_method=PLAIN, sasl_username=customer" in there.log(), what="a login")
            wait_until(lambda: "refused the login of this server" in server.log(), what="a refused login")
            wait_until(lambda: "SASL PLAIN authentication failed" in there.log(), what="a failed login")
            assert (there.messages("ben"), server.messages(ALICE)) == ([], [])


# In from Postfix


@pytest.mark.parametrize("name", SAMPLES)
def test_messages_come_from_postfix_as_they_are(peers: Peers, name: str) -> None:
    before = len(peers.here.messages(BOB))
    peers.given(ANNA, [BOB], SAMPLES[name], ["BODY=8BITMIME"])
    message = comes(peers.here, BOB, before)
    assert b"Received: from mx.postfix.test (" in message and b"by mail.example.test with ESMTP id" in message
    assert without_trace(message) == unix(SAMPLES[name])


def test_ten_megabytes_come_from_postfix_as_they_are(peers: Peers) -> None:
    before = len(peers.here.messages(BOB))
    peers.given(ANNA, [BOB], LARGE)
    assert without_trace(comes(peers.here, BOB, before)) == unix(LARGE)


def test_postfix_finds_the_certificate_to_hold(peers: Peers) -> None:
    peers.given(ANNA, [SECURE], SAMPLES["eight-bit"], ["BODY=8BITMIME"])
    message = comes(peers.here, SECURE)
    assert b"with ESMTPS id" in message and without_trace(message) == unix(SAMPLES["eight-bit"])
    verified = "Verified TLS connection established to 127.0.0.1"
    wait_until(lambda: verified in peers.there.log(), what="a verified certificate")


def test_postfix_returns_what_is_for_nobody_and_the_others_have_it(peers: Peers) -> None:
    before = len(peers.here.messages(BOB))
    nobody = "nobody@example.test"
    peers.given(ANNA, [nobody, BOB], SAMPLES["usual"])
    assert without_trace(comes(peers.here, BOB, before)) == unix(SAMPLES["usual"])
    wait_until(lambda: reports_on(peers.there.messages("anna"), nobody), what="the report by Postfix")
    (report,) = reports_on(peers.there.messages("anna"), nobody)
    assert report.outcome == ("failed", "5.1.1")
    assert report.about["Reporting-MTA"] == "dns; mx.postfix.test"
    assert report.recipient["Remote-MTA"] == "dns; 127.0.0.1"
    assert report.recipient["Diagnostic-Code"].startswith("smtp; 550 5.1.1 ")


def test_postfix_passes_on_what_the_sender_wants_to_know(peers: Peers) -> None:
    with smtplib.SMTP("127.0.0.1", peers.clear, local_hostname="client.test", timeout=30) as client:
        client.sendmail(ANNA, [BOB], SAMPLES["usual"], ["ENVID=e-1"], ["NOTIFY=SUCCESS", f"ORCPT=rfc822;{BOB}"])
    wait_until(lambda: reports_on(peers.there.messages("anna"), BOB), what="the report")
    (report,) = reports_on(peers.there.messages("anna"), BOB)
    assert report.outcome[0] == "delivered"
    assert report.about["Reporting-MTA"] == "dns; mail.example.test"
    assert (report.about["Original-Envelope-Id"], report.recipient["Original-Recipient"]) == ("e-1", f"rfc822;{BOB}")


def test_international_mail_comes_from_postfix_as_it_is(peers: Peers) -> None:
    before = len(peers.here.messages(BOB))
    content = "From: jörg@postfix.test\r\nTo: bob@example.test\r\nSubject: Grüße\r\n\r\nÄ\r\n".encode()
    with smtplib.SMTP("127.0.0.1", peers.clear, local_hostname="client.test", timeout=30) as client:
        client.ehlo()
        client.sendmail(JÖRG, [BOB], content, ["SMTPUTF8", "BODY=8BITMIME"])
    message = comes(peers.here, BOB, before)
    assert b"with UTF8SMTP id" in message and message.startswith("Return-Path: <jörg@postfix.test>\n".encode())
    assert without_trace(message) == unix(content)


@pytest.mark.parametrize("known", [[TCP], [SOCKET, SOCKET_TOO]], ids=["tcp", "socket"])
def test_postfix_hands_over_by_lmtp_and_has_an_answer_for_each(peers: Peers, known: list[str]) -> None:
    nobody = "nobody@" + known[0].partition("@")[2]
    logged = len(peers.there.log())
    peers.given(ANNA, [nobody, *known], SAMPLES["eight-bit"], ["BODY=8BITMIME"])
    for address in known:
        message = comes(peers.here, address)
        assert b"with LMTP id" in message and without_trace(message) == unix(SAMPLES["eight-bit"])
    wait_until(lambda: reports_on(peers.there.messages("anna"), nobody), what="the report by Postfix")
    assert reports_on(peers.there.messages("anna"), nobody)[0].outcome == ("failed", "5.1.1")
    for address in known:

        def sent(to: str = f"to=<{address}>") -> list[str]:
            return [line for line in peers.there.log()[logged:].splitlines() if to in line and "status=sent" in line]

        wait_until(sent, what="a line of the log")
        (line,) = sent()
        assert "/lmtp[" in line and "(250 2." in line
