"""LMTP (RFC 2033) and PRDR: one answer for each recipient after the content."""

from __future__ import annotations

import pytest

from mailserver.mail import Reply
from mailserver.smtp.events import BodyChunk, BodyEnd, Mail, Rcpt, Rejected
from mailserver.smtp.misuse import ProtocolMisuse
from mailserver.smtp.server import Limits, ServerConnection
from tests.support.smtp import Host


def test_the_example_of_rfc_2033() -> None:
    server = Host(
        lmtp=True, answer=lambda e: Reply(550, "No") if isinstance(e, Rcpt) and e.address.local == "green" else None
    )
    server.greeted()
    assert server.feed(b"LHLO foo.edu\r\n").startswith(b"250-foo.com")
    recipients = b"RCPT TO:<pat@foo.edu>\r\nRCPT TO:<jones@foo.edu>\r\nRCPT TO:<green@foo.edu>\r\n"
    assert server.codes(b"MAIL FROM:<chris@bar.com>\r\n" + recipients + b"DATA\r\n") == [250, 250, 250, 550, 354]
    server.engine.receive_data(b"Blah blah blah...\r\n.\r\nQUIT\r\n")
    assert isinstance(server.engine.next_event(), BodyChunk)
    assert isinstance(server.engine.next_event(), BodyEnd)
    server.engine.reply_each([Reply.of(250, "2.0.0", "Ok"), Reply.of(452, "4.2.2", "Full")])
    assert server.engine.data_to_send() == b"250 2.0.0 Ok\r\n452 4.2.2 Full\r\n"
    assert server.codes() == []
    assert server.codes(b"") == [221]


@pytest.mark.parametrize("line", [b"EHLO a", b"HELO a"])
def test_lmtp_is_greeted_by_lhlo_alone(line: bytes) -> None:
    server = Host(lmtp=True).greeted()
    assert server.feed(b"MAIL FROM:<>\r\n") == b"503 5.5.1 Send LHLO first\r\n"
    assert server.codes(line + b"\r\n") == [500]
    assert b"PRDR" not in server.feed(b"LHLO a\r\n")


def test_smtp_knows_no_lhlo() -> None:
    server = Host().greeted()
    assert server.codes(b"LHLO a\r\n") == [500]
    assert isinstance(server.events[0], Rejected)


def test_prdr_is_asked_for_in_mail() -> None:
    server = Host().greeted()
    assert b"250-PRDR\r\n" in server.feed(b"EHLO a\r\n")
    server.feed(b"MAIL FROM:<a@b.c> PRDR\r\n")
    event = server.events[-1]
    assert isinstance(event, Mail) and event.prdr


def test_answers_for_each_come_after_the_content_only() -> None:
    engine = ServerConnection("foo.com", Limits(), lmtp=True)
    engine.greet(Reply(220, "LMTP"))
    engine.receive_data(b"LHLO a\r\n")
    engine.next_event()
    with pytest.raises(ProtocolMisuse):
        engine.reply_each([Reply(250, "Ok")])


def test_an_address_that_is_not_ascii_needs_smtputf8() -> None:
    server = Host().greeted()
    server.feed(b"EHLO a\r\n")
    assert server.codes("MAIL FROM:<jürgen@exämple.org>\r\n".encode()) == [553]
    assert server.codes("MAIL FROM:<jürgen@exämple.org> SMTPUTF8\r\nRCPT TO:<ö@foo.com>\r\n".encode()) == [250, 250]
    assert server.codes(b"RSET\r\nMAIL FROM:<a@b.c>\r\n" + "RCPT TO:<ö@foo.com>\r\n".encode()) == [250, 250, 553]
