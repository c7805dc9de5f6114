"""The address type "utf-8" of RFC 6533 §3 and its three forms."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Address
from mailserver.mail.orcpt import in_eight_bits, in_seven_bits, is_utf8_type, of_address, to_show


@pytest.mark.parametrize(
    ("written", "seven", "eight", "shown"),
    [
        ("utf-8;用户@例子", r"utf-8;\x{7528}\x{6237}@\x{4F8B}\x{5B50}", "utf-8;用户@例子", "utf-8;用户@例子"),
        (r"UTF-8;\x{7528}@b", r"UTF-8;\x{7528}@b", "UTF-8;用@b", "UTF-8;用@b"),
        (r"utf-8;\x{2B}\x{20}\x{5C}@c", r"utf-8;\x{2B}\x{20}\x{5C}@c", r"utf-8;\x{2B}\x{20}\x{5C}@c", "utf-8;+ \\@c"),
        (r"utf-8;\x{1F600}@c", r"utf-8;\x{1F600}@c", "utf-8;😀@c", "utf-8;😀@c"),
    ],
)
def test_the_three_forms(written: str, seven: str, eight: str, shown: str) -> None:
    assert (in_seven_bits(written), in_eight_bits(written), to_show(written)) == (seven, eight, shown)


@pytest.mark.parametrize(
    "written", [r"utf-8;\x{D800}@c", r"utf-8;\x{110000}@c", r"utf-8;\x{ZZ}@c", r"utf-8;\x7528@c", r"utf-8;\x{202E}@c"]
)
def test_what_is_no_character_stays_as_it_is(written: str) -> None:
    assert in_seven_bits(written) == in_eight_bits(written) == to_show(written) == written


@pytest.mark.parametrize("point", ["0D", "0A", "00", "7F", "85", "2028"])
def test_nothing_unprintable_comes_out(point: str) -> None:
    assert to_show(rf"utf-8;\x{{{point}}}X-Evil: 1") == rf"utf-8;\x{{{point}}}X-Evil: 1"


@given(st.text(st.characters(codec="utf-8")))
def test_what_is_told_to_a_server_is_one_word(text: str) -> None:
    assert re.fullmatch(r"[!-*,-<>-~]+", in_seven_bits(f"utf-8;{text}"))
    assert not re.search(r"[\x00-\x20\x7f=+]", in_eight_bits(f"utf-8;{text}"))
    assert to_show(in_seven_bits("utf-8;" + text)) == to_show("utf-8;" + text) or not text.isprintable()


def test_the_type_of_an_address() -> None:
    assert is_utf8_type("UTF-8;x") and not is_utf8_type("rfc822;x") and not is_utf8_type("")
    assert of_address(Address("a", "b.example")) == "rfc822; a@b.example"
    assert of_address(Address("ä", "b.example")) == "utf-8; ä@b.example"
