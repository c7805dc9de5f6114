"""Cut points: every call that touches the disk is counted, and at the chosen one something happens.

The functions of `os`, `syncing.syncfs` and SQLite's statements are replaced for the whole process, which is why only a
process of its own may do this (`python -m tests.support.cutting`).
"""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from collections.abc import Callable
from typing import Any, Protocol

from mailserver.store import syncing

CALLS = ("open", "write", "rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir", "utime", "fsync")
MORE_CALLS = ("fdatasync", "ftruncate", "pwrite")


class Fault(Protocol):
    """What happens at a cut point, before the call. It dies, or raises, or comes back and the call is made."""

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None: ...


class Witness(Protocol):
    """Sees each call after it was made."""

    def __call__(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any], result: Any) -> None: ...


class Cuts:
    """Made once in a process. `count` is how many calls there were; `at` is the number of the one that fails."""

    def __init__(self, at: int | None, fault: Fault, witness: Witness | None = None) -> None:
        self.count = 0
        self._at = at
        self._fault = fault
        self._witness = witness

    def install(self) -> None:
        for name in CALLS + MORE_CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        syncing.syncfs = self._counted("syncfs", syncing.syncfs)
        connect = sqlite3.connect
        connection = _counting(self)

        def connect_counting(*arguments: Any, **options: Any) -> sqlite3.Connection:
            return connect(*arguments, factory=connection, **options)

        sqlite3.connect = connect_counting  # type: ignore[assignment]

    def reached(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.count += 1
        if self.count == self._at:
            self._fault(name, arguments)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not _creates(arguments, options):
                return call(*arguments, **options)
            self.reached(name, arguments)
            result = call(*arguments, **options)
            if self._witness is not None:
                self._witness(name, arguments, options, result)
            return result

        return counted


def _creates(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Opening what exists changes nothing."""
    flags: int = arguments[1] if len(arguments) > 1 else options.get("flags", 0)
    return bool(flags & (os.O_CREAT | os.O_TRUNC | os.O_TMPFILE & ~os.O_DIRECTORY))


def _counting(cuts: Cuts) -> type[sqlite3.Connection]:
    class Cursor(sqlite3.Cursor):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            cuts.reached("execute", arguments)
            return super().execute(*arguments)

        def executemany(self, *arguments: Any) -> sqlite3.Cursor:
            cuts.reached("executemany", arguments)
            return super().executemany(*arguments)

        def executescript(self, script: str) -> sqlite3.Cursor:
            cuts.reached("executescript", (script,))
            return super().executescript(script)

    class Connection(sqlite3.Connection):
        def cursor(self, factory: type[sqlite3.Cursor] = Cursor) -> sqlite3.Cursor:  # type: ignore[override]
            return super().cursor(factory)

        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            return self.cursor().execute(*arguments)

        def executemany(self, *arguments: Any) -> sqlite3.Cursor:
            return self.cursor().executemany(*arguments)

        def executescript(self, script: str) -> sqlite3.Cursor:
            return self.cursor().executescript(script)

        def commit(self) -> None:
            cuts.reached("commit", ())
            super().commit()

        def __exit__(self, *error: Any) -> Any:
            cuts.reached("commit", ())
            return super().__exit__(*error)

    return Connection


def kill(name: str, arguments: tuple[Any, ...]) -> None:
    """Death before the call; of a write half is done."""
    if name == "write":
        fd, data = arguments
        os.pwrite(fd, bytes(data)[: len(data) // 2], os.lseek(fd, 0, os.SEEK_CUR))
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> Fault:
    """The call fails with this errno."""

    def fault(name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("execute", "executemany", "executescript", "commit"):
            error = sqlite3.OperationalError("database or disk is full" if number == errno.ENOSPC else "disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL if number == errno.ENOSPC else sqlite3.SQLITE_IOERR
            raise error
        raise OSError(number, os.strerror(number))

    return fault
