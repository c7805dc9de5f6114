"""When each app password was used last, and from where: a small file for each, which all processes share.

Promises   A use is on disk before the login goes on, but no more than one in `INTERVAL`: what is told may be that much
           too old. Reading needs no lock.
On failure A use that cannot be written is logged, and the login goes on. What cannot be read was never used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mailserver.accounts.model import Visit
from mailserver.config.files import replace_text
from mailserver.mail import Address

log = logging.getLogger(__name__)

INTERVAL = 300.0  # seconds
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Use:
    """`peer`: the address that it came from."""

    at: datetime
    service: str
    peer: str


class LastUses:
    """In a directory that exists. Any thread may call."""

    def __init__(self, directory: Path, *, wall: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._wall = wall
        self._noted: dict[Path, float] = {}

    def note(self, account: Address, key: str, visit: Visit) -> None:
        """It was used now. Blocking."""
        path, now = self._path(account, key), self._wall()
        try:
            if self._is_fresh(path, now):
                return
            if len(self._noted) >= _REMEMBERED:
                self._noted.clear()
            self._noted[path] = now
            use = {"account": str(account), "id": key, "at": now, "service": visit.service, "peer": visit.peer}
            replace_text(path, json.dumps(use) + "\n")
        except OSError as error:
            log.error("the use of an app password of %s is not noted: %s", account, error)

    def _is_fresh(self, path: Path, now: float) -> bool:
        """This process or another one has written lately; a time to come is of a clock that was set back."""
        if 0 <= now - self._noted.get(path, float("-inf")) < INTERVAL:
            return True
        try:
            return 0 <= now - path.stat().st_mtime < INTERVAL
        except FileNotFoundError:
            return False

    def of(self, account: Address, key: str) -> Use | None:
        try:
            use = json.loads(self._path(account, key).read_bytes())
            return Use(datetime.fromtimestamp(use["at"], UTC), str(use["service"]), str(use["peer"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    def forget(self, account: Address, key: str) -> None:
        """The app password is gone."""
        with suppress(OSError):
            self._path(account, key).unlink()

    def _path(self, account: Address, key: str) -> Path:
        name = "\0".join((*account.key, key)).encode()
        return self._directory / hashlib.blake2b(name, digest_size=16).hexdigest()
