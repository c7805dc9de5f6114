"""Starting: the demo, broken configurations, ports that are taken."""

from __future__ import annotations

import imaplib
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.ports import free_ports
from mailserver import demo
from tests.support.server import ROOT, STOP_TIMEOUT, RunningServer
from tests.support.sink import wait_until

TWISTD = str(Path(sys.executable).parent / "twistd")


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return connection.recv(1) != b""
    except OSError:
        return False


@contextmanager
def run_demo(directory: Path, port: int) -> Iterator[Path]:
    """The log of a demo that serves while the block runs."""
    log = directory.with_suffix(".log")
    environment = {k: v for k, v in os.environ.items() if k != "MAILSERVER_CONFIG"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [TWISTD, "-n", "--pidfile=", "mailserver", "--demo", str(directory)],
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=environment,
        )
        try:
            wait_until(lambda: process.poll() is not None or answers(port), what="the demo")
            assert process.poll() is None, log.read_text()
            yield log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIMEOUT)


def test_the_demo_prints_its_passwords_once_and_finds_its_data_again(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    ports = dict(zip(demo.PORTS, free_ports(len(demo.PORTS)), strict=True))
    notes = demo.prepare(directory, ports)
    password = notes.passwords["alice@example.test"]
    assert password in notes.text
    message = b"Subject: hello\r\n\r\nhello\r\n"
    with run_demo(directory, ports["imap"]) as log:
        assert password not in log.read_text()
        with smtplib.SMTP("127.0.0.1", ports["submission"]) as client:
            client.login("alice@example.test", password)
            client.sendmail("alice@example.test", ["alice@example.test", "x@elsewhere.example"], message)
    with run_demo(directory, ports["imap"]) as log:
        assert password not in log.read_text()
        with imaplib.IMAP4("127.0.0.1", ports["imap"]) as client:
            client.login("alice@example.test", password)
            assert client.select("INBOX") == ("OK", [b"1"])
        with imaplib.IMAP4("127.0.0.1", ports["imap"]) as client:
            client.login("outbox@example.test", notes.passwords["outbox@example.test"])
            assert client.select("INBOX") == ("OK", [b"1"])


def test_the_demo_says_how_to_send_and_read(tmp_path: Path) -> None:
    ports = dict(zip(demo.PORTS, free_ports(len(demo.PORTS)), strict=True))
    text = demo.prepare(tmp_path / "demo", ports).text
    assert re.search(r"^(swaks|curl) .*--mail-rcpt|^swaks ", text, re.MULTILINE)
    assert re.search(r"^curl .*imaps?://", text, re.MULTILINE)


def refused(*arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "MAILSERVER_CONFIG"}
    done = subprocess.run(
        [TWISTD, "-n", "--pidfile=", "mailserver", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_fault_of_a_configuration_is_told_at_once(tmp_path: Path) -> None:
    config = tmp_path / "mailserver.toml"
    config.write_text(
        'hostname = "mail.example.org"\ndata = "data"\nworker = 2\n'
        '[[listener]]\nprotocol = "smtp"\nendpoint = "tpc:25"\n'
        '[limits]\nmessage_size = "50 megs"\n'
    )
    told = refused("--config", str(config))
    for word in ("worker", "listener[1].endpoint", "message_size", "accounts"):
        assert word in told
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--config FILE"),
        (("--config", "/nowhere/mailserver.toml"), "/nowhere/mailserver.toml"),
        (("--config", "a", "--demo", "b"), "not both"),
    ],
)
def test_what_cannot_be_started_is_told_in_one_line(arguments: tuple[str, ...], told: str) -> None:
    assert told in refused(*arguments)


def test_what_already_runs_is_not_started_a_second_time(tmp_path: Path) -> None:
    """Ports that several workers share could be shared with those of another server too."""
    with RunningServer(tmp_path, workers=2) as server:
        told = refused("--allow-root", "--config", str(server.config))
        assert f"port {server.ports.smtp} cannot be bound" in told


@pytest.mark.parametrize("workers", [1, 2])
def test_a_taken_port_is_named(tmp_path: Path, workers: int) -> None:
    server = RunningServer(tmp_path, workers=workers)
    with socket.create_server(("127.0.0.1", server.ports.imap)):
        assert f"port {server.ports.imap} cannot be bound" in refused("--config", str(server.config))
