"""How much room the disk has.

Promises   The disk is asked once in `AGE` seconds, however many messages come.
On failure OSError.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

AGE = 1.0  # seconds


class FreeSpace:
    """Calling it gives the octets that are free where `directory` lies. Any thread may."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known = (float("-inf"), 0)

    def __call__(self) -> int:
        asked, octets = self._known
        now = time.monotonic()
        if now - asked >= AGE:
            found = os.statvfs(self._directory)
            octets = found.f_bavail * found.f_frsize
            self._known = (now, octets)
        return octets
