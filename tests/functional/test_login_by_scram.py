"""SCRAM-SHA-256 over real sockets, in all three protocols; with -PLUS it is bound to the TLS connection."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import poplib
import smtplib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import SAMPLES, mpop, program, run_on_terminal, unix
from tests.support.scram import ScramClient
from tests.support.server import ALICE, BOB, PASSWORD, RunningServer
from tests.support.sink import wait_until

NAMES = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), scram=True) as running:
        yield running


def client_for(name: str, socket: Any, password: str = PASSWORD) -> ScramClient:
    if name.endswith("-PLUS"):
        end_point = hashlib.sha256(socket.getpeercert(binary_form=True)).digest()
        return ScramClient(ALICE, password, binding=("tls-server-end-point", end_point))
    return ScramClient(ALICE, password)


def responder(client: ScramClient) -> Callable[[bytes], bytes]:
    """Gives the answer to each challenge in turn, and nothing to a server that it does not trust."""
    expected = iter(["first", "final", "end"])

    def respond(challenge: bytes) -> bytes:
        match next(expected):
            case "first":
                assert challenge == b""
                return client.first
            case "final":
                return client.final(challenge)
            case _:
                assert client.trusts(challenge)
                return b""

    return respond


@pytest.mark.parametrize("name", NAMES)
def test_pop3(server: RunningServer, name: str) -> None:
    client = poplib.POP3_SSL("localhost", server.ports.pop3s, context=server.tls_context(), timeout=30)
    assert [*NAMES, "PLAIN", "LOGIN"] == client.capa()["SASL"]
    scram = client_for(name, client.sock)
    first = client._shortcmd(f"AUTH {name} {base64.b64encode(scram.first).decode()}")
    final = client._shortcmd(base64.b64encode(scram.final(base64.b64decode(first[2:]))).decode())
    assert scram.trusts(base64.b64decode(final[2:]))
    assert client._shortcmd("").startswith(b"+OK 0 messages")
    client.quit()


@pytest.fixture(autouse=True)
def challenges_are_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """poplib takes a line with "+ " for no answer at all."""
    monkeypatch.setattr(poplib.POP3, "_getresp", lambda self: self._getline()[0])


def test_pop3_refuses_a_wrong_password(server: RunningServer) -> None:
    client = poplib.POP3_SSL("localhost", server.ports.pop3s, context=server.tls_context(), timeout=30)
    scram = client_for(NAMES[0], client.sock, "guess")
    first = client._shortcmd(f"AUTH {NAMES[0]} {base64.b64encode(scram.first).decode()}")
    refusal = client._shortcmd(base64.b64encode(scram.final(base64.b64decode(first[2:]))).decode())
    assert refusal == b"-ERR [AUTH] authentication failed"
    client.close()


@pytest.mark.parametrize("name", NAMES)
def test_imap(server: RunningServer, name: str) -> None:
    client = imaplib.IMAP4_SSL("localhost", server.ports.imaps, ssl_context=server.tls_context(), timeout=30)
    assert f"AUTH={name}" in client.capabilities
    status, _ = client.authenticate(name, responder(client_for(name, client.sock)))
    assert status == "OK"
    client.logout()


@pytest.mark.parametrize("name", NAMES)
def test_submission(server: RunningServer, name: str) -> None:
    client = smtplib.SMTP_SSL("localhost", server.ports.submissions, context=server.tls_context(), timeout=30)
    client.ehlo()
    assert name in client.esmtp_features["auth"].split()
    scram = client_for(name, client.sock)
    code, first = client.docmd("AUTH", f"{name} {base64.b64encode(scram.first).decode()}")
    assert code == 334
    code, final = client.docmd(base64.b64encode(scram.final(base64.b64decode(first))).decode())
    assert code == 334 and scram.trusts(base64.b64decode(final))
    assert client.docmd("") == (235, b"2.7.0 Authenticated")
    client.sendmail(ALICE, [ALICE], b"Subject: x\r\n\r\nx\r\n")
    client.quit()


@pytest.mark.parametrize("auth", ["scram-sha-256", ""])
def test_mpop(server: RunningServer, tmp_path: Path, auth: str) -> None:
    with server.smtp() as sender:
        sender.sendmail("sender@example.net", [BOB], SAMPLES["usual"])
    got = mpop(server.ports.pop3s, "implicit", BOB, ca=server.ca_file, home=tmp_path, auth=auth)
    assert unix(SAMPLES["usual"]) in got


@pytest.mark.parametrize("protocol", ["pop", "imap"])
def test_mutt(server: RunningServer, tmp_path: Path, protocol: str) -> None:
    (tmp_path / "muttrc").write_text(
        f'set {protocol}_pass={PASSWORD} {protocol}_authenticators="scram-sha-256" ssl_force_tls=no\n'
        f'set ssl_ca_certificates_file="{server.ca_file}" folder={tmp_path} quit=yes pop_delete=no\n'
        'push "<quit>"\n'
    )
    port = server.ports.pop3s if protocol == "pop" else server.ports.imaps
    url = f"{protocol}s://{BOB.replace('@', '%40')}@localhost:{port}/"
    before = server.log().count(f"login user={BOB}")
    run_on_terminal(program("mutt"), "-n", "-R", "-F", "muttrc", "-f", url, home=tmp_path)
    wait_until(lambda: server.log().count(f"login user={BOB}") == before + 1, what="one login")


def test_it_is_offered_only_when_all_accounts_have_keys(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as running:
        client = running.pop3()
        assert client.capa()["SASL"] == ["PLAIN", "LOGIN"]
        client.quit()
