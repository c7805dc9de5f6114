"""Connections to a server that answers for the directory: few of them, kept for the next question.

Promises   No more than `size` at the same time, and nobody waits longer than `timeout` for one. A server that was
           started again is found at the next question. While it is down it is tried by one thread at a time and not
           more than once a second; all others are told at once.
On failure SourceDown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from mailserver.accounts.model import SourceDown

PAUSE = 1.0
"""Seconds from a failure to the next try."""

IDLE = 60.0
"""Seconds that a connection may lie unused: who knows what stands between, and what that remembers."""

R = TypeVar("R")


class ConnectionLost(SourceDown):
    """The connection is of no more use. `late`: because no answer came in time."""

    def __init__(self, text: str, *, late: bool = False) -> None:
        super().__init__(text)
        self.late = late


class Closable(Protocol):
    def close(self) -> None:
        """Never raises."""


C = TypeVar("C", bound=Closable)


class Pool(Generic[C]):
    """`connect` raises ConnectionLost; so does what is run with a connection when that is of no more use."""

    def __init__(
        self,
        connect: Callable[[], C],
        *,
        size: int,
        timeout: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._size = size
        self._timeout = timeout
        self._monotonic = monotonic
        self._slots = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()  # of what follows; held for moments
        self._idle: list[tuple[C, float]] = []
        self._failure = ""  # why the server is down; empty: it is not, as far as is known
        self._next_try = 0.0
        self._trying = False

    def run(self, work: Callable[[C], R]) -> R:
        """With a connection that nobody else has meanwhile."""
        trying = self._admit()
        try:
            if not self._slots.acquire(timeout=self._timeout):
                raise SourceDown(f"all {self._size} connections were busy for {self._timeout:g} s")
            try:
                if self._failure and not trying:  # while it waited
                    raise SourceDown(self._failure)
                return self._run(work)
            finally:
                self._slots.release()
        finally:
            if trying:
                self._trying = False

    def _admit(self) -> bool:
        """Whether this is the thread that tries a server that is down."""
        with self._lock:
            if not self._failure:
                return False
            if self._trying or self._monotonic() < self._next_try:
                raise SourceDown(self._failure)
            self._trying = True
            return True

    def _run(self, work: Callable[[C], R]) -> R:
        used = self._take()
        if used is not None:
            try:
                return self._use(used, work)
            except ConnectionLost as error:
                if error.late:
                    raise
        try:
            new = self._connect()
        except ConnectionLost as error:
            self._note(str(error))
            raise
        return self._use(new, work)

    def _use(self, connection: C, work: Callable[[C], R]) -> R:
        try:
            result = work(connection)
        except ConnectionLost as error:
            connection.close()
            self._drop_idle()
            if error.late:
                self._note(str(error))
            raise
        except SourceDown:  # the question was wrong, not the connection
            self._keep(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return result

    def _take(self) -> C | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if self._monotonic() - since < IDLE:
                return connection
            connection.close()

    def _keep(self, connection: C) -> None:
        with self._lock:
            self._failure = ""
            self._idle.append((connection, self._monotonic()))

    def _drop_idle(self) -> None:
        """They were of the same server."""
        with self._lock:
            dropped, self._idle = self._idle, []
        for connection, _ in dropped:
            connection.close()

    def _note(self, failure: str) -> None:
        with self._lock:
            self._failure = failure or "it failed"
            self._next_try = self._monotonic() + PAUSE

    def close(self) -> None:
        """What is in use is closed by who uses it."""
        self._drop_idle()
