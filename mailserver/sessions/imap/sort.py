"""SORT (RFC 5256, RFC 5957, RFC 5267): what SEARCH finds, in an order.

Theory     The store gives a number for each message and criterion, in the order of what is compared. So to sort is to
           sort by numbers, once for each criterion, the last one first, as that keeps what is equal in its order.
Promises   What is equal by all criteria stays in the order of the mailbox, whatever is reversed. The work ends when the
           client is gone.
On failure As SEARCH.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from weakref import ref

from mailserver.imap.commands import Criterion, Sort
from mailserver.imap.commands.sort import By
from mailserver.sessions.imap.answers import Name, answers
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.results import answer, saving
from mailserver.sessions.imap.search import FIRST_BATCH, asks_of, matches, next_size
from mailserver.store import ColumnName, Mailbox, SortName

_NAMES: Mapping[By, SortName] = {
    "ARRIVAL": "arrival",
    "CC": "cc",
    "DATE": "sent",
    "DISPLAYFROM": "display_from",
    "DISPLAYTO": "display_to",
    "FROM": "sender",
    "SIZE": "size",
    "SUBJECT": "subject",
    "TO": "to",
}


async def sort(core: Core, tag: str, command: Sort) -> None:
    with_modseq, by_number = asks_of(core, command.key)
    core.catch_up()
    selected = core.selected
    with saving(core, command.returns):
        found = await matches(core, command.key)
        name, known = Name(ref(selected.mailbox), ("SORT", command.criteria)), found.known(selected.mailbox)
        kept = answers.get(name, known)
        if kept is not None:
            uids = memoryview(kept).cast("I").tolist()
        else:
            await learn(core, [_NAMES[criterion.by] for criterion in command.criteria], found.uids)
            uids = await core.workers.run(ordered, selected.mailbox, found.uids, command.criteria)
            if known == found.known(selected.mailbox):
                answers.put(name, known, array("I", uids).tobytes())
    numbers = dict(zip(found.uids, found.numbers, strict=True))
    places = [numbers[uid] for uid in uids]
    answer(core, tag, "SORT", command.returns, places, uids, by_uid=command.by_uid, with_modseq=with_modseq)
    core.tell_news(expunges=command.by_uid and not by_number)
    complete = found.complete and len(uids) == len(found.uids)
    core.engine.done(tag, "OK", "Sorted", None if complete else "EXPUNGEISSUED")


async def learn(core: Core, names: Sequence[SortName | ColumnName], uids: Sequence[int]) -> None:
    """Gets ready, bit by bit, what messages are sorted or threaded by: they may have to be read."""
    sorting = core.selected.mailbox.sorting
    for name in names:
        size, before, left = FIRST_BATCH, len(uids) + 1, len(uids)
        while 0 < left < before:  # where memory has no room for what is learned, it does not become less
            began = core.clock.monotonic()
            before, left = left, await core.workers.run(sorting.learn, name, uids, size)
            size = next_size(size, core.clock.monotonic() - began)
            await core.channel.drain()


def ordered(mailbox: Mailbox, uids: Sequence[int], criteria: Sequence[Criterion]) -> list[int]:
    """Those that exist, sorted. Blocking."""
    columns = [(mailbox.sorting.values(_NAMES[criterion.by], uids), criterion.reverse) for criterion in criteria]
    order = list(uids)
    for values, _ in columns:
        if len(values) < len(order):
            order = [uid for uid in order if uid in values]
    for values, reverse in reversed(columns):
        order.sort(key=values.__getitem__, reverse=reverse)
    return order
