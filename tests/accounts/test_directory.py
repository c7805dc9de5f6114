from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.accounts import (
    Directory,
    FileSource,
    Mailbox,
    Members,
    NotLocal,
    Resolution,
    SourceDown,
    Unknown,
    hash_password,
    verify_password,
)
from mailserver.accounts.model import Account, Domain
from mailserver.accounts.watched import CHECK_INTERVAL, Watched
from mailserver.config.loader import ConfigurationError
from mailserver.mail import UNLIMITED, Address, Quota, parse_mailbox
from mailserver.sasl import ScramKeys
from tests.support.configs import ACCOUNTS, SECRET, SECRET_HASH

ALICE, BOB = parse_mailbox("alice@example.org"), parse_mailbox("bob@example.org")
QUOTA = Quota(5 * 2**30)


class Time:
    """Monotonic time that tests move."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(tmp_path: Path, text: str = ACCOUNTS) -> tuple[Directory, Path, Time]:
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    moment = Time()
    return Directory(FileSource(path, monotonic=moment)), path, moment


def edit(path: Path, text: str, *, age: float = 10) -> None:
    """Writes the file as an editor that finished `age` seconds ago."""
    path.write_text(text)
    long_ago = time.time() - age
    os.utime(path, (long_ago, long_ago))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    return make(tmp_path_factory.mktemp("accounts"))[0]


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("alice@example.org", Mailbox(ALICE, QUOTA)),
        ("ALICE@EXAMPLE.ORG", Mailbox(ALICE, QUOTA)),
        ("alice+lists@example.org", Mailbox(ALICE, QUOTA)),
        ("Alice+a+b@example.org", Mailbox(ALICE, QUOTA)),
        ("info@example.org", Mailbox(ALICE, QUOTA)),
        ("info+x@example.org", Mailbox(ALICE, QUOTA)),
        ("alice@example.net", Mailbox(ALICE, QUOTA)),
        ("anyone@example.net", Mailbox(BOB, UNLIMITED)),
        ("bob@example.org", Mailbox(BOB, UNLIMITED)),
        ("carol@example.org", Unknown()),
        ("+alice@example.org", Unknown()),
        ("alice%example.net@example.org", Unknown()),
        ("alice@sub.example.org", NotLocal()),
        ("alice@other.example", NotLocal()),
        ('"alice@example.org"@other.example', NotLocal()),
        ("alice@[127.0.0.1]", NotLocal()),
    ],
)
def test_where_addresses_lead(directory: Directory, address: str, found: Resolution) -> None:
    assert directory.resolve(parse_mailbox(address)) == found


@given(local=st.text(max_size=20), domain=st.sampled_from(["example.org", "example.net", "", "other.example"]))
def test_every_address_has_an_answer(directory: Directory, local: str, domain: str) -> None:
    found = directory.resolve(Address(local, domain))
    assert isinstance(found, Mailbox | Unknown | NotLocal)
    assert isinstance(found, NotLocal) == (
        domain == "other.example" or (domain == "" and local.casefold() != "postmaster")
    )


def test_an_account_with_a_plus_goes_before_the_subaddress(tmp_path: Path) -> None:
    directory, _, _ = make(tmp_path, ACCOUNTS + f'[account."alice+work@example.org"]\npassword = "{SECRET_HASH}"\n')
    work = parse_mailbox("alice+work@example.org")
    assert directory.resolve(parse_mailbox("Alice+Work@example.org")) == Mailbox(work, UNLIMITED)
    assert directory.resolve(parse_mailbox("alice+other@example.org")) == Mailbox(ALICE, QUOTA)


def test_there_is_always_a_postmaster(tmp_path: Path, directory: Directory) -> None:
    bare, named = Address("Postmaster", ""), parse_mailbox("postmaster@example.org")
    assert directory.resolve(bare) == directory.resolve(named) == Mailbox(ALICE, QUOTA)
    assert directory.resolve(parse_mailbox("postmaster@example.net")) == Mailbox(BOB, UNLIMITED)  # the catch-all
    text = ACCOUNTS + 'aliases = ["PostMaster@example.org"]\n[domain."empty.example"]\n'
    another, _, _ = make(tmp_path, text)
    assert another.resolve(bare) == another.resolve(named) == Mailbox(BOB, UNLIMITED)
    assert another.resolve(parse_mailbox("postmaster@empty.example")) == Mailbox(ALICE, QUOTA)
    nobody, _, _ = make(tmp_path, '[domain."example.org"]\n')
    assert nobody.resolve(bare) == nobody.resolve(named) == Unknown()
    group = '[alias."postmaster@example.org"]\nmembers = ["admin@elsewhere.example"]\n'
    elsewhere, _, _ = make(tmp_path, f'[domain."example.org"]\n{group}')
    assert elsewhere.resolve(bare) == elsewhere.resolve(named) == Members((parse_mailbox("admin@elsewhere.example"),))


def disabled(name: str, more: str = "") -> str:
    return f'[account."{name}@example.org"]\npassword = "{SECRET_HASH}"\ndisabled = "refuse"\n{more}'


@pytest.mark.parametrize(
    "accounts",
    [
        disabled("postmaster"),
        disabled("gone", 'aliases = ["postmaster@example.org"]\n'),
        disabled("gone") + '[alias."postmaster@example.org"]\nmembers = ["all@example.org"]\n'
        '[alias."all@example.org"]\nmembers = ["gone+x@example.org"]\n',
        disabled("gone") + '[domain."example.org"]\ncatch_all = "gone@example.org"\n',
    ],
    ids=["account", "further address", "groups", "catch-all"],
)
@pytest.mark.parametrize("local", ["postmaster", "abuse"])
def test_a_postmaster_who_is_away_has_a_deputy(tmp_path: Path, accounts: str, local: str) -> None:
    declared = "" if "[domain" in accounts else '[domain."example.org"]\n'
    bob = f'[account."bob@example.org"]\npassword = "{SECRET_HASH}"\n'
    directory, path, moment = make(tmp_path, declared + accounts + bob)
    assert directory.resolve(Address(local, "example.org")) == Mailbox(BOB, UNLIMITED)
    assert directory.resolve(Address("postmaster", "")) == Mailbox(BOB, UNLIMITED)
    edit(path, path.read_text().replace("disabled =", "#"))
    moment.now += 5
    assert directory.resolve(Address(local, "example.org")) not in (Mailbox(BOB, UNLIMITED), Unknown())


def test_groups_of_everybody_are_looked_through_as_far_as_is_cheap(tmp_path: Path) -> None:
    members = ", ".join(f'"u{n}@example.org"' for n in range(300))
    text = f'[domain."example.org"]\n[alias."abuse@example.org"]\nmembers = [{members}]\n'
    directory, _, _ = make(tmp_path, text + "".join(disabled(f"u{n}", "\n") for n in range(300)))
    assert isinstance(directory.resolve(parse_mailbox("abuse@example.org")), Members)


def test_an_account_that_was_disabled_since_it_logged_in_sends_nothing(tmp_path: Path) -> None:
    allowed = 'send_as = ["*@elsewhere.example"]\n'
    for disabled in ("refuse", "keep"):
        directory, path, moment = make(tmp_path, f"{ACCOUNTS}{allowed}")
        senders = [BOB, parse_mailbox("x@elsewhere.example")]
        assert all(directory.may_send_as(BOB, sender) for sender in senders)
        edit(path, f'{ACCOUNTS}{allowed}disabled = "{disabled}"\n')
        moment.now += 5
        assert not any(directory.may_send_as(BOB, sender) for sender in senders)


@pytest.mark.parametrize(
    ("sender", "allowed"),
    [
        ("alice@example.org", True),
        ("Alice+x@example.org", True),
        ("info@example.org", True),
        ("alice@example.net", True),
        ("bob@example.org", False),
        ("anyone@example.net", False),
        ("carol@example.org", False),
        ("alice@other.example", False),
    ],
)
def test_whose_addresses_an_account_may_send_from(directory: Directory, sender: str, allowed: bool) -> None:
    assert directory.may_send_as(ALICE, parse_mailbox(sender)) is allowed


def test_the_owner_of_a_catch_all_sends_from_its_domain_but_for_the_addresses_of_others(directory: Directory) -> None:
    assert directory.may_send_as(BOB, parse_mailbox("anyone@example.net"))
    assert not directory.may_send_as(BOB, parse_mailbox("alice@example.net"))


def test_nobody_sends_from_an_address_without_domain(directory: Directory) -> None:
    assert not directory.may_send_as(ALICE, Address("postmaster", ""))


@pytest.mark.parametrize(
    "username",
    [
        "alice@example.org",
        "ALICE@Example.org",
        "info@example.org",
        "alice@example.net",
        "\uff41lice\uff20example.org",
    ],
)
def test_login_by_address_or_alias(directory: Directory, username: str) -> None:
    assert directory.authenticate(username, SECRET) == ALICE


@pytest.mark.parametrize(
    "username",
    [
        "",
        "alice",
        "alice+x@example.org",
        "anyone@example.net",
        "postmaster@example.org",
        "a@b@c",
        "alice@example.org\0",
        " alice@example.org",
        "alice@example.org\u00a0",
        "\u200balice@example.org",
        "alice@example\u3002org",
        "a" * 70_000 + "@example.org",
    ],
)
def test_no_login_by_anything_looser(directory: Directory, username: str) -> None:
    assert directory.authenticate(username, SECRET) is None


@pytest.mark.parametrize("password", ["", "Secret", "secret ", "secret\0", "\ud800", "x" * 100_000])
def test_a_wrong_password_of_any_form(directory: Directory, password: str) -> None:
    assert directory.authenticate("alice@example.org", password) is None


def test_a_user_who_is_unknown_takes_as_long_as_a_wrong_password(tmp_path: Path) -> None:
    text = ACCOUNTS.replace(SECRET_HASH, hash_password("the right one"))
    directory, _, _ = make(tmp_path, text)

    def cost(username: str) -> float:
        times = []
        for _ in range(5):
            start = time.process_time()
            assert directory.authenticate(username, "wrong") is None
            times.append(time.process_time() - start)
        return min(times)  # what disturbs only adds

    known, unknown, malformed = map(cost, ("alice@example.org", "nobody@example.org", "no address"))
    assert 0.3 < unknown / known < 3
    assert 0.3 < malformed / known < 3


def test_a_changed_file_is_taken_over_within_a_second_or_two(tmp_path: Path) -> None:
    directory, path, moment = make(tmp_path)
    carol = parse_mailbox("carol@example.org")
    edit(path, ACCOUNTS + f'[account."carol@example.org"]\npassword = "{SECRET_HASH}"\n')
    assert directory.resolve(carol) == Unknown()
    moment.now += CHECK_INTERVAL
    assert directory.resolve(carol) == Mailbox(carol, UNLIMITED)
    assert directory.authenticate("carol@example.org", SECRET) == carol


def test_a_file_in_the_middle_of_being_written_is_left_alone(tmp_path: Path) -> None:
    directory, path, moment = make(tmp_path)
    edit(path, "", age=0)
    moment.now += 5
    assert directory.resolve(ALICE) == Mailbox(ALICE, QUOTA)
    edit(path, ACCOUNTS.replace("5 GiB", "6 GiB"))
    assert directory.resolve(ALICE) == Mailbox(ALICE, Quota(6 * 2**30))


def test_a_broken_edit_keeps_the_former_accounts_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, path, moment = make(tmp_path)
    edit(path, ACCOUNTS.replace('"5 GiB"', "5").replace("example.net", "[::]"))
    for _ in range(3):
        moment.now += 5
        assert directory.resolve(ALICE) == Mailbox(ALICE, QUOTA)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3 and any("quota: 5 is not a size" in error for error in errors)
    assert SECRET_HASH not in caplog.text
    edit(path, ACCOUNTS)
    moment.now += 5
    assert directory.resolve(parse_mailbox("alice@example.net")) == Mailbox(ALICE, QUOTA)


def test_a_file_that_is_gone_keeps_the_former_accounts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory, path, moment = make(tmp_path)
    path.unlink()
    moment.now += 5
    assert directory.resolve(ALICE) == Mailbox(ALICE, QUOTA)
    assert "does not exist" in caplog.text
    edit(path, '[domain."example.org"]\n')
    moment.now += 5
    assert directory.resolve(ALICE) == Unknown()


def test_a_file_whose_mode_is_mended_is_read_again(tmp_path: Path) -> None:
    path, moment = tmp_path / "file", Time()
    path.touch(mode=0o600)

    def read(_: str | None) -> str:
        if not path.stat().st_mode & 0o400:  # root could read it all the same
            raise ConfigurationError(["cannot be read"])
        return path.read_text()

    watched = Watched(path, read, monotonic=moment)
    path.chmod(0o200)
    edit(path, "new")
    moment.now += 5
    assert watched.current() == ""
    path.chmod(0o600)
    moment.now += 5
    assert watched.current() == "new"


@pytest.mark.parametrize("text", ["", "# nothing\n", "[domain]\n[account]\n"])
def test_a_file_without_any_domain_is_not_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    directory, path, moment = make(tmp_path)
    edit(path, text)
    for _ in range(3):
        moment.now += 5
        assert directory.resolve(ALICE) == Mailbox(ALICE, QUOTA)
    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "the former ones stay" in error and "has no domain any more" in error
    edit(path, '[domain."other.example"]\n')
    moment.now += 5
    assert directory.resolve(parse_mailbox("x@other.example")) == Unknown()
    assert directory.resolve(ALICE) == NotLocal()


def test_a_server_may_begin_without_a_domain(tmp_path: Path) -> None:
    directory, path, moment = make(tmp_path, "")
    assert directory.resolve(ALICE) == NotLocal()
    edit(path, "# still nothing\n")
    moment.now += 5
    assert directory.resolve(ALICE) == NotLocal()
    edit(path, ACCOUNTS)
    moment.now += 5
    assert directory.resolve(ALICE) == Mailbox(ALICE, QUOTA)


def test_a_file_that_cannot_be_used_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        FileSource(tmp_path / "accounts.toml")


def test_lookups_from_many_threads_while_the_file_changes(tmp_path: Path) -> None:
    directory, path, moment = make(tmp_path)
    failures: list[object] = []

    def look() -> None:
        for _ in range(300):
            found = directory.resolve(ALICE)
            if found not in (Mailbox(ALICE, QUOTA), Mailbox(ALICE, UNLIMITED)):
                failures.append(found)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(20):
        replacement = path.with_name("replacement")
        edit(replacement, ACCOUNTS if i % 2 else ACCOUNTS.replace('quota = "5 GiB"', ""))
        replacement.rename(path)
        moment.now += 2
    for thread in threads:
        thread.join()
    assert failures == []


KEYS = ScramKeys.of(SECRET.encode(), iterations=4096)


def test_scram_is_offered_once_all_accounts_have_keys(tmp_path: Path) -> None:
    half = ACCOUNTS.replace(SECRET_HASH, f"{SECRET_HASH} {KEYS}", 1)
    directory, path, moment = make(tmp_path, half)
    assert not directory.offers_scram()
    assert directory.scram_keys("Info@example.org") == (ALICE, KEYS)
    assert directory.scram_keys("bob@example.org") is None
    assert directory.scram_keys("nobody@example.org") is directory.scram_keys("@") is None
    assert directory.authenticate("alice@example.org", SECRET) == ALICE
    edit(path, ACCOUNTS.replace(SECRET_HASH, f"{SECRET_HASH} {KEYS}"))
    moment.now += 10
    assert directory.offers_scram()


@pytest.mark.parametrize("tail", [" x", f" {KEYS} x", f"  {KEYS}", f" {str(KEYS)[:-5]}"])
def test_damaged_keys_are_a_fault_of_the_file(tmp_path: Path, tail: str) -> None:
    with pytest.raises(ConfigurationError, match="behind its hash; let `mailserver account passwd"):
        make(tmp_path, ACCOUNTS.replace(SECRET_HASH, SECRET_HASH + tail, 1))


def test_a_domain_is_known_in_both_of_its_forms(tmp_path: Path) -> None:
    text = (
        ACCOUNTS
        + f'''[domain."xn--bcher-kva.example"]\n[account."carl@xn--bcher-kva.example"]\npassword = "{SECRET_HASH}"\n'''
    )
    directory, _, _ = make(tmp_path, text)
    carl = parse_mailbox("carl@xn--bcher-kva.example")
    for spelled in ("carl@xn--bcher-kva.example", "carl@bücher.example", "CARL@BÜCHER.example"):
        assert directory.resolve(parse_mailbox(spelled)) == Mailbox(carl, UNLIMITED)


def test_an_account_sends_from_what_it_is_allowed(tmp_path: Path) -> None:
    text = ACCOUNTS.replace("aliases", 'send_as = ["boss@example.com", "*@News.example"]\naliases', 1)
    directory, _, _ = make(tmp_path, text)
    may = {"boss@example.com", "BOSS@example.com", "any@news.example", "alice@example.org", "alice+x@example.org"}
    may_not = {"bob@example.org", "chief@example.com", "any@example.com", "x@sub.news.example"}
    for sender in may | may_not:
        assert directory.may_send_as(ALICE, parse_mailbox(sender)) == (sender in may), sender
    assert not directory.may_send_as(BOB, parse_mailbox("boss@example.com"))


@pytest.mark.parametrize("wrong", ["example.com", "*", "@example.com", "a b@example.com"])
def test_what_is_no_allowance_is_told(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="neither an address nor"):
        make(tmp_path, ACCOUNTS.replace("aliases", f'send_as = ["{wrong}"]\naliases', 1))


@pytest.mark.parametrize(("separator", "local"), [("+", "alice+x"), ("-", "alice-x"), ("=", "alice=x-y"), ("", None)])
def test_the_separator_of_subaddresses_is_configurable(tmp_path: Path, separator: str, local: str | None) -> None:
    (tmp_path / "accounts.toml").write_text(ACCOUNTS)
    directory = Directory(FileSource(tmp_path / "accounts.toml"), separator=separator)
    for each in ("alice+x", "alice-x", "alice=x-y", "alice_x"):
        found = directory.resolve(Address(each, "example.org"))
        assert found == (Mailbox(ALICE, QUOTA) if each == local else Unknown())


@pytest.mark.parametrize("written", ["*@b\u00fccher.example", "*@xn--bcher-kva.example"])
def test_an_allowance_holds_for_both_forms_of_a_domain(tmp_path: Path, written: str) -> None:
    directory, _, _ = make(tmp_path, ACCOUNTS.replace("aliases", f'send_as = ["{written}"]\naliases', 1))
    for domain in ("b\u00fccher.example", "xn--bcher-kva.example"):
        assert directory.may_send_as(ALICE, Address("x", domain))


def test_a_source_speaks_only_for_accounts_of_its_own_domains(tmp_path: Path) -> None:
    class Other:
        name, blocking = "other", False

        def domain(self, name: str) -> Domain | None:
            return Domain(name) if name == "other.example" else None

        def find(self, key: tuple[str, str]) -> Account:
            return Account(ALICE if key[0] == "x" else Address(*key), SECRET_HASH)

        def verify(self, account: Account, password: str) -> bool:
            return verify_password(account.password, password)

        def refuse(self, key: object, password: str) -> None: ...

    (tmp_path / "accounts.toml").write_text(ACCOUNTS)
    directory = Directory(FileSource(tmp_path / "accounts.toml"), others=[Other()])  # type: ignore[list-item]
    mine = parse_mailbox("y@other.example")
    assert directory.resolve(mine) == Mailbox(mine, UNLIMITED) and directory.authenticate(str(mine), SECRET) == mine
    for ask in (
        lambda: directory.resolve(parse_mailbox("x@other.example")),
        lambda: directory.authenticate("x@other.example", SECRET),
    ):
        with pytest.raises(SourceDown, match=r"alice@example\.org at x@other\.example"):
            ask()
