"""The helpers for whole-server tests do what they are asked to."""

import smtplib

import dns.exception
import dns.resolver
import pytest

from tests.support.dns import Fault, NameServer
from tests.support.sink import CLOSE, PATIENCE, SMTPSink


def resolver(server: NameServer, lifetime: float = PATIENCE) -> dns.resolver.Resolver:
    asking = dns.resolver.Resolver(configure=False)
    asking.nameservers, asking.port, asking.lifetime = ["127.0.0.1"], server.port, lifetime
    return asking


def test_the_zone_changes_at_run_time() -> None:
    with NameServer() as server:
        server.mail_domain("example.net", "127.0.0.2")
        (mx,) = resolver(server).resolve("example.net", "MX")
        (address,) = resolver(server).resolve(mx.exchange, "A")
        assert (mx.preference, str(mx.exchange), address.address) == (10, "mx.example.net.", "127.0.0.2")
        with pytest.raises(dns.resolver.NoAnswer):
            resolver(server).resolve("mx.example.net", "AAAA")
        with pytest.raises(dns.resolver.NXDOMAIN):
            resolver(server).resolve("new.test", "MX")
        server.zone["new.test", "CNAME"] = ["example.net."]
        assert len(resolver(server).resolve("new.test", "MX")) == 1
        assert ("new.test", "MX") in server.questions


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED, Fault.SILENCE, Fault.GARBAGE])
def test_names_misbehave_when_they_are_told_to(fault: Fault) -> None:
    with NameServer() as server:
        server.mail_domain("example.net")
        server.faults["example.net"] = fault
        with pytest.raises((dns.resolver.NoNameservers, dns.exception.Timeout)):
            resolver(server, 0.3).resolve("example.net", "MX")
        assert resolver(server).resolve("mx.example.net", "A")


def test_a_polite_sink_keeps_every_octet() -> None:
    body = b"Subject: x\r\n\r\n.\r\n..dots\r\n\xff\r\n"
    with SMTPSink() as sink, smtplib.SMTP("127.0.0.1", sink.port, timeout=PATIENCE) as client:
        client.sendmail("a@b", ["c@d", "e@f"], body)
        (message,) = sink.wait(1)
        assert (message.sender, message.recipients, message.data, message.tls) == ("a@b", ["c@d", "e@f"], body, False)


def test_a_sink_follows_its_script() -> None:
    script = {"RCPT": lambda argument: "550 5.1.1 No" if "bad" in argument else "250 OK", "BODY": ["451 Later", CLOSE]}
    with SMTPSink(dict(script)) as sink, smtplib.SMTP("127.0.0.1", sink.port, timeout=PATIENCE) as client:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("a@b", ["bad@d", "c@d"], b"x\r\n")
        assert refused.value.smtp_code == 451
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.sendmail("a@b", ["c@d"], b"x\r\n")
        sink.wait_for_command("RCPT TO:<bad@d>")
        assert sink.taken == []
