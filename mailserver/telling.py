"""What the processes of a server tell of themselves: a file for each, in `<data>/status/`, which anybody may add up.

Promises   A reader finds a whole file or none. Nothing is synced: after a power loss nobody asks what there was before.
           A process that has ended is known as such, also when another one has its number by now.
On failure `tell` and `prepare` raise OSError. A file that cannot be understood is left out, as one of another version.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailserver import __version__, metrics

AT_LEAST_EVERY = 10.0  # seconds; what hangs is known by its silence
SUFFIX = ".json"

SERVER, SUPERVISOR = "server", "supervisor"
"""The one process, and that which starts the workers; these are known by their numbers."""


@dataclass(frozen=True, slots=True)
class Process:
    """What one has told. `versions`: of what it runs, by name. `began`: tells it from others of the same pid."""

    name: str
    pid: int
    began: int | None
    version: str
    versions: Mapping[str, str]
    started: float
    told: float
    counted: metrics.Told

    @property
    def alive(self) -> bool:
        return self.began is not None and _began(self.pid) == self.began


class Telling:
    """Of this process."""

    def __init__(self, directory: Path, name: str, versions: Mapping[str, str]) -> None:
        self._path = directory / f"{name}{SUFFIX}"
        self._about = {
            "name": name,
            "pid": os.getpid(),
            "began": _began(os.getpid()),
            "version": __version__,
            "versions": {**versions},
            "started": time.time(),
        }
        self._last: metrics.Told | None = None
        self._last_at = 0.0

    def tell(self) -> None:
        """Writes the file, if there is something new to say. Blocking, well below a millisecond."""
        counted, now = metrics.told(), time.monotonic()
        if counted == self._last and now < self._last_at + AT_LEAST_EVERY:
            return
        text = json.dumps({**self._about, "told": time.time(), "metrics": counted})
        temporary = self._path.with_suffix(".new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(self._path)
        self._last, self._last_at = counted, now


def prepare(directory: Path) -> None:
    """By the first process of a server: nothing is left of an earlier one."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for file in directory.iterdir():
        file.unlink()


def take_over(directory: Path, name: str) -> None:
    """What a process had counted that has ended is this one's from now on, and its file is removed."""
    path = directory / f"{name}{SUFFIX}"
    process = _read(path)
    if process is not None:
        try:
            metrics.take_over(process.counted)
        except ValueError:
            pass
    path.unlink(missing_ok=True)


def processes(directory: Path) -> list[Process]:
    """All that have told something, by their names; none when there is no such directory. Raises OSError."""
    try:
        files = sorted(directory.glob(f"*{SUFFIX}"), key=lambda file: (not file.stem.isdecimal(), len(file.stem), file))
    except FileNotFoundError:
        return []
    return [process for file in files if (process := _read(file)) is not None]


def _read(path: Path) -> Process | None:
    """Raises PermissionError."""
    try:
        return _process(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _process(data: Any) -> Process:
    return Process(
        name=str(data["name"]),
        pid=int(data["pid"]),
        began=data["began"],
        version=str(data["version"]),
        versions={str(name): str(version) for name, version in data["versions"].items()},
        started=float(data["started"]),
        told=float(data["told"]),
        counted=dict(data["metrics"]),
    )


def _began(pid: int) -> int | None:
    """When a process began, as the kernel counts; None: there is none. proc(5): field 22, behind a name in brackets."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
