"""The TRANSACTION and UPDATE states (RFC 1939 §5, §6): the messages, and what becomes of them at QUIT.

Promises   Messages are deleted by QUIT alone. A message of any size goes out in batches, as fast as the client reads.
On failure What the store cannot do is answered with [SYS/TEMP], or [SYS/PERM] where trying again will not help. When a
           message breaks off in the middle the connection does too, so that the client does not take the part for the
           whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain

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

    async def handle(self, event: Event) -> None:
        engine, maildrop = self._core.engine, self._maildrop
        match event:
            case Retr(number) | Top(number) | List(int(number)) | Uidl(int(number)) | Dele(number):
                if number in maildrop:
                    await self._about(event, number)
                else:
                    await self._core.refuse("no such message")
            case Stat():
                engine.ok(f"{maildrop.count} {maildrop.size}")
            case List(None):
                await self._core.answer_list(maildrop.scan_listing(), maildrop.summary)
            case Uidl(None):
                await self._core.answer_list(maildrop.unique_id_listing())
            case Noop():
                engine.ok()
            case Rset():
                maildrop.reset()
                engine.ok(maildrop.summary)

    async def _about(self, event: Event, number: int) -> None:
        """The commands that name one message."""
        engine, maildrop = self._core.engine, self._maildrop
        match event:
            case Retr():
                await self._send(number, f"{maildrop.size_of(number)} octets")
            case Top(lines=lines):
                await self._send(number, "top of message follows", lines)
            case List():
                engine.ok(f"{number} {maildrop.size_of(number)}")
            case Uidl():
                engine.ok(f"{number} {maildrop.unique_id(number)}")
            case Dele():
                maildrop.delete(number)
                engine.ok(f"message {number} deleted")

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
