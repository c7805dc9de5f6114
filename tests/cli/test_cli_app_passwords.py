"""`mailserver account app-password`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mailserver.accounts import Directory, FileSource, LastUses, Visit
from mailserver.mail import parse_mailbox
from tests.support.command import Command
from tests.support.configs import write_configuration

ALICE = "alice@example.org"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def add(command: Command, *arguments: str) -> str:
    result = command.run("account", "app-password", "add", ALICE, *arguments)
    assert result.exit_code == 0, result.stderr
    assert "is not shown again" in result.stderr
    return result.stdout.strip()


def used(command: Command, password: str, visit: Visit) -> None:
    """As the server does it."""
    place = command.directory / "data" / "app-passwords"
    place.mkdir(parents=True, exist_ok=True)
    directory = Directory(FileSource(command.directory / "accounts.toml"), uses=LastUses(place))
    assert directory.authenticate(ALICE, password, visit) == parse_mailbox(ALICE)


def test_one_is_made_shown_once_used_listed_and_removed(command: Command) -> None:
    phone = add(command, "phone", "--scope", "submission", "--scope", "imap")
    laptop = add(command, "Alice's laptop")
    assert phone not in (command.directory / "accounts.toml").read_text()
    used(command, phone, Visit("imap", "2001:db8::7"))
    first, second = json.loads(command.good("account", "app-password", "list", ALICE, "--json"))
    assert first.pop("last_used").startswith("20") and first.pop("created").startswith("20")
    assert first == {
        "name": "phone",
        "begins": phone[:5],
        "scopes": ["imap", "submission"],
        "last_service": "imap",
        "last_peer": "2001:db8::7",
    }
    assert (second["scopes"], second["last_used"]) == (["imap", "pop3", "submission"], None)
    header, *rows = command.good("account", "app-password", "list", ALICE).splitlines()
    assert header.split() == ["NAME", "BEGINS", "FOR", "MADE", "LAST", "USED", "FOR", "FROM"]
    assert re.fullmatch(rf"phone +{phone[:5]} +imap, submission +20.* +20.* +imap +2001:db8::7", rows[0])
    assert re.fullmatch(rf"Alice's laptop +{laptop[:5]} +imap, pop3, submission +20.* +never +- +-", rows[1])
    said = command.good("account", "app-password", "remove", ALICE, "phone")
    assert said.startswith("phone does not log in to alice@example.org any more")
    assert [each["name"] for each in json.loads(command.good("account", "app-password", "list", ALICE, "--json"))] == [
        "Alice's laptop"
    ]
    assert list((command.directory / "data" / "app-passwords").iterdir()) == []


def test_notes_of_use_go_with_the_account(command: Command) -> None:
    used(command, add(command, "phone"), Visit("pop3", "192.0.2.1"))
    assert len(list((command.directory / "data" / "app-passwords").iterdir())) == 1
    command.good("account", "remove", ALICE)
    assert list((command.directory / "data" / "app-passwords").iterdir()) == []


def test_what_cannot_be_done_is_told(command: Command) -> None:
    add(command, "phone")
    for arguments, told in (
        (("add", ALICE, "phone"), "has an app password phone already; remove that first, or take another name"),
        (("add", ALICE, "x" * 65), "is no name; write up to 64 printable characters"),
        (("add", ALICE, "a\x1b[2J"), "is no name"),
        (("add", "nobody@example.org", "phone"), "there is no account nobody@example.org"),
        (("list", "nobody@example.org"), "there is no account nobody@example.org"),
        (("remove", ALICE, "tablet"), "`mailserver account app-password list alice@example.org` shows them"),
    ):
        told_there = command.refused("account", "app-password", *arguments)
        assert told in told_there and "\x1b" not in told_there
    assert command.run("account", "app-password", "add", ALICE, "y", "--scope", "smtp").exit_code == 2


def test_who_wants_scram_is_told_what_it_costs(command: Command) -> None:
    text = command.path.read_text()
    write_configuration(command.directory, text + "\n[auth]\nscram = true\n")
    result = command.run("account", "app-password", "add", ALICE, "phone")
    assert result.exit_code == 0
    assert "SCRAM-SHA-256, which takes no app passwords, is not offered" in result.stderr


def test_an_account_that_takes_app_passwords_only_and_has_none_is_worth_a_warning(command: Command) -> None:
    path = command.directory / "accounts.toml"
    header = f'[account."{ALICE}"]\n'
    path.write_text(path.read_text().replace(header, f"{header}app_passwords_only = true\n"))
    result = command.run("config", "check")
    assert result.exit_code == 0
    assert f"nobody can log in to {ALICE}" in result.stderr
    add(command, "phone")
    assert command.run("config", "check").stderr == ""
