"""Processes that stand still and go on again, as one that hangs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.sink import wait_until


def freeze(pid: int, frozen: bool) -> None:
    """Returns when each of its threads stands still: until one has taken the signal the others go on."""
    os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)
    if frozen:
        wait_until(lambda: all(map(_stands_still, Path(f"/proc/{pid}/task").iterdir())), what=f"the stop of {pid}")


def _stands_still(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] in "TtZX"
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return True
