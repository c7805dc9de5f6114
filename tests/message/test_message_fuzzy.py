"""What is near to what somebody looks for, and how near (RFC 6203)."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import Fuzzy, Phrase, fuzzy, searchable
from mailserver.message.fuzzy import REMEMBERED, _slips


def rate(text: str, *, subject: str = "", body: str = "", sender: str = "x", field: str | None = None) -> int:
    message = f"Subject: {subject}\r\nFrom: {sender}\r\nX-Note: elsewhere\r\n\r\n{body}\r\n"
    wanted = fuzzy(Phrase(text, field=field))
    assert isinstance(wanted, Fuzzy)
    return wanted.rate(*searchable(message.encode()))


# what is found


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("IMAP break", "IMAP break"),
        ("IMAP break", "break of IMAP"),
        ("IMAP break", "Re: breaking imap"),
        ("Helo", "hello"),
        ("Helo", "I need help"),
        ("hello", "Helo"),
        ("tomorow", "until tomorrow"),
        ("recieve", "to receive"),
        ("accomodation", "accommodation"),
        ("acommodaton", "accommodation"),
        ("cafe", "Café"),
        ("café", "cafe"),
        ("Größe", "Grosse GROESSE größe"),
        ("strasse", "Straße"),
        ("müller", "Muller"),
        ("Привет", "привет"),
        ("привит", "Привет"),
        ("会議", "明日の会議について"),
        ("quoted", "“quoted” — and more"),
        ("report", "annual_report.pdf"),
        ("port", "reports"),
        ("quarterly numbers meeting", "numbers, quarterly"),
        ("user@example.com", "mail of user at example dot com"),
        ("el", "hello"),  # as the exact search has it
    ],
)
def test_what_is_near(text: str, subject: str) -> None:
    assert rate(text, subject=subject) > 0
    assert rate(text, body=subject) > 0
    assert rate(text, subject=subject, field="subject") > 0


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("IMAP break", "IMAP"),
        ("cat", "car"),  # too short for a slip
        ("hello", "yellow"),
        ("hello", "halo"),
        ("2024", "2025"),  # another number
        ("v1234567", "v1234568"),
        ("invoice", "voice"),
        ("quarterly numbers meeting", "meeting"),
        ("senders notes", ""),  # names of fields are no words of theirs
    ],
)
def test_what_is_not(text: str, subject: str) -> None:
    assert rate(text, subject=subject) == 0


def test_only_the_field_that_is_meant_counts() -> None:
    assert rate("hello", subject="hello", field="subject") == 100
    assert rate("hello", subject="hello", field="to") == 0
    assert rate("hello", body="hello", field="subject") == 0


def test_what_has_no_words_stays_a_phrase() -> None:
    for text in ("", " ", "...", "-@-"):
        assert fuzzy(Phrase(text)) == Phrase(text)


# how near it is


def descending(scores: list[int]) -> bool:
    return all(before > after for before, after in pairwise(scores))


def test_the_nearer_the_higher() -> None:
    subjects = [
        "the release notes",
        "notes of the release",
        "notes of releases",
        "notes of the relaese",
        "note of relaese",
    ]
    scores = [rate("release notes", subject=subject) for subject in subjects]
    assert scores[0] == 100
    assert descending(scores), scores


def test_the_subject_says_more_than_an_address_and_that_more_than_the_body() -> None:
    scores = [rate("miller", **place) for place in ({"subject": "miller"}, {"sender": "miller"}, {"body": "miller"})]  # type: ignore[arg-type]
    assert scores[0] == 100
    assert descending(scores), scores
    assert 0 < rate("elsewhere") < scores[-1], "in other fields only the exact text is found"
    assert rate("elsewhre") == 0


def test_all_words_say_more_than_some() -> None:
    whole, some = rate("alpha beta gamma", body="alpha beta gamma"), rate("alpha beta gamma", body="gamma alpha")
    assert whole > some > 0


@given(st.text(max_size=30), st.text(max_size=200), st.text(max_size=200))
def test_scores_are_in_their_range_and_the_exact_text_is_always_found(text: str, subject: str, body: str) -> None:
    wanted = fuzzy(Phrase(text))
    if not isinstance(wanted, Fuzzy):
        return
    header = "\xff".join(["", "subject: " + subject.casefold().replace("\xff", ""), ""]).encode("latin-1", "replace")
    found = wanted.rate(header, body.casefold().encode("utf-8", "surrogatepass") + b"\xff")
    assert 0 <= found <= 100
    packed = searchable(b"Subject: x\r\n\r\n" + body.encode("utf-8", "surrogatepass"))
    if wanted.phrase.octets in packed.body:
        assert wanted.rate(*packed) > 0


def slips(one: str, other: str) -> int:
    """By definition (optimal string alignment)."""
    if not one or not other:
        return len(one) + len(other)
    best = min(slips(one[1:], other) + 1, slips(one, other[1:]) + 1, slips(one[1:], other[1:]) + (one[0] != other[0]))
    if one[:2] == other[1::-1] and len(one) > 1 and len(other) > 1:
        best = min(best, slips(one[2:], other[2:]) + 1)
    return best


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.integers(0, 2))
def test_slips_are_counted_right(one: str, other: str, most: int) -> None:
    counted, right = _slips(one, other, most), slips(one, other)
    assert counted == right if right <= most else counted > most


def slipped(word: str, places: list[int], kinds: list[str]) -> str:
    for place, kind in zip(places, kinds, strict=True):
        at = place % (len(word) - 1)
        match kind:
            case "left out":
                word = word[:at] + word[at + 1 :]
            case "put in":
                word = f"{word[:at]}x{word[at:]}"
            case "exchanged":
                word = f"{word[:at]}x{word[at + 1 :]}"
            case "changed places":
                word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word


@given(
    st.text("abcdefgh", min_size=6, max_size=14),
    st.lists(st.integers(0, 20), min_size=2, max_size=2),
    st.lists(st.sampled_from(["left out", "put in", "exchanged", "changed places"]), min_size=2, max_size=2),
)
def test_no_word_with_slips_is_passed_over(word: str, places: list[int], kinds: list[str]) -> None:
    wanted, careful = fuzzy(Phrase(word)), fuzzy(Phrase(word))
    assert isinstance(wanted, Fuzzy)
    assert isinstance(careful, Fuzzy)
    careful._parts = []
    for count in (1, 2):
        body = f"and then {slipped(word, places[:count], kinds[:count])}, of course".upper().encode()
        assert wanted.rate(b"", body) == careful.rate(b"", body)


# what attackers send


def timed(text: str, body: bytes) -> float:
    wanted = fuzzy(Phrase(text))
    assert isinstance(wanted, Fuzzy)
    start = time.process_time()
    wanted.rate(b"", body)
    return time.process_time() - start


def test_hostile_texts_take_no_more_time_than_others() -> None:
    megabyte = 2**20
    for body in (
        b"a" * megabyte,
        b"a " * (megabyte // 2),
        b"\xf0\x9f\x98\x80" * (megabyte // 4),
        b"\xc3\xa4 " * (megabyte // 3),
        b"\xff" * megabyte,
        b" ".join(b"%x" % (n * 7919) for n in range(megabyte // 6)),
        b"abcdefg" * (megabyte // 7),
    ):
        assert timed("abcdefgh abcdefg", body) < 15, body[:20]


def test_endless_words_to_look_for_are_cut() -> None:
    assert timed("x" * 60_000, b"x" * 60_000) < 5
    assert timed(" ".join(f"word{n}s" for n in range(10_000)), b"word77s " * 1000) < 5


def test_what_is_remembered_has_bounds() -> None:
    wanted = fuzzy(Phrase("a"))
    assert isinstance(wanted, Fuzzy)
    for part in range(5):
        wanted.rate(b"", b" ".join(b"a%x" % (part * 100_000 + n) for n in range(100_000)))
        assert len(wanted._judged) <= REMEMBERED
        assert len(wanted._good) <= REMEMBERED
    wanted.rate(b"", b" ".join(b"y" * 2000 + b"%d" % n for n in range(1000)))
    assert max(map(len, wanted._judged)) < 100
