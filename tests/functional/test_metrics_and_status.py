"""What Prometheus and `mailserver status` are told of a server that runs, with one process and with several."""

from __future__ import annotations

import imaplib
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.ports import free_ports
from mailserver import __version__
from mailserver.cli import main
from tests.support.server import ALICE, BOB, RunningServer
from tests.support.sink import PATIENCE, wait_until
from tests.support.stopping import freeze

MESSAGE = "Subject: hello\r\n\r\nx\r\n"


class Watched:
    """A server that tells its metrics, and whose relay reaches nobody."""

    def __init__(self, directory: Path, workers: int) -> None:
        (self.port, nobody) = free_ports(2)
        sections = {
            "metrics": {"endpoint": f"tcp:{self.port}:interface=127.0.0.1"},
            "relay": {"smarthost": f"127.0.0.1:{nobody}", "retry_first": "1 h"},
        }
        self.server = RunningServer(directory, workers=workers, sections=sections)

    def samples(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Values by the values of their labels, in the order of the labels' names."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sample.labels[name] for name in sorted(sample.labels))
                found.setdefault(sample.name, {})[labels] = sample.value
        return found

    def value(self, name: str, *labels: str) -> float:
        return self.samples().get(name, {}).get(labels, 0.0)

    def command(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["--config", str(self.server.config), "status", *words])

    def status(self) -> Any:
        done = self.command("--json")
        assert (done.exit_code, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def workers(self) -> dict[str, int]:
        processes = json.loads(self.command("--json").stdout).get("processes", [])  # none, before the first one tells
        return {each["name"]: each["pid"] for each in processes if each["name"].isdecimal()}


@pytest.fixture(params=[1, 2])
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path, request.param)
    with made.server:
        wait_until(lambda: made.server.log().count("ready, as") == request.param, what="all processes")
        yield made


def submit(server: RunningServer, recipient: str) -> None:
    with server.submission() as client:
        client.sendmail(ALICE, [recipient], MESSAGE)


def test_each_protocol_is_counted(watched: Watched) -> None:
    server = watched.server
    wait_until(
        lambda: not any(watched.samples().get("mailserver_connections_open", {}).values()), what="a quiet moment"
    )
    before = watched.samples()
    submit(server, BOB)
    submit(server, "carol@elsewhere.test")
    with server.smtp() as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("x@example.net", ["nobody@example.test"], MESSAGE)
    server.pop3(BOB).quit()
    wrong = imaplib.IMAP4("localhost", server.ports.imap)
    with pytest.raises(imaplib.IMAP4.error):
        wrong.login(ALICE, "wrong")
    wrong.logout()
    imap = server.imap(BOB)
    imap.select("INBOX")
    imap.fetch("1", "(FLAGS)")
    imap.append("INBOX", None, None, MESSAGE.encode())
    assert imap.select("nowhere")[0] == "NO"

    def grown() -> dict[str, dict[tuple[str, ...], float]]:
        return {
            name: {
                labels: value - before.get(name, {}).get(labels, 0.0)
                for labels, value in rows.items()
                if value != before.get(name, {}).get(labels, 0.0)
            }
            for name, rows in watched.samples().items()
        }

    commands = {
        ("Append", "imap", "OK"): 1,
        ("Rcpt", "submission", "2xx"): 2,
        ("Rcpt", "smtp", "5xx"): 1,
        ("Hello", "smtp", "2xx"): 1,
        ("Quit", "pop3", "+OK"): 1,
        ("Login", "imap", "NO"): 1,
        ("Login", "imap", "OK"): 1,
        ("Select", "imap", "OK"): 1,
        ("Select", "imap", "NO"): 1,
        ("Fetch", "imap", "OK"): 1,
    }
    others: dict[str, dict[tuple[str, ...], float]] = {
        "mailserver_messages_total": {("submission", "2xx"): 2},
        "mailserver_logins_total": {
            ("submission", "ok"): 2,
            ("pop3", "ok"): 1,
            ("imap", "ok"): 1,
            ("imap", "refused"): 1,
        },
        "mailserver_deliveries_total": {("delivered",): 1},
        "mailserver_delivery_attempts_total": {("delayed",): 1},
        "mailserver_connections_open": {("imap",): 1},
        "mailserver_store_seconds_count": {("append",): 1, ("deliver",): 1},
    }
    found: dict[str, dict[tuple[str, ...], float]] = {}

    def differs() -> dict[str, object]:
        """What is not yet as it should be in the end; each process tells of itself once a second."""
        nonlocal found
        found = grown()
        wrong: dict[str, object] = {}
        for name, wanted in others.items():
            if found.get(name) != wanted:
                wrong[name] = found.get(name)
        told = found.get("mailserver_commands_total", {})
        return wrong | {
            str(labels): told.get(labels) for labels, count in commands.items() if told.get(labels) != count
        }

    end = time.monotonic() + PATIENCE
    while (wrong := differs()) or watched.value("mailserver_queue_entries", "deferred") != 1:
        assert time.monotonic() < end, wrong
        time.sleep(0.1)
    assert found["mailserver_tls_handshakes_total"]["submission", "TLSv1.3"] == 2
    assert found["mailserver_sync_seconds_count"][()] > 0 and found["mailserver_queue_commit_seconds_count"][()] > 0
    assert watched.value("mailserver_certificates_end_seconds") > time.time()
    assert watched.value("mailserver_processes", __version__) == max(1, len(watched.workers()))
    imap.shutdown()


def test_status_tells_in_words_and_in_json(watched: Watched) -> None:
    server = watched.server
    submit(server, "carol@elsewhere.test")
    imap = server.imap()
    wait_until(lambda: (watched.status()["queue"] or {}).get("deferred", {}).get("entries") == 1, what="the queue")
    wait_until(lambda: watched.status()["connections"]["imap"]["open"] == 1, what="the connection")
    wait_until(lambda: watched.status()["logins"]["ok"] == 2, what="the logins")
    wait_until(lambda: watched.status()["index_lag"] is not None, what="the indexes")
    told = watched.status()
    names = [each["name"] for each in told["processes"]]
    assert names in (["server"], ["0", "1", "supervisor"])
    assert all(each["version"] == __version__ and not each["silent"] for each in told["processes"])
    assert set(told["processes"][0]["versions"]) == {"mailserver", "python", "twisted", "openssl", "sqlite"}
    assert told["running"] and told["missing_workers"] == []
    assert told["logins"] == {"ok": 2, "refused": 0, "banned": 0, "crowded": 0, "failed": 0}
    done = watched.command()
    assert (done.exit_code, done.stderr) == (0, "")
    words = "2 workers" if len(names) == 3 else "one process"
    for text in (
        words,
        "\nimap        1 ",
        "logins: 2 ok, 0 refused",
        "queue: 1 deferred (the oldest for ",
        "sqlite 3.",
    ):
        assert text in done.stdout, done.stdout
    imap.shutdown()
    data = server.data
    server.stop()
    done = watched.command()
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mailserver: no server runs on {data}; the last one was heard of at 2")
    done = watched.command("--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, {"running": False})
    server.start()
    wait_until(lambda: watched.command().exit_code == 0, what="the next one")
    assert watched.status()["logins"]["ok"] == 0, "counts begin anew"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_status_is_for_root_and_the_servers_user(open_directory: Path) -> None:
    data, key = open_directory / "data", open_directory / "key.pem"
    data.mkdir()
    os.chown(data, 65534, 65534)
    watched = Watched(open_directory, 1)
    for file in open_directory.iterdir():
        file.chmod(0o700 if file == data else 0o644)
    key.chmod(0o640)
    os.chown(key, 0, 65534)
    watched.server._twistd = ["--uid", "65534", "--gid", "65534"]
    with watched.server:
        wait_until(lambda: watched.command().exit_code == 0, what="a first word of it")
        root = watched.command()
        assert root.exit_code == 0 and "The server runs" in root.stdout, root.stderr
        code = "import os, sys; from mailserver.cli import main; os.setgid({0}); os.setuid({0}); main()"
        for uid, expected in ((65534, 0), (12345, 1)):
            command = [sys.executable, "-c", code.format(uid), "--config", str(watched.server.config), "status"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == expected, done.stderr
            assert ("Permission denied" in done.stderr) == bool(expected), done.stderr


def test_counts_do_not_go_back_when_a_worker_dies(tmp_path: Path) -> None:
    watched = Watched(tmp_path, 2)
    with watched.server as server:
        wait_until(lambda: len(watched.workers()) == 2, what="two workers")
        for _ in range(6):
            submit(server, BOB)
        wait_until(lambda: watched.value("mailserver_logins_total", "submission", "ok") == 6, what="six logins")
        open_ = [server.imap() for _ in range(6)]
        wait_until(lambda: watched.value("mailserver_connections_open", "imap") == 6, what="six connections")
        names = ("mailserver_logins_total", "mailserver_commands_total", "mailserver_store_seconds_count")
        least = {name: watched.samples()[name] for name in names}
        for name, pid in watched.workers().items():
            os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + PATIENCE
            while watched.workers().get(name, pid) == pid:
                assert time.monotonic() < end, "no new worker"
                now = watched.samples()
                for each in names:
                    for labels, value in least[each].items():
                        assert now[each][labels] >= value, (each, labels)
                    least[each] = now[each]
                time.sleep(0.1)
        assert watched.value("mailserver_workers_ended_total") == 2
        assert watched.value("mailserver_logins_total", "submission", "ok") == 6
        assert watched.value("mailserver_connections_open", "imap") == 0, "what it held has gone with it"
        submit(server, BOB)
        wait_until(lambda: watched.value("mailserver_logins_total", "submission", "ok") == 7, what="the seventh")
        assert watched.status()["logins"]["ok"] == 13
        for client in open_:
            client.shutdown()


def test_a_worker_that_does_not_run_is_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path, 2)
    with watched.server:
        wait_until(lambda: len(watched.workers()) == 2, what="two workers")
        for _ in range(4):  # the next one is there soon, and each time later
            (victim, *_) = watched.workers().values()
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda gone=victim: gone not in watched.workers().values(), what="its end")
            done = watched.command()
            wait_until(lambda: len(watched.workers()) == 2, what="the next one")
            if done.stderr:
                break
        assert done.exit_code == 0 and "warning: worker 0 does not run" in done.stderr, done.stderr
        file = watched.server.data / "status" / "1.json"
        told = json.loads(file.read_text())
        freeze(told["pid"], True)
        try:
            file.write_text(json.dumps(told | {"version": "0.0.9", "told": time.time() - 90}))
            warnings = watched.command().stderr
        finally:
            freeze(told["pid"], False)
        assert f"worker 1 runs version 0.0.9 and this command is of {__version__}: start the server again" in warnings
        assert "worker 1 has told nothing for 1 min" in warnings


def test_strangers_learn_nothing_else_there(watched: Watched) -> None:
    for path in ("/", "/metrics/../status", "/status", "/%2e%2e/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{watched.port}{path}", timeout=PATIENCE)
    with socket.create_connection(("127.0.0.1", watched.port), timeout=PATIENCE) as client:
        client.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100_000)
        try:
            while answer := client.recv(4096):
                assert b"200" not in answer
        except ConnectionError:
            pass
    assert watched.samples()["mailserver_processes"], "others are served"


def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        watched = Watched(tmp_path, 1)
        port = taken.getsockname()[1]
        watched.server.write_configuration({"metrics": {"endpoint": f"tcp:{port}:interface=127.0.0.1"}})
        with pytest.raises(AssertionError, match=f"port {port} cannot be bound"):
            watched.server.start()
