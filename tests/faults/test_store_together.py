"""Several processes work in one account at once and are killed in the middle: each finds all that it was promised.

Each performs a log of its own (`tests/support/storelog.py`), in INBOX, which all share, and in folders of its own.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from mailserver.store import Store
from tests.support.sink import PATIENCE, wait_until
from tests.support.storeledger import Ledger
from tests.support.storelog import ALICE, Observation, observe, read_records

ROUNDS = 25 if os.environ.get("MAILSERVER_LONG") else 3
PROCESSES = 3

WORK = """
    import sys
    from pathlib import Path
    from tests.support.storelog import Log, Recorder

    root, name, seed, records = sys.argv[1:]
    log = Log(Path(root), int(seed), Recorder(Path(records)), name=name, alone=False)
    print("begun", flush=True)
    log.perform(100_000)
"""


def seen(root: Path, name: str) -> Observation:
    """By a process that has just begun."""
    return observe(Store(root, hostname="mx.example.test").account(ALICE), name)


def start(root: Path, name: str, seed: int, records: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(WORK), *map(str, (root, name, seed, records))]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def count(files: Iterable[Path]) -> int:
    """Of what they have told."""
    return sum(1 for file in files for _ in read_records(file))


@pytest.mark.slow
def test_processes_that_share_an_account_and_are_killed_lose_nothing(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    chance = random.Random(1)
    everyone: dict[str, Ledger] = {}
    for number in range(ROUNDS):
        ledgers = {f"r{number}p{each}-": Ledger(seen(root, f"r{number}p{each}-")) for each in range(PROCESSES)}
        everyone |= ledgers
        records = {name: tmp_path / name for name in ledgers}
        with contextlib.ExitStack() as started:
            processes = []
            for seed, name in enumerate(ledgers):
                processes.append(start(root, name, 10 * number + seed, records[name]))
                started.callback(processes[-1].kill)  # none outlives a test that fails
            wait_until(lambda files=records: count(files.values()) > 100, what="their work")
            time.sleep(chance.random())
            for process in chance.sample(processes, PROCESSES):
                assert process.poll() is None, "it ended by itself"
                process.kill()
                process.communicate(timeout=PATIENCE)
                time.sleep(0.2 * chance.random())
        for name, ledger in ledgers.items():
            ledger.read(read_records(records[name]))
            ledger.settle(seen(root, name))
            assert ledger.problems == [], name
    for name, ledger in everyone.items():
        ledger.settle(seen(root, name))
        assert ledger.problems == [], name
