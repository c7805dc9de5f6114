"""IDLE (RFC 2177): news as it comes.

Theory     A change made in this process calls back at once, one by another program as soon as the kernel tells of it;
           changes that it does not tell of are looked for every few seconds. One look is under way at a time; what
           comes meanwhile leads to another one behind it.
Promises   What is told waits for a client that is slow to read. Nothing is told after DONE until the next command
           allows it, and nothing is left running.
On failure A look that fails is logged and tried again at the next turn.
"""

from __future__ import annotations

import logging

from mailserver.imap import Event, IdleEnded
from mailserver.imap.commands import Idle
from mailserver.ports import Disconnected, Timer
from mailserver.sessions.imap.core import Core, Selected
from mailserver.store import StoreError

log = logging.getLogger(__name__)

POLL = 5.0
"""Seconds between two looks at what other programs did."""


class Idling:
    """From IDLE to DONE. `selected` None: there is nothing to tell of."""

    def __init__(self, core: Core, selected: Selected | None) -> None:
        self._core = core
        self._watch = Watch(core, selected) if selected is not None else None

    async def go_on(self, event: Event) -> None:
        assert isinstance(event, IdleEnded)
        core = self._core
        core.end()
        core.tell_news(expunges=True)
        core.engine.done(event.tag, "OK", "Idle no longer")

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()


class Watch:
    """Tells the client what happens in its mailbox, until it is closed."""

    def __init__(self, core: Core, selected: Selected) -> None:
        self._core = core
        self._mailbox = selected.mailbox
        self._active = True
        self._looking = False
        self._again = False
        self._timer: Timer | None = None
        self._cancel = self._mailbox.subscribe(lambda: core.workers.call_from_thread(self._look))
        self._look()

    def close(self) -> None:
        self._active = False
        self._cancel()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._again = True
        if self._active and not self._looking:
            self._looking = True
            if self._timer is not None:
                self._timer.cancel()
            self._core.workers.spawn(self._tell())

    async def _tell(self) -> None:
        core = self._core
        try:
            while self._again and self._active:
                self._again = False
                await core.workers.run(self._mailbox.sync)
                if self._active:
                    core.take_changes()
                    core.tell_news(expunges=True)
                    await core.channel.drain()
        except StoreError as error:
            if self._active and core.abandon():
                self._active = False
            else:
                log.warning("session=%s the mailbox cannot be looked at: %s", core.channel.id, error)
        except Disconnected:
            self._active = False
        finally:
            self._looking = False
            if self._active:
                self._timer = core.clock.call_later(POLL, self._look)


async def idle(core: Core, _tag: str, _command: Idle) -> None:
    core.engine.idling()
    core.channel.flush()
    core.begin(Idling(core, core.selected if core.has_selected else None))
