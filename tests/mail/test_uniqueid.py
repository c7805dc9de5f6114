"""Unique-ids in Dovecot's notation."""

import pytest

from mailserver.mail import UniqueIds

NAME = "1700000000.M123456P1.host,S=14,W=17"


@pytest.mark.parametrize(
    ("notation", "text"),
    [
        ("%08Xu%08Xv", "0000002a55d0d5b5"),
        ("%08Xv%08Xu", "55d0d5b50000002a"),
        ("%v.%u", "1439749557.42"),
        ("%u", "42"),
        ("%Xu", "2a"),
        ("%05u", "00042"),
        ("%f", NAME),
        ("%g", NAME),
        ("UID%u-%v", "UID42-1439749557"),
        ("{%u}%%", "{42}%"),
    ],
)
def test_what_the_notations_mean(notation: str, text: str) -> None:
    assert UniqueIds.parse(notation).of(0x55D0D5B5, [42], [NAME]) == [text]


@pytest.mark.parametrize(
    ("notation", "words"),
    [
        ("", "gives all messages the same id"),
        ("%v", "gives all messages the same id"),
        ("%08Xf", "digits or X, which are for numbers"),
        ("%08Xu%m", "'%m', which is none of %u, %v, %f, %g"),
        ("%8u", "which is none of"),
        ("%{uid}", "which is none of"),
        ("%u %v", "which is none of"),
        ("%u\n", "which is none of"),
        ("%u%", "which is none of"),
        ("é%u", "which is none of"),
        ("%099u", "more than 70 characters"),
        ("%u" + "x" * 61, "more than 70 characters"),
    ],
)
def test_what_cannot_be_a_notation_is_told_with_the_remedy(notation: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"write \"?%") as refused:
        UniqueIds.parse(notation)
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["with space", "h\u00f6st", "\udcff", "a\nb", ""])
def test_a_digest_stands_for_a_name_that_cannot_be_an_id(name: str) -> None:
    digest, other = UniqueIds.parse("%f").of(2, [1, 2], [name, name + "x"])
    assert digest.isalnum() and digest.isascii() and 1 <= len(digest) <= 70
    assert digest != other


def test_the_largest_numbers_fit() -> None:
    assert UniqueIds.parse("%08Xu%08Xv").of(2**32 - 1, [2**32 - 1]) == ["f" * 16]
