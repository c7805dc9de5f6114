"""A whole server whose accounts are kept elsewhere: mail, logins, and what is told while a source is away."""

from __future__ import annotations

import imaplib
import smtplib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import doveadm, postgres, slapd
from tests.support.server import ALICE, RunningServer
from tests.support.sink import wait_until

SECRET = "secret of all"
MESSAGE = b"From: x@elsewhere.example\r\nSubject: hello\r\n\r\nhello\r\n"

LDIF = f"""\
dn: dc=example
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: cn=erin,dc=example
objectClass: inetOrgPerson
cn: erin
sn: erin
mail: erin@ldap.example
userPassword: {SECRET}
"""


@dataclass
class House:
    server: RunningServer
    database: postgres.Postgres
    ldap: slapd.Slapd


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    if reason := postgres.missing() or slapd.missing() or doveadm.MISSING:
        pytest.skip(reason)
    with ExitStack() as stack:
        database = stack.enter_context(postgres.Postgres())
        hashed = doveadm.hashed("SHA512-CRYPT", SECRET)
        database.sql(
            "CREATE TABLE users (address TEXT, password TEXT); CREATE TABLE aliases (address TEXT, member TEXT);"
            f"INSERT INTO users VALUES ('dave@sql.example', '{hashed}');"
            f"INSERT INTO aliases VALUES ('all@sql.example', 'dave@sql.example'), ('all@sql.example', '{ALICE}'),"
            "('all@sql.example', 'carol@users.example'), ('all@sql.example', 'erin@ldap.example')"
        )
        ldap = stack.enter_context(slapd.Slapd(LDIF))
        directory = tmp_path_factory.mktemp("directories")
        users = directory / "users"
        users.write_text(f"carol@users.example:{doveadm.hashed('BLF-CRYPT', SECRET)}\n")
        sources: list[dict[str, Any]] = [
            {"kind": "passwd", "file": str(users)},
            {
                "kind": "sql",
                "database": database.url,
                "password_file": str(database.password_file),
                "domains": ["sql.example"],
                "account_query": "SELECT password FROM users WHERE address = :address",
                "alias_query": "SELECT member FROM aliases WHERE address = :address",
                "renew_query": "UPDATE users SET password = :password WHERE address = :address AND password = :former",
                "timeout": "20 s",
                "cache": "1 s",
            },
            {
                "kind": "ldap",
                "server": ldap.tls_url,
                "ca_file": str(ldap.ca_file),
                "base": "dc=example",
                "domains": ["ldap.example"],
                "account_filter": "(mail=:address)",
            },
        ]
        server = RunningServer(directory, sections={"directory": sources}, workers=2)  # type: ignore[dict-item]
        yield House(stack.enter_context(server), database, ldap)


def imap(server: RunningServer, user: str, password: str = SECRET) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", server.ports.imap, timeout=30)
    client.login(user, password)
    return client


@pytest.mark.parametrize("user", ["carol@users.example", "dave@sql.example", "erin@ldap.example"])
def test_mail_comes_and_is_read_wherever_the_account_is_kept(house: House, user: str) -> None:
    with smtplib.SMTP("127.0.0.1", house.server.ports.smtp, timeout=60) as client:
        client.sendmail("x@elsewhere.example", [user], MESSAGE)
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            client.sendmail("x@elsewhere.example", [f"nobody@{user.partition('@')[2]}"], MESSAGE)
        assert next(iter(refused.value.recipients.values()))[0] == 550
    client = imap(house.server, user)
    assert client.select()[1] == [b"1"]
    client.logout()
    with pytest.raises(imaplib.IMAP4.error, match="authentication failed"):
        imap(house.server, user, "wrong")


def test_a_hash_in_the_database_was_renewed_at_login(house: House) -> None:
    imap(house.server, "dave@sql.example").logout()
    assert house.database.sql("SELECT password FROM users").startswith("{ARGON2ID}$argon2id$")
    imap(house.server, "dave@sql.example").logout()


def test_an_alias_across_all_sources(house: House) -> None:
    ends = ("carol@users.example", "dave@sql.example", "erin@ldap.example", ALICE)
    before = [len(house.server.messages(end)) for end in ends]
    with smtplib.SMTP("127.0.0.1", house.server.ports.smtp, timeout=60) as client:
        client.sendmail("x@elsewhere.example", ["all@sql.example"], MESSAGE)
    assert [len(house.server.messages(end)) for end in ends] == [count + 1 for count in before]


def test_while_a_source_is_away_senders_are_told_to_come_back(house: House) -> None:
    def answers() -> dict[str, int]:
        found = {}
        with smtplib.SMTP("127.0.0.1", house.server.ports.smtp, timeout=60) as client:
            client.helo()
            client.mail("x@elsewhere.example")
            for user in ("dave@sql.example", "nobody@sql.example", "carol@users.example", "x@other.example"):
                found[user] = client.rcpt(user)[0]
        return found

    away = {"dave@sql.example": 250, "nobody@sql.example": 451, "carol@users.example": 250, "x@other.example": 550}
    back = away | {"nobody@sql.example": 550}
    assert answers() == back
    house.database.stop()
    try:
        time.sleep(1.5)  # longer than an answer holds
        both = [answers() for _ in range(6)]  # of two processes: one may not have been asked for Dave before
        assert all(found | {"dave@sql.example": 0} == away | {"dave@sql.example": 0} for found in both)
        assert {found["dave@sql.example"] for found in both} <= {250, 451}
        with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
            imap(house.server, "dave@sql.example")
        imap(house.server, "carol@users.example").logout()
    finally:
        house.database.start()
    wait_until(lambda: all(answers() == back for _ in range(6)), what="the return of the source in both")
    imap(house.server, "dave@sql.example").logout()
    away_told = "<nobody@sql.example> cannot be looked up: postgresql://"
    wait_until(lambda: away_told in house.server.log(), what="a line of the log")
    log = house.server.log()
    assert SECRET not in log and "$6$" not in log and house.database.PASSWORD not in log
