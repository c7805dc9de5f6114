"""Has a directory changed since it was last read?

Promises   A change is seen at the next question, or, when it hid in the very moment of a change of our own, within
           `RECHECK` seconds. A modification time so young that more could happen within its grain is not trusted.
On failure FileNotFoundError: the directory is gone, or another one stands in its place.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass

GRAIN = 50_000_000  # nanoseconds
RECHECK = 2.0  # seconds
COARSE = 10_000_000  # nanoseconds; times that are multiples of it may come from a file system that keeps no finer ones
COARSE_GRAIN = 2_000_000_000


@dataclass(slots=True)
class Watch:
    """One directory. `trusted` is the modification time at which its content is known."""

    path: str
    trusted: int | None = None
    _inode: int | None = None
    _recheck: float | None = None
    """When to read it again, whatever the modification time says."""
    _young: bool = False
    """The modification time was younger than its grain when it was read."""

    def stamp(self) -> int:
        """The modification time now, in nanoseconds."""
        status = os.lstat(self.path)
        if self._inode is None:
            self._inode = status.st_ino
        elif self._inode != status.st_ino:
            raise FileNotFoundError(self.path)
        return status.st_mtime_ns

    def unchanged(self, stamp: int) -> bool:
        if stamp != self.trusted:
            return False
        return self._recheck is None or time.monotonic() < self._recheck

    def was_read(self, stamp: int, began: int) -> None:
        """The directory was read from the wall time `began` on (nanoseconds); `stamp` was its time before that."""
        self.trusted = stamp
        self._young = stamp >= began - (GRAIN if stamp % COARSE else max(GRAIN, COARSE_GRAIN))
        self._recheck = time.monotonic() if self._young else None

    def changed_by_us(self, before: int, after: int) -> None:
        """Our own changes moved its time. If it was as known before, it is as known now, but for a doubt."""
        if before != self.trusted:
            return
        self.trusted = after
        if self._recheck is None or self._young:
            self._recheck = time.monotonic() + RECHECK
            self._young = False

    def distrust(self) -> None:
        self.trusted = None

    @property
    def doubtful(self) -> bool:
        """Something of others may have hidden in a change of ours."""
        return self._recheck is not None

    @property
    def certain(self) -> int | None:
        """The time that may be relied upon by another process, later."""
        return self.trusted if self._recheck is None else None


def regular_files(path: str) -> list[str]:
    """The names of regular files in a directory, but for hidden ones."""
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.name[0] != "." and entry.is_file(follow_symlinks=False)]


def is_directory(path: str) -> bool:
    """A directory itself, not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
