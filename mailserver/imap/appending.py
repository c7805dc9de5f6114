"""An APPEND or REPLACE while it is being read: what it has come to, and the events that wait to be answered.

Promises   Its literals, and what stands before its messages, are bounded by the limits.
On failure Fault.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mailserver.imap.commands import Append, CatPart, Stretch
from mailserver.imap.events import AppendEnded, AppendNext, AppendPart, AppendStarted
from mailserver.imap.limits import HEAD_COST, Limits
from mailserver.imap.receiver import Announcement
from mailserver.imap.syntax import Fault

AppendEvent = AppendStarted | AppendNext | AppendPart | AppendEnded


class Appending:
    """`command` is the message that is being read, `announced` the literal that comes when no event waits any more.

    `before` is the stretch that ended with it.
    """

    __slots__ = ("_events", "_heads", "_limits", "_literals", "_tag", "announced", "before", "command", "has_nul")

    def __init__(self, tag: str, stretch: Stretch, announced: Announcement | None, octets: int, limits: Limits) -> None:
        """As `go_on`, with the first stretch."""
        first = stretch.steps[0]
        assert isinstance(first, Append)
        self.command = first
        self.before = stretch
        self.announced: Announcement | None = None
        self.has_nul = False
        """The last literal has it."""
        self._tag = tag
        self._limits = limits
        self._literals = self._heads = 0  # octets
        self._events: deque[AppendEvent] = deque()
        self.go_on(stretch, announced, octets)
        self._events[0] = AppendStarted(tag, first)

    def go_on(self, stretch: Stretch, announced: Announcement | None, octets: int) -> None:
        """`octets` is what the stretch took on the wire. Raises Fault."""
        heads = [step for step in stretch.steps if isinstance(step, Append)]
        if heads:
            self._heads += octets + HEAD_COST * len(heads)
            if self._heads > self._limits.append_heads:
                raise Fault("too many messages", status="NO", code="LIMIT")
            self.command = heads[-1]
        if announced is not None:
            self._announce(announced)
        self.announced = announced
        self.before = stretch
        self.has_nul = False
        for step in stretch.steps:
            self._events.append(
                AppendPart(self._tag, step) if isinstance(step, CatPart) else AppendNext(self._tag, step)
            )
        if announced is None:
            self._events.append(AppendEnded(self._tag))

    def next(self) -> AppendEvent | None:
        return self._events.popleft() if self._events else None

    @property
    def waiting(self) -> Sequence[AppendEvent]:
        return self._events

    def refuse_nul(self) -> None:
        """Raises Fault."""
        if self.has_nul:
            # RFC 3516 §4.4: a NUL in what was announced as binary is no error, but there is no place for it
            code = "UNKNOWN-CTE" if self.command.binary or self.before.bracketed else "CANNOT"
            raise Fault("a message must not have NUL", status="NO", code=code)

    def _announce(self, announced: Announcement) -> None:
        if announced.size > self._limits.message:
            raise Fault("the message is too big", status="NO", code="TOOBIG")
        if announced.size == 0 and self.command.size is not None:
            raise Fault("the message is empty", status="NO", code="CANNOT")  # RFC 3502: so an APPEND is cancelled
        self._literals += announced.size
        if self._literals > self._limits.appended:
            raise Fault("the messages are too big together", status="NO", code="TOOBIG")
