"""How much an account's folders hold.

Promises   The sum of the stored sizes (`S=` in the names). Between two readings of the directories what is delivered
           here is added; a directory is read again only when its modification time moved.
           Near the limit, or after a minute, the directories are asked, so that room that was made is found.
On failure A folder that cannot be read counts as empty.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field

from mailserver.store import folders, names
from mailserver.store.model import Usage
from mailserver.store.watch import Watch, is_directory, regular_files

LIFETIME = 60.0  # seconds
NEAR = 0.95  # of the limit

_NOTHING = Usage(0, 0)


@dataclass(slots=True)
class _Counted:
    watch: Watch
    usage: Usage = _NOTHING

    def count(self) -> Usage:
        began = time.time_ns()
        try:
            stamp = self.watch.stamp()
            if not self.watch.unchanged(stamp):
                self.usage = _count(self.watch.path)
                self.watch.was_read(stamp, began)
        except OSError:
            return _NOTHING
        return self.usage


@dataclass(slots=True)
class Quota:
    """One account's. Thread-safe."""

    account: str
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _directories: dict[str, _Counted] = field(default_factory=dict)
    _octets: int = 0
    _counted_at: float | None = None

    def usage(self) -> Usage:
        """Counted now."""
        with self._lock:
            return self._count()

    def has_room(self, octets: int, limit: int) -> bool:
        """Whether so much more stays within the limit."""
        with self._lock:
            fresh = self._counted_at is not None and time.monotonic() - self._counted_at < LIFETIME
            if not fresh or self._octets + octets > limit * NEAR:
                self._count()
            return self._octets + octets <= limit

    def add(self, octets: int) -> None:
        """So much was stored."""
        with self._lock:
            self._octets += octets

    def _count(self) -> Usage:
        paths = {f"{folder}/{part}" for folder in _folders(self.account) for part in ("new", "cur")}
        self._directories = {path: self._directories.get(path) or _Counted(Watch(path)) for path in paths}
        usages = [directory.count() for directory in self._directories.values()]
        self._octets = sum(usage.octets for usage in usages)
        self._counted_at = time.monotonic()
        return Usage(sum(usage.messages for usage in usages), self._octets)


def _folders(account: str) -> list[str]:
    found = [account]
    try:
        with os.scandir(account) as entries:
            found += [entry.path for entry in entries if folders.name_of(entry.name) and is_directory(entry.path)]
    except OSError:
        return found
    return found


def _count(path: str) -> Usage:
    messages = octets = 0
    for name in regular_files(path):
        size = names.parse(name).size
        if size is None:
            try:
                size = os.lstat(f"{path}/{name}").st_size
            except FileNotFoundError:
                continue
        messages += 1
        octets += size
    return Usage(messages, octets)
