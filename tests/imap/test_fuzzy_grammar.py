"""FUZZY and RELEVANCY (RFC 6203 §7)."""

import pytest

from mailserver.imap import State
from mailserver.imap.commands import And, Criterion, Fuzzy, InHeader, InText, Not, Returns, Search, Sort, parse
from mailserver.imap.syntax import Fault, Reader

SUBJECT = InHeader("subject", "IMAP break")
FROM = InHeader("from", "user@example.com")


def parsed(text: str) -> object:
    return parse(Reader(text.encode()), State.SELECTED)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ('SEARCH FUZZY (SUBJECT "IMAP break")', Search(Fuzzy(SUBJECT), False)),
        ('SEARCH fuzzy SUBJECT "IMAP break" FROM user@example.com', Search(And((Fuzzy(SUBJECT), FROM)), False)),
        ("SEARCH FUZZY NOT FUZZY TEXT x", Search(Fuzzy(Not(Fuzzy(InText("x", header=True)))), False)),
        (
            "UID SEARCH RETURN (RELEVANCY ALL) NOT (FROM user@example.com FUZZY ALL)",
            Search(Not(And((FROM, Fuzzy(And(()))))), True, Returns(frozenset({"RELEVANCY", "ALL"}))),
        ),
        (
            "SORT (REVERSE RELEVANCY) UTF-8 FUZZY ALL",
            Sort((Criterion("RELEVANCY", reverse=True),), Fuzzy(And(())), False),
        ),
    ],
)
def test_what_is_right(command: str, expected: object) -> None:
    assert parsed(command) == expected


@pytest.mark.parametrize(
    "command",
    [
        "SEARCH FUZZY",
        "SEARCH FUZZY ",
        "SEARCH FUZZY SUBJECT",
        "SEARCH RETURN (RELEVANCY ALL) TEXT x",
        "SEARCH RETURN (RELEVANCY) OR (SEEN) NOT TEXT fuzzy",
        "SORT (RELEVANCY) UTF-8 TEXT x",
        "SORT RETURN (RELEVANCY) (DATE) UTF-8 TEXT x",
        "ESEARCH IN (personal) RETURN (RELEVANCY) TEXT x",
        "SEARCH " + "FUZZY " * 100 + "ALL",
    ],
)
def test_what_is_wrong(command: str) -> None:
    with pytest.raises(Fault) as caught:
        parsed(command)
    assert caught.value.status == "BAD"
