"""What is told when a source cannot be made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mailserver.accounts import open_source, open_sources
from mailserver.config.directory import DirectorySource
from mailserver.config.loader import ConfigurationError
from tests.support.command import Command
from tests.support.configs import MINIMAL, write_configuration

SQL = {
    "kind": "sql",
    "database": "postgresql:///mail",
    "domains": ["a.example"],
    "account_query": "SELECT password FROM users WHERE address = :address",
}
LDAP = {
    "kind": "ldap",
    "server": "ldaps://ldap.example",
    "base": "dc=example",
    "domains": ["a.example"],
    "account_filter": "(mail=:address)",
}


@pytest.mark.parametrize(
    ("settings", "library", "extra"), [(SQL, "psycopg", "postgres"), (LDAP, "ldap3", "ldap")], ids=["sql", "ldap"]
)
def test_a_library_that_is_missing_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    remedy = f"{library} is missing; install it with: pip install 'mailserver[{extra}]'"
    with pytest.raises(ConfigurationError) as caught:
        open_sources([DirectorySource.model_validate(settings)])
    assert caught.value.problems == [f"directory: {remedy}"]
    command = Command(tmp_path)
    lines = [f"{key} = {value!r}" for key, value in settings.items()]
    write_configuration(tmp_path, MINIMAL + "\n".join(["[[directory]]", *lines]))
    assert remedy in command.refused("config", "check")


def test_sqlite_needs_no_library_and_no_file_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("psycopg", "ldap3"):
        monkeypatch.setitem(sys.modules, library, None)
    settings = {**SQL, "database": None, "file": str(tmp_path / "users.db")}
    source = open_source(DirectorySource.model_validate(settings))
    assert source.blocking and source.domain("a.example") is not None


def test_a_server_need_not_be_there_when_the_sources_are_made(tmp_path: Path) -> None:
    pytest.importorskip("ldap3")
    pytest.importorskip("psycopg")
    found = open_sources([DirectorySource.model_validate(settings) for settings in (SQL, LDAP)])
    assert [source.name for source in found] == ["postgresql:///mail", "ldaps://ldap.example"]
