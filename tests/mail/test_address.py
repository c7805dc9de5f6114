"""Addresses: the grammar of RFC 5321 §4.1.2, and what attackers write instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Address, AddressError, parse_forward_path, parse_mailbox, parse_reverse_path


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("alice@example.org", "alice", "example.org"),
        ("Alice.B@EXAMPLE.org", "Alice.B", "example.org"),
        ("a+b=c/d@x", "a+b=c/d", "x"),
        ('"john doe"@example.org', "john doe", "example.org"),
        (r'"a\"b\\c"@example.org', 'a"b\\c', "example.org"),
        ("u@[192.0.2.1]", "u", "[192.0.2.1]"),
        ("u@[IPv6:2001:db8::1]", "u", "[IPv6:2001:db8::1]"),
        ("u@[ipv6:2001:DB8:0::1]", "u", "[IPv6:2001:db8::1]"),
        ("ü@bücher.example", "ü", "bücher.example"),
        ("user%other.org@example.org", "user%other.org", "example.org"),
        ("host!user@example.org", "host!user", "example.org"),
    ],
)
def test_parses(text: str, local: str, domain: str) -> None:
    assert parse_mailbox(text) == Address(local, domain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.org",
        "alice@",
        "alice@@example.org",
        "alice@example.org@example.net",
        "a..b@example.org",
        ".a@example.org",
        "a.@example.org",
        "a b@example.org",
        "a@-example.org",
        "a@" + "\u0130" * 40 + ".example",
        "a@" + ".".join(["\u023a" * 60] * 3) + ".example",
        "a@[IPv6:fe80::1%x y]",
        "a@[IPv6:fe80::1%x]",
        "a@example-.org",
        "a@example..org",
        "a@[192.0.2.300]",
        "a@[IPv6:zz]",
        "a@[tag:x]",
        "a@[192.0.2.1",
        '"a@example.org',
        '"a\\"@example.org',
        "a\x00@example.org",
        "a\r\nRCPT TO:<b>@example.org",
        "a\u2028b@example.org",
        "a＠example.org",  # full-width @
        "x" * 65 + "@example.org",
        "a@" + "x" * 64 + ".org",
        "a@" + "x." * 128 + "org",
        "a,b@example.org",
        "<a@example.org>",
        "a@exa mple.org",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(AddressError):
        parse_mailbox(text)


def test_null_reverse_path_and_postmaster() -> None:
    assert parse_reverse_path("<>") is None
    assert parse_forward_path("<PostMaster>") == Address("PostMaster", "")
    with pytest.raises(AddressError):
        parse_forward_path("<>")


def test_source_routes_are_taken_and_ignored() -> None:
    assert parse_forward_path("<@a.example,@b.example:c@d.example>") == Address("c", "d.example")
    with pytest.raises(AddressError):
        parse_forward_path("<@a.example,b.example:c@d.example>")


@pytest.mark.parametrize("path", ["a@b", "<a@b", "a@b>", "<<a@b>>", "< a@b>", "<a@b >", "<a@b> SIZE=1"])
def test_paths_stand_in_one_pair_of_brackets(path: str) -> None:
    with pytest.raises(AddressError):
        parse_forward_path(path)


def test_local_parts_match_without_case_domains_are_lower() -> None:
    assert parse_mailbox("Alice@Example.ORG").key == parse_mailbox("aLICE@example.org").key


printable = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc"]), max_size=40)


@given(printable)
def test_what_is_written_is_read_back(local: str) -> None:
    address = Address(local, "example.org")
    try:
        parsed = parse_mailbox(str(address))
    except AddressError:
        assert len(str(address)) > 60 or not local.isprintable() or len(local.encode()) > 60
    else:
        assert parsed == address


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (parse_mailbox, parse_forward_path, parse_reverse_path):
        try:
            parse(text)
        except AddressError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("text", "ascii_form"),
    [
        ("a@example.org", "a@example.org"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
        ("ü@example.org", None),
        ("a@-ü-.example", None),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
    ],
)
def test_domains_in_ascii(text: str, ascii_form: str | None) -> None:
    try:
        address = parse_mailbox(text).in_ascii()
    except AddressError:
        address = None
    assert (str(address) if address else None) == ascii_form
