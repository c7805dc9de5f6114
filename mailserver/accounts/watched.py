"""A file whose content is held in memory and read again when it changes.

Promises   `current` never waits for the disk but to take over a changed file, within a second or two of the change. A
           file that is being written is not caught in the middle.
On failure What `read` raises at first comes out of the constructor. Later each line of a `ConfigurationError` is logged
           and what was read before stays in force, also while the file is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from mailserver.config.loader import ConfigurationError

log = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the file's modification time."""

SETTLE_TIME = 1.0
"""Seconds for which the file must lie still: an editor that writes in place is not caught in the middle."""

T = TypeVar("T")


class Watched(Generic[T]):
    """`read` gets what was read before, None at first, and raises ConfigurationError for what is not to be used."""

    def __init__(
        self, path: Path, read: Callable[[T | None], T], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._read = read
        self._monotonic = monotonic
        self._lock = threading.Lock()  # held by the one that looks whether the file has changed
        self._stamp = _stamp(path)
        self._value = read(None)
        self._next_check = monotonic() + CHECK_INTERVAL

    def current(self) -> T:
        """What is in force now."""
        if self._monotonic() >= self._next_check and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._value

    def reload(self) -> None:
        """Reads the file now, whether it seems to have changed or not."""
        with self._lock:
            self._stamp = _stamp(self._path)
            self._take_over()

    def _look(self) -> None:
        stamp = _stamp(self._path)
        if stamp is not None and stamp != self._stamp and abs(time.time() - stamp[0] / 1e9) < SETTLE_TIME:
            return  # to be looked at again at the next lookup
        self._next_check = self._monotonic() + CHECK_INTERVAL
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._take_over()

    def _take_over(self) -> None:
        try:
            self._value = self._read(self._value)
        except ConfigurationError as error:
            for problem in error.problems:
                log.error("accounts not taken over, the former ones stay: %s", problem)
        else:
            log.info("accounts taken over from %s", self._path)


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    """Differs whenever the file was changed or replaced, or made readable; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
