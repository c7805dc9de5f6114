"""`mailserver tls show`, without a server: what the files say. With one: tests/functional/test_encryption.py."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from benchmarks.ports import free_ports
from mailserver.cli import probe
from mailserver.cli.probe import NotHere, ProbeError, shown_certificate
from mailserver.config.model import Listener
from tests.support.command import Command
from tests.support.configs import MINIMAL, write_configuration
from tests.support.tls import write_certificate

LISTENERS = """
[[listener]]
protocol = "imap"
endpoint = "tcp:143"

[[listener]]
protocol = "imap"
endpoint = "tcp:993"
tls = "implicit"
"""


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def configure(directory: Path, *sni: str) -> None:
    """[tls] with mail.example.org, and sections for further names, each with its own files."""
    tls = '[tls]\ncertificate = "mail.example.org.crt"\nprivate_key = "mail.example.org.key"\n'
    for name in sni:
        tls += f'[[tls.sni]]\nnames = ["{name}"]\ncertificate = "{name}.crt"\nprivate_key = "{name}.key"\n'
    write_configuration(directory, MINIMAL + LISTENERS + tls)


def shown(command: Command, *options: str) -> tuple[int, list[dict[str, Any]]]:
    result = command.run("tls", "show", "--json", *options)
    return result.exit_code, json.loads(result.stdout)


def test_all_of_a_certificate_is_shown(command: Command) -> None:
    ends = (datetime.now(UTC) + timedelta(days=80, hours=1)).replace(microsecond=0)
    begins = ends - timedelta(days=90)
    write_certificate(
        command.directory, "mail.example.org", "*.example.net", not_before=begins, not_after=ends,
        key_type=trustme.KeyType.RSA,
    )  # fmt: skip
    configure(command.directory)
    text = command.good("tls", "show")
    for expected in (
        r"^.*/mail\.example\.org\.crt$",
        r"^  names +mail\.example\.org, \*\.example\.net$",
        r"^  issuer +.*O=trustme",
        rf"^  valid until +{ends:%Y-%m-%d %H:%M} UTC, 80 days left$",
        r"^  key +RSA 2048$",
        r"^  fingerprint +[0-9a-f]{64}$",
        r"^  shown for +all names that no other certificate is for$",
        r"^  listener +imap tcp:143 \(starttls\)$",
        r"^  listener +imap tcp:993 \(implicit\)$",
    ):
        assert re.search(expected, text, re.MULTILINE), (expected, text)
    assert "tcp:25" not in text, "that listener does without TLS"
    assert "problem" not in text


def test_each_is_shown_with_its_names(command: Command) -> None:
    write_certificate(command.directory, "mail.example.org")
    write_certificate(command.directory, "mail.example.net")
    configure(command.directory, "mail.example.net")
    status, (default, other) = shown(command)
    assert status == 0
    assert (default["default"], default["shown_for"]) == (True, [])
    assert (other["default"], other["shown_for"]) == (False, ["mail.example.net"])
    assert other["names"] == ["mail.example.net"]
    assert other["key"] == "ECDSA secp256r1"
    assert default["fingerprint"] != other["fingerprint"]
    assert other["listeners"] == ["imap tcp:143 (starttls)", "imap tcp:993 (implicit)"]


def spoil_key(directory: Path) -> None:
    (directory / "mail.example.org.key").chmod(0o644)


def spoil_pair(directory: Path) -> None:
    other = directory / "other"
    other.mkdir()
    write_certificate(other, "mail.example.org")[1].replace(directory / "mail.example.org.key")


def spoil_certificate(directory: Path) -> None:
    (directory / "mail.example.org.crt").write_text("nothing")


def remove_certificate(directory: Path) -> None:
    (directory / "mail.example.org.crt").unlink()


def expire(directory: Path) -> None:
    write_certificate(directory, "mail.example.org", not_after=datetime(2020, 1, 1, tzinfo=UTC))


def nearly_expire(directory: Path) -> None:
    now = datetime.now(UTC)
    begins, ends = now - timedelta(days=80), now + timedelta(days=9, hours=1)
    write_certificate(directory, "mail.example.org", not_before=begins, not_after=ends)


def misname(directory: Path) -> None:
    certificate, key = write_certificate(directory, "other.example")
    certificate.replace(directory / "mail.example.org.crt")
    key.replace(directory / "mail.example.org.key")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (spoil_key, "is a private key that other users can read (mode 0644); chmod 640 "),
        (spoil_pair, "does not belong to the first certificate of "),
        (spoil_certificate, "has no PEM certificate; "),
        (remove_certificate, "cannot be read by who runs this: No such file"),
        (expire, "expired on 2020-01-01; renew it"),
        (nearly_expire, "in 9 d 0 h; renew it"),
        (misname, 'the certificate does not name "mail.example.org"'),
    ],
)
def test_what_is_wrong_is_told(spoil: Callable[[Path], None], problem: str, command: Command) -> None:
    write_certificate(command.directory, "mail.example.org")
    configure(command.directory)
    spoil(command.directory)
    status, (only,) = shown(command)
    assert status == 1
    (told,) = only["problems"]
    assert problem in told
    result = command.run("tls", "show")
    assert result.exit_code == 1
    assert f"  problem      {told}" in result.stdout
    assert result.stderr == "mailserver: 1 certificate with problems; see above\n"


def test_without_tls_there_is_nothing_to_show(command: Command) -> None:
    assert "there is no [tls] section, so nothing is encrypted" in command.refused("tls", "show")


def test_a_server_that_does_not_run_is_told(command: Command) -> None:
    write_certificate(command.directory, "mail.example.org")
    configure(command.directory)
    (port,) = free_ports(1)
    text = (
        command.path.read_text().replace("tcp:143", f"tcp:{port}").replace("tcp:993", f"tcp:{port}:interface=0.0.0.0")
    )
    command.path.write_text(text)
    status, (only,) = shown(command, "--live")
    assert status == 1
    assert len(only["problems"]) == 2
    assert all("cannot be asked: Connection refused" in problem for problem in only["problems"])


def test_a_listener_of_systemd_is_no_problem(command: Command) -> None:
    write_certificate(command.directory, "mail.example.org")
    configure(command.directory)
    text = command.path.read_text()
    for port in ("tcp:143", "tcp:993"):
        text = text.replace(port, "systemd:domain=INET:name=imap")
    command.path.write_text(text)
    status, (only,) = shown(command, "--live")
    assert (status, only["problems"]) == (0, [])
    assert {live["told"] for live in only["live"]} == {"cannot be asked: systemd knows where it listens"}


# Peers that are no server of ours


@contextmanager
def answering(talk: bytes) -> Iterator[Listener]:
    """Says it to who comes, and then nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            connection, _ = server.accept()
            held.append(connection)
            connection.sendall(talk)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        yield Listener(protocol="imap", endpoint=f"tcp:{port}:interface=127.0.0.1")
        thread.join(60)
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    "talk", [b"* BYE too many\r\n", b"HTTP/1.1 400\r\n", b"x" * 5000, b"* OK\r\na NO without\r\n", b"\x1b[2J\r\n"]
)
def test_what_is_no_answer_is_told(talk: bytes) -> None:
    with answering(talk) as listener, pytest.raises(ProbeError, match="answers"):
        shown_certificate(listener, None)


@pytest.mark.parametrize("talk", [b"", b"* OK", b"* OK\r\na OK go\r\n"])
def test_who_is_silent_is_not_waited_for(talk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT", 0.3)
    with answering(talk) as listener, pytest.raises(TimeoutError):
        shown_certificate(listener, None)


def test_where_systemd_listens_nobody_can_tell() -> None:
    with pytest.raises(NotHere):
        shown_certificate(Listener(protocol="imap", endpoint="systemd:domain=INET:name=imap"), None)
