"""App passwords over real sockets, in all protocols, made and removed by the command while the server runs."""

from __future__ import annotations

import imaplib
import json
import poplib
import smtplib
import time
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from mailserver.cli import main
from tests.support.server import ALICE, PASSWORD, RunningServer
from tests.support.sink import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), workers=2) as running:
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


def eventually(
    login: Callable[[RunningServer, str], bool], server: RunningServer, password: str, *, expect: bool
) -> None:
    """Each worker process reads the file within a second or two."""
    end = time.monotonic() + 15
    agreed = 0
    while agreed < 4:  # with two processes that share the connections
        agreed = agreed + 1 if login(server, password) == expect else 0
        assert time.monotonic() < end


def test_made_used_for_its_scope_listed_and_removed_while_the_server_runs(server: RunningServer) -> None:
    shown = command(
        server, "account", "app-password", "add", ALICE, "phone", "--scope", "imap", "--scope", "submission"
    )
    password = shown.strip()
    eventually(imap, server, password, expect=True)
    assert submission(server, password)
    assert not pop3(server, password), "not in its scope"
    assert pop3(server, PASSWORD)
    (listed,) = json.loads(command(server, "account", "app-password", "list", ALICE, "--json"))
    assert (listed["last_service"], listed["last_peer"]) == ("imap", "127.0.0.1")
    not_for = "the app password 'phone' of alice@example.test is not for pop3"
    wait_until(lambda: not_for in server.log(), what="a line of the log")
    assert password not in server.log()
    command(server, "account", "app-password", "remove", ALICE, "phone")
    time.sleep(3)  # each failure of this address delays its next answer
    assert not imap(server, password)
    assert not submission(server, password)


def test_an_account_without_an_own_password(server: RunningServer) -> None:
    password = command(server, "account", "app-password", "add", ALICE, "laptop").strip()
    accounts = server.directory / "accounts.toml"
    header = f'[account."{ALICE}"]\n'
    assert header in accounts.read_text()
    accounts.write_text(accounts.read_text().replace(header, header + "app_passwords_only = true\n"))
    time.sleep(3.5)
    assert pop3(server, password.upper().replace("-", " "))
    assert not pop3(server, PASSWORD)
    assert imap(server, password)
    assert submission(server, password)
