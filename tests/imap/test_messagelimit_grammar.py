"""UIDAFTER and UIDBEFORE (RFC 9738 §3.2) as sets of UIDs."""

import pytest

from mailserver.imap import SequenceSet, State
from mailserver.imap.commands import InSet, Search, parse
from mailserver.imap.syntax import Fault, Reader


def parsed(text: str) -> Search:
    command = parse(Reader(text.encode()), State.SELECTED)
    assert isinstance(command, Search)
    return command


@pytest.mark.parametrize(
    ("key", "ranges"),
    [
        ("UIDAFTER 25000", ((25001, 4294967295),)),
        ("uidafter 4294967295", ()),
        ("UIDBEFORE 25000", ((1, 24999),)),
        ("UIDBEFORE 1", ()),
    ],
)
def test_one_uid_makes_a_range(key: str, ranges: tuple[tuple[int, int], ...]) -> None:
    assert parsed(f"UID SEARCH {key}") == Search(InSet(SequenceSet(ranges), by_uid=True), by_uid=True)


@pytest.mark.parametrize("key", ["UIDAFTER", "UIDAFTER *", "UIDAFTER 0", "UIDBEFORE 1:2", "UIDBEFORE 4294967296"])
def test_everything_else_is_refused(key: str) -> None:
    with pytest.raises(Fault):
        parsed(f"SEARCH {key}")
