"""Message bodies too large for the database, one file each.

Promises   After `write` and then `sync` the file survives power loss. A file is written before the row that names it
           and removed after it, so that a row never lacks its file; a crash can leave only a file without a row.
On failure OSError, and no trace of the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from mailserver.mail import Content
from mailserver.queue.database import sync_directory

ORPHAN_AGE = 86400.0


class Bodies:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)

    def write(self, name: str, content: Content) -> None:
        path = self._directory / name
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                for chunk in content.chunks():
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(fd, view) :]
                if os.fstat(fd).st_size != content.size:
                    raise OSError("the content is not complete")
                os.fsync(fd)
            finally:
                os.close(fd)
        except BaseException:
            self.remove(name)
            raise

    def sync(self) -> None:
        sync_directory(self._directory)

    def open(self, name: str) -> Content:
        return Content.of_file(self._directory / name)

    def remove(self, name: str) -> None:
        """A file that cannot be removed now is an orphan that `sweep` finds later."""
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError:
            pass

    def sweep(self, known: Callable[[str], bool]) -> list[str]:
        """Removes files that no row names and that are older than a day; gives their names."""
        cut = time.time() - ORPHAN_AGE
        orphans = [
            path.name for path in self._directory.iterdir() if path.lstat().st_mtime < cut and not known(path.name)
        ]
        for name in orphans:
            self.remove(name)
        return orphans
