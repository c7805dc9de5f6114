"""The benchmarks run: a short form of `make bench`."""

import json
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks import corpus
from benchmarks.client import fetched
from benchmarks.imap import compare_answers
from benchmarks.nexthops import SilentHosts
from benchmarks.peers import free_port
from benchmarks.report import Report
from benchmarks.sender import Mail, message, send
from tests.support import dovecot
from tests.support.server import ROOT


def _run(name: str, results: Path, **options: int) -> list[list[str]]:
    """The rows of the table that a benchmark prints, without its heading."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--rounds", "1"]
    command += [word for option, value in options.items() for word in (f"--{option.replace('_', '-')}", str(value))]
    done = subprocess.run(
        [*command, "--results", results], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    kept = json.loads((results / f"{name}.json").read_text())
    assert [work["work"] for work in kept["works"]] == [row[0] for row in rows[2:]]
    return rows[2:]


@pytest.mark.skipif(shutil.which("smtp-source") is None, reason="smtp-source is not installed: apt-get install postfix")
def test_smtp_benchmark_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("smtp", tmp_path, messages=100)
    assert [row[0] for row in rows] == [
        "4 KB, 20 sessions",
        "4 KB, 1 session",
        "100 KB, 20 sessions",
        "4 KB, one message a connection",
    ]
    assert all(float(row[2]) > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("smtp-sink") is None, reason="smtp-sink is not installed: apt-get install postfix")
def test_relay_benchmark_passes_all_on_once_and_prints_a_row_for_each_work(tmp_path: Path) -> None:
    sizes = {"messages": 200, "backlog": 300, "destinations": 30, "dead": 9}
    rows = _run("relay", tmp_path, **sizes, connect_timeout=1, seconds=60)
    backlog = "300 queued for 30 domains, 9 of them dead: mail for the others"
    assert [(row[0], row[1]) for row in rows] == [
        ("4 KB, 20 sessions", "/s"),
        ("4 KB, 1 session", "/s"),
        (f"{backlog}, half of it is out", "s"),
        (f"{backlog}, all of it is out", "s"),
        (backlog, "/s"),
    ]
    assert all(float(row[2]) > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("smtp-sink") is None, reason="smtp-sink is not installed: apt-get install postfix")
def test_queue_benchmark_prints_rows_for_each_size(tmp_path: Path) -> None:
    rows = _run("queue", tmp_path, rows=2000, seconds=3)
    for size in (1000, 2000):
        works = {
            "open",
            "the first 50 that are due",
            "server: start to the first delivery",
            "server: memory at the end",
        }
        assert {f"{size}: {work}" for work in works} <= {row[0] for row in rows}
    assert all(float(row[2]) > 0 for row in rows if row[1] != "MB")


def test_silent_hosts_neither_take_nor_refuse_connections() -> None:
    port = free_port()
    with SilentHosts(["127.2.0.1"], port), pytest.raises(TimeoutError):
        socket.create_connection(("127.2.0.1", port), 0.3)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.2.0.1", port), 0.3)


def test_a_reply_that_was_not_expected_stops_the_sender() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        mail = Mail("a@b.test", "c@d.test", message("a@b.test", 1024))
        sending = pool.submit(send, server.getsockname()[1], [mail], sessions=1)
        with server.accept()[0] as connection:
            connection.sendall(b"220-hello\r\n220 there\r\n")
            assert connection.recv(100).startswith(b"EHLO")
            connection.sendall(b"250-a\r\n250 b\r\n")
            assert connection.recv(1000).endswith(b"\r\nDATA\r\n")
            connection.sendall(b"250 ok\r\n550 no\r\n")
        with pytest.raises(RuntimeError, match="550 no"):
            sending.result()


@pytest.mark.slow
@pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing())
def test_imap_benchmark_finds_both_servers_of_one_mind_and_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("imap", tmp_path, messages=200)
    assert {"SELECT, again", "FETCH 1:* FLAGS", "SEARCH TEXT, rare", "APPEND, 20 connections"} <= {r[0] for r in rows}
    assert all(float(row[2]) > 0 for row in rows if row[1] in ("ms", "/s"))


def test_store_benchmark_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("store", tmp_path, messages=200)
    assert {"open in a new process", "deliver, 20 at once", "search a rare text"} <= {row[0] for row in rows}
    assert all(float(row[2]) > 0 for row in rows if row[1] != "octets")


@pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing())
def test_pop3_benchmark_finds_both_servers_of_one_mind_and_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("pop3", tmp_path, messages=100)
    works = ["login and STAT", "LIST", "UIDL", "100 RETR, pipelined", "100 RETR, one after another"]
    assert [row[0] for row in rows] == works
    assert all(float(row[2]) > 0 for row in rows)


def test_the_same_number_makes_the_same_message() -> None:
    assert corpus.message(7) == corpus.message(7) != corpus.message(8)


def test_answers_of_the_same_meaning_are_equal() -> None:
    one = (
        b'* 1 FETCH (FLAGS (\\Seen \\Recent) BODY[] "a" BODYSTRUCTURE ("text" "plain" NIL NIL NIL "7bit" 3 1 NIL))\r\n'
    )
    two = b'* 1 FETCH (BODYSTRUCTURE ("TEXT" "PLAIN" NIL NIL NIL {4}\r\n7BIT 3 1) BODY[] {1}\r\na FLAGS (\\Seen))\r\n'
    assert fetched(one) == fetched(two) != fetched(one.replace(b"Seen", b"Flagged"))


def test_answers_of_different_meaning_stop_the_benchmark() -> None:
    ours, theirs = fetched(b"* 1 FETCH (RFC822.SIZE 3)\r\n"), fetched(b"* 1 FETCH (RFC822.SIZE 4)\r\n")
    compare_answers({"FETCH": ours, "SEARCH": [1]}, {"FETCH": ours, "SEARCH": [1]})
    with pytest.raises(RuntimeError, match="1 messages"):
        compare_answers({"FETCH": ours}, {"FETCH": theirs})
    with pytest.raises(RuntimeError, match="SEARCH is answered differently"):
        compare_answers({"SEARCH": [1]}, {"SEARCH": [2]})


def test_a_ratio_above_one_is_better_whatever_the_unit() -> None:
    report = Report()
    for server, milliseconds, rate in (("ours", 2.0, 300.0), ("theirs", 4.0, 100.0)):
        report.add(server, {("open", "ms"): milliseconds, ("append", "/s"): rate})
    assert [line.split("|")[-2].strip() for line in report.table().splitlines()] == ["ratio", "---", "2.00", "3.00"]


def test_memory_benchmark_prints_a_row_for_each_step(tmp_path: Path) -> None:
    rows = _run("memory", tmp_path, connections=10, users=2, first=10, settle=0)
    assert len(rows) == 8
    assert [row[0] for row in rows[::4]] == ["a connection in clear, connected", "a connection with TLS, connected"]
