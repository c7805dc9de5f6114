"""All benchmarks, or those that are named, one after another, and a page of their results.

    python -m benchmarks [NAME ...] [--quick] [--rounds N] [--workers N ...] [--results DIR] [--directory DIR]
    python -m benchmarks report [--results DIR]

Each runs as `python -m benchmarks.NAME` does, which has options of its own. What is missing is told first, with how to
install it. `report` makes the page and its plots again from the figures that are there.

On failure of one the others run, and the exit code is 1. One that measures nothing, since all it needs is missing, has
not failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import growth, imap, memory, page, plots, pop3, queue, relay, run, smtp, store
from benchmarks.peers import missing

BENCHMARKS = {
    module.BENCHMARK.name: module.BENCHMARK for module in (smtp, relay, imap, pop3, memory, growth, queue, store)
}
REPORT = "report"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}, or {REPORT}; none: all")
    run.shared(parser, by_workers=True)
    options = parser.parse_args()
    unknown = set(options.names) - BENCHMARKS.keys() - {REPORT}
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    names = [name for name in options.names or BENCHMARKS if name != REPORT]
    failed = _measure(names, options) if names else []
    if not plots.available():
        print("matplotlib is missing, so the page has no plots: pip install -e '.[bench]'", file=sys.stderr)
    print(f"results: {page.write(options.results, list(BENCHMARKS))}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _measure(names: list[str], options: argparse.Namespace) -> list[str]:
    """Those that failed.

    Their directories are removed when all have run: after many files were deleted ext4 is slow at making new ones for a
    minute or more, which the next benchmark would measure.
    """
    for need in missing():
        print(f"missing: {need}", file=sys.stderr)
    failed = []
    with run.directory(options.directory) as directory:
        for name in names:
            print(f"\n{BENCHMARKS[name].title}", file=sys.stderr)
            begin = time.monotonic()
            code = _run(name, directory / name, options)
            if code == os.EX_UNAVAILABLE:
                continue
            if code:
                failed.append(name)
            print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return failed


def _run(name: str, directory: Path, options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--results", options.results, "--directory", directory]
    command += ["--quick"] if options.quick else []
    command += ["--rounds", str(options.rounds)] if options.rounds is not None else []
    command += ["--workers", *map(str, options.workers)] if BENCHMARKS[name].by_workers else []
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except SystemExit:  # this program was told to end, and only this one
        process.terminate()
        raise
    finally:
        process.wait()  # it stops the servers that it has started


if __name__ == "__main__":
    run.stop_on_sigterm()
    sys.exit(main())
