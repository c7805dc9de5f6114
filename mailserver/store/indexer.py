"""The process that indexes in the background: `python -m mailserver.store.indexer`. Not for the command line.

In a process of its own it holds up no session: it has its own Python, and less of the processor than they. It hears
from the one that started it on standard input, where `round` asks for a round over all accounts, and tells it on
standard output how far it is: one JSON object a line. Its log is standard error, as `net.logs` takes it up.

Promises   Ends when it has had nothing to do for `LINGER` seconds, on SIGTERM, or when its standard input does: then
           within `GRACE` seconds, whatever it is doing, since what it does may be broken off anywhere.
On failure Exit status 1 and a word in the log.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from mailserver import metrics
from mailserver.store.arrivals import Reader
from mailserver.store.helpers import helpers
from mailserver.store.indexing import Indexer

log = logging.getLogger(__name__)

NICENESS = 10
LINGER = 60.0  # seconds
GRACE = 2.0  # seconds
TELL_EVERY = 1.0  # seconds

ROUND = b"round\n"


class _Orders:
    """What the other process wants. Heard in a thread of its own."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.rounds = 0  # that were asked for
        signal.signal(signal.SIGTERM, lambda *_: self.ended.set())
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        while words := os.read(0, 4096):  # not `sys.stdin`: Python cannot end while a thread waits for that
            self.rounds += words.count(ROUND[-1:])
        self.ended.set()
        time.sleep(GRACE)
        os._exit(0)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "warn" if record.levelno == logging.WARNING else record.levelname.lower()
        text = self.format(record).replace("\r", "\\r").replace("\n", "\r")
        os.write(2, f"{level} {record.name} {text}\n".encode("utf-8", "backslashreplace"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mail", type=Path, required=True, help="where the accounts lie")
    parser.add_argument("--arrivals", type=Path, required=True, help="where processes tell what arrived")
    parser.add_argument("--hostname", required=True)
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGHUP):  # those at a terminal, and of the group, are for who started this
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    with suppress(OSError):  # where that is not allowed its rests must do
        os.nice(NICENESS)
    root = logging.getLogger("mailserver")
    root.addHandler(_Handler())
    root.setLevel(logging.INFO)
    helpers.do_without()
    process = _Process(options.mail, Reader(options.arrivals), options.hostname)
    try:
        process.run()
    except OSError as error:
        log.error("indexing ends: %s", error)
        sys.exit(1)


class _Process:
    def __init__(self, root: Path, reader: Reader, host: str) -> None:
        self._orders = _Orders()
        self._indexer = Indexer(root, reader, host, rest=self._rest, wanted=self._wanted)
        self._told_at = 0.0

    def run(self) -> None:
        """Raises OSError."""
        begun, last = 0, time.monotonic()
        while self._wanted():
            if begun < self._orders.rounds:
                begun += 1
                self._indexer.begin_round()
            if self._indexer.step():
                last = time.monotonic()
            elif time.monotonic() > last + LINGER:
                break
        self._tell()

    def _wanted(self) -> bool:
        return not self._orders.ended.is_set()

    def _rest(self, seconds: float) -> None:
        if time.monotonic() > self._told_at + TELL_EVERY:
            self._tell()
        self._orders.ended.wait(seconds)

    def _tell(self) -> None:
        """Also when there is nothing new, as a sign of life. What is counted here counts for the other process."""
        state, counted = self._indexer.state, metrics.hand_over()
        text = json.dumps({**asdict(state), "counted": counted})
        os.write(1, f"{text}\n".encode())
        self._told_at = time.monotonic()


if __name__ == "__main__":
    main()
