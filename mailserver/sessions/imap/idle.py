"""IDLE (RFC 2177): news as it comes.

Promises   What is told waits for a client that is slow to read. Nothing is told after DONE until the next command
           allows it, and nothing is left running. Who has used NOTIFY is told what that says (RFC 5465 §4).
"""

from __future__ import annotations

from mailserver.imap import Event, IdleEnded
from mailserver.imap.commands import Idle
from mailserver.sessions.imap.core import Core


class Idling:
    """From IDLE to DONE. `attention` tells what is new meanwhile."""

    listens = True

    def __init__(self, core: Core) -> None:
        self._core = core
        self._watch = core.watch() if core.has_selected and core.ears.messages and not core.ears.at_once else None

    async def go_on(self, event: Event) -> None:
        assert isinstance(event, IdleEnded)
        core = self._core
        core.end()
        core.tell_news(expunges=True)
        core.engine.done(event.tag, "OK", "Idle no longer")

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()


async def idle(core: Core, _tag: str, _command: Idle) -> None:
    core.engine.idling()
    core.channel.flush()
    core.begin(Idling(core))
    core.stir()
