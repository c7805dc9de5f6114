"""Address lists, well-formed and not."""

from email.headerregistry import Address
from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message import MailAddress, addresses
from mailserver.message.addresses import GROUP_END


def group(name: bytes) -> MailAddress:
    return MailAddress(None, None, name, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" alice@example.org", [(None, None, b"alice", b"example.org")]),
        (b"<alice@example.org>", [(None, None, b"alice", b"example.org")]),
        (b"Alice Q. Example <alice@example.org>", [(b"Alice Q. Example", None, b"alice", b"example.org")]),
        (b'"Example, Alice" <alice@example.org>', [(b"Example, Alice", None, b"alice", b"example.org")]),
        (rb'"Al \"Ace\" E" <alice@example.org>', [(b'Al "Ace" E', None, b"alice", b"example.org")]),
        (b'"Alice"  Q.\r\n Example  <a@b>', [(b"Alice Q. Example", None, b"a", b"b")]),
        (b"=?utf-8?Q?Al=C3=AFce?= <a@b>", [(b"=?utf-8?Q?Al=C3=AFce?=", None, b"a", b"b")]),
        (b"Al\xc3\xafce <a@b>", [(b"Al\xc3\xafce", None, b"a", b"b")]),
        (b"alice@example.org (Alice (the) Example)", [(b"Alice (the) Example", None, b"alice", b"example.org")]),
        (b"Alice (not a name) <a@b>", [(b"Alice", None, b"a", b"b")]),
        (b"<@one.test,@two.test:alice@example.org>", [(None, b"@one.test,@two.test", b"alice", b"example.org")]),
        (b'"al ice"@example.org', [(None, None, b"al ice", b"example.org")]),
        (b"<alice@[192.0.2.1]>", [(None, None, b"alice", b"[192.0.2.1]")]),
        (b"al . ice @ example . org", [(None, None, b"al.ice", b"example.org")]),
    ],
)
def test_forms_of_a_mailbox(value: bytes, expected: list[MailAddress]) -> None:
    assert addresses(value) == expected


def test_lists_and_groups() -> None:
    assert addresses(b"a@b, Team: c@d, Dee <e@f>;, g@h") == [
        (None, None, b"a", b"b"),
        group(b"Team"),
        (None, None, b"c", b"d"),
        (b"Dee", None, b"e", b"f"),
        GROUP_END,
        (None, None, b"g", b"h"),
    ]
    assert addresses(b"undisclosed-recipients:;") == [group(b"undisclosed-recipients"), GROUP_END]
    assert addresses(b"Open: a@b") == [group(b"Open"), (None, None, b"a", b"b"), GROUP_END]


@pytest.mark.parametrize("value", [b"", b" \r\n ", b",,,", b"<>", b"()", b"(only words)"])
def test_nothing_gives_no_address(value: bytes) -> None:
    assert addresses(value) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"postmaster", [(None, None, b"postmaster", b"")]),
        (b"Mary Smith", [(b"Mary Smith", None, b"", b"")]),
        (b"Mary <>", [(b"Mary", None, b"", b"")]),
        (b"Mary Smith mary@example.org", [(b"Mary Smith", None, b"mary", b"example.org")]),
        (b"mary@home <mary@example.org>", [(b"mary @ home", None, b"mary", b"example.org")]),
        (b"a@b c@d", [(None, None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b"<a@b> <c@d>", [(None, None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b"a@b; c@d", [(None, None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b"<a@b", [(None, None, b"a", b"b")]),
        (b"<a@b@c>", [(None, None, b"a@b", b"c")]),
        (b'"open <a@b>', [(None, None, b"open <a@b>", b"")]),
        (b"a@b (open", [(b"open", None, b"a", b"b")]),
    ],
)
def test_malformed_addresses_keep_what_they_say(value: bytes, expected: list[MailAddress]) -> None:
    assert addresses(value) == expected


@given(st.binary(max_size=120))
def test_no_octets_raise(value: bytes) -> None:
    for address in addresses(value):
        assert all(b"\r" not in part and b"\n" not in part and b"\0" not in part for part in address if part)


@given(st.text(alphabet='a.@<>,;:()"\\[] \t', max_size=40))
def test_no_order_of_specials_raises_and_groups_are_balanced(value: str) -> None:
    found = addresses(value.encode())
    begins = [address for address in found if address.host is None and address.mailbox is not None]
    assert len(begins) == found.count(GROUP_END)


WORDS = st.text(alphabet="abcXYZ0-_", min_size=1, max_size=8)


@given(st.lists(st.tuples(st.text(alphabet='ab ,"\\.@(', max_size=10), WORDS, WORDS), min_size=1, max_size=5))
def test_well_formed_lists_agree_with_the_standard_library(people: list[tuple[str, str, str]]) -> None:
    written = ", ".join(str(Address(" ".join(name.split()), user, host)) for name, user, host in people)
    expected = [
        (name.encode() or None, None, *address.encode().split(b"@")) for name, address in getaddresses([written])
    ]
    assert addresses(written.encode()) == expected
