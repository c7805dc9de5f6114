"""The benchmarks run: a short form of `make bench`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import corpus
from benchmarks.client import fetched
from benchmarks.imap import compare_answers
from benchmarks.report import Report
from tests.support import dovecot
from tests.support.server import ROOT


def _run(name: str, results: Path, messages: int) -> list[list[str]]:
    """The rows of the table that a benchmark prints, without its heading."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--messages", str(messages), "--rounds", "1"]
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
    rows = _run("smtp", tmp_path, 100)
    assert [row[0] for row in rows] == [
        "4 KB, 20 sessions",
        "4 KB, 1 session",
        "100 KB, 20 sessions",
        "4 KB, one message a connection",
    ]
    assert all(float(row[2]) > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing())
def test_imap_benchmark_finds_both_servers_of_one_mind_and_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("imap", tmp_path, 200)
    assert {"SELECT, again", "FETCH 1:* FLAGS", "SEARCH TEXT, rare", "APPEND, 20 connections"} <= {r[0] for r in rows}
    assert all(float(row[2]) > 0 for row in rows if row[1] in ("ms", "/s"))


def test_store_benchmark_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("store", tmp_path, 200)
    assert {"open in a new process", "deliver, 20 at once", "search a rare text"} <= {row[0] for row in rows}
    assert all(float(row[2]) > 0 for row in rows if row[1] != "octets")


@pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing())
def test_pop3_benchmark_finds_both_servers_of_one_mind_and_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("pop3", tmp_path, 100)
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
