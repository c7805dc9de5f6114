"""Which folders got mail: told by all processes that store it, read by the one that indexes in the background.

Layout     `arrived`: a line for each, the account's directory below the store's root and the folder's below that. Each
           line is one write behind what is there, without a lock: nobody who stores mail waits for who reads.
           `passed`: what was `arrived`, while it is being replaced. `left`: what was to be done then.
Promises   A folder is told of once a second, and no process keeps more than `REMEMBERED` in mind. What was read is
           there again for whoever reads next, until `settle` was told that it is done.
On failure Logged once. The round over all accounts finds what was not told, also where a process is killed between
           storing and telling, or tells in the very moment in which the file is replaced.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mailserver.store.syncing import write_all

log = logging.getLogger(__name__)

ARRIVED, PASSED, LEFT = "arrived", "passed", "left"

AGAIN = 1.0  # seconds; whoever reads of a folder looks at it later than that, or once more
REMEMBERED = 10_000
STIRS = 2.0  # seconds
LARGEST = 16 * 2**20  # octets; nobody reads, and the rest is left to the round
REPLACED = 2**20  # octets

_READ = 2**20


class Place(NamedTuple):
    """A folder: the directory of its account below the root, and its own below that, empty for INBOX."""

    account: str
    folder: str


class Arrivals:
    """Any thread may call anything."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / ARRIVED
        self._lock = threading.Lock()
        self._noted: dict[Place, float] = {}
        self._failed = False

    def note(self, account: str, folder: str) -> None:
        """Mail was stored there."""
        place, now = Place(account, folder), time.monotonic()
        with self._lock:
            if self._noted.get(place, 0.0) > now - AGAIN:
                return
            if len(self._noted) >= REMEMBERED:
                self._noted.clear()
            self._noted[place] = now
        try:
            _append(self._path, _line(place))
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("store=arrivals path=%r error=%r", str(self._path), error)


class Reader:
    """Of one process and thread. Raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._arrived, self._passed, self._left = (directory / name for name in (ARRIVED, PASSED, LEFT))
        self._begun = False
        self._inode = 0
        self._offset = 0

    @property
    def waiting(self) -> bool:
        """There may be something to read, for whoever has not read yet. Cheap."""
        return any(_size(path) for path in (self._arrived, self._passed, self._left))

    @property
    def stirs(self) -> bool:
        """Mail is being stored at this time."""
        try:
            return time.time() - self._arrived.stat().st_mtime < STIRS
        except FileNotFoundError:
            return False

    def read(self) -> list[Place]:
        """What was told since the last time; at first also what an earlier reader left."""
        before = [] if self._begun else [*_read(self._left, 0)[0], *_read(self._passed, 0)[0]]
        self._begun = True
        return [*before, *self._news()]

    def settle(self, left: Iterable[Place]) -> list[Place]:
        """All that was read is done but for `left`. What was told meanwhile."""
        try:
            self._arrived.rename(self._passed)
        except FileNotFoundError:
            pass
        more, _ = _read(self._passed, self._offset)
        self._offset = 0
        if rest := dict.fromkeys((*left, *more)):
            temporary = self._left.with_suffix(".new")
            temporary.write_bytes(b"".join(map(_line, rest)))
            temporary.replace(self._left)
        else:
            self._left.unlink(missing_ok=True)
        self._passed.unlink(missing_ok=True)
        return more

    @property
    def long(self) -> bool:
        """What was read is worth a shorter file."""
        return self._offset > REPLACED

    def _news(self) -> list[Place]:
        try:
            inode = self._arrived.stat().st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._inode:  # somebody removed it
            self._inode, self._offset = inode, 0
        found, self._offset = _read(self._arrived, self._offset)
        return found


def _line(place: Place) -> bytes:
    return os.fsencode(f"{place.account}\t{place.folder}\n")  # neither has a control character (`folders`)


def _append(path: Path, line: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(fd).st_size < LARGEST:
            write_all(fd, line)
    finally:
        os.close(fd)


def _read(path: Path, offset: int) -> tuple[list[Place], int]:
    """The places behind the offset, each once, and the offset behind the last whole line."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return [], 0
    found: dict[Place, None] = {}
    try:
        if os.fstat(fd).st_size < offset:
            offset = 0
        while data := os.pread(fd, _READ, offset):
            lines = data[: data.rfind(b"\n") + 1]
            if not lines:
                break
            offset += len(lines)
            for line in lines.splitlines():
                account, tab, folder = os.fsdecode(line).partition("\t")
                if tab and "\0" not in account:  # a power cut may leave zeros
                    found[Place(account, folder)] = None
    finally:
        os.close(fd)
    return list(found), offset


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
