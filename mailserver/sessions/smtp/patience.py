"""How much a client may try the patience of an SMTP session: what it brings is counted, and so is what it does not.

Promises   A client that brings no messages is sent away with 421, whatever else it does: bad commands, guessed names,
           recipients beyond the limit, commands that do nothing, or octets that drip.
"""

from __future__ import annotations

from mailserver.config.model import Limits
from mailserver.mail import Reply
from mailserver.ports import Clock
from mailserver.smtp import events

REFUSED_RECIPIENTS = 100  # in one session
HARVEST_DELAY = 1.0  # seconds for each refused recipient, once they are many
IDLE_COMMANDS = 100  # one after the other that bring no message
TIMEOUTS = 3  # idle timeouts that a client has to bring a message from its first octet to its last
SLOWEST = 500.0  # octets of content a second that are enough to get more time

_IDLE = (events.Reset, events.Noop, events.Verify, events.Help, events.Etrn)


class Patience:
    """One for each connection."""

    def __init__(self, hostname: str, limits: Limits, clock: Clock) -> None:
        self._hostname = hostname
        self._limits = limits
        self._clock = clock
        self._errors = 0
        self._idle = 0
        self._refused = 0
        self._messages = 0
        self._since = clock.monotonic()

    def _farewell(self, enhanced: str, text: str) -> Reply:
        return Reply.of(421, enhanced, f"{self._hostname} {text}")

    def deadline(self, octets: int) -> float:
        """In monotonic time, when the next message must be here whose content has these many octets so far."""
        return self._since + TIMEOUTS * self._limits.smtp_timeout + octets / SLOWEST

    def idling(self, event: events.Event) -> Reply | None:
        """A client that keeps a connection and sends no mail takes the place of one that does."""
        if isinstance(event, events.BodyEnd):
            self._idle = 0
            self._since = self._clock.monotonic()
        elif isinstance(event, _IDLE) or (isinstance(event, events.ChunkEnd) and not event.size):
            self._idle += 1
        return self._farewell("4.7.0", "too many commands without a message") if self._idle > IDLE_COMMANDS else None

    def begun(self) -> Reply | None:
        """A message: None, it is welcome."""
        if self._messages >= self._limits.transactions:
            return self._farewell("4.7.0", "too many messages in one connection")
        self._messages += 1
        return None

    def bad(self, reply: Reply) -> Reply:
        """A bad command, which deserves this reply."""
        self._errors += 1
        return self._farewell("4.7.0", "too many bad commands") if self._errors > self._limits.errors else reply

    def surplus(self, attempts: int, reply: Reply) -> Reply:
        """A recipient beyond the limit. So many more are usual, of clients that do not wait for answers."""
        return self.bad(reply) if attempts > 2 * self._limits.recipients else reply

    async def refused(self, reply: Reply) -> Reply:
        """A recipient who is not here. Who tries many names to find those that exist is slowed, then sent away."""
        self._refused += 1
        if self._refused > REFUSED_RECIPIENTS:
            return self._farewell("4.7.0", "too many recipients that are not here")
        if self._refused > self._limits.errors:
            await self._clock.sleep(HARVEST_DELAY)
        return reply

    @property
    def messages(self) -> int:
        """How many were begun."""
        return self._messages
