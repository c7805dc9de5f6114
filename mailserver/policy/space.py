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
    """The octets that are free where `directory` lies. Any thread may ask."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known = (float("-inf"), 0)

    def recent(self) -> int | None:
        """What was found a moment ago, without a look at the disk; None: it is too long ago."""
        asked, octets = self._known
        return octets if time.monotonic() - asked < AGE else None

    def look(self) -> int:
        """Blocks. Raises OSError."""
        now = time.monotonic()
        found = os.statvfs(self._directory)
        octets = found.f_bavail * found.f_frsize
        self._known = (now, octets)
        return octets
