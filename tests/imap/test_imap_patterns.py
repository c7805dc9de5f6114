"""LIST wildcards against a naive model; no pattern can make matching slow."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap import Pattern


def naive(pattern: str, name: str) -> bool:
    expression = "".join({"*": ".*", "%": "[^/]*"}.get(c, re.escape(c)) for c in pattern)
    flags = re.IGNORECASE if name == "INBOX" else 0
    return re.fullmatch(expression, name, re.DOTALL | flags) is not None


@given(st.text("ab/%*", max_size=8), st.text("ab/", max_size=8))
def test_agrees_with_the_naive_model(pattern: str, name: str) -> None:
    assert Pattern(pattern).matches(name) == naive(pattern, name)


@given(st.text("iInN%*boxBOX", max_size=6))
def test_inbox_matches_in_any_case(pattern: str) -> None:
    assert Pattern(pattern).matches("INBOX") == naive(pattern, "INBOX")


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "a/b/c", True),
        ("%", "a", True),
        ("%", "a/b", False),
        ("a/%", "a/b", True),
        ("a/%", "a/b/c", False),
        ("%/%", "a/b", True),
        ("*c", "a/b/c", True),
        ("inbox", "INBOX", True),
        ("inbox", "INBOX/x", False),
        ("Work", "work", False),
        ("", "", True),
        ("", "a", False),
        ("a.b", "axb", False),
    ],
)
def test_examples(pattern: str, name: str, matches: bool) -> None:
    assert Pattern(pattern).matches(name) is matches


def test_wildcards_cannot_blow_up() -> None:
    pattern = Pattern("*a" * 300 + "%a" * 200 + "b")
    began = time.perf_counter()
    assert not pattern.matches("a" * 1000)
    assert time.perf_counter() - began < 1
