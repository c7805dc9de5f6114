"""POP3 clients that nobody here wrote get every message as it was sent, octet for octet."""

from __future__ import annotations

import poplib
from pathlib import Path

import pytest

from tests.support.clients import LARGE, SAMPLES, TRANSPORTS, fetchmail, program, run, unix, without_trace
from tests.support.server import BOB, DOMAIN, PASSWORD, RunningServer

CAROL, DAVE = f"carol@{DOMAIN}", f"dave@{DOMAIN}"


def connect(server: RunningServer, transport: str, user: str) -> poplib.POP3:
    client: poplib.POP3
    if transport == "implicit":
        client = poplib.POP3_SSL("localhost", server.ports.pop3s, context=server.tls_context(), timeout=30)
    else:
        client = poplib.POP3("localhost", server.ports.pop3, timeout=30)
    if transport == "starttls":
        client.stls(server.tls_context())
    client.user(user)
    client.pass_(PASSWORD)
    return client


def retrieve(client: poplib.POP3, number: int) -> bytes:
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


@pytest.fixture(autouse=True)
def long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poplib, "_MAXLINE", 10_000)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_poplib_reads_all_messages(server: RunningServer, transport: str) -> None:
    client = connect(server, transport, BOB)
    messages = [retrieve(client, number + 1) for number in range(len(SAMPLES))]
    sizes = [int(line.split()[1]) for line in client.list()[1]]
    client.quit()
    assert [without_trace(message) for message in messages] == list(SAMPLES.values())
    assert sizes == [len(message) for message in messages]


def test_poplib_reads_ten_megabytes(server: RunningServer) -> None:
    client = connect(server, "implicit", CAROL)
    assert without_trace(retrieve(client, 1)) == LARGE
    client.quit()


def test_poplib_sees_the_top_and_stable_identifiers(server: RunningServer) -> None:
    client = connect(server, "plain", BOB)
    identifiers = client.uidl()[1]
    top = client.top(2, 2)[1]
    client.quit()
    assert top[-3:] == [b"", b".", b".."]
    assert len({line.split()[1] for line in identifiers}) == len(SAMPLES)
    client = connect(server, "plain", BOB)
    assert client.uidl()[1] == identifiers
    client.quit()


def test_poplib_deletes_at_quit_only(server: RunningServer) -> None:
    with server.smtp() as sender:
        for name in ("usual", "dots"):
            sender.sendmail("sender@example.net", [DAVE], SAMPLES[name])
    client = connect(server, "plain", DAVE)
    client.dele(1)
    client.close()
    client = connect(server, "plain", DAVE)
    assert client.stat()[0] == 2
    client.dele(1)
    client.quit()
    assert [without_trace(message) for message in server.messages(DAVE)] == [unix(SAMPLES["dots"])]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_curl_reads_all_messages(server: RunningServer, home: Path, transport: str) -> None:
    scheme, port = ("pop3s", server.ports.pop3s) if transport == "implicit" else ("pop3", server.ports.pop3)
    for number, message in enumerate(SAMPLES.values(), 1):
        got = run(
            *(program("curl"), "--silent", "--show-error", f"{scheme}://localhost:{port}/{number}"),
            *("--user", f"{BOB}:{PASSWORD}", "--cacert", server.ca_file),
            *(["--ssl-reqd"] if transport == "starttls" else []),
            home=home,
        )
        assert without_trace(got) == message


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_fetchmail_fetches_all_messages(server: RunningServer, home: Path, transport: str) -> None:
    port = server.ports.pop3s if transport == "implicit" else server.ports.pop3
    assert fetchmail("pop3", port, transport, BOB, ca=server.ca_file, home=home) == sorted(map(unix, SAMPLES.values()))


def test_fetchmail_fetches_ten_megabytes(server: RunningServer, home: Path) -> None:
    got = fetchmail("pop3", server.ports.pop3s, "implicit", CAROL, ca=server.ca_file, home=home)
    assert got == [unix(LARGE)]
