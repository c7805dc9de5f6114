"""Runs the log of `storelog` again and again, each time cut at another point, and checks what is left.

Used as a program, so that the functions it replaces and the processes it forks are no one else's:

    python -m tests.support.cutting KIND DIRECTORY SEED STEPS POINTS

KIND is `kill`, `eio`, `enospc`, `power` or a jump of the clock; POINTS is how many of all cut points are taken, spread
evenly (0: all). It prints each problem found, then the number of points.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mailserver.store import Store, uids
from mailserver.store.index import INDEX_FILE
from tests.support import cuts
from tests.support.oldindex import write_version_2
from tests.support.powerloss import Disk
from tests.support.storeledger import Fault, Ledger
from tests.support.storelog import ALICE, Log, Observation, Recorder, begin, observe, read_records

MAILDIR = "example.test/alice"
FAULTS = {"eio": Fault.REFUSAL, "enospc": Fault.REFUSAL, "power": Fault.POWER}
JUMPS = {"hour-back": -3600, "year-back": -365 * 86_400, "year-ahead": 365 * 86_400}


def account_of(root: Path) -> Any:
    return Store(root, hostname="mx.example.test").account(ALICE)


def prepare(directory: Path, seed: int) -> None:
    """The account to begin with, and how it is shown. Its index is of an older version."""
    root = directory / "start"
    begin(root, seed)
    observe(account_of(root))  # all UIDs are given
    write_version_2(root / MAILDIR)
    shutil.copytree(root, directory / "look")
    (directory / "before").write_bytes(pickle.dumps(observe(account_of(directory / "look"))))


def before(directory: Path) -> Observation:
    seen: Observation = pickle.loads((directory / "before").read_bytes())
    return seen


def forked(work: Callable[[], None]) -> int:
    """The status of a child that did it; its own words go to standard output."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        work()
        sys.stdout.flush()
        status = 0
    except BaseException as error:  # noqa: BLE001 - told to the parent, which must not run on as two
        traceback.print_exception(error, file=sys.stdout)
        sys.stdout.flush()
    finally:
        os._exit(status)


def run(root: Path, seed: int, steps: int, records: Path) -> None:
    Log(root, seed, Recorder(records)).perform(steps)


def check(root: Path, seed: int, ledger: Ledger, *, clock_went_back: bool = False) -> list[str]:
    """What is wrong with an account whose processes are gone: as it is, opened again, without its index, and later."""
    ledger.settle(observe(account_of(root)))
    ledger.settle(observe(account_of(root)))
    for path in (root / MAILDIR).glob(f"{INDEX_FILE}*"):
        path.unlink()
    ledger.forget_index(clock_went_back=clock_went_back)
    ledger.settle(observe(account_of(root)))
    Log(root, seed, ledger.note, name="after").perform(8)
    ledger.settle(observe(account_of(root)))
    return ledger.problems


@contextmanager
def words(file: Path) -> Iterator[None]:
    """What is printed meanwhile, by children as well, goes into a file."""
    sys.stdout.flush()
    kept = os.dup(1)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(fd, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(fd)


class Cutting:
    """One seed's log, and the points at which it can be cut."""

    def __init__(self, directory: Path, seed: int, steps: int) -> None:
        self._directory = directory
        self._seed = seed
        self._steps = steps
        prepare(directory, seed)

    def points(self, wanted: int) -> Iterator[int]:
        """So many of all there are, from the first to the last; 0: all."""
        file = self._directory / "count"

        def work() -> None:
            counter = cuts.Cuts(None, cuts.kill)
            counter.install()
            run(self._fresh(), self._seed, self._steps, self._records)
            file.write_text(str(counter.count))

        forked(work)
        total = int(file.read_text())
        step = max(1.0, total / wanted) if wanted else 1.0
        chosen = {int(number * step) + 1 for number in range(int(total / step))}
        yield from sorted(chosen)

    def at(self, point: int, kind: str) -> list[str]:
        """The problems when the log is cut there."""
        root = self._fresh()
        for name in ("strict", "journal"):
            shutil.rmtree(self._directory / name, ignore_errors=True)
        words_file = self._directory / "words"
        with words(words_file):
            status = forked(lambda: self._cut(root, point, kind))
        problems = (
            [] if status in (0, 9) else [f"the process ended with {status}:", *words_file.read_text().splitlines()]
        )
        if kind != "power":
            return problems + self._checked(root, FAULTS.get(kind, Fault.DEATH), clock_went_back=kind in JUMPS)
        for name in ("strict", "journal"):
            problems += [f"{name}: {each}" for each in self._after_power_loss(self._directory / name, point)]
        return problems

    def _after_power_loss(self, root: Path, point: int) -> list[str]:
        """With no index, as it was at the cut, and as it was at the beginning, in turn."""
        if not root.exists():
            return []
        older = {0: None, 1: self._directory / "work", 2: self._directory / "start"}[point % 3]
        if older is not None:
            for suffix in ("", "-wal"):
                file = older / MAILDIR / f"{INDEX_FILE}{suffix}"
                if file.exists() and (root / MAILDIR).exists():
                    shutil.copy(file, root / MAILDIR)
        return self._checked(root, Fault.POWER)

    def _cut(self, root: Path, point: int, kind: str) -> None:
        disk = Disk(root) if kind == "power" else None

        def lose_power(name: str, arguments: tuple[Any, ...]) -> None:
            assert disk is not None
            disk.lose_power(self._directory / "strict")
            disk.lose_power(self._directory / "journal", random.Random(point))
            cuts.kill("", ())

        faults: dict[str, cuts.Fault] = {
            "kill": cuts.kill,
            "eio": cuts.refuse(errno.EIO),
            "enospc": cuts.refuse(errno.ENOSPC),
            "power": lose_power,
        } | {name: jump(seconds) for name, seconds in JUMPS.items()}
        cutter = cuts.Cuts(point, faults[kind], disk)
        cutter.install()
        run(root, self._seed, self._steps, self._records)

    def _checked(self, root: Path, fault: Fault, *, clock_went_back: bool = False) -> list[str]:
        def work() -> None:
            ledger = Ledger(before(self._directory), fault)
            ledger.read(read_records(self._records))
            if fault is Fault.POWER:
                uids._boot = lambda: "after-the-power-came-back"  # type: ignore[assignment]
            for problem in check(root, self._seed, ledger, clock_went_back=clock_went_back):
                print(problem)  # noqa: T201 - that is what the program is for

        file = self._directory / "problems"
        with words(file):
            forked(work)
        return file.read_text().splitlines()

    @property
    def _records(self) -> Path:
        return self._directory / "records"

    def _fresh(self) -> Path:
        root = self._directory / "work"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self._directory / "start", root)
        self._records.unlink(missing_ok=True)
        return root


def jump(seconds: int) -> cuts.Fault:
    """The wall clock of this process is set."""

    def fault(name: str, arguments: tuple[Any, ...]) -> None:
        now, now_ns = time.time, time.time_ns
        time.time = lambda: now() + seconds
        time.time_ns = lambda: now_ns() + seconds * 10**9

    return fault


def main(kind: str, directory: Path, seed: int, steps: int, points: int) -> None:
    cutting = Cutting(directory, seed, steps)
    count = 0
    for point in cutting.points(points):
        count += 1
        for problem in cutting.at(point, kind):
            print(f"seed {seed}, point {point}, {kind}: {problem}")  # noqa: T201 - that is what the program is for
    print(count)  # noqa: T201


if __name__ == "__main__":
    logging.disable()
    fault, place, *numbers = sys.argv[1:]
    main(fault, Path(place), *map(int, numbers))
