"""App passwords: how they are made, found, scoped, and how their last use is kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from mailserver.accounts import (
    AccountsFile,
    AppPassword,
    Directory,
    EditError,
    FileSource,
    LastUses,
    Use,
    Visit,
    find_app_password,
    generate_app_password,
)
from mailserver.accounts.lastuse import INTERVAL
from mailserver.config.apppasswords import AppPassword as Section
from mailserver.config.loader import ConfigurationError, load_accounts, parse_accounts
from mailserver.mail import parse_mailbox
from tests.support.configs import ACCOUNTS, SECRET, SECRET_HASH

ALICE, BOB = parse_mailbox("alice@example.org"), parse_mailbox("bob@example.org")
IMAP, POP3, SUBMISSION = (Visit(service, "192.0.2.1") for service in ("imap", "pop3", "submission"))  # type: ignore[arg-type]


def made(*names: str) -> tuple[list[AppPassword], list[str]]:
    pairs = [generate_app_password() for _ in names]
    known = [AppPassword.of(Section(name=name, password=kept)) for name, (_, kept) in zip(names, pairs, strict=True)]
    return known, [shown for shown, _ in pairs]


def test_one_is_99_random_bits_behind_its_identifier_and_its_digest_is_kept() -> None:
    shown, kept = generate_app_password()
    assert re.fullmatch(r"[a-z2-9]{5}(-[a-z2-9]{5}){4}", shown)
    assert kept == f"{shown[:5]}:{hashlib.sha256(shown.replace('-', '').encode()).hexdigest()}"
    assert len({generate_app_password()[0] for _ in range(100)}) == 100


def test_no_identifier_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter("aaaaa" + "aaaaa" + "bbbbb" + "c" * 100)
    monkeypatch.setattr("secrets.choice", lambda _: next(given))
    assert generate_app_password({"aaaaa"})[1].startswith("bbbbb:")


def test_each_is_found_and_no_other() -> None:
    known, shown = made("phone", "laptop", "scanner")
    for each, password in zip(known, shown, strict=True):
        assert find_app_password(known, password) is each
        assert find_app_password([other for other in known if other is not each], password) is None
        for typed in (password.upper(), password.replace("-", ""), password.replace("-", " "), f" {password}"):
            assert find_app_password(known, typed) is each
    assert "digest" not in repr(known)


@pytest.mark.parametrize(
    "change", [lambda p: p[:-1], lambda p: p + "a", lambda p: p[:5], lambda p: p[6:], lambda p: ""]
)
def test_a_part_of_one_is_none(change: object) -> None:
    known, (password,) = made("phone")
    assert callable(change)
    assert find_app_password(known, change(password)) is None
    assert find_app_password(known, password[:-1] + ("a" if password[-1] != "a" else "b")) is None
    assert find_app_password(known, "\ud800" * 70_000) is None


def test_one_hash_is_computed_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    known, shown = made(*map(str, range(50)))
    computed: list[bytes] = []
    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda data: computed.append(data) or sha256(data))
    for password in (shown[0], shown[49], "wrong", ""):
        for among in (known, known[:1], []):
            computed.clear()
            find_app_password(among, password)
            assert len(computed) == 1


class House:
    """An accounts file with its directory."""

    def __init__(self, path: Path) -> None:
        self.path = path / "accounts.toml"
        self.path.write_text(ACCOUNTS)
        self.file = AccountsFile(self.path)
        self.uses = LastUses(path)
        self.source = FileSource(self.path)
        self.directory = Directory(self.source, uses=self.uses)

    def add(self, name: str, *scopes: str) -> str:
        password = self.file.add_app_password(ALICE, name, scopes or ("imap", "pop3", "submission"))  # type: ignore[arg-type]
        self.source.reload()
        return password


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_scope_is_all_that_one_opens(house: House) -> None:
    phone, scanner = house.add("phone", "imap", "submission"), house.add("scanner", "submission")
    login = house.directory.authenticate
    assert [login(str(ALICE), phone, visit) for visit in (IMAP, POP3, SUBMISSION)] == [ALICE, None, ALICE]
    assert [login(str(ALICE), scanner, visit) for visit in (IMAP, POP3, SUBMISSION)] == [None, None, ALICE]
    assert login("info@example.org", phone, IMAP) == ALICE, "by any address of the account"
    assert login(str(ALICE), phone) is None, "nothing is visited"
    assert login(str(BOB), phone, IMAP) is None
    assert login("nobody@example.org", phone, IMAP) is None
    assert login(str(ALICE), SECRET, IMAP) == ALICE, "the account's own goes on"


def test_a_removed_one_ends_and_the_others_go_on(house: House) -> None:
    phone, laptop = house.add("phone"), house.add("laptop")
    assert house.file.remove_app_password(ALICE, "phone") == phone[:5]
    house.source.reload()
    assert house.directory.authenticate(str(ALICE), phone, IMAP) is None
    assert house.directory.authenticate(str(ALICE), laptop, IMAP) == ALICE


def test_a_disabled_account_has_none(house: House) -> None:
    phone = house.add("phone")
    house.file.set_disabled(ALICE, "keep")
    house.source.reload()
    assert house.directory.authenticate(str(ALICE), phone, IMAP) is None


def test_an_account_may_be_opened_by_app_passwords_only(house: House) -> None:
    phone = house.add("phone")
    header = '[account."alice@example.org"]\n'
    house.path.write_text(house.path.read_text().replace(header, header + "app_passwords_only = true\n"))
    house.source.reload()
    assert house.directory.authenticate(str(ALICE), SECRET, IMAP) is None
    assert house.directory.authenticate(str(ALICE), phone, IMAP) == ALICE
    assert house.directory.scram_keys(str(ALICE)) is None


def test_a_wrong_password_is_the_same_work_whoever_the_user_is(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own passwords, app passwords of the wrong scope or removed, accounts without an own password, and nobody."""
    scoped = house.add("scanner", "submission")
    removed = house.add("old")
    house.file.remove_app_password(ALICE, "old")
    header = '[account."bob@example.org"]\n'
    house.path.write_text(house.path.read_text().replace(header, header + "app_passwords_only = true\n"))
    house.source.reload()
    done: list[str] = []
    verify = PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher, "verify", lambda self, stored, octets: done.append(stored) or verify(self, stored, octets)
    )
    for user, password in (
        (str(ALICE), "wrong"),
        (str(ALICE), scoped),
        (str(ALICE), removed),
        (str(BOB), "wrong"),
        (str(BOB), SECRET),
        ("nobody@example.org", "wrong"),
        ("nobody@example.org", scoped),
    ):
        done.clear()
        assert house.directory.authenticate(user, password, IMAP) is None
        assert done == [SECRET_HASH]


def test_scram_is_not_offered_while_there_is_one(tmp_path: Path) -> None:
    keys = "SCRAM-SHA-256$4096:AAAA$" + "A" * 43 + "=:" + "A" * 43 + "="
    (tmp_path / "accounts.toml").write_text(ACCOUNTS.replace(SECRET_HASH, f"{SECRET_HASH} {keys}"))
    file, source = AccountsFile(tmp_path / "accounts.toml"), FileSource(tmp_path / "accounts.toml")
    directory = Directory(source)
    assert directory.offers_scram()
    file.add_app_password(ALICE, "phone", ("imap",))
    source.reload()
    assert not directory.offers_scram()
    file.remove_app_password(ALICE, "phone")
    source.reload()
    assert directory.offers_scram()


# In the file


def test_an_entry_stands_behind_its_account_and_leaves_without_a_trace(house: House) -> None:
    before = house.path.read_text()
    shown = house.add("phone", "imap")
    text = house.path.read_text()
    section = text.partition('[[account."alice@example.org".app_password]]\n')[2]
    assert text.index('account."bob@example.org"') > text.index("app_password")
    assert section.startswith(f'name = "phone"\npassword = "{shown[:5]}:')
    assert 'scopes = ["imap"]\ncreated = 20' in section
    house.file.add_app_password(ALICE, "laptop", ("pop3",))
    house.file.add_app_password(BOB, "phone", ("pop3",))
    accounts = load_accounts(house.path).account
    assert [each.name for each in accounts[str(ALICE)].app_password] == ["phone", "laptop"]
    assert abs(datetime.now(UTC).timestamp() - accounts[str(BOB)].app_password[0].created.timestamp()) < 60  # type: ignore[union-attr]
    for address, name in ((ALICE, "phone"), (BOB, "phone"), (ALICE, "laptop")):
        house.file.remove_app_password(address, name)
    assert house.path.read_text() == before


def test_an_account_goes_with_its_entries(house: House) -> None:
    house.add("phone")
    house.file.add_app_password(BOB, "phone", ("pop3",))
    house.file.remove_account(ALICE)
    accounts = load_accounts(house.path).account
    assert list(accounts) == [str(BOB)] and len(accounts[str(BOB)].app_password) == 1
    assert "alice" not in house.path.read_text()


def test_what_is_written_in_another_way_is_edited_or_told(house: House) -> None:
    _, (shown,) = made("phone")
    kept = f"{shown[:5]}:{'0' * 64}"
    listed = f'app_password = [{{ name = "old", password = "{kept}" }}]\n'
    house.path.write_text(ACCOUNTS.replace('quota = "5 GiB"\n', 'quota = "5 GiB"\n' + listed))
    house.add("phone")
    assert [each.name for each in house.file.app_passwords(ALICE)] == ["old", "phone"]
    house.file.remove_app_password(ALICE, "old")
    house.file.remove_app_password(ALICE, "phone")
    assert house.file.app_passwords(ALICE) == ()
    house.path.write_text(
        f'domain = {{ "example.org" = {{}} }}\naccount = {{ "{ALICE}" = {{ password = "{SECRET_HASH}" }} }}'
    )
    try:
        house.file.add_app_password(ALICE, "phone", ("imap",))
    except EditError as error:
        assert "edit it by hand" in str(error)
    else:
        assert [each.name for each in house.file.app_passwords(ALICE)] == ["phone"]


def test_edits_that_cannot_be_made(house: House) -> None:
    house.add("phone")
    for attempt, told in (
        (lambda: house.file.add_app_password(ALICE, "phone", ("imap",)), "already; remove that first"),
        (lambda: house.file.remove_app_password(ALICE, "tablet"), "app-password list alice@example.org"),
        (lambda: house.file.remove_app_password(BOB, "phone"), "no app password 'phone'"),
        (lambda: house.file.app_passwords(parse_mailbox("x@example.org")), "no account x@example.org"),
    ):
        before = house.path.read_text()
        with pytest.raises(EditError, match=told):
            attempt()
        assert house.path.read_text() == before


KEPT = "abcde:" + "0" * 64


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('name = "a"', "password: is missing"),
        ('name = "a"\npassword = "secret"', "is no app password; let `mailserver account app-password add"),
        (f'name = ""\npassword = "{KEPT}"', "is no name"),
        (f'name = "a\\u0007"\npassword = "{KEPT}"', "is no name"),
        (f'name = "a"\npassword = "{KEPT}"\nscopes = []', "is empty"),
        (f'name = "a"\npassword = "{KEPT}"\nscopes = ["smtp"]', "is none of the known words"),
        (f'name = "old"\npassword = "{KEPT}"', "name: is there twice; give each its own name"),
        (f'name = "new"\npassword = "fghjk:{"0" * 64}"', "password: is there twice"),
    ],
)
def test_faults_of_the_file_are_told_without_what_is_kept(tmp_path: Path, entry: str, told: str) -> None:
    header = '[[account."bob@example.org".app_password]]\n'
    first = f'{header}name = "old"\npassword = "fghjk:{"1" * 64}"\n'
    with pytest.raises(ConfigurationError, match=re.escape(told)) as caught:
        parse_accounts(f"{ACCOUNTS}{first}{header}{entry}\n", tmp_path / "accounts.toml")
    assert 'account."bob@example.org".app_password[2]' in str(caught.value)
    assert "secret" not in str(caught.value) and "00000" not in str(caught.value)


# The last use


class Moment:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_use_is_known_to_other_processes(tmp_path: Path) -> None:
    moment = Moment()
    LastUses(tmp_path, wall=moment).note(ALICE, "abcde", IMAP)
    other = LastUses(tmp_path)
    assert other.of(ALICE, "abcde") == Use(datetime.fromtimestamp(moment.now, UTC), "imap", "192.0.2.1")
    assert other.of(ALICE, "fghjk") is None and other.of(BOB, "abcde") is None
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    other.forget(ALICE, "abcde")
    other.forget(ALICE, "abcde")
    assert list(tmp_path.iterdir()) == []


def test_a_login_each_second_writes_once_in_five_minutes_by_all_processes_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[float] = []
    moment = Moment()

    def write(path: Path, text: str) -> None:
        writes.append(moment.now)
        path.write_text(text)
        os.utime(path, (moment.now, moment.now))

    monkeypatch.setattr("mailserver.accounts.lastuse.replace_text", write)
    processes = [LastUses(tmp_path, wall=moment) for _ in range(4)]
    for second in range(1200):
        processes[second % 4].note(ALICE, "abcde", IMAP)
        moment.now += 1
    assert len(writes) == 1200 / INTERVAL
    moment.now -= 50_000
    processes[0].note(ALICE, "abcde", IMAP)
    assert len(writes) == 1200 / INTERVAL + 1, "a clock that was set back stops nothing"


def test_a_use_that_cannot_be_noted_keeps_nobody_out(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.uses._directory = house.path / "not-a-directory"
    phone = house.add("phone")
    assert house.directory.authenticate(str(ALICE), phone, IMAP) == ALICE
    assert "is not noted" in caplog.text
    assert phone not in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"at": "x"}', '{"at": 1e400, "service": "x", "peer": "y"}'])
def test_a_damaged_note_is_none(tmp_path: Path, content: str) -> None:
    uses = LastUses(tmp_path)
    uses.note(ALICE, "abcde", IMAP)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    assert uses.of(ALICE, "abcde") is None


def test_many_threads_note_at_once(tmp_path: Path) -> None:
    uses = LastUses(tmp_path)
    threads = [threading.Thread(target=uses.note, args=(ALICE, "abcde", POP3)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["service"] == "pop3"
