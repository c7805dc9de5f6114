"""Modified UTF-7 (RFC 3501 §5.1.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap import utf7

NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("INBOX", b"INBOX"),
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # the RFC's own example
        ("Entwürfe", b"Entw&APw-rfe"),
        ("a&b", b"a&-b"),
        ("&", b"&-"),
        ("😀", b"&2D3eAA-"),
        ("", b""),
    ],
)
def test_known_names(name: str, wire: bytes) -> None:
    assert utf7.encode(name) == wire
    assert utf7.decode(wire) == name


@pytest.mark.parametrize(
    "wire",
    [
        b"&AGE-",  # an "a" that needs no shift
        b"&Jjo",  # shift not ended
        b"&",
        b"&U,BTFw-&ZeVnLIqe-",  # null shift between
        b"&Jjo!",
        b"&AAA&-",
        b"&2D0-",  # half a surrogate pair
        b"&AP-",  # half a character
        b"Entw\xc3\xbcrfe",
        b"a\x00b",
        b"a\tb",
        b"&!!!!-",
    ],
)
def test_only_the_one_spelling_is_taken(wire: bytes) -> None:
    with pytest.raises(ValueError):
        utf7.decode(wire)


@given(NAMES)
def test_round_trip(name: str) -> None:
    assert utf7.decode(utf7.encode(name)) == name


@given(st.binary(max_size=30))
def test_whatever_is_taken_is_the_one_spelling(wire: bytes) -> None:
    try:
        name = utf7.decode(wire)
    except ValueError:
        return
    assert utf7.encode(name) == wire


def test_lone_surrogates_do_not_break_a_response() -> None:
    assert utf7.encode("a\ud800b") == b"a&AD8-b"
