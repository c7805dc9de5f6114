"""Signs of life of a process to the one that started it, by which that one tells a process that hangs from others.

Theory     The one writes an octet into a pipe every second, in the loop in which it serves. The other counts its own
           looks, of which it takes one a second, and not the time: what stops both, as a machine that sleeps or a
           container that is frozen, is one look at most, and what slows both down slows down the count.
Promises   Who never gave a sign is not judged: a start may take long. Nor is who waits for the disk.
On failure Nothing: a sign that cannot be given is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVERY = 1.0  # seconds from sign to sign, and from look to look


def beat(reactor: Any, fd: int) -> None:
    """Gives signs from now on."""
    os.set_inheritable(fd, False)
    os.set_blocking(fd, False)

    def give() -> None:
        try:
            os.write(fd, b".")
        except OSError:
            pass  # nobody reads: the other process stands still
        reactor.callLater(EVERY, give)

    give()


class Silence:
    """Of one process, as looks without a sign. `waits`: whether it waits for the disk."""

    def __init__(self, waits: Callable[[], bool] = lambda: False) -> None:
        self._waits = waits
        self._looks: int | None = None

    def broken(self) -> None:
        self._looks = 0

    @property
    def unbroken(self) -> bool:
        """There was no sign yet."""
        return self._looks is None

    def look(self) -> float:
        """How long it has lasted, in seconds of this process."""
        if self._looks is None or self._waits():
            return 0.0
        self._looks += 1
        return self._looks * EVERY


def waits_for_disk(pid: int) -> bool:
    """Of its main thread. proc(5): field 3 of stat, behind a name in brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"D"
    except (OSError, IndexError):
        return False
