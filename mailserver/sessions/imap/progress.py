"""How far a long command is (RFC 9585): untagged OK with INPROGRESS.

Promises   The first comes `FIRST` seconds after the command began, the next ones `EVERY` seconds apart, however long a
           single piece of work takes. They come while a worker is at work, never inside a response, nor while a client
           is waited for that is slow to read.
On failure Nothing here fails.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from mailserver.imap.responses import string
from mailserver.ports import Timer
from mailserver.sessions.imap.core import Core

T = TypeVar("T")

FIRST = 1.0
EVERY = 10.0


class Progress:
    """Of the command with this tag; empty: it is no command, and nothing is told.

    `done` steps of `goal`; `goal` 0: nobody knows how far it is.
    """

    def __init__(self, core: Core, tag: str = "", goal: int = 0) -> None:
        self._core = core
        self._tag = tag
        self._goal = goal
        self._timer: Timer | None = None
        self._due = core.clock.monotonic() + FIRST
        self.done = 0

    async def during(self, work: Awaitable[T]) -> T:
        """Waits for what a worker does."""
        if not self._tag:
            return await work
        left = self._due - self._core.clock.monotonic()
        if left <= 0:
            self._tell()
        else:
            self._timer = self._core.clock.call_later(left, self._tell)
        try:
            return await work
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _tell(self) -> None:
        core, tag = self._core, string(self._tag.encode()).decode()
        if self._goal:
            done = min(self.done, self._goal - 1)  # it is not over
            core.engine.status("OK", f"{100 * done // self._goal}% done", f"INPROGRESS ({tag} {done} {self._goal})")
        else:
            core.engine.status("OK", "Still at it", f"INPROGRESS ({tag} NIL NIL)")
        core.channel.flush()
        self._due = core.clock.monotonic() + EVERY
        self._timer = core.clock.call_later(EVERY, self._tell)
