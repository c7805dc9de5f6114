"""Connections to other servers that wait for the next message to the same site.

Promises   A connection waits at most `idle` seconds, and takes at most `messages` messages; of all at most `IDLE_LIMIT`
           wait at the same time. What was put in is closed, here or by who takes it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mailserver.delivery.conversation import Conversation
from mailserver.ports import Clock, Connection, Timer, Workers

IDLE_LIMIT = 200


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A conversation that is ready for a transaction, and its connection."""

    connection: Connection
    conversation: Conversation
    host: str


class Pool:
    """`key`: whatever says that one connection is as good as another for a message. `close` closes one for good."""

    def __init__(
        self, *, idle: float, messages: int, close: Callable[[Connection], None], workers: Workers, clock: Clock
    ) -> None:
        self._idle = idle
        self._close = close
        self._messages = messages
        self._workers = workers
        self._clock = clock
        self._waiting: OrderedDict[Session, tuple[Hashable, Timer]] = OrderedDict()
        self._by_key: dict[Hashable, list[Session]] = {}

    def take(self, key: Hashable) -> Session | None:
        """The one that came last: the others may end."""
        sessions = self._by_key.get(key)
        if not sessions:
            return None
        session = sessions[-1]
        self._remove(session)
        return session

    def put(self, key: Hashable, session: Session) -> None:
        if session.conversation.messages >= self._messages:
            self.leave(session)
            return
        timer = self._clock.call_later(self._idle, lambda: self._end(session))
        self._waiting[session] = key, timer
        self._by_key.setdefault(key, []).append(session)
        if len(self._waiting) > IDLE_LIMIT:
            self._end(next(iter(self._waiting)))

    def close(self) -> None:
        """Ends all that wait, without a word."""
        for session in tuple(self._waiting):
            self._remove(session)
            self._close(session.connection)

    def leave(self, session: Session) -> None:
        """Ends one that is not put in, with a word."""
        self._workers.spawn(self._say_goodbye(session))

    def _remove(self, session: Session) -> None:
        key, timer = self._waiting.pop(session)
        timer.cancel()
        sessions = self._by_key[key]
        sessions.remove(session)
        if not sessions:
            del self._by_key[key]

    def _end(self, session: Session) -> None:
        self._remove(session)
        self.leave(session)

    async def _say_goodbye(self, session: Session) -> None:
        try:
            await session.conversation.quit()
        finally:
            self._close(session.connection)
