"""The grammar of CONDSTORE (RFC 7162 §7)."""

import pytest

from mailserver.imap.commands import (
    And,
    Attribute,
    Command,
    Fetch,
    HasFlag,
    Modified,
    Not,
    Or,
    Search,
    Select,
    Status,
    Store,
    leaves,
    parse,
)
from mailserver.imap.sequence import SequenceSet
from mailserver.imap.states import State
from mailserver.imap.syntax import Fault, Reader

ONE = SequenceSet(((1, 1),))
MOST = 2**63 - 1


def parsed(text: str) -> Command:
    return parse(Reader(text.encode()), State.SELECTED)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("SELECT a (condstore)", Select("a", read_only=False, condstore=True)),
        ("EXAMINE a (CONDSTORE)", Select("a", read_only=True, condstore=True)),
        ("STATUS a (highestmodseq)", Status("a", (b"HIGHESTMODSEQ",))),
        ("FETCH 1 (MODSEQ)", Fetch(ONE, False, (Attribute.MODSEQ,))),
        ("FETCH 1 FLAGS (CHANGEDSINCE 1)", Fetch(ONE, False, (Attribute.FLAGS, Attribute.MODSEQ), changed_since=1)),
        (f"FETCH 1 MODSEQ (changedsince {MOST})", Fetch(ONE, False, (Attribute.MODSEQ,), changed_since=MOST)),
        ("STORE 1 (UNCHANGEDSINCE 0) FLAGS ()", Store(ONE, False, "set", False, frozenset(), 0)),
        (
            f"UID STORE 1 (unchangedsince {MOST}) +FLAGS.SILENT \\Seen",
            Store(ONE, True, "add", True, frozenset({"\\Seen"}), MOST),
        ),
        ("SEARCH MODSEQ 0", Search(Modified(0), by_uid=False)),
        ('SEARCH MODSEQ "/flags/\\\\draft" all 620162338', Search(Modified(620162338), by_uid=False)),
        ('UID SEARCH NOT MODSEQ "/flags/$mdnsent" Priv 7', Search(Not(Modified(7)), by_uid=True)),
    ],
)
def test_commands_become_values(text: str, command: Command) -> None:
    assert parsed(text) == command


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a (CONDSTORE CONDSTORE)",
        "SELECT a ()", "SELECT a (CONDSTORE", "SELECT a (BOGUS)", "SELECT a CONDSTORE", "SELECT a  (CONDSTORE)",
        "FETCH 1 FLAGS (CHANGEDSINCE 0)", "FETCH 1 FLAGS (CHANGEDSINCE)", "FETCH 1 FLAGS ()", "FETCH 1 FLAGS (BOGUS 1)",
        "FETCH 1 FLAGS (CHANGEDSINCE 9223372036854775808)", "FETCH 1 FLAGS (CHANGEDSINCE -1)",
        "FETCH 1 FLAGS (CHANGEDSINCE 1 CHANGEDSINCE 1)", "FETCH 1 FLAGS (CHANGEDSINCE 1) x", "FETCH 1 (MODSEQ (1))",
        "FETCH 1 FLAGS (CHANGEDSINCE " + "9" * 5000 + ")", "STORE 1 (UNCHANGEDSINCE) FLAGS ()", "STORE 1 () FLAGS ()",
        "STORE 1 (UNCHANGEDSINCE 1)FLAGS ()", "STORE 1 (UNCHANGEDSINCE 1 UNCHANGEDSINCE 1) FLAGS ()",
        "STORE 1 (UNCHANGEDSINCE 9223372036854775808) FLAGS ()", "STORE 1 (BOGUS 1) FLAGS ()",
        "STORE 1 FLAGS () (UNCHANGEDSINCE 1)", "SEARCH MODSEQ", "SEARCH MODSEQ x", 'SEARCH MODSEQ "/flags/x" 1',
        'SEARCH MODSEQ "/flags/x" mine 1', 'SEARCH MODSEQ "x" all 1', 'SEARCH MODSEQ "/flags/x" all',
        "SEARCH MODSEQ 9223372036854775808",
    ],
)  # fmt: skip
def test_malformed_commands_are_refused(text: str) -> None:
    with pytest.raises(Fault) as caught:
        parsed(text)
    assert caught.value.status == "BAD"


def test_leaves_of_a_key() -> None:
    key = And((Or((HasFlag("a"), Not(Modified(1)))), And(()), HasFlag("b")))
    assert list(leaves(key)) == [HasFlag("a"), Modified(1), HasFlag("b")]
