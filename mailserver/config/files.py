"""Replacing a text file as a whole.

Promises   A reader sees the old content or the new, never a part; when the call returns the new one is durable.
           An existing file keeps its mode and owner. A symbolic link stays: the file that it names is replaced.
On failure OSError; the old file is untouched and nothing is left beside it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def replace_text(path: Path, text: str, *, mode: int = 0o600) -> None:
    """`mode` is for a new file; its owner and group are those of the directory where the caller may give them."""
    path = path.resolve()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                _take_over(fd, path, directory, mode)
                os.fsync(fd)
            Path(temporary).rename(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        os.fsync(directory)
    finally:
        os.close(directory)


def _take_over(fd: int, path: Path, directory: int, mode: int) -> None:
    try:
        old = path.stat()
    except FileNotFoundError:
        parent = os.fstat(directory)
        with contextlib.suppress(PermissionError):  # a new file may belong to its maker
            os.fchown(fd, parent.st_uid, parent.st_gid)
        os.fchmod(fd, mode)
        return
    new = os.fstat(fd)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, stat.S_IMODE(old.st_mode))
