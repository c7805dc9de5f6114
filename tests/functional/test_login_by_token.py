"""Logging in with tokens over real sockets, in all three protocols."""

from __future__ import annotations

import base64
import imaplib
import json
import poplib
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import SAMPLES, mpop, program, run, unix
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.server import ALICE, BOB, RunningServer

CONFIGURATION = "https://login.example.test/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("server")
    keys = issuer.publish(directory / "keys.json")
    oauth = {"issuer": ISSUER, "audience": AUDIENCE, "keys": str(keys), "configuration": CONFIGURATION}
    with RunningServer(directory, sections={"auth": {"oauth": oauth}}) as running:
        yield running


def first(name: str, user: str, token: str) -> bytes:
    beginning = f"user={user}" if name == "XOAUTH2" else f"n,a={user},"
    return f"{beginning}\x01auth=Bearer {token}\x01\x01".encode()


NAMES = ("OAUTHBEARER", "XOAUTH2")
PAD = "x" * 3000
"""Makes tokens as long as they may be, longer than other commands."""


@pytest.mark.parametrize("name", NAMES)
def test_pop3(server: RunningServer, issuer: Issuer, name: str) -> None:
    client = poplib.POP3_SSL("localhost", server.ports.pop3s, context=server.tls_context(), timeout=30)
    assert client.capa()["SASL"] == [*NAMES, "PLAIN", "LOGIN"]
    token = issuer.token(ALICE, pad=PAD)
    answer = client._shortcmd(f"AUTH {name} {base64.b64encode(first(name, ALICE, token)).decode()}")
    assert answer.startswith(b"+OK 0 messages")
    client.quit()


@pytest.mark.parametrize("name", NAMES)
def test_imap(server: RunningServer, issuer: Issuer, name: str) -> None:
    client = imaplib.IMAP4_SSL("localhost", server.ports.imaps, ssl_context=server.tls_context(), timeout=30)
    assert f"AUTH={name}" in client.capabilities
    client.authenticate(name, lambda _: first(name, ALICE, issuer.token(ALICE, pad=PAD)))
    client.logout()


@pytest.mark.parametrize("name", NAMES)
def test_submission(server: RunningServer, issuer: Issuer, name: str) -> None:
    client = smtplib.SMTP_SSL("localhost", server.ports.submissions, context=server.tls_context(), timeout=30)
    client.ehlo()
    token = issuer.token(ALICE, pad=PAD)
    answer = client.docmd("AUTH", f"{name} {base64.b64encode(first(name, ALICE, token)).decode()}")
    assert answer == (235, b"2.7.0 Authenticated")
    client.sendmail(ALICE, [ALICE], b"Subject: x\r\n\r\nx\r\n")
    client.quit()


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_token_is_told_as_json_and_then_refused(server: RunningServer, issuer: Issuer, name: str) -> None:
    client = imaplib.IMAP4_SSL("localhost", server.ports.imaps, ssl_context=server.tls_context(), timeout=30)
    challenges: list[bytes] = []

    def respond(challenge: bytes) -> bytes:
        challenges.append(challenge)
        return first(name, ALICE, issuer.token(BOB)) if len(challenges) == 1 else b"\x01"

    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        client.authenticate(name, respond)
    assert json.loads(challenges[1]) == {"status": "invalid_token", "openid-configuration": CONFIGURATION}
    client.logout()


@pytest.mark.parametrize("service", ["pop3s", "imaps"])
def test_curl(server: RunningServer, issuer: Issuer, tmp_path: Path, service: str) -> None:
    with server.smtp() as sender:
        sender.sendmail("sender@example.net", [BOB], b"Subject: token\r\n\r\nx\r\n")
    port = getattr(server.ports, service)
    url = f"pop3s://localhost:{port}/1" if service == "pop3s" else f"imaps://localhost:{port}/INBOX;MAILINDEX=1"
    command = [program("curl"), "--silent", "--show-error", "--cacert", str(server.ca_file), "--user", BOB, url]
    got = run(*command, "--oauth2-bearer", issuer.token(BOB), home=tmp_path)
    assert b"Subject: token" in got
    run(*command, "--oauth2-bearer", issuer.token(ALICE), home=tmp_path, expect=(67,))


@pytest.mark.parametrize("name", NAMES)
def test_mpop(server: RunningServer, issuer: Issuer, tmp_path: Path, name: str) -> None:
    with server.smtp() as sender:
        sender.sendmail("sender@example.net", [ALICE], SAMPLES["usual"])
    token = issuer.token(ALICE)
    got = mpop(server.ports.pop3s, "implicit", ALICE, ca=server.ca_file, home=tmp_path, auth=name.lower(), secret=token)
    assert unix(SAMPLES["usual"]) in got
