"""The store is stopped at every call that touches the disk, and is asked afterwards for all that it promised.

One log of operations by two users (`tests/support/storelog.py`: delivery, flags, APPEND, COPY, MOVE, EXPUNGE, folders
made, renamed and deleted, subscriptions, an index of an older version at the start) is run again and again. Each time
something else happens at one of its calls: the process is killed, the call is refused, the power goes, the clock jumps.
Then no acknowledged message is missing, no UID stands for two messages, none is there in part, and no folder is lost.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONG = bool(os.environ.get("MAILSERVER_LONG"))
SEEDS = (11, 12, 13) if LONG else (11,)
STEPS = 60 if LONG else 40
ALL = 0

POINTS = {
    "kill": ALL if LONG else 120,
    "power": 500 if LONG else 60,
    "eio": 500 if LONG else 60,
    "enospc": 300 if LONG else 40,
    "hour-back": 100 if LONG else 20,
    "year-back": 100 if LONG else 20,
    "year-ahead": 100 if LONG else 20,
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", POINTS)
def test_nothing_promised_is_lost_wherever_the_log_is_cut(kind: str, seed: int, tmp_path: Path) -> None:
    arguments = map(str, (kind, tmp_path, seed, STEPS, POINTS[kind]))
    command = [sys.executable, "-m", "tests.support.cutting", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    *problems, points = done.stdout.splitlines() or [done.stderr]
    assert (problems, done.returncode) == ([], 0), done.stderr
    assert int(points) >= min(POINTS[kind] or 1000, 1000)
