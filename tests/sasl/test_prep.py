"""SASLprep and PRECIS: the examples of RFC 4013 §3 and RFC 8265 §3.5 and §4.3, and what names are made of."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from mailserver.sasl import prepare_name, prepare_password, saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("pass\u00a0word", "pass word"),
        ("pa\u0308ss", "p\u00e4ss"),
        ("\ufb01nd", "find"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("", ""),
        ("\U0001f511 key", "\U0001f511 key"),
    ],
)
def test_what_is_prepared(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031", "a\u0627", "\ud800", "\ue000", "\ufffd", "\u200e"])
def test_what_is_prohibited(text: str) -> None:
    with pytest.raises(ValueError, match="may not"):
        saslprep(text)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("alice@example.org", "alice@example.org"),
        ("ALICE@Example.ORG", "alice@example.org"),
        ("\uff21\uff4cice\uff20example.org", "alice@example.org"),  # of full width, as some keyboards give
        ("J\u00dcRGEN@b\u00fccher.example", "j\u00fcrgen@b\u00fccher.example"),
        ("ju\u0308rgen", "j\u00fcrgen"),
        ('"a b"@example.org', '"a b"@example.org'),
        ("\u03a3\u03c2", "\u03c3\u03c2"),  # the final sigma stays one: RFC 8265 §3.5
        ("juliet@example.com", "juliet@example.com"),
        ("fussball", "fussball"),
        ("fu\u00dfball", "fu\u00dfball"),
        ("\u03c0", "\u03c0"),
    ],
)
def test_names(text: str, prepared: str) -> None:
    assert prepare_name(text) == prepared
    assert prepare_name(prepared) == prepared


@pytest.mark.parametrize(
    "text",
    ["henri\u2163", "\u221e", "a\u00a0b", "a\tb", "a\0", "\u200d", "\ud800", "\ue000", "\u0627a", "x" * 1025, "\u2163"],
)
def test_what_no_name_has(text: str) -> None:
    with pytest.raises(ValueError, match=r"the name (is|has)") as caught:
        prepare_name(text)
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("\u03c0\u00df\u00e5", "\u03c0\u00df\u00e5"),
        ("Jack of \u2666s", "Jack of \u2666s"),
        ("foo\u1680bar", "foo bar"),
        ("pa\u0308ss", "p\u00e4ss"),
        ("\uff41", "\uff41"),  # width counts
        (" x ", " x "),
    ],
)
def test_passwords_by_the_examples_of_rfc_8265(text: str, prepared: str) -> None:
    assert prepare_password(text) == prepared
    assert prepare_password(prepared) == prepared


@pytest.mark.parametrize("text", ["", "my cat is a \tby", "a\0", "\ud800", "\ue000", "\u200b", "x" * 1025])
def test_what_no_password_has(text: str) -> None:
    with pytest.raises(ValueError, match=r"the password (is|has)") as caught:
        prepare_password(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("text", ["e\u0301" * 500, "a" + "\u0301\u0323" * 500, "\u05d0" * 1024, "\uff21" * 1024])
def test_hostile_text_is_prepared_in_a_moment(text: str) -> None:
    start = time.process_time()
    for prepare in (prepare_name, prepare_password):
        with suppress(ValueError):
            prepare(text)
    assert time.process_time() - start < 5
