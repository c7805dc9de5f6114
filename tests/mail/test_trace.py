"""Trace fields as RFC 5321 §4.4 writes them."""

from email import message_from_bytes
from email.utils import parsedate_to_datetime

from mailserver.mail import Address
from mailserver.mail.trace import Arrival, date_time, received_field, return_path_field

WHEN = 1_700_000_000.0


def test_date_time() -> None:
    assert date_time(WHEN) == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert parsedate_to_datetime(date_time(WHEN)).timestamp() == WHEN


def test_received() -> None:
    arrival = Arrival("client.example", "192.0.2.7", "ESMTPS", "abc1", "TLSv1.3 TLS_AES_256_GCM_SHA384")
    field = received_field(arrival, by="mx.example.org", when=WHEN, recipient=Address("bob", "example.org"))
    assert field == (
        b"Received: from client.example ([192.0.2.7])\r\n"
        b"\t(using TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tby mx.example.org with ESMTPS id abc1\r\n"
        b"\tfor <bob@example.org>;\r\n"
        b"\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


def test_a_client_cannot_inject_a_field_by_its_name() -> None:
    arrival = Arrival("x\r\nSubject: evil (", "2001:db8::1", "SMTP", "abc1")
    field = received_field(arrival, by="mx.example.org", when=WHEN)
    assert message_from_bytes(field + b"\r\n").keys() == ["Received"]
    assert b"[IPv6:2001:db8::1]" in field


def test_return_path() -> None:
    assert return_path_field(None) == b"Return-Path: <>\r\n"
    assert return_path_field(Address("a b", "example.org")) == b'Return-Path: <"a b"@example.org>\r\n'


def test_the_recipient_stands_in_ascii_where_it_can() -> None:
    arrival = Arrival("h", "192.0.2.1", "ESMTP", "x.1")
    field = received_field(arrival, by="mx.example.org", when=WHEN, recipient=Address("bob", "b\u00fccher.example"))
    assert b"for <bob@xn--bcher-kva.example>" in field and field.isascii()
