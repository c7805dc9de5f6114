"""The queue with many messages in it: what it costs to open, to look into, and to deliver from.

    python -m benchmarks.queue [--rows N] [--seconds S] [--rounds N] [--results DIR]

For 1,000 messages, ten times as many and so on up to `--rows`, each in a queue of its own, all of them due; of about
900 octets each, so they lie in the database. The queue is filled, then opened in a new process, which asks it for what
is due as the queue manager does. Then a server is started on it that passes all on to smtp-sink, and is measured until
it has run for so many `--seconds`. What was just filled is in the system's cache. The table shows medians.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from benchmarks.nexthops import ADDRESS, Sink
from benchmarks.peers import ACCOUNT, Mailserver
from benchmarks.report import OURS, Figures, Report
from benchmarks.run import Benchmark, Option, sizes
from benchmarks.sender import Mail, fill, message
from mailserver.queue import Queue

SMALLEST = 1000
SIZE = 900
DESTINATIONS = 1000
FILLING = 5000  # messages queued in one go
FIRST = 50  # entries that the queue manager asks for at once
HORIZON = 4 * 3600.0
PATIENCE = 600.0  # seconds
MB = 1e6


def one_round(directory: Path, rows: int, seconds: float) -> Figures:
    with Sink(directory) as sink:
        server = Mailserver(directory / "ms", relay=[f'smarthost = "{ADDRESS}:{sink.port}"'])
        content = message(ACCOUNT, SIZE)
        mails = (Mail(ACCOUNT, f"r{number}@d{number % DESTINATIONS:04}.test", content) for number in range(rows))
        begin = time.perf_counter()
        fill(server.queue, mails, FILLING)
        figures = {("fill", "/s"): rows / (time.perf_counter() - begin)}
        size = sum(path.stat().st_size for path in server.queue.iterdir() if path.is_file())
        figures["size of the database, a message", "octets"] = size / rows
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            looked = pool.submit(look, server.queue).result()
        figures |= looked
        with ThreadPoolExecutor(1) as watcher:
            begin = time.monotonic()
            first = watcher.submit(sink.reached, 1, PATIENCE)
            with server:
                figures["server: start to greeting", "ms"] = (time.monotonic() - begin) * 1000
                figures["server: start to the first delivery", "ms"] = (first.result() - begin) * 1000
                all_out = watcher.submit(sink.reached, rows, begin + seconds - time.monotonic())
                time.sleep(max(0.0, begin + seconds - time.monotonic()))
                figures |= _memory(server)
                taken, arrived = seconds, sink.count()
                if all_out.exception() is None:
                    taken, arrived = all_out.result() - begin, rows
                figures["server: deliveries", "/s"] = arrived / taken
    return figures


def look(directory: Path) -> dict[tuple[str, str], float]:
    """In a process that has done nothing else."""
    before = _status("self", "VmRSS")
    begin = time.perf_counter()
    queue = Queue(directory)
    queue.lead()
    opened = time.perf_counter()
    entries = queue.due(time.time(), horizon=HORIZON, limit=FIRST)
    found = time.perf_counter()
    queue.due(time.time(), horizon=HORIZON, limit=FIRST)
    second = time.perf_counter()
    queue.close()
    if len(entries) != FIRST:
        raise RuntimeError(f"{len(entries)} entries are due and not {FIRST}")
    return {
        ("open", "ms"): (opened - begin) * 1000,
        (f"the first {FIRST} that are due", "ms"): (found - opened) * 1000,
        (f"the next {FIRST}", "ms"): (second - found) * 1000,
        ("memory for that, at most", "MB"): (_status("self", "VmHWM") - before) / MB,
    }


def _memory(server: Mailserver) -> Figures:
    return {
        ("server: memory at the end", "MB"): _status(server.process.pid, "VmRSS") / MB,
        ("server: memory at most", "MB"): _status(server.process.pid, "VmHWM") / MB,
    }


def _status(process: int | str, key: str) -> int:
    """Octets, of what /proc tells in kB."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def measure(report: Report, directory: Path, options: argparse.Namespace) -> None:
    for rows in sizes(options.rows, SMALLEST):
        for number in range(options.rounds):
            there = directory / f"{rows}-{number}"
            report.add(OURS, one_round(there, rows, options.seconds), rows)


BENCHMARK = Benchmark(
    "queue",
    __doc__,
    measure,
    [
        Option("rows", 1_000_000, quick=2000, help="messages in the largest"),
        Option("seconds", 30.0, quick=3.0, help="how long each server runs"),
    ],
    rounds=1,
)

if __name__ == "__main__":
    BENCHMARK.main()
