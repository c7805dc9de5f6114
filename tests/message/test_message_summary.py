"""The header summary holds what it says, octet for octet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import covers, summary, whole_fields

HEADER = (
    b"Return-Path: <a@b>\r\n"
    b"Received: from x\r\n\tby y;\r\n\tToday\r\n"
    b"RECEIVED : again\r\n"
    b"From: a@b\r\n"
    b"not a field\r\n"
    b"ARC-Seal: i=1;\r\n b=abc\r\n"
    b"X-Google-Smtp-Source: xyz\r\n"
    b"Received-By: kept\r\n"
    b"Subject: one\r\n two\r\n"
    b"DKIM-Signature: v=1\r\n"
    b"\r\n"
)


def test_bulky_fields_are_left_out() -> None:
    assert summary(HEADER) == (b"From: a@b\r\nnot a field\r\nReceived-By: kept\r\nSubject: one\r\n two\r\n\r\n")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", b"\r\n"),
        (b"\r\n", b"\r\n"),
        (b"A: b", b"A: b\r\n\r\n"),
        (b"A: b\r\n", b"A: b\r\n\r\n"),
        (b"Received: b", b"\r\n"),
        (b"A: b\r\nReceived: c", b"A: b\r\n\r\n"),
        (b"A: b\n\n", b"A: b\n\n"),
    ],
)
def test_there_is_always_a_blank_line_at_the_end(header: bytes, expected: bytes) -> None:
    assert summary(header) == expected


def test_requests_that_the_summary_can_answer() -> None:
    assert covers([b"From", b"TO", b"List-Id", b"X-Spam-Flag"])
    assert covers([])
    for bulky in (b"Received", b"rEcEiVeD", b"ARC-Seal", b"x-google-dkim-signature", b"DKIM-Signature"):
        assert not covers([b"From", bulky])


NAME = st.sampled_from([b"From", b"Received", b"received-spf", b"X-Google-1", b"Subject", b"ARC-Seal", b"Receivedx"])
LINE = st.sampled_from([b"\r\n", b"\r\n ", b"\n\t", b": ", b"junk", b"\n", b"\r", b" "])


@given(st.lists(st.one_of(NAME, LINE), max_size=30).map(b"".join), NAME)
def test_what_is_covered_is_found_in_it_as_in_the_header(header: bytes, name: bytes) -> None:
    if covers([name]):
        wanted = frozenset((name.lower(),))
        expected, found = whole_fields(header, wanted), whole_fields(summary(header), wanted)
        assert [field.rstrip(b"\r\n") for field in found] == [field.rstrip(b"\r\n") for field in expected]
