"""What is new in results that are kept up to date (RFC 5267 §4.3).

Theory     What messages contain never changes, so only those that came, went, or have other flags are tested again; but
           for keys with `*`, which may mean another message then. What was found by SORT is sorted again with what
           came, as what it is sorted by lies in columns.
Promises   Who does what it is told, in that order, has what the search would find now, of the messages that it was told
           of. What is added is told after EXISTS and FETCH, what is removed before EXPUNGE.
On failure What cannot be tested now is tested at the next turn.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from mailserver.imap.commands import Item
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.kept import Context
from mailserver.sessions.imap.search import Batch, compiled, matches
from mailserver.sessions.imap.selected import Selected
from mailserver.sessions.imap.sort import sorted_by
from mailserver.store import StoreError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Update:
    """What a client is to be told. `wanted`: new messages by UID, with what is to be fetched of them before."""

    lines: list[bytes]
    wanted: dict[int, tuple[Item, ...]]


async def update(core: Core, selected: Selected) -> Update:
    """After what is new was told. All that is said here is to be told: what a context holds is what was said."""
    view = selected.view
    done = Update([], {})
    if view.touched is None:
        return done
    ready = view.touched - view.hidden(view.touched, flags=core.ears.messages and core.ears.flags)
    gone = set(view.gone)
    if not ready and not gone and not any(context.stale for context in selected.contexts.values()):
        return done
    later: set[int] = set()
    for context in selected.contexts.values():
        try:
            added = await _renew(core, selected, context, ready, gone, done.lines)
        except StoreError as error:
            log.info("session=%s a search cannot be kept up to date now: %s", core.channel.id, error)
            later |= ready
            continue
        if context.items:
            for uid in added:
                if uid > selected.fetched:
                    done.wanted[uid] = tuple(dict.fromkeys((*done.wanted.get(uid, ()), *context.items)))
    view.touched -= ready - later
    return done


async def _renew(
    core: Core, selected: Selected, context: Context, ready: set[int], gone: set[int], lines: list[bytes]
) -> set[int]:
    """Returns what was added."""
    view = selected.view
    passing, tested = await _tested(core, selected, context, ready)
    passing -= gone
    lines.extend(context.remove(view, (tested - passing) | gone))
    added = passing - context.members(passing)
    if context.criteria and added:
        uids = sorted({*context.uids, *added})
        order = await sorted_by(core, uids, context.criteria, {})
        lines.extend(context.reorder(view, [uids[place] for place in order], added))
    else:
        lines.extend(context.add(view, added))
    context.stale = False
    return added


async def _tested(core: Core, selected: Selected, context: Context, ready: set[int]) -> tuple[set[int], set[int]]:
    """UIDs that pass, and those that were tested."""
    view = selected.view
    if context.whole:
        known = set(view.uids[: view.exists_told])
        return known.intersection((await matches(core, context.key)).uids), known
    if not ready:
        return set(), ready
    numbers = sorted(number for uid in ready if (number := view.number(uid)) is not None)
    test = compiled(context.key, view, core.clock.wall())
    batch = Batch(view, selected.mailbox)
    passing = await core.workers.run(test.pick, batch, numbers)
    return set(view.uids_of(passing)) - batch.gone, ready
