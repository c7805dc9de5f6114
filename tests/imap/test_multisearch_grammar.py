"""ESEARCH (RFC 7377 §4)."""

import pytest

from mailserver.imap import State
from mailserver.imap.commands import HasFlag, InHeader, MultiSearch, Not, Returns, parse
from mailserver.imap.commands.filters import Filter, Scope
from mailserver.imap.syntax import Fault, Reader

UNSEEN = Not(HasFlag("\\Seen"))
ALL = Returns()
SELECTED = (Filter(Scope.SELECTED),)


def parsed(text: str) -> object:
    return parse(Reader(text.encode()), State.AUTHENTICATED)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("unseen", MultiSearch(UNSEEN, SELECTED, ALL)),
        ("IN (selected) unseen", MultiSearch(UNSEEN, SELECTED, ALL)),
        ("RETURN (MIN) UNSEEN", MultiSearch(UNSEEN, SELECTED, Returns(frozenset({"MIN"})))),
        ("in (Personal) return () unseen", MultiSearch(UNSEEN, (Filter(Scope.PERSONAL),), ALL)),
        (
            'IN (mailboxes "folder1" subtree "folder2") unseen',
            MultiSearch(
                UNSEEN,
                (Filter(Scope.MAILBOXES, frozenset({"folder1"})), Filter(Scope.SUBTREE, frozenset({"folder2"}))),
                ALL,
            ),
        ),
        (
            'IN (mailboxes "folder1" subtree-one "folder2") subject "chad"',
            MultiSearch(
                InHeader("subject", "chad"),
                (Filter(Scope.MAILBOXES, frozenset({"folder1"})), Filter(Scope.SUBTREE_ONE, frozenset({"folder2"}))),
                ALL,
            ),
        ),
        (
            "IN (inboxes subscribed mailboxes (inbox &AOQ- {1}\r\nx)) CHARSET UTF-8 UNSEEN",
            MultiSearch(
                UNSEEN,
                (
                    Filter(Scope.INBOXES),
                    Filter(Scope.SUBSCRIBED),
                    Filter(Scope.MAILBOXES, frozenset({"INBOX", "ä", "x"})),
                ),
                ALL,
                "utf-8",
            ),
        ),
        ("RETURN (SAVE) UNSEEN", MultiSearch(UNSEEN, SELECTED, Returns(frozenset({"SAVE"})))),
        ("IN (SELECTED) RETURN (SAVE) UNSEEN", MultiSearch(UNSEEN, SELECTED, Returns(frozenset({"SAVE"})))),
    ],
)
def test_what_is_right(arguments: str, expected: MultiSearch) -> None:
    assert parsed(f"ESEARCH {arguments}") == expected


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "IN",
        "IN (personal)",
        "IN () ALL",
        "IN personal ALL",
        "IN (selected-delayed) ALL",
        "IN (bogus) ALL",
        "IN (mailboxes) ALL",
        "IN (mailboxes ()) ALL",
        "IN (mailboxes (x) ALL",
        "IN (subtree x y) ALL",
        "IN (personal (scope x)) ALL",
        "IN (personal) IN (inboxes) ALL",
        "RETURN (ALL) IN (personal) ALL",
        "IN (personal) RETURN (SAVE) ALL",
        "IN (selected personal) RETURN (SAVE COUNT) ALL",
        "IN(personal) ALL",
        "IN (mailboxes (" + "x " * 2000 + "y)) ALL",
        "IN (" + "personal " * 2000 + "inboxes) ALL",
    ],
)
def test_what_is_wrong(arguments: str) -> None:
    with pytest.raises(Fault) as caught:
        parsed(f"ESEARCH {arguments}")
    assert caught.value.status == "BAD"
