"""App passwords over real sockets, in all protocols, made and removed by the command while the server runs."""

from __future__ import annotations

import imaplib
import json
import poplib
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from mailserver.cli import main
from tests.support.server import ALICE, BOB, PASSWORD, RunningServer
from tests.support.sink import wait_until

WORKERS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), workers=WORKERS) as running:
        # who begins later reads the changed accounts as its first ones, and has nothing to tell
        wait_until(lambda: running.log().count("ready, as") == WORKERS, what="both processes")
        yield running


def command(server: RunningServer, *arguments: str) -> str:
    done = CliRunner().invoke(main, ["--config", str(server.config), *arguments])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def imap(server: RunningServer, password: str) -> bool:
    client = imaplib.IMAP4("localhost", server.ports.imap, timeout=30)
    try:
        client.login(ALICE, password)
    except imaplib.IMAP4.error as error:
        assert "[AUTHENTICATIONFAILED] authentication failed" in str(error)
        return False
    finally:
        client.shutdown()
    return True


def pop3(server: RunningServer, password: str) -> bool:
    client = poplib.POP3("localhost", server.ports.pop3, timeout=30)
    client.user(ALICE)
    try:
        client.pass_(password)
    except poplib.error_proto as error:
        assert "[AUTH] authentication failed" in str(error)
        return False
    finally:
        client.close()
    return True


def submission(server: RunningServer, password: str) -> bool:
    client = smtplib.SMTP("localhost", server.ports.submission, local_hostname="client.test", timeout=30)
    client.ehlo()
    try:
        client.login(ALICE, password, initial_response_ok=True)
    except smtplib.SMTPAuthenticationError as error:
        assert (error.smtp_code, error.smtp_error) == (535, b"5.7.8 authentication failed")
        return False
    finally:
        client.close()
    return True


@contextmanager
def taken_over(server: RunningServer) -> Iterator[None]:
    """What the block changes both processes have read afterwards; they look when somebody logs in."""
    told = "accounts taken over"
    before = server.log().count(told)
    yield

    def both() -> bool:
        with server.submission(BOB):
            return server.log().count(told) >= before + WORKERS

    wait_until(both, what="the change in both processes")


def test_made_used_for_its_scope_listed_and_removed_while_the_server_runs(server: RunningServer) -> None:
    scope = ("--scope", "imap", "--scope", "submission")
    with taken_over(server):
        password = command(server, "account", "app-password", "add", ALICE, "phone", *scope).strip()
    assert imap(server, password)
    assert submission(server, password)
    assert not pop3(server, password), "not in its scope"
    assert pop3(server, PASSWORD)
    (listed,) = json.loads(command(server, "account", "app-password", "list", ALICE, "--json"))
    assert (listed["last_service"], listed["last_peer"]) == ("imap", "127.0.0.1")
    not_for = "the app password 'phone' of alice@example.test is not for pop3"
    wait_until(lambda: not_for in server.log(), what="a line of the log")
    assert password not in server.log()
    with taken_over(server):
        command(server, "account", "app-password", "remove", ALICE, "phone")
    assert not imap(server, password)
    assert not submission(server, password)


def test_an_account_without_an_own_password(server: RunningServer) -> None:
    with taken_over(server):
        password = command(server, "account", "app-password", "add", ALICE, "laptop").strip()
        accounts = server.directory / "accounts.toml"
        header = f'[account."{ALICE}"]\n'
        assert header in accounts.read_text()
        accounts.write_text(accounts.read_text().replace(header, header + "app_passwords_only = true\n"))
    assert pop3(server, password.upper().replace("-", " "))
    assert not pop3(server, PASSWORD)
    assert imap(server, password)
    assert submission(server, password)
