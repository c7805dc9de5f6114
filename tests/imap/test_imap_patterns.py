"""LIST wildcards against a naive model; no pattern can make matching slow."""

import re
import sys

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


def steps(pattern: str, name: str) -> int:
    """Lines of Python that a match takes."""
    count = 0

    def trace(_frame: object, event: str, _argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    compiled = Pattern(pattern)
    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        assert not compiled.matches(name)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 300 + "b",
        "%a" * 300 + "b",
        "*%" * 300 + "b",
        "*a" * 300 + "%a" * 200 + "b",
        "%/" * 300 + "b",
        "*" * 900 + "b",
    ],
)
@pytest.mark.parametrize("start", ["", "INBOX/"])
def test_wildcards_cannot_blow_up(pattern: str, start: str) -> None:
    """Each character of the name is looked at once, for INBOX twice, whatever the pattern."""
    for name in ("a" * 1000, "a/" * 500):
        assert steps(pattern, start + name) < 20 * len(start + name)
    assert steps(pattern, "a" * 1000) < 2.5 * steps(pattern, "a" * 500) + 50


def test_what_lies_below_inbox_has_that_part_in_any_case() -> None:
    for pattern in ("inbox/%", "Inbox/y", "in*/y", "INBOX/%", "*y", "%/y", "inbox*"):
        assert Pattern(pattern).matches("INBOX/y"), pattern
    for pattern in ("inbox/Y", "INBOX/Y", "inbox%", "inboxes/%"):
        assert not Pattern(pattern).matches("INBOX/y"), pattern
    assert not Pattern("work/%").matches("Work/y")


@pytest.mark.parametrize("pattern", ["\u0131nbox", "\u0131nbox/*", "*\u0131nbox*", "\u0131*"])
def test_what_only_looks_like_inbox_is_not_it(pattern: str) -> None:
    """In upper case its first letter is the same."""
    assert not Pattern(pattern).matches("INBOX")
    assert not Pattern(pattern).matches("INBOX/x")
