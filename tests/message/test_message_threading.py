"""Message identifiers and references (RFC 5256 §3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import ancestors, message_ids
from mailserver.message.threading import ID_LIMIT, REFERENCE_LIMIT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" <a@b>", ["a@b"]),
        (b"<a@b>\r\n <c@d>\t<a@b>", ["a@b", "c@d"]),
        (b"<a@b><c@d>", ["a@b", "c@d"]),
        (b'<"01KF8JCEOCBS0045PS"@xxx.yyy.com>', ["01KF8JCEOCBS0045PS@xxx.yyy.com"]),
        (b'<"a\\"b"@c>', ['a"b@c']),
        (b"<\r\n a@b >", ["a@b"]),
        (b"(a comment) <a@b> trailing", ["a@b"]),
        (b"<no-at-sign>", ["no-at-sign"]),
        (b"a@b", ["a@b"]),
        (b"a@b c@d", ["a@b", "c@d"]),
        (b"Your message of Tuesday", []),
        (b"", []),
        (b"<>", []),
        (b"<a@b", []),
        (b"<<a@b>>", ["a@b"]),
        (b"<gr\xc3\xbc\xc3\x9fe@b>", ["grüße@b"]),
        (b"<a\0b@c>", ["ab@c"]),
        (b"<" + b"x" * ID_LIMIT + b"@y>", []),
    ],
)
def test_identifiers(value: bytes, expected: list[str]) -> None:
    assert message_ids(value) == expected


@pytest.mark.parametrize(
    ("references", "in_reply_to", "expected"),
    [
        (b"<a@b> <c@d>", b"<e@f>", ("a@b", "c@d")),
        (b"nothing valid", b"<e@f> <g@h>", ("e@f",)),
        (None, b"<e@f> from alice@example.org", ("e@f",)),
        (None, b"Your message", ()),
        (b"", None, ()),
        (None, None, ()),
    ],
)
def test_references_or_else_the_first_of_in_reply_to(
    references: bytes | None, in_reply_to: bytes | None, expected: tuple[str, ...]
) -> None:
    assert ancestors(references, in_reply_to) == expected


def test_of_many_references_the_first_and_the_last_are_kept() -> None:
    found = ancestors(b" ".join(b"<%d@x>" % number for number in range(5000)), None)
    assert len(found) == REFERENCE_LIMIT
    assert found[0] == "0@x"
    assert found[1:] == tuple(f"{number}@x" for number in range(5001 - REFERENCE_LIMIT, 5000))


@given(st.one_of(st.binary(max_size=60), st.text(alphabet='<>@"\\ \t\r\nab(', max_size=40).map(str.encode)))
def test_any_octets_give_identifiers_that_can_be_stored_and_joined(value: bytes) -> None:
    for name in message_ids(value):
        assert name
        assert " " not in name
        assert "\0" not in name
        name.encode()
