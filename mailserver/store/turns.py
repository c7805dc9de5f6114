"""Turns at a maildrop: one POP3 session at a time, and not too soon after the one before (RFC 1939 §4, RFC 2449 §6.5).

Promises   Holds among all threads and processes. The lock is gone with the process that held it, whatever killed it.
           A clock that was set back keeps nobody out.
On failure InUse, TooSoon; OSError.
Layout     `mailserver-pop3.lock` in the account: the time of the last login in seconds since the epoch, as text.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Self

from mailserver.store.model import InUse, TooSoon
from mailserver.store.syncing import lock

TURN_FILE = "mailserver-pop3.lock"


class Turn:
    """Held until `close`. `alone`: whoever wants one meanwhile is refused, else it waits.

    Raises InUse, TooSoon, OSError.
    """

    def __init__(self, account: Path, *, delay: float, alone: bool) -> None:
        try:
            self._fd: int | None = lock(account / TURN_FILE, wait=not alone)
        except BlockingIOError as error:
            raise InUse("The maildrop is in use by another session") from error
        try:
            if delay:
                _keep_apart(self._fd, delay)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _keep_apart(fd: int, delay: float) -> None:
    now = time.time()
    try:
        last = float(os.pread(fd, 32, 0))
    except ValueError:
        last = 0.0
    if -1 < now - last < delay:
        raise TooSoon(f"The last login was less than {delay:.0f} seconds ago")
    os.ftruncate(fd, os.pwrite(fd, b"%020.6f\n" % now, 0))
