"""The grammar of CONTEXT (RFC 5267 §5), and of what NOTIFY adds to it (RFC 5465 §7)."""

import pytest

from mailserver.imap.commands import Attribute, CancelUpdate, Partial, Returns
from mailserver.imap.commands.contexts import cancel_update
from mailserver.imap.commands.returns import returns
from mailserver.imap.syntax import Fault, Reader


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("(CONTEXT)", Returns(frozenset({"CONTEXT"}))),
        ("(update)", Returns(frozenset({"UPDATE"}))),
        (
            "(COUNT UPDATE CONTEXT PARTIAL 1:5)",
            Returns(frozenset({"COUNT", "UPDATE", "CONTEXT", "PARTIAL"}), Partial(1, 5)),
        ),
        ("(UPDATE (UID FLAGS UID) MIN)", Returns(frozenset({"UPDATE", "MIN"}), None, (Attribute.UID, Attribute.FLAGS))),
        ("(UPDATE(UID))", Returns(frozenset({"UPDATE"}), None, (Attribute.UID,))),
    ],
)
def test_return_options(text: str, meaning: Returns) -> None:
    reader = Reader(b" RETURN " + text.encode())
    assert returns(reader) == meaning
    assert reader.at_end


@pytest.mark.parametrize(
    "text", ["(UPDATE ())", "(UPDATE (UID)(FLAGS))", "(UPDATE (UID) UPDATE (FLAGS))", "(UPDATE (X))", "(CONTEXT (UID))"]
)
def test_malformed_return_options(text: str) -> None:
    with pytest.raises(Fault):
        returns(Reader(b" RETURN " + text.encode()))


def read(text: str) -> CancelUpdate:
    return cancel_update(Reader(text.encode()))


def test_cancel_update() -> None:
    assert read(' "B01"') == CancelUpdate(("B01",))
    assert read(' "B01" "b" "B01"') == CancelUpdate(("B01", "b"))


@pytest.mark.parametrize("text", ["", " ", " B01", ' "B01" ', ' "B01""b"', ' ("B01")', ' "x"' + ' "x%s"' * 0 + "x"])
def test_malformed_cancel_update(text: str) -> None:
    with pytest.raises(Fault):
        read(text)


def test_too_many_tags() -> None:
    with pytest.raises(Fault):
        read("".join(f' "{number}"' for number in range(2000)))
