"""Hashes of other servers in the accounts file become argon2id at login."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from mailserver.accounts import AccountsFile, Directory, EditError, FileSource, scram_keys
from mailserver.accounts.passwords import renewed
from mailserver.config.loader import ConfigurationError, load_accounts
from mailserver.mail import parse_mailbox
from tests.support import doveadm
from tests.support.configs import ACCOUNTS, SECRET, SECRET_HASH

SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="  # of SECRET
ALICE = parse_mailbox("alice@example.org")
BOTH = "# the house\n" + ACCOUNTS.replace(SECRET_HASH, SHA)


def make(tmp_path: Path, text: str = BOTH, *, scram: bool = False) -> tuple[Directory, Path]:
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    return Directory(FileSource(path, scram=scram)), path


def password_of(path: Path, name: str) -> str:
    return load_accounts(path).account[name].password


@pytest.mark.parametrize("scram", [False, True])
def test_a_login_renews_this_hash_and_changes_nothing_else(tmp_path: Path, scram: bool) -> None:
    directory, path = make(tmp_path, scram=scram)
    assert directory.authenticate("alice@example.org", "wrong") is None
    assert path.read_text() == BOTH
    assert directory.authenticate("info@example.org", SECRET) == ALICE
    stored = password_of(path, "alice@example.org")
    assert stored.startswith("$argon2id$") and (scram_keys(stored) is not None) == scram
    assert password_of(path, "bob@example.org") == SHA
    assert path.read_text() == BOTH.replace(SHA, stored, 1)
    assert Directory(FileSource(path)).authenticate("alice@example.org", SECRET) == ALICE
    assert directory.authenticate("alice@example.org", SECRET) == ALICE  # before the change is taken over
    assert password_of(path, "alice@example.org") == stored


@pytest.mark.skipif(doveadm.MISSING != "", reason=doveadm.MISSING)
@pytest.mark.parametrize("scheme", ["SHA512-CRYPT", "BLF-CRYPT", "SSHA512", "PBKDF2", "MD5-CRYPT"])
def test_accounts_of_a_dovecot_move_here(tmp_path: Path, scheme: str) -> None:
    directory, path = make(tmp_path, ACCOUNTS.replace(SECRET_HASH, doveadm.hashed(scheme, SECRET)))
    assert directory.authenticate("alice@example.org", SECRET) == ALICE
    assert password_of(path, "alice@example.org").startswith("$argon2id$")


@pytest.mark.skipif(doveadm.MISSING != "", reason=doveadm.MISSING)
def test_a_renewed_hash_is_one_for_dovecot_too() -> None:
    """Both may read the same database; the scheme is named there."""
    stored = renewed(SHA, SECRET)
    assert doveadm.takes(f"{{ARGON2ID}}{stored}", SECRET)
    assert not doveadm.takes(f"{{ARGON2ID}}{stored}", "other")


def test_a_password_that_was_changed_meanwhile_stays(tmp_path: Path) -> None:
    directory, path = make(tmp_path)
    AccountsFile(path).set_password(ALICE, SECRET_HASH)
    assert directory.authenticate("alice@example.org", SECRET) == ALICE
    assert password_of(path, "alice@example.org") == SECRET_HASH


def test_an_account_that_is_gone_meanwhile_stays_away(tmp_path: Path) -> None:
    directory, path = make(tmp_path)
    AccountsFile(path).remove_account(ALICE)
    assert directory.authenticate("alice@example.org", SECRET) == ALICE
    assert "alice@example.org" not in load_accounts(path).account


def test_the_hash_of_another_account_with_the_same_text_is_not_touched(tmp_path: Path) -> None:
    directory, path = make(tmp_path)
    assert directory.authenticate("bob@example.org", SECRET) == parse_mailbox("bob@example.org")
    assert password_of(path, "alice@example.org") == SHA
    assert password_of(path, "bob@example.org").startswith("$argon2id$")
    assert "# the house" in path.read_text()


def test_a_file_that_cannot_be_written_is_told_once_and_the_login_is_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, path = make(tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(AccountsFile, "renew_password", refuse)
    for _ in range(3):
        assert directory.authenticate("alice@example.org", SECRET) == ALICE
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "cannot be written, so hashes of old schemes stay in it" in told and SHA not in told


def test_logins_at_the_same_time_all_succeed(tmp_path: Path) -> None:
    directory, path = make(tmp_path)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(directory.authenticate("alice@example.org", SECRET)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [ALICE] * 4
    assert password_of(path, "alice@example.org").startswith("$argon2id$")


def test_renewing_takes_a_tenth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, now, renewals = tmp_path / "accounts.toml", [100.0], []
    path.write_text(BOTH)

    def slow(*arguments: object) -> None:
        renewals.append(arguments)
        now[0] += 2

    monkeypatch.setattr(AccountsFile, "renew_password", slow)
    directory = Directory(FileSource(path, monotonic=lambda: now[0]))
    for _ in range(12):
        for name in ("alice", "bob"):
            assert directory.authenticate(f"{name}@example.org", SECRET) is not None
        now[0] += 1
    assert len(renewals) == 1
    now[0] += 20
    assert directory.authenticate("bob@example.org", SECRET) is not None
    assert len(renewals) == 2


def test_only_the_former_hash_is_replaced(tmp_path: Path) -> None:
    _, path = make(tmp_path)
    with pytest.raises(EditError, match="another password meanwhile"):
        AccountsFile(path).renew_password(ALICE, SECRET_HASH, SECRET_HASH)
    assert path.read_text() == BOTH


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        ("{PLAIN}secret", "is a password in clear; let that be hashed with `mailserver account passwd ADDRESS`"),
        ("{CRAM-MD5}0123", "has the scheme CRAM-MD5, which this server does not check; take a new password with `mail"),
        ("{SHA512-CRYPT}$6$rounds=999999999$x$y", "asks for more work than a login may cost"),
        ("{SHA}xyz", "is no hash of the scheme SHA; take a new password with `mailserver account passwd ADDRESS`"),
    ],
)
def test_what_the_accounts_file_does_not_take(tmp_path: Path, stored: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(tmp_path, ACCOUNTS.replace(SECRET_HASH, stored, 1))
    (problem,) = caught.value.problems
    assert f'account."alice@example.org".password: {complaint}' in problem and stored not in problem
