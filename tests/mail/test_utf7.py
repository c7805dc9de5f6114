"""Modified UTF-7 (RFC 3501 §5.1.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import utf7

NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("INBOX", "INBOX"),
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # the RFC's own example
        ("Entwürfe", "Entw&APw-rfe"),
        ("a&b", "a&-b"),
        ("&", "&-"),
        ("😀", "&2D3eAA-"),
        ("", ""),
    ],
)
def test_known_names(name: str, wire: str) -> None:
    assert utf7.encode(name) == wire
    assert utf7.decode(wire) == name


@pytest.mark.parametrize(
    "wire",
    [
        "&AGE-",  # an "a" that needs no shift
        "&Jjo",  # shift not ended
        "&",
        "&U,BTFw-&ZeVnLIqe-",  # null shift between
        "&Jjo!",
        "&AAA&-",
        "&2D0-",  # half a surrogate pair
        "&AP-",  # half a character
        "Entwürfe",
        "a\x00b",
        "a\tb",
        "&!!!!-",
    ],
)
def test_only_the_one_spelling_is_taken(wire: str) -> None:
    with pytest.raises(ValueError):
        utf7.decode(wire)


@given(NAMES)
def test_round_trip(name: str) -> None:
    assert utf7.decode(utf7.encode(name)) == name


@given(st.text(max_size=30) | st.text("&-,+/aAzZ09", max_size=12))
def test_whatever_is_taken_is_the_one_spelling(wire: str) -> None:
    try:
        name = utf7.decode(wire)
    except ValueError:
        return
    assert utf7.encode(name) == wire


def test_lone_surrogates_do_not_break_a_response() -> None:
    assert utf7.encode("a\ud800b") == "a&AD8-b"
