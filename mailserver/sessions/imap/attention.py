"""What a client is told unasked, between commands: while it idles (RFC 2177), by NOTIFY (RFC 5465), and of results
that are kept up to date (RFC 5267).

Theory     Whatever happens only wakes the session, which takes its turn as a command does: so nothing here stands
           between the pieces of an answer, and no command begins before what is told is whole. What comes meanwhile
           wakes it again.
Promises   A client that does not read makes this wait, and nothing grows meanwhile. While a message is being appended
           nothing is told. New messages are announced first, then comes what was asked for of them, then the
           results that they are in.
On failure What cannot be looked at is logged; the next change, or the next look, tries again.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Mapping

from mailserver.imap.commands import Item
from mailserver.sessions.imap import fetch
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.selected import Selected
from mailserver.sessions.imap.updates import update
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
    updates = await update(core, selected)
    wanted = _new(core, selected)
    for uid, items in updates.wanted.items():
        if uid not in selected.brought:
            wanted[uid] = tuple(dict.fromkeys((*wanted.get(uid, ()), *items)))
    try:
        await _fetch(core, selected, wanted)
    except StoreError as error:
        log.info("session=%s new messages cannot be fetched: %s", core.channel.id, error)
    core.untagged(updates.lines)


def _new(core: Core, selected: Selected) -> dict[int, tuple[Item, ...]]:
    """By UID, what NOTIFY asks for of messages that were announced, but for those that the client itself brought."""
    view = selected.view
    uids = view.uids[bisect_right(view.uids, selected.fetched) : view.exists_told]
    if not uids:
        return {}
    wanted = {uid: core.ears.items for uid in uids if uid not in selected.brought and core.ears.items}
    selected.fetched = uids[-1]
    return wanted


async def _fetch(core: Core, selected: Selected, wanted: Mapping[int, tuple[Item, ...]]) -> None:
    """What is wanted of each message, in one response."""
    view = selected.view
    selected.brought = {uid for uid in selected.brought if uid > selected.fetched}
    alike: dict[tuple[Item, ...], list[int]] = {}
    for uid in sorted(wanted):
        number = view.number(uid)
        if number is not None:
            alike.setdefault(wanted[uid], []).append(number)
    for items, numbers in alike.items():
        try:
            await fetch.tell(core, selected, items, numbers)
        except Refused:
            await _fetch_each(core, selected, items, numbers)


async def _fetch_each(core: Core, selected: Selected, items: tuple[Item, ...], numbers: list[int]) -> None:
    """Leaves out messages of which the items cannot be told, as parts in an unknown encoding."""
    for number in numbers:
        try:
            await fetch.tell(core, selected, items, [number])
        except Refused as refused:
            log.info("session=%s a new message cannot be fetched: %s", core.channel.id, refused.text)
