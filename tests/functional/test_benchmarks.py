"""The benchmarks run: a short form of `make bench`."""

import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from benchmarks import corpus, page, peers, plots, ports, run, smtp
from benchmarks.client import compare_answers, fetched, threads
from benchmarks.nexthops import SilentHosts
from benchmarks.plots import bars, curves, draw
from benchmarks.ports import free_ports
from benchmarks.report import Report
from benchmarks.sender import Mail, message, send
from tests.support import dovecot
from tests.support.server import ROOT


def _run(name: str, results: Path, **options: int | str) -> list[list[str]]:
    """The rows of the table that a benchmark prints, without its heading; what it kept makes the same table."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--rounds", "1"]
    for option, value in options.items():
        command += [f"--{option.replace('_', '-')}", *str(value).split()]
    done = subprocess.run(
        [*command, "--results", results], capture_output=True, text=True, timeout=600, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    kept = Report.load(results / f"{name}.json")
    assert kept.table() == done.stdout.rstrip("\n")
    assert {"date", "machine", "versions", "options"} <= kept.about.keys()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()][2:]


@pytest.mark.skipif(shutil.which("smtp-source") is None, reason="smtp-source is not installed: apt-get install postfix")
def test_smtp_benchmark_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("smtp", tmp_path, messages=100, workers="1 2")
    assert [row[0] for row in rows] == [
        "4 KB, 20 sessions",
        "4 KB, 1 session",
        "100 KB, 20 sessions",
        "4 KB, one message a connection",
    ]
    assert all(float(row[2]) > 0 and float(row[3]) > 0 for row in rows)
    assert Report.load(tmp_path / "smtp.json").ours == ["mailserver", "mailserver, 2 workers"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("smtp-sink") is None, reason="smtp-sink is not installed: apt-get install postfix")
def test_relay_benchmark_passes_all_on_once_and_prints_a_row_for_each_work(tmp_path: Path) -> None:
    sizes = {"messages": 200, "backlog": 300, "destinations": 30, "dead": 9}
    rows = _run("relay", tmp_path, **sizes, connect_timeout=1, seconds=300, workers="1 2")
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
    works = {"open", "the first 50 that are due", "server: start to the first delivery", "server: memory at the end"}
    assert works <= {row[0] for row in rows}
    assert all(float(row[3]) > 0 and float(row[4]) > 0 for row in rows if row[1] != "MB")
    assert Report.load(tmp_path / "queue.json").sizes == [1000, 2000]


@pytest.mark.slow
@pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing())
def test_growth_benchmark_finds_both_servers_of_one_mind_and_prints_a_row_for_each_server(tmp_path: Path) -> None:
    _run("growth", tmp_path, messages=1500)
    kept = Report.load(tmp_path / "growth.json")
    assert (kept.sizes, kept.servers) == ([1000, 1500], ["mailserver", "Dovecot"])
    drawn = curves(kept)
    assert {"SELECT, after a restart", "UID SEARCH SUBJECT", "memory of the server"} <= {work for work, _ in drawn}
    assert all(
        [size for size, _ in points] == [1000, 1500] for by_server in drawn.values() for points in by_server.values()
    )


def test_tests_that_run_side_by_side_have_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "24")
    given: set[int] = set()
    for worker in range(24):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        numbers = set(islice(ports._numbers(), 20_000))
        assert len(numbers) > 500 and given.isdisjoint(numbers)
        given |= numbers
    assert min(given) >= 15_000 and max(given) < 32_000


def test_silent_hosts_neither_take_nor_refuse_connections() -> None:
    (port,) = free_ports(1)
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
    rows = _run("imap", tmp_path, messages=200, workers=1)
    assert {"SELECT, again", "FETCH 1:* FLAGS", "SEARCH TEXT, rare", "APPEND, 20 connections"} <= {r[0] for r in rows}
    assert all(float(row[2]) > 0 for row in rows if row[1] in ("ms", "/s"))


def test_store_benchmark_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("store", tmp_path, messages=200)
    assert {"open in a new process", "deliver, 20 at once", "search a rare text"} <= {row[0] for row in rows}
    assert all(float(row[2]) > 0 for row in rows if row[1] != "octets")


@pytest.mark.skipif(bool(dovecot.missing()), reason=dovecot.missing())
def test_pop3_benchmark_finds_both_servers_of_one_mind_and_prints_a_row_for_each_work(tmp_path: Path) -> None:
    rows = _run("pop3", tmp_path, messages=100, workers="1 2")
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


def test_memory_benchmark_prints_a_row_for_each_step(tmp_path: Path) -> None:
    rows = _run("memory", tmp_path, connections=10, users=2, workers=1)
    assert len(rows) == 8
    assert [row[0] for row in rows[::4]] == ["a connection in clear, connected", "a connection with TLS, connected"]
    if not dovecot.missing():
        assert all(float(row[3]) > 10_000 for row in rows)  # a process for each


def test_all_that_are_named_run_and_a_page_tells_of_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "store", "pop3", "--quick", "--workers", "1"]
    done = subprocess.run(
        [*command, "--results", tmp_path], capture_output=True, text=True, timeout=600, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "README.md").read_text()
    reports = [Report.load(tmp_path / f"{name}.json") for name in ("pop3", "store")]
    assert all(f"## {report.title}\n" in text and report.table() in text for report in reports)
    assert text.index(reports[0].title) < text.index(reports[1].title)
    assert "`python -m benchmarks.pop3 --rounds 1 --quick --workers 1 --messages 500`" in text


def test_one_that_is_not_there_is_told_and_those_that_are() -> None:
    command = [sys.executable, "-m", "benchmarks", "smtp", "lmtp"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "there is no benchmark lmtp; there are smtp, relay, imap" in done.stderr


def test_what_is_missing_is_told_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "program", lambda name: None)
    monkeypatch.setattr(peers, "DOVECOT_POP3", tmp_path / "pop3")
    told = "\n".join(peers.missing())
    assert all(f"apt-get install {package}" in told for package in ("postfix", "dovecot-imapd", "dovecot-pop3d"))
    assert run.installed(lambda: peers.Postfix(tmp_path / "pf")) == []


def test_a_benchmark_of_which_all_is_missing_says_so_with_an_exit_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(smtp, "program", lambda name: None)
    monkeypatch.setattr(run, "stop_on_sigterm", lambda: None)
    with pytest.raises(SystemExit) as ended:
        smtp.BENCHMARK.main(["--results", str(tmp_path)])
    assert ended.value.code == os.EX_UNAVAILABLE
    assert "apt-get install postfix" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def _report() -> Report:
    """Of two of ours beside a peer."""
    report = Report("open", "How fast it opens", {"date": "2026-01-02T03:04:05+00:00", "options": {"rounds": 2}})
    for server, milliseconds, rate in (
        ("mailserver", 2.0, 300.0),
        ("mailserver, 2 workers", 8.0, 50.0),
        ("Dovecot", 4.0, 100.0),
    ):
        report.add(server, {("open", "ms"): milliseconds, ("append", "/s"): rate})
    return report


def _growing() -> Report:
    report = Report("growth", "How it grows")
    for size in (1000, 1_000_000):
        report.add("mailserver", {("open", "ms"): size / 500, ("left", "MB"): 0.0}, size)
    report.add("Dovecot", {("open", "ms"): 3.0}, 1000)
    return report


def test_a_ratio_above_one_is_better_whatever_the_unit() -> None:
    assert [line.split("|")[-3:-1] for line in _report().table().splitlines()] == [
        [" ratio ", " ratio, 2 workers "],
        [" --- ", " --- "],
        [" 2.00 ", " 0.50 "],
        [" 3.00 ", " 0.50 "],
    ]


def test_what_grows_has_a_column_for_each_size() -> None:
    assert _growing().table().splitlines()[::2] == [
        "| work | unit | server | 1,000 | 1,000,000 |",
        "| open | ms | mailserver | 2.00 | 2000 |",
        "| open |  | ratio | 1.50 |  |",
        "| left | MB | Dovecot |  |  |",
    ]


def test_plots_show_ratios_and_growth() -> None:
    assert bars(_report()) == {
        "mailserver": [("open", 2.0), ("append", 3.0)],
        "mailserver, 2 workers": [("open", 0.5), ("append", 0.5)],
    }
    assert curves(_report()) == bars(_growing()) == {}
    assert curves(_growing()) == {
        ("open", "ms"): {"mailserver": [(1000, 2.0), (1_000_000, 2000.0)], "Dovecot": [(1000, 3.0)]}
    }


@pytest.mark.parametrize("report", [_report(), _growing()], ids=["ratios", "growth"])
def test_the_same_figures_make_the_same_plot(tmp_path: Path, report: Report) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[bench]'")
    drawn = []
    for _ in range(2):
        file = draw(report, tmp_path)
        assert file == tmp_path / f"{report.name}.svg"
        drawn.append(file.read_text())
    assert drawn[0] == drawn[1]
    assert ">open</text>" in drawn[0].replace("\n", "")
    assert len(drawn[0]) < 40_000


def test_as_many_servers_as_are_asked_for_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[bench]'")
    report = _report()
    for workers in range(3, 8):
        report.add(f"mailserver, {workers} workers", {("open", "ms"): 1.0})
    file = draw(report, tmp_path)
    assert file is not None
    assert all(f"mailserver, {workers} workers" in file.read_text() for workers in range(2, 8))


def test_a_page_without_matplotlib_says_how_to_get_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "available", lambda: False)
    for report in (_report(), _growing()):
        report.save(tmp_path)
    text = page.write(tmp_path, ["open", "growth"]).read_text()
    assert "pip install -e '.[bench]'" in text
    assert "svg" not in text
    assert text.index("## How fast it opens") < text.index("## How it grows")
    assert "`python -m benchmarks.open --rounds 2`, 2026-01-02 03:04 UTC" in text


def test_a_page_has_the_command_that_makes_the_same_again(tmp_path: Path) -> None:
    options = {"quick": False, "only": [], "backlog": 0, "workers": [1, 2], "relay": ['retry = "1 min"']}
    Report("relay", "Passing on", {"options": options}).save(tmp_path)
    text = page.write(tmp_path, []).read_text()
    assert """`python -m benchmarks.relay --backlog 0 --workers 1 2 --relay 'retry = "1 min"'`""" in text


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"works": []}')
    with pytest.raises(ValueError, match=r"other\.json"):
        page.write(tmp_path, [])


def test_a_directory_that_is_there_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is there already"), run.directory(tmp_path):
        pass
    with run.directory(tmp_path / "new") as made:
        assert made == tmp_path / "new"
    assert made.is_dir()


def test_sizes_grow_by_ten() -> None:
    assert run.sizes(500_000, 1000) == [1000, 10_000, 100_000, 500_000]
    assert run.sizes(1000, 1000) == [1000]


def test_threads_mean_the_same_with_any_spaces() -> None:
    assert threads(b"* THREAD (1 2)(3 (4)(5))\r\n") == threads(b"* THREAD (1 2) (3 (4) (5))\r\nt OK\r\n")
    assert threads(b"* THREAD (1 2)\r\n") == [[b"1", b"2"]]
    assert threads(b"* THREAD\r\n") == []
