"""`mailserver ban` on the data directory of a server that does not run."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from mailserver.config.abuse import Abuse
from mailserver.policy.bans import BanBook, FailedLogin
from mailserver.policy.ledger import Ledger
from tests.support.command import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    (tmp_path / "data").mkdir()
    return Command(tmp_path)


def fail(command: Command, source: str, account: str, count: int) -> None:
    ledger = Ledger(command.directory / "data" / "bans.db")
    for _ in range(count):
        BanBook(ledger, Abuse()).failed([FailedLogin(source, account, time.time())])
    ledger.close()


def test_nobody_is_banned_at_first_and_nothing_is_made(command: Command) -> None:
    assert command.good("ban", "list") == "Nobody is banned.\n"
    assert json.loads(command.good("ban", "list", "--json")) == []
    assert command.refused("ban", "remove", "192.0.2.1").startswith("mailserver: 192.0.2.1 is not banned")
    assert list((command.directory / "data").iterdir()) == []


def test_bans_are_added_listed_and_removed(command: Command) -> None:
    assert command.good("ban", "add", "192.0.2.9/24", "--for", "2h", "--reason", "a test") == (
        "192.0.2.0/24 is banned for 120 min\n"
    )
    assert command.good("ban", "add", "2001:db8::5") == "2001:db8::/64 is banned for 24 h\n"
    fail(command, "198.51.100.7", "alice@example.org", 10)
    lines = command.good("ban", "list").splitlines()
    assert [re.split(r"  +", line) for line in lines] == [
        ["NETWORK", "ACCOUNT", "ENDS IN", "REFUSED", "REASON"],
        ["2001:db8::/64", "all", "24 h", "0", "by hand"],
        ["192.0.2.0/24", "all", "120 min", "0", "by hand: a test"],
        ["198.51.100.7", "alice@example.org", "10 min", "0", "10 failed logins"],
    ]
    listed = json.loads(command.good("ban", "list", "--json"))
    assert [each["account"] for each in listed] == [None, None, "alice@example.org"]
    assert 7000 < listed[1]["seconds"] <= 7200 and listed[1]["by_hand"] and listed[1]["reason"] == "a test"
    assert command.good("ban", "remove", "198.51.100.7") == "1 ban of 198.51.100.7 removed\n"
    assert command.refused("ban", "remove", "192.0.2.9") == (
        "mailserver: 192.0.2.9 is not banned; a ban of 192.0.2.0/24 meets it; `mailserver ban list` shows who is"
    )
    assert command.good("ban", "remove", "192.0.2.0/24") == "1 ban of 192.0.2.0/24 removed\n"
    assert [each["network"] for each in json.loads(command.good("ban", "list", "--json"))] == ["2001:db8::/64"]


def test_a_ban_by_hand_takes_the_place_of_another(command: Command) -> None:
    for seconds in ("1 h", "5 min"):
        command.good("ban", "add", "192.0.2.1", "--for", seconds)
    (listed,) = json.loads(command.good("ban", "list", "--json"))
    assert 200 < listed["seconds"] <= 300


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["example.org"], r"'example.org' is no address and no network; write it as"),
        (["0.0.0.0/0"], r"'0.0.0.0/0' is too large to be banned; name a network of /8 at the most"),
        (["192.0.2.1", "--for", "soon"], r"--for 'soon' is not a duration; write"),
        (["192.0.2.1", "--for", "0 s"], r"--for '0 s' is not a time that a ban may last"),
        (["192.0.2.1", "--for", "9999 days"], r"is not a time that a ban may last"),
        (["192.0.2.1", "--reason", "a\nb"], r"--reason is longer than 200 characters, or more than one line"),
    ],
)
def test_what_cannot_be_added(command: Command, arguments: list[str], told: str) -> None:
    assert re.match(f"mailserver: .*{told}", command.refused("ban", "add", *arguments))
    assert command.good("ban", "list") == "Nobody is banned.\n"


def test_who_bans_this_machine_is_told_that_it_has_no_effect(command: Command) -> None:
    result = command.run("ban", "add", "127.0.0.1")
    assert result.exit_code == 0
    assert "this machine have of it is let in all the same" in result.stderr


def test_without_a_data_directory(tmp_path: Path) -> None:
    command = Command(tmp_path)
    assert "the data directory is not there yet; start the server once" in command.refused("ban", "add", "192.0.2.1")
    assert command.good("ban", "list") == "Nobody is banned.\n"


def test_what_attackers_wrote_does_nothing_to_the_terminal(command: Command) -> None:
    fail(command, "198.51.100.7", "\x1b[2Jevil@example.org", 10)
    assert "?[2Jevil@example.org" in command.good("ban", "list")


def test_the_file_is_of_the_owner_of_the_data_directory(command: Command) -> None:
    import os

    if os.geteuid() != 0:
        pytest.skip("only root makes files for others")
    os.chown(command.directory / "data", 12345, 12345)
    command.good("ban", "add", "192.0.2.1")
    assert {(file.stat().st_uid, file.stat().st_gid) for file in (command.directory / "data").glob("bans.db*")} == {
        (12345, 12345)
    }
