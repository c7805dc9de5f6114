"""The TRANSACTION and UPDATE states (RFC 1939 §5, §6): the messages, and what becomes of them at QUIT.

Promises   Messages are deleted by QUIT alone. A message of any size goes out in batches, as fast as the client reads.
On failure What the store cannot do is answered with [SYS/TEMP], or [SYS/PERM] where trying again will not help. When a
           message breaks off in the middle the connection does too, so that the client does not take the part for the
           whole.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from mailserver.pop3.events import Dele, Event, List, Noop, Retr, Rset, Stat, Top, Uidl
from mailserver.sessions.pop3.core import UTF8, Core
from mailserver.sessions.pop3.maildrop import BATCH, SMALL, Maildrop, header_of, read_batch, top
from mailserver.store import MessageGone, StoreError

log = logging.getLogger(__name__)


class Transaction:
    """What is done with one maildrop."""

    def __init__(self, core: Core, maildrop: Maildrop) -> None:
        self._core = core
        self._maildrop = maildrop
        self.removed = 0
        """Messages, by `update`."""
        self._handlers: Mapping[type[Event], Callable[[Any], Awaitable[None]]] = {
            Dele: self._dele,
            List: self._list,
            Noop: self._noop,
            Retr: self._retr,
            Rset: self._rset,
            Stat: self._stat,
            Top: self._top,
            Uidl: self._uidl,
        }

    async def handle(self, event: Event) -> None:
        await self._handlers[type(event)](event)

    async def _stat(self, _event: Stat) -> None:
        self._core.engine.ok(f"{self._maildrop.count} {self._maildrop.size}")

    async def _noop(self, _event: Noop) -> None:
        self._core.engine.ok()

    async def _rset(self, _event: Rset) -> None:
        self._maildrop.reset()
        self._core.engine.ok(self._maildrop.summary)

    async def _list(self, event: List) -> None:
        if event.number is None:
            await self._core.answer_list(self._maildrop.scan_listing(), self._maildrop.summary)
        elif await self._exists(event.number):
            self._core.engine.ok(f"{event.number} {self._maildrop.size_of(event.number)}")

    async def _uidl(self, event: Uidl) -> None:
        if event.number is None:
            await self._core.answer_list(self._maildrop.unique_id_listing())
        elif await self._exists(event.number):
            self._core.engine.ok(f"{event.number} {self._maildrop.unique_id(event.number)}")

    async def _dele(self, event: Dele) -> None:
        if await self._exists(event.number):
            self._maildrop.delete(event.number)
            self._core.engine.ok(f"message {event.number} deleted")

    async def _retr(self, event: Retr) -> None:
        if await self._exists(event.number):
            await self._send(event.number, f"{self._maildrop.size_of(event.number)} octets")

    async def _top(self, event: Top) -> None:
        if await self._exists(event.number):
            await self._send(event.number, "top of message follows", event.lines)

    async def _exists(self, number: int) -> bool:
        """False: the client was told so."""
        if number in self._maildrop:
            return True
        await self._core.refuse("no such message")
        return False

    async def _send(self, number: int, text: str, lines: int | None = None) -> None:
        engine, workers = self._core.engine, self._core.rooms.workers
        found = await self._read(number)
        if found is None:
            return
        content, rest = found
        if self._is_hidden(content):
            engine.error("the message has UTF-8 in its header; send UTF8 before you log in", UTF8)
            return
        if lines is None:
            self._maildrop.mark_retrieved(number)
        else:
            rest = top(chain([content], rest), lines)
            content = read_batch(rest) if len(content) <= SMALL else await workers.run(read_batch, rest)
        engine.multiline(text)
        engine.send_content(content)
        while len(content) >= BATCH:
            await self._core.channel.drain()
            content = await workers.run(read_batch, rest)
            engine.send_content(content)
        engine.end_content()

    async def _read(self, number: int) -> tuple[bytes, Iterator[bytes]] | None:
        """See `Maildrop.read`. None: the client was told that it cannot be."""
        ready = self._maildrop.ready(number)
        if ready is not None:
            return ready, iter(())
        try:
            return await self._core.rooms.workers.run(self._maildrop.read, number)
        except MessageGone:
            self._core.engine.error("another session has removed the message")
        except (StoreError, OSError) as error:
            self._core.failed("the message cannot be read now", error)
        return None

    def _is_hidden(self, content: bytes) -> bool:
        """RFC 6856 §2.1, where the configuration asks for it."""
        if self._core.utf8 or not self._core.rooms.policy.utf8_only_when_asked:
            return False
        return not header_of(content).isascii()

    async def update(self) -> bool:
        """Whether all that was deleted is gone."""
        wanted = self._maildrop.deleted
        if not wanted:
            return True
        try:
            left = await self._core.rooms.workers.run(self._maildrop.update)
        except (StoreError, OSError) as error:
            log.error("session=%s pop3: messages cannot be removed: %s", self._core.channel.id, error)
            return False
        self.removed = wanted - left
        return left == 0
