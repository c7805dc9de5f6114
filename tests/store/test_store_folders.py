"""Names of mailboxes and their directories."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Address
from mailserver.store import InvalidName, folders

NAMES = st.text(max_size=40)


def test_names_on_disk_are_modified_utf7():
    assert folders.directory_of("Work/2024") == ".Work.2024"
    assert folders.directory_of("Entwürfe") == ".Entw&APw-rfe"
    assert folders.directory_of("R&D") == ".R&-D"
    assert folders.directory_of("台北") == ".&U,BTFw-"
    assert folders.directory_of("😀") == ".&2D3eAA-"


def test_inbox_in_any_case_is_the_account_itself():
    assert folders.directory_of("inbox") == folders.directory_of("INBOX") == ""
    assert folders.directory_of("inbox/Lists") == ".INBOX.Lists"
    assert folders.name_of(".INBOX.Lists") == "INBOX/Lists"
    assert folders.name_of(".INBOX") is None


HOSTILE = (
    *("", "/", "a//b", "/a", "a/", "..", ".", "../x", "a/../b", "../../etc/passwd", "a.b", ".a"),
    *("a\0b", "a\nb", "\r\n", "a\x7f", "a\x85", "a\ud800", "a\u2028b"),
    *("uidvalidity", "x" * 300, "ä" * 200),
)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_could_lead_out_or_confuse_are_refused(name):
    with pytest.raises(InvalidName):
        folders.directory_of(name)


@given(NAMES)
def test_a_name_survives_the_way_to_disk_and_back(name):
    try:
        directory = folders.directory_of(name)
    except InvalidName:
        return
    assert "/" not in directory
    assert directory not in (".", "..")
    if directory:
        assert directory.isascii()
        assert folders.name_of(directory) == folders.normalise(name)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(lambda text: "." + text))
def test_a_directory_that_is_seen_is_found_again(directory):
    name = folders.name_of(directory)
    if name is not None:
        assert folders.directory_of(name) == directory


@pytest.mark.parametrize(
    "directory",
    [".", "..", "...", ".a..b", ".a.", ".&", ".&AC8-", ".&AC4-", ".&AGE-", ".&APw", ".&2D0-", ".a&-&-&", ".ä"],
)
def test_directories_with_invalid_names_are_not_seen(directory):
    assert folders.name_of(directory) is None


def test_an_account_lies_below_its_domain():
    assert folders.account_path(Address("Alice.Smith+x", "example.test")) == "example.test/alice.smith+x"


@pytest.mark.parametrize("local", ["..", ".", "../../etc", "a/b", "a\0b", "~", "a\nb", "%2e%2e", ".hidden"])
def test_a_local_part_never_becomes_a_path(local):
    path = folders.account_path(Address(local, "example.test"))
    domain, _, directory = path.partition("/")
    assert domain == "example.test"
    assert directory
    assert not set(directory) & set("/\0\n")
    assert not directory.startswith(".")


@given(st.text(min_size=1, max_size=10), st.text(min_size=1, max_size=10))
def test_two_accounts_never_share_a_directory(one, other):
    first, second = Address(one, "example.test"), Address(other, "example.test")
    assert (folders.account_path(first) == folders.account_path(second)) == (first.key == second.key)


def test_an_address_without_a_domain_has_no_account():
    with pytest.raises(InvalidName):
        folders.account_path(Address("postmaster", ""))
