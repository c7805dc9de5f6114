"""Which account a client's certificate opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.accounts import Directory, FileSource
from mailserver.config.loader import ConfigurationError, parse_accounts
from mailserver.mail import parse_mailbox
from mailserver.ports import ClientCertificate
from tests.support.configs import ACCOUNTS

PRINT, SHARED = "ab" * 32, "cd" * 32
PRINTED = "sha256 Fingerprint=" + ":".join(["AB"] * 32)
ALICE, BOB = '[account."alice@example.org"]\n', '[account."bob@example.org"]\n'
FILE = ACCOUNTS.replace(ALICE, f'{ALICE}certificates = ["{PRINTED}", "{SHARED}"]\n').replace(
    BOB, f'{BOB}certificates = ["{SHARED.upper()}"]\n'
)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    (tmp_path / "accounts.toml").write_text(FILE)
    return Directory(FileSource(tmp_path / "accounts.toml"))


@pytest.mark.parametrize(
    ("addresses", "fingerprint", "identity", "account"),
    [
        (["alice@example.org"], "", "", "alice"),
        (["ALICE@Example.ORG"], "", "", "alice"),
        (["info@example.org", "alice@example.net"], "", "", "alice"),
        (["alice@example.org"], "", "info@example.org", "alice"),
        (["alice@example.org", "bob@example.org"], "", "", None),
        (["alice@example.org", "bob@example.org"], "", "bob@example.org", "bob"),
        (["alice@example.org"], "", "bob@example.org", None),
        (["alice@example.org"], "", "nobody@example.org", None),
        (["alice@example.org"], "", "no address", None),
        (["alice+x@example.org"], "", "", None),
        (["anyone@example.net"], "", "", None),  # it would reach a catch-all
        (["postmaster@example.org"], "", "", None),
        (["nobody@example.org"], "", "nobody@example.org", None),
        ([], "", "alice@example.org", None),
        (["\0", "", "@", "alice@example.org\0"], "", "", None),
        ([], PRINT, "", "alice"),
        ([], PRINT, "alice@example.net", "alice"),
        ([], PRINT, "bob@example.org", None),
        ([], SHARED, "", None),
        ([], SHARED, "bob@example.org", "bob"),
        (["bob@example.org"], PRINT, "", None),
        ([*(f"x{n}@example.org" for n in range(5000)), "alice@example.org"], "", "", None),
    ],
)
def test_which_account_it_opens(
    directory: Directory, addresses: list[str], fingerprint: str, identity: str, account: str | None
) -> None:
    shown = ClientCertificate("CN=x", tuple(addresses), fingerprint or "ef" * 32)
    expected = parse_mailbox(f"{account}@example.org") if account else None
    assert directory.by_certificate(shown, identity) == expected


def test_a_disabled_account_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text(FILE.replace(ALICE, f'{ALICE}disabled = "keep"\n'))
    directory = Directory(FileSource(tmp_path / "accounts.toml"))
    assert directory.by_certificate(ClientCertificate("", ("alice@example.org",), PRINT), "") is None
    assert directory.by_certificate(ClientCertificate("", (), SHARED), "") == parse_mailbox("bob@example.org")


@pytest.mark.parametrize("wrong", ["", "ab" * 20, "xy" * 32, "MD5 Fingerprint=AB:CD"])
def test_what_is_no_fingerprint_is_told(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="is no SHA-256 fingerprint"):
        parse_accounts(ACCOUNTS.replace(ALICE, f'{ALICE}certificates = ["{wrong}"]\n'), tmp_path / "accounts.toml")
