"""SASLprep: the examples of RFC 4013 §3, and what passwords are made of."""

from __future__ import annotations

import pytest

from mailserver.sasl import saslprep


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
