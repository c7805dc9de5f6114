"""What a client is told unasked, between commands: while it idles (RFC 2177), and by NOTIFY (RFC 5465).

Theory     Whatever happens only wakes the session, which takes its turn as a command does: so nothing here stands
           between the pieces of an answer, and no command begins before what is told is whole. What comes meanwhile
           wakes it again.
Promises   A client that does not read makes this wait, and nothing grows meanwhile. While a message is being appended
           nothing is told. New messages are announced first, then what was asked for of them.
On failure What cannot be looked at is logged; the next change, or the next look, tries again.
"""

from __future__ import annotations

import logging
from bisect import bisect_right

from mailserver.sessions.imap import fetch
from mailserver.sessions.imap.core import Core, Selected
from mailserver.store import StoreError

log = logging.getLogger(__name__)


async def attend(core: Core) -> None:
    """What `Woken` asks for."""
    if core.occupied:
        return  # the end of the command wakes
    try:
        if core.has_selected:
            await _tell_of_selected(core, core.selected)
        if core.notices is not None:
            await core.notices.tell()
        await core.channel.drain()
    except StoreError as error:
        if not core.abandon():
            log.warning("session=%s the selected mailbox cannot be looked at: %s", core.channel.id, error)


async def _tell_of_selected(core: Core, selected: Selected) -> None:
    if core.idles or core.ears.at_once:
        stirred, selected.stirred = selected.stirred, False
        if stirred:
            await core.look()
        else:
            core.take_changes()
        core.tell_news(expunges=core.idles or core.ears.expunges_at_once)
    await _fetch_new(core, selected)


async def _fetch_new(core: Core, selected: Selected) -> None:
    """What NOTIFY asks for of messages that were announced; but for those that the client itself brought here."""
    view = selected.view
    first = bisect_right(view.uids, selected.fetched)
    numbers = [
        number for number in range(first + 1, view.exists_told + 1) if view.uids[number - 1] not in selected.brought
    ]
    if first < view.exists_told:
        selected.fetched = view.uids[view.exists_told - 1]
        selected.brought = {uid for uid in selected.brought if uid > selected.fetched}
    if numbers and core.ears.items:
        await fetch.tell(core, selected, core.ears.items, numbers)
