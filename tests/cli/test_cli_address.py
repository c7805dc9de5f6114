"""`mailserver address lookup`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.configs import ACCOUNTS, MINIMAL, SECRET_HASH, write_configuration

MORE = f"""
[alias."team@example.org"]
members = ["alice@example.org", "carol@sql.example", "x@elsewhere.example", "old@example.org"]
[account."old@example.org"]
password = "{SECRET_HASH}"
disabled = "refuse"
"""
DIRECTORY = """
[[directory]]
kind = "passwd"
file = "users"
[[directory]]
kind = "sql"
file = "users.db"
domains = ["sql.example"]
account_query = "SELECT password, forward FROM users WHERE address = :address"
"""


@pytest.fixture
def command(tmp_path: Path) -> Command:
    command = Command(tmp_path)

    write_configuration(tmp_path, MINIMAL + DIRECTORY, ACCOUNTS + MORE)
    (tmp_path / "users").write_text("dave@users.example:{PLAIN}x::::::userdb_quota_rule=*:storage=1M:messages=5\n")
    with sqlite3.connect(tmp_path / "users.db") as database:
        database.execute("CREATE TABLE users (address TEXT, password TEXT, forward TEXT)")
        rows = [("carol@sql.example", "{PLAIN}secret-of-carol", "team@example.org,dave@users.example")]
        database.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
    database.close()
    return command


def test_an_address_is_followed_through_all_sources(command: Command) -> None:
    accounts, users, database = (command.directory / name for name in ("accounts.toml", "users", "users.db"))
    assert command.good("address", "lookup", "team@example.org") == (
        f"team@example.org: an alias ({accounts})\n"
        f"  alice@example.org: an account, quota 5 GiB ({accounts})\n"
        f"  carol@sql.example: an account, forwarded with a copy for the mailbox ({database})\n"
        "    team@example.org: as above\n"
        f"    dave@users.example: an account, quota 1 MiB and 5 messages ({users})\n"
        "  x@elsewhere.example: not a domain of ours\n"
        f"  old@example.org: an account that is disabled, its mail is refused ({accounts})\n"
    )
    assert command.good("address", "lookup", "info+x@example.org", "nobody@users.example") == (
        f"info+x@example.org: leads to the account alice@example.org, quota 5 GiB ({accounts})\n"
        f"nobody@users.example: there is no such address; its mail is refused ({users})\n"
    )


def test_as_json(command: Command) -> None:
    found = json.loads(command.good("address", "lookup", "--json", "carol@sql.example"))
    assert [step["address"] for step in found][:2] == ["carol@sql.example", "team@example.org"]
    assert found[0] == {
        "address": "carol@sql.example",
        "depth": 0,
        "source": str(command.directory / "users.db"),
        "kind": "account",
        "account": "carol@sql.example",
        "quota": None,
        "quota_messages": None,
        "keep_copy": True,
        "leads_to": ["team@example.org", "dave@users.example"],
    }


def test_what_cannot_be_looked_up(command: Command) -> None:
    assert "write each as name@example.org" in command.refused("address", "lookup", "no address")
    (command.directory / "users.db").unlink()
    told = command.refused("address", "lookup", "carol@sql.example")
    assert "it cannot be looked up now: " in told and "users.db cannot be opened" in told
    assert "an account" in command.good("address", "lookup", "dave@users.example")


def test_config_check_tries_each_source(command: Command) -> None:
    assert command.good("config", "check") == f"{command.path}: the configuration is good\n"
    broken = DIRECTORY.replace("FROM users", "FROM no_users")
    write_configuration(command.directory, MINIMAL + broken, ACCOUNTS)
    told = command.refused("config", "check")
    assert f"{command.path}: directory[2]: " in told and "no such table: no_users" in told
