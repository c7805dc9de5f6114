"""Replies on the wire."""

import pytest

from mailserver.mail import EnhancedCode, Reply


def test_one_line() -> None:
    assert Reply.of(550, "5.1.1", "No such mailbox").to_bytes() == b"550 5.1.1 No such mailbox\r\n"


def test_each_line_has_the_enhanced_code() -> None:
    assert Reply.of(250, "2.0.0", "one\ntwo").to_bytes() == b"250-2.0.0 one\r\n250 2.0.0 two\r\n"


def test_a_reply_cannot_inject_another() -> None:
    assert Reply(250, "ok\r250 fake\x00").to_bytes() == b"250 ok?250 fake?\r\n"


def test_kinds() -> None:
    assert Reply(354, "go").positive
    assert Reply(451, "later").temporary
    assert Reply(550, "never").permanent
    assert Reply(451, "later").status == EnhancedCode(4, 0, 0)
    assert Reply(354, "go").status == EnhancedCode(2, 0, 0)


@pytest.mark.parametrize("text", ["", "5.1", "3.0.0", "5.1.1.1", "5.1000.1", "a.b.c"])
def test_malformed_enhanced_codes(text: str) -> None:
    with pytest.raises(ValueError, match="enhanced"):
        EnhancedCode.parse(text)
