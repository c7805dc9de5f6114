"""Which process delivers from the queue: one at a time, by a lease.

The one that leads has its token in the table `owner`, with a time until which that holds, and puts the token on each
entry that it works on. It renews the lease as it looks for work. A process that ends gives up its lock file at once,
however it ends; one that hangs loses the lease when its time is over. Whoever takes over frees the entries of the
former one and gives it no way back: its token is gone, and what it still writes to an entry of another is refused.

The time is that since the machine was started, the same in all its processes, which no clock setting changes.

Promises   Of the processes on one machine one leads. `held` is False from the moment on at which another may take over.
On failure QueueError.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from pathlib import Path

from mailserver.queue.database import Database
from mailserver.queue.model import QueueError

log = logging.getLogger(__name__)

LENGTH = 60.0  # seconds; longer than any stall of a process that works
RENEWED_AFTER = 15.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def uptime() -> float:
    """Seconds since the machine started, time asleep included where that is known."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _this_boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Lease:
    """Used under no lock of its own: by one thread at a time."""

    def __init__(self, database: Database, lock_file: Path) -> None:
        self._database = database
        self._lock_file = lock_file
        self._lock: int | None = None
        self._until = 0.0
        self.token = ""
        """Empty before the first lease; another one after each loss."""

    @property
    def held(self) -> bool:
        return bool(self.token) and uptime() < self._until

    def take(self) -> bool:
        """Gets the lease, or makes it last longer; False while another process has it. Raises QueueError."""
        if self.held and uptime() < self._until - LENGTH + RENEWED_AFTER:
            return True
        locked = self._take_lock()
        now, boot = uptime(), _this_boot()
        with self._database.writing(durable=False) as db:
            renewed = (now + LENGTH, self._lock is not None, self.token)
            if not db.execute("UPDATE owner SET until = ?, locked = ? WHERE token = ?", renewed).rowcount:
                self.token = ""
                other = db.execute("SELECT locked FROM owner WHERE boot = ? AND until > ?", (boot, now)).fetchone()
                if other is not None and not (locked and other[0]):
                    return False
                self.token = secrets.token_hex(8)
                db.execute("DELETE FROM owner")
                db.execute("UPDATE entry SET lease = NULL WHERE lease IS NOT NULL")
                owner = (self.token, boot, now + LENGTH, self._lock is not None)
                db.execute("INSERT INTO owner VALUES (?, ?, ?, ?)", owner)
        self._until = now + LENGTH
        return True

    def _take_lock(self) -> bool:
        """Is it had from now on? Then a process that led with it has ended. One that hung may find another leading."""
        if self._lock is not None:
            return False
        try:
            lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise QueueError(f"the queue cannot be locked: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        except OSError as error:
            os.close(lock)
            raise QueueError(f"the queue cannot be locked: {error}") from error
        self._lock = lock
        return True

    def give_up(self) -> None:
        """Another process may lead at once, and nobody is told meanwhile that entries are being worked on."""
        token, self.token, self._until = self.token, "", 0.0
        if token:
            try:
                with self._database.writing(durable=False) as db:
                    db.execute("UPDATE entry SET lease = NULL WHERE lease = ?", (token,))
                    db.execute("DELETE FROM owner WHERE token = ?", (token,))
            except QueueError as error:  # whoever leads next frees them
                log.info("queue: the lease is left to end by itself: %s", error)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
