"""The data directory: what lies where, and which version of the program it belongs to.

Promises   Nobody but the server's user can read what is made here. A directory that a newer version has used is left as
           it is: what that version wrote might be misread, and lost.
On failure DataError, which says what is wrong and what to do.
"""

from __future__ import annotations

import os
from pathlib import Path

from mailserver.config.files import replace_text

VERSION = 1
"""Of the layout as a whole. The queue and the indexes have versions of their own, and are taken over."""


class DataError(Exception):
    """The directory cannot be used; the text is for whoever starts the server."""


class DataDirectory:
    """Nothing is looked at before `prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mail = path / "mail"
        self.queue = path / "queue"
        self.history = path / "queue" / "history"
        self.bells = path / "queue" / "bells"
        self.spool = path / "spool"
        self.secret = path / "secret"
        self.connections = path / "connections"
        self.failures = path / "failures"
        self.app_passwords = path / "app-passwords"
        self.rates = path / "rates"
        self.bans = path / "bans.db"
        self.status = path / "status"
        self.indexing = path / "indexing"
        self._version = path / "version"

    def prepare(self) -> None:
        """Makes what is missing. From now on no file of this process is readable for others. Raises DataError."""
        os.umask(0o077)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_version()
            for directory in (self.spool, self.mail, self.app_passwords, self.indexing):
                directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataError(unusable(error, self.path)) from error

    def _check_version(self) -> None:
        try:
            text = self._version.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            replace_text(self._version, f"{VERSION}\n")
            return
        if not text.isdecimal():
            raise DataError(
                f"{self._version}: holds no version; if {self.path} is the right directory, remove this file"
            )
        if int(text) > VERSION:
            raise DataError(
                f"{self.path}: was used by a newer version of this program (its data have version {text}, this one "
                f"knows {VERSION}); start that version again, or restore the data from before it"
            )


def unusable(error: OSError, path: Path) -> str:
    return f"{error.filename or path}: the data directory cannot be used: {error.strerror or error}"
