"""A message becomes a file in tmp/.

Promises   The file is complete, of mode 0600, with its modification time set when one was asked for. It is not synced
           yet: who asked for it syncs it, alone or with others.
On failure OSError, and nothing is left in tmp/. What a crash left there is swept after 36 hours, as maildir(5) says.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mailserver.store import content, names
from mailserver.store.syncing import write_all

log = logging.getLogger(__name__)

TMP = "tmp"
TMP_LIFETIME = 36 * 3600

NO_LINKS = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP)


@dataclass(slots=True, eq=False)
class Written:
    """An open file in tmp/; `base` is its name there and, with UID and flags, later. `size` is that of the file."""

    fd: int
    path: str
    base: str
    size: int
    wire_size: int

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def linked(self, directory: str, host: str) -> str | None:
        """The path of another name for the file, in another folder's tmp/; None: it can have no more names there.

        Only while it has its first one. Raises OSError.
        """
        target = f"{directory}/{TMP}/{names.with_sizes(names.unique(host), self.size, self.wire_size)}"
        return target if link(self.path, target) else None


def write(
    directory: str,
    host: str,
    chunks: Callable[[], Iterable[bytes]],
    mtime: float | None = None,
    zone: int = 0,
    plan: content.Plan | None = None,
) -> Written:
    """`directory` is the folder's; `chunks` gives the message in CRLF form. `zone` is that of `mtime`.

    Without a `plan` it is read twice.
    """
    plan = plan or content.plan(chunks())
    base = names.with_zone(names.with_sizes(names.unique(host), plan.size, plan.wire_size), zone)
    path = f"{directory}/{TMP}/{base}"
    fd = create(path)
    try:
        octets = 0
        for chunk in content.stored(chunks(), plan.form):
            write_all(fd, chunk)
            octets += len(chunk)
        if octets != plan.size:
            raise OSError(errno.EIO, "the message changed while it was written")
        if mtime is not None:
            os.utime(fd, (mtime, mtime))
    except BaseException:
        os.close(fd)
        discard(path)
        raise
    return Written(fd, path, base, plan.size, plan.wire_size)


def create(path: str) -> int:
    """A new file, open for writing. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def link(source: str, target: str) -> bool:
    """Another name for a file. False: the file system has no such thing, or the file has too many. Raises OSError."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return False
    return True


def link_or_copy(source: str, target: str) -> None:
    """Another name for a file, or, where there can be none, a synced copy. Raises OSError."""
    if link(source, target):
        return
    fd = content.open_message(source)
    try:
        mtime = os.fstat(fd).st_mtime
        copy = create(target)
        try:
            while data := os.read(fd, content.CHUNK):
                write_all(copy, data)
            os.utime(copy, (mtime, mtime))
            os.fsync(copy)
        finally:
            os.close(copy)
    finally:
        os.close(fd)


def discard(path: str) -> None:
    """Removes a file that must not stay; what cannot be removed is logged."""
    try:
        Path(path).unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        log.error("store=discard path=%r error=%r", path, error)


def sweep(directory: str) -> int:
    """Removes what lies in the folder's tmp/ since more than 36 hours; how many."""
    limit = time.time() - TMP_LIFETIME
    swept = 0
    try:
        with os.scandir(f"{directory}/{TMP}") as entries:
            for entry in entries:
                # Not by the modification time: that is the message's date while it is appended or copied.
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_ctime < limit:
                    discard(entry.path)
                    swept += 1
    except OSError as error:
        log.warning("store=sweep directory=%r error=%r", directory, error)
    return swept
