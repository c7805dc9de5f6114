"""The sections of further sources: what each kind must and may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.config.loader import ConfigurationError, load
from tests.support.command import Command
from tests.support.configs import MINIMAL, write_configuration

PASSWD = '[[directory]]\nkind = "passwd"\nfile = "users"\n'


def problems(directory: Path, sections: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(write_configuration(directory, MINIMAL + sections))
    return [line.replace(f"{directory}/", "") for line in caught.value.problems]


def test_a_source_of_each_kind(tmp_path: Path) -> None:
    (tmp_path / "users").touch()
    (passwd,) = load(write_configuration(tmp_path, MINIMAL + PASSWD)).directory
    assert (passwd.kind, passwd.file, passwd.default_scheme) == ("passwd", tmp_path / "users", None)


SQL = """
[[directory]]
kind = "sql"
file = "users.db"
domains = ["sql.example"]
account_query = "SELECT password FROM users WHERE name = :address"
"""
LDAP = """
[[directory]]
kind = "ldap"
server = "ldap://ldap.example.org"
base = "dc=example"
domains = ["ldap.example"]
account_filter = "(mail=:address)"
"""
PG = SQL.replace('file = "users.db"', 'database = "postgresql://mail@localhost/mail"')


def test_without_tls_a_server_is_asked_on_this_machine_only(tmp_path: Path) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        section = LDAP.replace("ldap.example.org", host) + "starttls = false\n"
        assert load(write_configuration(tmp_path, MINIMAL + section)).directory[0].starttls is False


def test_sources_are_asked_in_their_order(tmp_path: Path) -> None:
    for name in ("users", "users.db"):
        (tmp_path / name).touch()
    found = load(write_configuration(tmp_path, MINIMAL + SQL + PASSWD + PG)).directory
    assert [each.kind for each in found] == ["sql", "passwd", "sql"]
    assert found[0].file == tmp_path / "users.db" and found[2].database == "postgresql://mail@localhost/mail"


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        (SQL.replace('file = "users.db"', ""), "directory[1]: names no database; write file for SQLite, or database"),
        (
            SQL.replace("users.db", "mailserver.toml") + 'database = "postgresql:///mail"',
            "directory[1]: names two databases; write file for SQLite, or",
        ),
        (SQL, "directory[1].file: users.db does not exist"),
        (PG.replace("domains", "#"), "directory[1]: tells no domain; write domains, or domain_query"),
        (
            PG.replace("account_query", "#"),
            'directory[1].account_query: is missing, and kind = "sql" needs it; add it: gives a row',
        ),
        (PG.replace("postgresql:", "mysql:"), "is not the URL of a PostgreSQL; write it as"),
        (PG.replace("localhost", "localhost:x"), "is not a URL; write it as"),
        (PG.replace("mail@", "mail:secret@"), "has a password in it; write that into a file"),
        (PG.replace("/mail", "/mail?password=secret"), "has a password in it; write that into a file"),
        (PG + 'password_file = "secret"', "directory[1].password_file: secret does not exist"),
        (PG.replace(":address", "'%u'"), "has %u; here parameters are :address, :local, :domain"),
        (PG + 'timeout = "5"', 'directory[1].timeout: "5" is not a duration'),
        (
            PASSWD.replace('file = "users"', 'file = "mailserver.toml"\ncache = "1 s"'),
            'says nothing with kind = "passwd", only with "sql" or "ldap"; leave it out',
        ),
        (LDAP.replace("ldap:", "http:"), "is not the URL of an LDAP server; write it as"),
        (LDAP.replace("ldap://", "ldap://user:secret@"), "is not the URL of an LDAP server; write it as"),
        (LDAP.replace("domains", "#"), "directory[1]: tells no domain; write domains, or domain_filter"),
        (LDAP.replace("(mail=:address)", "(mail=%s)"), "has %s; here parameters are :address, :local, :domain"),
        (
            LDAP.replace("base", "#"),
            'directory[1].base: is missing, and kind = "ldap" needs it; add it: below which entry',
        ),
        (LDAP + 'bind_dn = "cn=x"', "directory[1].bind_dn: is given without password_file; give both or neither"),
        (LDAP + "starttls = false", "directory[1].starttls: is false, and passwords would cross the network in clear"),
        (LDAP.replace("ldap:", "ldaps:") + "starttls = true", "directory[1].starttls: says nothing with ldaps:"),
        (LDAP + 'ca_file = "ca.pem"', "directory[1].ca_file: ca.pem does not exist"),
        (LDAP + 'file = "x"', 'says nothing with kind = "ldap", only with "passwd" or "sql"; leave it out'),
        ('[[directory]]\nkind = "nis"\n', 'directory[1].kind: "nis" is none of the known words; write'),
        ("[[directory]]\n", "directory[1].kind: is missing; add it: what is asked"),
        (
            '[[directory]]\nkind = "passwd"\n',
            'directory[1].file: is missing, and kind = "passwd" needs it; add it: the file',
        ),
        (PASSWD, "directory[1].file: users does not exist; name a readable file"),
        (PASSWD + 'default_scheme = "ROT13"\n', 'default_scheme: "ROT13" is not a scheme that this server checks'),
        (PASSWD + 'default_domain = "[::1]"\n', 'default_domain: "[::1]" is an address literal'),
        (PASSWD.replace("[[directory]]", "[directory]"), "is a single section; write its header as [[directory]]"),
    ],
)
def test_what_a_section_may_not_say(tmp_path: Path, sections: str, complaint: str) -> None:
    (problem,) = problems(tmp_path, sections)
    assert complaint in problem
    assert ":secret" not in problem and "=secret" not in problem


def test_config_check_tells_the_faults_of_a_file_of_users(tmp_path: Path) -> None:
    command = Command(tmp_path)
    (tmp_path / "users").write_text("carol\ndave@users.example:{OTP}x\n")
    write_configuration(tmp_path, MINIMAL + PASSWD)
    result = command.run("config", "check")
    assert result.exit_code == 0
    warnings = result.stderr.splitlines()
    assert len(warnings) == 2 and all(line.startswith("mailserver: warning: ") for line in warnings)
    assert "users: line 1: the user has no domain" in warnings[0] and "the scheme OTP" in warnings[1]


def test_accounts_that_are_kept_elsewhere_are_accounts(tmp_path: Path) -> None:
    command = Command(tmp_path)
    (tmp_path / "users").write_text("carol@users.example:{PLAIN}secret\n")
    write_configuration(tmp_path, MINIMAL + PASSWD, "")
    assert command.good("config", "check") == f"{command.path}: the configuration is good\n"
