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
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from benchmarks.nexthops import ADDRESS, Sink
from benchmarks.peers import ACCOUNT, Mailserver, Missing
from benchmarks.report import RESULTS, Report
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

Figures = Mapping[tuple[str, str], float]


def one_round(directory: Path, rows: int, seconds: float) -> Figures:
    def work(name: str) -> str:
        return f"{rows}: {name}"

    with Sink(directory) as sink:
        server = Mailserver(directory / "ms", relay=[f'smarthost = "{ADDRESS}:{sink.port}"'])
        content = message(ACCOUNT, SIZE)
        mails = (Mail(ACCOUNT, f"r{number}@d{number % DESTINATIONS:04}.test", content) for number in range(rows))
        begin = time.perf_counter()
        fill(server.queue, mails, FILLING)
        figures = {(work("fill"), "/s"): rows / (time.perf_counter() - begin)}
        size = sum(path.stat().st_size for path in server.queue.iterdir() if path.is_file())
        figures[work("size of the database, a message"), "octets"] = size / rows
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            looked = pool.submit(look, server.queue).result()
        figures |= {(work(name), unit): figure for (name, unit), figure in looked.items()}
        with ThreadPoolExecutor(1) as watcher:
            begin = time.monotonic()
            first = watcher.submit(sink.reached, 1, PATIENCE)
            with server:
                figures[work("server: start to greeting"), "ms"] = (time.monotonic() - begin) * 1000
                figures[work("server: start to the first delivery"), "ms"] = (first.result() - begin) * 1000
                all_out = watcher.submit(sink.reached, rows, begin + seconds - time.monotonic())
                time.sleep(max(0.0, begin + seconds - time.monotonic()))
                figures |= _memory(rows, server)
                taken, arrived = seconds, sink.count()
                if all_out.exception() is None:
                    taken, arrived = all_out.result() - begin, rows
                figures[work("server: deliveries"), "/s"] = arrived / taken
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


def _memory(rows: int, server: Mailserver) -> Figures:
    return {
        (f"{rows}: server: memory at the end", "MB"): _status(server.process.pid, "VmRSS") / MB,
        (f"{rows}: server: memory at most", "MB"): _status(server.process.pid, "VmHWM") / MB,
    }


def _status(process: int | str, key: str) -> int:
    """Octets, of what /proc tells in kB."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each server runs")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to keep them")
    options = parser.parse_args()
    sizes = [options.rows]
    while sizes[0] > SMALLEST:
        sizes.insert(0, max(SMALLEST, sizes[0] // 10))
    report = Report()
    try:
        for rows in sizes:
            for _ in range(options.rounds):
                with tempfile.TemporaryDirectory(prefix="bench-") as directory:
                    Path(directory).chmod(0o755)
                    report.add("mailserver", one_round(Path(directory), rows, options.seconds))
    except Missing as missing:
        sys.exit(str(missing))
    print(report.table())
    report.save(options.results, "queue", rows=options.rows, rounds=options.rounds, seconds=options.seconds)


if __name__ == "__main__":
    main()
