"""Previews (RFC 8970): the first words, in one line, at most 200 characters."""

import time
from base64 import b64encode
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import parse, preview
from mailserver.message.preview import PREVIEW_LENGTH


def of(body: str | bytes, content_type: str = "text/plain; charset=utf-8", more: str = "") -> str:
    head = f"Content-Type: {content_type}\r\n{more}\r\n".encode()
    return preview(parse(head + (body.encode() if isinstance(body, str) else body)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Hello,\r\n\r\n   here is\tthe plan.\r\n", "Hello, here is the plan."),
        ("Yes.\r\n\r\nOn Monday Alice wrote:\r\n> Shall we?\r\n> Alice\r\n", "Yes."),
        ("> Shall we?\r\nYes.", "Yes."),
        ("> only quoted", "> only quoted"),
        ("Text\r\n-- \r\nSignature", "Text"),
        ("-- \r\nSignature", "-- Signature"),
        ("-----BEGIN PGP MESSAGE-----\r\nabc", ""),
        ("\ufeffafter a mark", "after a mark"),
        ("a\0b\x07c\x1b[1m", "abc[1m"),
        ("Grüße €", "Grüße €"),
        ("two \u200c\u00a0 \u200c\u00a0 words", "two words"),
    ],
)
def test_plain_text(text: str, expected: str) -> None:
    assert of(text) == expected


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>Hello&nbsp;<b>you</b> &amp; me</p>", "Hello you & me"),
        ("<html><head><title>no</title><style>p {}</style></head><body>yes</body></html>", "yes"),
        ("<SCRIPT>if (a < b) no()</SCRIPT>yes", "yes"),
        ("<!-- no <p> --> yes", "yes"),
        ("<style>never closed", ""),
        ("yes <!-- never closed", "yes"),
        ("a < b and <3", "a < b and <3"),
        ("yes <a href='never closed", "yes"),
        ("<!DOCTYPE html>yes<br/>and yes", "yes and yes"),
    ],
)
def test_html(html: str, expected: str) -> None:
    assert of(html, "text/html") == expected


def test_the_first_part_with_text_counts() -> None:
    content = b"""\
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: image/png

png
--b
Content-Type: text/plain
Content-Disposition: attachment

an attachment
--b
Content-Type: text/plain

\t
--b
Content-Type: text/html

<p>this</p>
--b--
""".replace(b"\n", b"\r\n")
    assert preview(parse(content)) == "this"


def test_without_text_it_is_empty() -> None:
    assert of("x", "image/png") == ""
    assert of("BEGIN:VCALENDAR", "text/calendar") == ""


def test_encoded_text() -> None:
    text = "Grüße " * 2000
    for body, encoding in (
        (b64encode(text.encode()), "base64"),
        (text.replace("ü", "=C3=BC").replace("ß", "=C3=9F"), "quoted-printable"),
    ):
        found = of(body, more=f"Content-Transfer-Encoding: {encoding}\r\n")
        assert found == text[:PREVIEW_LENGTH].rstrip()


@pytest.mark.parametrize("charset", ["utf-8", "gb18030", "iso-2022-jp", "euc-jp", "utf-16"])
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_a_character_that_the_window_cuts_does_no_harm(charset: str, shift: int) -> None:
    text = "a" * shift + "日本語" * 5000
    assert of(text.encode(charset), f"text/plain; charset={charset}") == text[:PREVIEW_LENGTH]


def test_a_long_head_of_html_is_passed_over() -> None:
    assert of("<style>" + "p {}\r\n" * 5000 + "</style>yes", "text/html") == "yes"


@pytest.mark.parametrize(
    "piece",
    [b"<", b"<style", b"<style></style", b"<!--", b"&", b"&#x", b"> \r\n", b"a:\r\n", b"\r\n", b" ", b"<a ", b"]"],
)
@pytest.mark.parametrize("subtype", ["html", "plain"])
def test_a_megabyte_of_anything_costs_little(piece: bytes, subtype: str) -> None:
    start = time.process_time()
    assert len(of(piece * (2**20 // len(piece)), f"text/{subtype}")) <= PREVIEW_LENGTH
    assert time.process_time() - start < 10


@given(
    st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda text: text.encode(errors="replace"))),
    st.sampled_from(["utf-8", "utf-7", "utf-16", "gb18030", "x"]),
    st.sampled_from(["html", "plain"]),
    st.sampled_from(["base64", "quoted-printable", "8bit"]),
)
def test_any_octets_give_one_short_line(body: bytes, charset: str, subtype: str, encoding: str) -> None:
    found = of(body, f"text/{subtype}; charset={charset}", f"Content-Transfer-Encoding: {encoding}\r\n")
    assert len(found) <= PREVIEW_LENGTH
    assert not any(category(sign) in ("Cc", "Cs") for sign in found)
