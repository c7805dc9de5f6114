"""LMTP over real sockets, on a UNIX socket and on TCP, by Python's own client."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit

from benchmarks.ports import free_ports
from tests.support.server import ALICE, BOB, RunningServer

MESSAGE = b"Subject: by LMTP\r\n\r\n.\r\ntext\r\n"


class LMTPServer(RunningServer):
    lmtp_port = 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LMTPServer]:
    made = LMTPServer(tmp_path / "server", accounts={ALICE: [], BOB: []})
    (port,) = free_ports(1)
    configuration = tomlkit.parse(made.config.read_text())
    for endpoint in (f"unix:{made.directory}/lmtp", f"tcp:{port}:interface=127.0.0.1"):
        configuration["listener"].append({"protocol": "lmtp", "endpoint": endpoint, "tls": "none"})  # type: ignore[union-attr]
    made.config.write_text(tomlkit.dumps(configuration))
    accounts = made.directory / "accounts.toml"
    accounts.write_text(accounts.read_text().replace(f'[account."{BOB}"]', f'[account."{BOB}"]\nquota = "1 B"'))
    made.lmtp_port = port
    with made:
        yield made


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_each_recipient_is_answered_for_itself(server: LMTPServer, kind: str) -> None:
    host, port = (f"{server.directory}/lmtp", 0) if kind == "unix" else ("127.0.0.1", server.lmtp_port)
    with smtplib.LMTP(host, port, local_hostname="relay.test") as client:
        client.ehlo()
        assert client.has_extn("pipelining") and client.has_extn("chunking")
        assert client.mail("sender@example.net", [f"SIZE={len(MESSAGE)}"])[0] == 250
        assert client.rcpt(ALICE)[0] == 250
        assert client.rcpt(BOB)[0] == 552
        assert client.rcpt("nobody@example.test")[0] == 550
        assert client.data(MESSAGE)[0] == 250
        assert client.noop()[0] == 250
    (message,) = server.messages(ALICE)
    assert b"with LMTP id" in message and message.endswith(MESSAGE.replace(b"\r\n", b"\n"))


def test_chunks_of_many_megabytes(server: LMTPServer) -> None:
    piece = b"x" * 76 + b"\r\n"
    with server.smtp() as client:
        client.ehlo()
        client.mail("sender@example.net")
        client.rcpt(ALICE)
        client.send(b"BDAT 14\r\nSubject: x\r\n\r\n")
        assert client.getreply()[0] == 250
        for _ in range(20):
            client.send(b"BDAT %d\r\n" % (len(piece) * 10_000) + piece * 10_000)
            assert client.getreply() == (250, b"2.0.0 780000 octets received")
        assert client.docmd("BDAT 0 LAST")[0] == 250
    (message,) = server.messages(ALICE)
    assert message.endswith(b"Subject: x\n\n" + (b"x" * 76 + b"\n") * 200_000)
