from __future__ import annotations

import os
import re
import tempfile
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.accounts import AccountsFile, EditError
from mailserver.accounts.sections import cut_section, insert_section
from mailserver.config.loader import load_accounts, parse_accounts
from mailserver.mail import Address, parse_mailbox
from tests.support.configs import SECRET_HASH

A = parse_mailbox
H = f'password = "{SECRET_HASH}"'

FILE = f"""\
# The domains of our house.

[domain."example.org"]     # the first one
[domain."example.net"]
catch_all = "alice@example.org"

# Alice lives upstairs.
[account."alice@example.org"]
{H}
aliases = [
  "info@example.org",   # the shop
  "alice@example.net",
]
# quota = "1 GiB"

# Bob lives downstairs.
[account."Bob@example.org"]   # has a dog
{H}
"""


@pytest.fixture
def file(tmp_path: Path) -> AccountsFile:
    (tmp_path / "accounts.toml").write_text(FILE)
    return AccountsFile(tmp_path / "accounts.toml")


def text(tmp_path: Path) -> str:
    return (tmp_path / "accounts.toml").read_text()


def test_a_new_account_comes_behind_the_last(file: AccountsFile, tmp_path: Path) -> None:
    file.add_account(A("carol@example.net"), SECRET_HASH)
    assert text(tmp_path) == FILE + f'\n[account."carol@example.net"]\n{H}\n'


def test_a_new_domain_comes_behind_the_last_and_comments_stay_with_their_sections(
    file: AccountsFile, tmp_path: Path
) -> None:
    assert file.add_domain("Other.example") == "other.example"
    expected = FILE.replace("# Alice lives", '[domain."other.example"]\n\n# Alice lives')
    assert text(tmp_path) == expected


def test_a_removed_account_takes_along_what_stands_in_its_section_only(file: AccountsFile, tmp_path: Path) -> None:
    assert file.remove_account(A("bob@example.org")) == A("Bob@example.org")
    assert text(tmp_path) == FILE.partition('[account."Bob')[0]


def test_the_comment_of_the_next_account_stays(tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text(FILE.replace('catch_all = "alice@example.org"\n', ""))
    AccountsFile(tmp_path / "accounts.toml").remove_account(A("alice@example.org"))
    assert text(tmp_path).endswith(
        '[domain."example.net"]\n\n# Alice lives upstairs.\n\n# Bob lives downstairs.\n'
        f'[account."Bob@example.org"]   # has a dog\n{H}\n'
    )


def test_a_new_password(file: AccountsFile, tmp_path: Path) -> None:
    file.set_password(A("bob@EXAMPLE.org"), SECRET_HASH[:-2] + "AA")
    assert text(tmp_path) == FILE[: -len(H) - 1] + H[:-3] + 'AA"\n'


def test_aliases_come_and_go_without_harm_to_comments(file: AccountsFile, tmp_path: Path) -> None:
    file.add_alias(A("shop@example.org"), [A("alice@example.org")])
    file.add_alias(A("b@example.org"), [A("bob@example.org")])
    accounts = load_accounts(tmp_path / "accounts.toml").account
    assert accounts["alice@example.org"].aliases == ("info@example.org", "alice@example.net", "shop@example.org")
    assert accounts["Bob@example.org"].aliases == ("b@example.org",)
    assert "# the shop" in text(tmp_path) and '# quota = "1 GiB"' in text(tmp_path)
    file.remove_alias(A("ALICE@example.net"))
    accounts = load_accounts(tmp_path / "accounts.toml").account
    assert accounts["alice@example.org"].aliases == ("info@example.org", "shop@example.org")
    for comment in re.findall("# .*", FILE):
        assert comment in text(tmp_path)


def test_removing_a_domain(file: AccountsFile, tmp_path: Path) -> None:
    with pytest.raises(EditError, match=r"has addresses still: alice@example\.net; remove them first"):
        file.remove_domain("example.net")
    file.remove_alias(A("alice@example.net"))
    file.remove_domain("EXAMPLE.net")
    assert list(load_accounts(tmp_path / "accounts.toml").domain) == ["example.org"]


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda f: f.add_domain("example.ORG"), "the domain example.org is there already"),
        (lambda f: f.add_domain("a b"), "'a b' is not a domain name"),
        (lambda f: f.add_domain('x"]\n[account'), "is not a domain name"),
        (lambda f: f.remove_domain("other.example"), "there is no domain other.example"),
        (lambda f: f.add_account(A("ALICE@example.org"), SECRET_HASH), "is an account already"),
        (lambda f: f.add_account(A("Info@example.org"), SECRET_HASH), "is an alias of alice@example.org already"),
        (lambda f: f.add_account(A("x@other.example"), SECRET_HASH), "there is no domain other.example; add it first"),
        (lambda f: f.add_account(A("x@example.org"), "secret"), "is not an argon2id hash"),
        (lambda f: f.set_password(A("info@example.org"), SECRET_HASH), "there is no account info@example.org"),
        (lambda f: f.remove_account(A("alice@example.org")), "is the catch_all of example.net; change that first"),
        (lambda f: f.remove_account(A("x@example.org")), "there is no account x@example.org"),
        (lambda f: f.add_alias(A("x@example.org"), [A("nobody@example.org")]), 'there is no "nobody@example.org" here'),
        (lambda f: f.add_alias(A("bob@example.org"), [A("alice@example.org")]), "is an account already"),
        (lambda f: f.add_alias(A("x@other.example"), [A("bob@example.org")]), "other.example is not declared"),
        (lambda f: f.remove_alias(A("x@example.org")), "there is no alias x@example.org"),
    ],
)
def test_edits_that_cannot_be_made_change_nothing(
    file: AccountsFile, tmp_path: Path, edit: Callable[[AccountsFile], object], complaint: str
) -> None:
    before = (tmp_path / "accounts.toml").stat().st_ino
    with pytest.raises(EditError, match=re.escape(complaint)):
        edit(file)
    assert text(tmp_path) == FILE
    assert (tmp_path / "accounts.toml").stat().st_ino == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["accounts.toml"]


def test_the_first_edit_makes_the_file(tmp_path: Path) -> None:
    file = AccountsFile(tmp_path / "accounts.toml")
    file.add_domain("example.org")
    file.add_account(A('"a b"@example.org'), SECRET_HASH)
    assert list(load_accounts(tmp_path / "accounts.toml").account) == ['"a b"@example.org']
    assert (tmp_path / "accounts.toml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "odd",
    [
        f'account."a@example.org".{H}\ndomain."example.org" = {{}}\n',
        f'domain = {{"example.org" = {{}}}}\naccount = {{"a@example.org" = {{{H}}}}}\n',
        f'[domain]\n"example.org" = {{}}\n[account]\n"a@example.org" = {{ {H} }}\n',
        f"[ domain . 'example.org' ]\n[account.'a@example.org']\n{H}\n[account.'a@example.org'.aliases]",
        f'[account."a@example.org"]\n{H}\n[domain."example.org"]',
        f'[domain."example.org"]\r\n[account."a@example.org"]\r\n{H}\r\n',
    ],
)
def test_files_in_another_style_are_edited_or_refused_but_never_damaged(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "accounts.toml"
    path.write_bytes(odd.encode())
    file = AccountsFile(path)
    edits: list[Callable[[], object]] = [
        lambda: file.add_domain("b.example"),
        lambda: file.add_account(A("b@example.org"), SECRET_HASH),
        lambda: file.add_alias(A("c@example.org"), [A("a@example.org")]),
        lambda: file.remove_account(A("a@example.org")),
    ]
    for edit in edits:
        before = path.read_bytes()
        try:
            edit()
        except EditError:
            assert path.read_bytes() == before
        else:
            load_accounts(path)
    if "aliases]" not in odd:
        accounts = load_accounts(path)
        assert set(accounts.domain) == {"example.org", "b.example"}
        assert list(accounts.account) == ["b@example.org"]


def test_a_broken_file_is_told_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    for broken, complaint in [
        ("[domain\n", "line 1: the header has no ]"),
        ("account = 5\n", "is not a section"),
        ('domain = "example.org"\n', "is not a section"),
        ("colour = 1\n", "unknown key"),
    ]:
        path.write_text(broken)
        with pytest.raises(EditError, match=complaint):
            AccountsFile(path).add_domain("b.example")
        assert path.read_text() == broken
    path.write_bytes(b"\xff")
    with pytest.raises(EditError, match="not UTF-8"):
        AccountsFile(path).add_domain("b.example")


def test_an_edit_may_mend_a_file_that_lacks_a_domain(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(f'[account."a@example.org"]\n{H}\n')
    AccountsFile(path).add_domain("example.org")
    assert list(load_accounts(path).account) == ["a@example.org"]


def test_mode_and_owner_stay(file: AccountsFile, tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.chmod(0o604)
    if os.getuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    file.add_domain("b.example")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_editors_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"

    def add_many(prefix: str) -> None:
        for i in range(10):
            AccountsFile(path).add_domain(f"{prefix}{i}.example")

    threads = [threading.Thread(target=add_many, args=(prefix,)) for prefix in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load_accounts(path).domain) == 30


PIECES = st.lists(
    st.sampled_from(
        [
            "\n",
            "# a comment\n",
            '# [account."x@example.org"]\n',
            '[domain."d.example"]\n',
            '[domain."e.example"] # e\ncatch_all = "a@example.org"\n',
            f'[account."a@example.org"]\n{H}\n',
            f'[account."b@example.org"]\n{H}\naliases = [\n "x@d.example", # x\n]\n',
            f'[account."c@example.org"]\n# c\n\n{H} # h\n# c\n',
        ]
    ),
    max_size=12,
)


@given(PIECES, st.sampled_from(["a@example.org", "b@example.org", "c@example.org"]))
def test_sections_are_put_in_and_cut_out_and_every_other_line_stays(pieces: list[str], name: str) -> None:
    unique = [p for i, p in enumerate(pieces) if not p.startswith("[") or p not in pieces[:i]]
    before = "".join(unique)
    data = tomllib.loads(before)
    inserted = insert_section(before, ("account", "new@example.org"), f"{H}\n")
    expected = {**data, "account": {**data.get("account", {}), "new@example.org": {"password": SECRET_HASH}}}
    assert tomllib.loads(inserted) == expected
    assert [line for line in before.splitlines() if line] == [
        line for line in cut_section(inserted, ("account", "new@example.org")).splitlines() if line
    ]
    cut = cut_section(before, ("account", name))
    accounts = {k: v for k, v in data.get("account", {}).items() if k != name}
    assert tomllib.loads(cut).get("account", {}) == accounts
    kept = iter(before.splitlines())
    assert all(line in kept for line in cut.splitlines())  # in order


NAMES = st.sampled_from(["a", "b", "c", "A+x", "post.master"])
ADDRESSES = st.builds(Address, NAMES, st.sampled_from(["example.org", "example.net"]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add_domain"), st.sampled_from(["example.org", "example.net"])),
        st.tuples(st.just("remove_domain"), st.sampled_from(["example.org", "example.net"])),
        st.tuples(st.just("add_account"), ADDRESSES, st.just(SECRET_HASH)),
        st.tuples(st.just("set_password"), ADDRESSES, st.just(SECRET_HASH)),
        st.tuples(st.just("remove_account"), ADDRESSES),
        st.tuples(st.just("add_alias"), ADDRESSES, st.lists(ADDRESSES, min_size=1, max_size=3)),
        st.tuples(st.just("remove_alias"), ADDRESSES, st.lists(ADDRESSES, max_size=2)),
    ),
    max_size=15,
)


@given(STEPS)
def test_any_edits_leave_a_good_file_with_its_comments(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "accounts.toml"
        path.write_text('# top\n\n# of example.org\n[domain."example.org"]\n\n# bottom\n')
        for name, *arguments in steps:
            before = path.read_text()
            try:
                getattr(AccountsFile(path), str(name))(*arguments)
            except EditError as error:
                assert "by hand" not in str(error)
                assert path.read_text() == before
        parse_accounts(path.read_text(), path)
        assert re.findall("# .*", path.read_text()) == ["# top", "# of example.org", "# bottom"]
