"""Hostile messages: bounded depth, parts and time (CVE-2024-23184, CVE-2024-23185, CVE-2026-27859)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailserver.message import (
    Part,
    addresses,
    body_texts,
    envelope,
    fields,
    header_text,
    parse,
    read_envelope,
    structures,
)
from mailserver.message.addresses import VALUE_LIMIT
from mailserver.message.parameters import PARAMETER_LIMIT
from mailserver.message.structure import DEPTH_LIMIT, PART_LIMIT

MIB = 2**20


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Generous: a quadratic step takes minutes where a linear one takes a fraction of a second."""
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


def digest(content: bytes) -> Part:
    """All that a FETCH and a SEARCH may ask of it."""
    message = parse(content)
    envelope(read_envelope(message))
    fields(content[: message.header[1]])
    structures(message)
    for text in body_texts(message):
        assert isinstance(text, str)
    return message


def depth(part: Part) -> int:
    inner = (part.message,) if part.message else part.parts
    return 1 + max((depth(child) for child in inner), default=0)


@pytest.mark.parametrize("piece", [b":", b"a:\r\n", b"\r\n ", b" :", b"a", b"\0", b"\r", b"a b\r\n"])
def test_a_megabyte_of_header(piece: bytes) -> None:
    with at_most(30):
        digest(piece * (MIB // len(piece)))


@pytest.mark.parametrize("name", [b"Subject", b"Date", b"Message-ID", b"From"])
def test_one_endless_field_does_not_make_an_endless_envelope(name: bytes) -> None:
    assert len(envelope(read_envelope(parse(name + b": " + b"x" * MIB + b"\r\n\r\n")))) < 4 * VALUE_LIMIT


@pytest.mark.parametrize(
    "piece",
    [b",", b"a,", b" ", b"a ", b"<", b"<@", b"@", b"a@b<", b":;", b"(", b"()", b"(\\", b'"', b"\\", b'""<', b"["],
)
def test_a_megabyte_of_address_field(piece: bytes) -> None:
    value = piece * (MIB // len(piece))
    with at_most(30):
        assert len(addresses(value)) <= 2 * VALUE_LIMIT
        digest(b"From: " + value + b"\r\n\r\n")


@pytest.mark.parametrize("piece", [b";", b"; a", b";a=", b"; a=b", b';a="', b"(", b"()", b'"', b" ", b"/", b";a*0=b"])
def test_a_megabyte_of_parameters(piece: bytes) -> None:
    with at_most(30):
        digest(b"Content-Type: text/plain" + piece * (MIB // len(piece)) + b"\r\n\r\n")


def test_parameters_are_bounded() -> None:
    many = b"".join(b"; p%d=x" % n for n in range(3 * PARAMETER_LIMIT))
    assert len(parse(b"Content-Type: text/plain" + many + b"\r\n\r\n").parameters) == PARAMETER_LIMIT


@pytest.mark.parametrize("value", [b"=?", b"=?a?q?", b"=?a?q??=", b"=?a?q?b?= ", b"=?utf-8?b?=", b"=?="])
def test_a_megabyte_of_encoded_words(value: bytes) -> None:
    with at_most(30):
        header_text(value * (MIB // len(value)))


@pytest.mark.parametrize("boundary", [b"b%d", b"same"])
def test_nested_multiparts(boundary: bytes) -> None:
    levels = [boundary % n if b"%" in boundary else boundary for n in range(10_000)]
    content = b"".join(b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n--%b\r\n" % (b, b) for b in levels)
    with at_most(30):
        message = digest(content)
    assert 1 < depth(message) <= DEPTH_LIMIT + 1


def test_nested_messages() -> None:
    with at_most(30):
        message = digest(b"Content-Type: message/rfc822\r\n\r\n" * 100_000)
    assert depth(message) == DEPTH_LIMIT + 1


@pytest.mark.parametrize("filling", [b"\r\n", b"--b\r\n", b"--b0", b"-", b"\r\n--"])
def test_a_long_body_at_the_bottom_of_nested_multiparts(filling: bytes) -> None:
    levels = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(100))
    with at_most(30):
        digest(levels + b"\r\n" + filling * (2 * MIB // len(filling)))


@pytest.mark.parametrize("subtype", [b"mixed", b"digest"])
def test_parts_are_bounded(subtype: bytes) -> None:
    content = b"Content-Type: multipart/" + subtype + b"; boundary=b\r\n\r\n" + b"--b\r\n" * 100_000
    with at_most(30):
        message = digest(content)
    assert len(message.parts) < PART_LIMIT
    assert message.parts[-1].body[1] == len(content)


def test_endless_lines_that_only_look_like_a_delimiter() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
    with at_most(30):
        message = digest(head + b"--bx\r\n" * 1_000_000)
    assert len(message.parts) == 1


def test_boundaries_that_begin_with_each_other() -> None:
    levels = b"".join(
        b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n--%b\r\n" % (b"a" * n, b"a" * n) for n in range(99, 0, -1)
    )
    with at_most(30):
        digest(levels + b"\r\n" + (b"--" + b"a" * 100 + b"\r\n") * 20_000)


def test_a_boundary_of_a_megabyte() -> None:
    boundary = b"b" * MIB
    content = (
        b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n--" + boundary[1:] + b"\r\n--" + boundary
    )
    with at_most(30):
        assert len(digest(content).parts) == 1


def test_enclosed_messages_cannot_have_endless_headers() -> None:
    one = b'--b\r\n\r\nFrom: ""<""<""<""<\r\n' * 3_000
    with at_most(30):
        digest(b"Content-Type: multipart/digest; boundary=b\r\n\r\n" + one)
