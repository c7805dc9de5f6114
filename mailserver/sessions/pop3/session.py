"""A POP3 connection from its greeting to its end: which state has the event, QUIT, the log.

Promises   A connection that is lost or falls silent deletes nothing (RFC 1939 §3, §6). Answers to pipelined commands
           leave together, and wait while the client does not read (RFC 2449 §6.6).
On failure Bad commands are answered the later the more there are; too many end the connection.
"""

from __future__ import annotations

import logging
from math import inf

from mailserver.policy.connections import Refusal
from mailserver.pop3.events import Capa, Event, Lang, Quit, Rejected
from mailserver.ports import Channel
from mailserver.sessions.pop3.authorization import Authorization, capabilities, choose_language
from mailserver.sessions.pop3.core import TEMPORARY, UNSENT_LIMIT, Core, POP3Rooms
from mailserver.sessions.pop3.maildrop import Maildrop
from mailserver.sessions.pop3.transaction import Transaction

log = logging.getLogger(__name__)


def refuse(hostname: str, refusal: Refusal) -> bytes:
    """The greeting of a client that is turned away."""
    return f"-ERR [{TEMPORARY}] {hostname} {refusal.value}\r\n".encode()


class POP3Session:
    """One connection."""

    def __init__(self, channel: Channel, rooms: POP3Rooms, *, tls_available: bool) -> None:
        self._core = Core(channel, rooms, tls_available=tls_available)
        self.engine = self._core.engine
        self._authorization = Authorization(self._core)
        self._maildrop: Maildrop | None = None
        self._transaction: Transaction | None = None
        self._opened_at = rooms.clock.monotonic()

    @property
    def deadline(self) -> float:
        return inf

    @property
    def idle_timeout(self) -> float:
        limits = self._core.rooms.limits
        return limits.login_timeout if self.awaits_login else limits.pop3_timeout

    @property
    def awaits_login(self) -> bool:
        return self._maildrop is None

    @property
    def amid_message(self) -> bool:
        return False

    async def opened(self) -> None:
        self.engine.greet(f"{self._core.rooms.hostname} POP3 ready")

    async def handle(self, event: Event) -> None:
        match event:
            case Rejected(text):
                await self._core.refuse(text)
            case Capa():
                await self._core.answer_list(f"{line}\r\n".encode() for line in capabilities(self._core))
            case Lang():
                await choose_language(self._core, event)
            case Quit():
                await self._quit()
            case _ if self._transaction is not None:
                await self._transaction.handle(event)
            case _:
                self._maildrop = await self._authorization.handle(event)
                if self._maildrop is not None:
                    self._transaction = Transaction(self._core, self._maildrop)
        if self.engine.unsent > UNSENT_LIMIT:
            await self._core.channel.drain()

    def timed_out(self) -> None:
        """RFC 1939 §3: the connection is closed without a word."""

    def lost(self) -> None:
        maildrop, self._maildrop = self._maildrop, None
        if maildrop is not None:
            self._core.rooms.workers.spawn(self._release(maildrop))

    async def _release(self, maildrop: Maildrop) -> None:
        log.info(
            "session=%s pop3 retrieved=%d removed=%d seconds=%.1f",
            self._core.channel.id,
            maildrop.retrieved,
            self._transaction.removed if self._transaction else 0,
            self._core.rooms.clock.monotonic() - self._opened_at,
        )
        await self._core.rooms.workers.run(maildrop.close)

    async def _quit(self) -> None:
        channel = self._core.channel
        await channel.drain()  # what the client asked for has left before anything is removed or closed
        farewell = f"{self._core.rooms.hostname} signs off"
        if self._transaction is None or self._maildrop is None:
            self.engine.ok(farewell)
        else:
            removed = await self._transaction.update()
            maildrop, self._maildrop = self._maildrop, None
            await self._release(maildrop)  # so that who hears of the end may come again at once (RFC 1939 §6)
            if removed:
                self.engine.ok(f"{farewell} ({maildrop.count} messages left)")
            else:
                self.engine.error("some deleted messages not removed", TEMPORARY)
        channel.close()
