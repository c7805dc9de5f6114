"""The secret keys by which URLs of messages are authorised (RFC 4467 §2.2), one for each folder.

Layout     A folder has its key in its `mailserver-access-key`, 64 hexadecimal digits and a line end, readable for its
           owner only. So it moves with the folder, and goes with it, in one rename.
Promises   A key has 256 bits of the system's randomness. It is replaced as a whole, synced, and never logged. A process
           hears that another one replaced a key, by the file's inode and time, when it looks; not of a folder's first.
On failure OSError. A file that is damaged, or that is none of ours, is no key.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
from pathlib import Path

from mailserver.store import content
from mailserver.store.syncing import replace_file, sync_directory

FILE = "mailserver-access-key"

Mark = tuple[int, int]
"""Tells a key file from the one before."""

_CONTENT = re.compile(rb"([0-9a-f]{64})\n")
_NONE_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def read(folder: str) -> bytes | None:
    """Raises OSError."""
    try:
        fd = content.open_message(f"{folder}/{FILE}")
    except OSError as error:
        if error.errno in _NONE_THERE:
            return None
        raise
    with os.fdopen(fd, "rb") as file:
        match = _CONTENT.fullmatch(file.read(128))
    return bytes.fromhex(match[1].decode()) if match is not None else None


def renew(folder: str) -> bytes:
    """The caller is alone. Raises OSError."""
    key = secrets.token_bytes(32)
    replace_file(Path(folder, FILE), key.hex().encode() + b"\n")
    return key


class Renewals:
    """How many times a folder got another key, as far as this process has seen. Thread-safe."""

    def __init__(self) -> None:
        self.count = 0
        self._seen: Mark | None = None
        self._counted: Mark | None = None
        self._lock = threading.Lock()

    def look(self, folder: str) -> bool:
        """Whether there is another key than before. What cannot be looked at has not changed."""
        try:
            status = os.lstat(f"{folder}/{FILE}")
        except OSError:
            return False
        with self._lock:
            before, self._seen = self._seen, (status.st_ino, status.st_mtime_ns)
            return before not in (None, self._seen) and self._count(self._seen)

    def renewed(self, folder: str) -> None:
        """This process has replaced the key."""
        self.look(folder)
        with self._lock:
            self._count(self._seen)

    def _count(self, mark: Mark | None) -> bool:
        if mark == self._counted or mark is None:
            return False
        self._counted = mark
        self.count += 1
        return True


def remove(folder: str) -> None:
    """The caller is alone. Raises OSError."""
    try:
        Path(folder, FILE).unlink()
    except FileNotFoundError:
        return
    sync_directory(folder)
