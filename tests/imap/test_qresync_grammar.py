"""The grammar of QRESYNC (RFC 7162 §7)."""

import pytest

from mailserver.imap.commands import Attribute, Command, Fetch, Match, Resync, Select, parse
from mailserver.imap.sequence import SequenceSet
from mailserver.imap.states import State
from mailserver.imap.syntax import Fault, Reader

ONE = SequenceSet(((1, 1),))
ITEMS = (Attribute.FLAGS, Attribute.MODSEQ)


def parsed(text: str) -> Command:
    return parse(Reader(text.encode()), State.SELECTED)


@pytest.mark.parametrize(
    ("value", "resync"),
    [
        ("(67890007 20050715194045000)", Resync(67890007, 20050715194045000)),
        ("(1 2 41,43:211)", Resync(1, 2, SequenceSet(((41, 41), (43, 211))))),
        ("(1 2 1:9 (1,3:4 2,5:6))", Resync(1, 2, SequenceSet(((1, 9),)), (Match(1, 2, 1), Match(3, 5, 2)))),
        ("(1 2 (1:5 3,5:6,9:10))", Resync(1, 2, None, (Match(1, 3, 1), Match(2, 5, 2), Match(4, 9, 2)))),
        ("(1 2 (1:4294967295 1:4294967295))", Resync(1, 2, None, (Match(1, 1, 4294967295),))),
    ],
)
def test_select_with_what_was_known(value: str, resync: Resync) -> None:
    assert parsed(f"SELECT a (QRESYNC {value})") == Select("a", read_only=False, resync=resync)
    assert parsed(f"EXAMINE a (condstore qresync {value})") == Select("a", True, condstore=True, resync=resync)


@pytest.mark.parametrize(
    "value",
    [
        "", "()", "(1)", "(1 0)", "(0 1)", "(1 2", "(1 2 )", "(1 2 *)", "(1 2 1:*)", "(1 2 (1 1) 3)", "(1 2 3 4)",
        "(1 2 (1))", "(1 2 (1:2 1))", "(1 2 (1 1:2))", "(1 2 (2,1 1,2))", "(1 2 (1,2 2,1))", "(1 2 (1:3,2 1:4))",
        "(1 2 (1 *))", "(1 2 (1 1)", "(1 9223372036854775808)", "(4294967296 1)", "(1 2 (1:4294967295 1:4294967294))",
        "(1 2) QRESYNC (1 2)", "(1  2)", "(1 2 x)",
    ],
)  # fmt: skip
def test_malformed_parameters_are_refused(value: str) -> None:
    with pytest.raises(Fault) as caught:
        parsed(f"SELECT a (QRESYNC {value})")
    assert caught.value.status == "BAD"


def test_uid_fetch_with_vanished() -> None:
    assert parsed("UID FETCH 1 FLAGS (CHANGEDSINCE 7 VANISHED)") == Fetch(
        ONE, True, ITEMS, changed_since=7, vanished=True
    )
    assert parsed("UID FETCH 1 FLAGS (vanished changedsince 7)") == Fetch(
        ONE, True, ITEMS, changed_since=7, vanished=True
    )
    for bad in (
        "FETCH 1 FLAGS (CHANGEDSINCE 7 VANISHED)",
        "UID FETCH 1 FLAGS (VANISHED)",
        "UID FETCH 1 FLAGS (CHANGEDSINCE 7 VANISHED VANISHED)",
    ):
        with pytest.raises(Fault) as caught:
            parsed(bad)
        assert caught.value.status == "BAD"
