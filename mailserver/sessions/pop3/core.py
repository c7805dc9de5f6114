"""What the states of a POP3 session share: the connection, the rooms behind it, and how errors are told and counted.

Response codes are those that are registered (RFC 2449 §8.1, RFC 3206, RFC 6856 §5). There is none for a command that is
wrong in itself: such an answer has its text alone.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mailserver.config.model import POP3, Limits
from mailserver.mail import Address
from mailserver.pop3 import ServerConnection
from mailserver.ports import Channel, Clock, Workers
from mailserver.sessions.login import Authenticator
from mailserver.store import AccountStore

log = logging.getLogger(__name__)

AUTH = "AUTH"
IN_USE = "IN-USE"
LOGIN_DELAY = "LOGIN-DELAY"
PERMANENT = "SYS/PERM"
TEMPORARY = "SYS/TEMP"
UTF8 = "UTF8"

UNSENT_LIMIT = 64 * 1024  # octets of answers that may wait while more commands are at hand
FIRST_PAUSE = 0.05  # seconds before the answer to the first bad command; each further one takes twice as long
LONGEST_PAUSE = 10.0

_FOR_GOOD = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EROFS})


@dataclass(frozen=True, slots=True)
class POP3Rooms:
    """What all sessions use. `open_account` may block."""

    hostname: str
    limits: Limits
    policy: POP3
    authenticator: Authenticator
    open_account: Callable[[Address], AccountStore]
    workers: Workers
    clock: Clock


class Core:
    """One connection's."""

    def __init__(self, channel: Channel, rooms: POP3Rooms, *, tls_available: bool) -> None:
        self.engine = ServerConnection(line_limit=rooms.limits.command_line)
        self.channel = channel
        self.rooms = rooms
        self.tls_available = tls_available
        self.utf8 = False
        """The client understands UTF-8 in header fields (RFC 6856)."""
        self._errors = 0

    async def refuse(self, text: str, code: str | None = None) -> None:
        """The client's own fault: counted, and answered the later the more there were. Too many end the connection."""
        self._errors += 1
        if self._errors > self.rooms.limits.errors:
            log.warning("session=%s peer=%s too many bad commands", self.channel.id, self.channel.peer)
            self.engine.error("too many errors")
            self.channel.close()
            return
        await self.channel.drain()  # answers to what was asked before do not wait
        await self.rooms.clock.sleep(min(FIRST_PAUSE * 2 ** (self._errors - 1), LONGEST_PAUSE))
        self.engine.error(text, code)

    def failed(self, text: str, error: Exception) -> None:
        """The store could not do it; `text` and what it said are for the log and for the client, in this order."""
        log.error("session=%s pop3: %s: %s", self.channel.id, text, error)
        self.engine.error(text, PERMANENT if getattr(error, "errno", None) in _FOR_GOOD else TEMPORARY)

    async def answer_list(self, portions: Iterable[bytes], text: str = "") -> None:
        """Whole lines, many in each portion."""
        self.engine.multiline(text)
        for portion in portions:
            self.engine.send_content(portion)
            if self.engine.unsent > UNSENT_LIMIT:
                await self.channel.drain()
        self.engine.end_content()
