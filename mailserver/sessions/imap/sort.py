"""SORT (RFC 5256, RFC 5957, RFC 5267, RFC 6203): what SEARCH finds, in an order.

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
from mailserver.sessions.imap import contexts, messagelimit
from mailserver.sessions.imap.answers import Name, answers
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.progress import Progress
from mailserver.sessions.imap.results import answer, plain, relevancies, saving
from mailserver.sessions.imap.search import FIRST_BATCH, Matches, asks_of, matches, next_size, only_utf8
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
    only_utf8(core, command.codec)
    with_modseq, by_number = asks_of(core, command.key)
    core.catch_up()
    key = contexts.settled(core, tag, command.returns, command.key)
    with saving(core, command.returns):
        among = messagelimit.scope(key, core.selected.view)
        progress = Progress(core, tag, len(among) + len(core.selected.view) * len(_learned(command.criteria)))
        found = await matches(core, key, among, progress=progress)
        if command.returns is None and not with_modseq:
            line, complete = await _line(core, found, command, progress)
            core.engine.untagged(line)
            _done(core, tag, complete and found.complete, expunges=command.by_uid and not by_number)
            return
        uids = await _sorted(core, found, command.criteria, progress)
    places = _numbers(found, uids)
    answer(
        core,
        tag,
        "SORT",
        command.returns,
        places,
        uids,
        by_uid=command.by_uid,
        with_modseq=with_modseq,
        scores=found.scores,
    )
    criteria = command.criteria
    contexts.begin(core, tag, command.returns, key, uids, by_uid=command.by_uid, criteria=criteria)
    complete = found.complete and len(uids) == len(found.uids)
    _done(core, tag, complete, expunges=command.by_uid and not by_number)


def _done(core: Core, tag: str, complete: bool, *, expunges: bool) -> None:
    core.tell_news(expunges=expunges)
    core.engine.done(tag, "OK", "Sorted", None if complete else "EXPUNGEISSUED")


def _numbers(found: Matches, uids: Sequence[int]) -> list[int]:
    """Sequence numbers of messages that were found."""
    numbers = dict(zip(found.uids, found.numbers, strict=True))
    return list(map(numbers.__getitem__, uids))


def _learned(criteria: Sequence[Criterion]) -> list[SortName]:
    return [_NAMES[criterion.by] for criterion in criteria if criterion.by in _NAMES]


async def _line(core: Core, found: Matches, command: Sort, progress: Progress) -> tuple[bytes, bool]:
    """The answer without RETURN, which is kept as a whole, and whether all that was found is in it."""
    mailbox, criteria = core.selected.mailbox, command.criteria
    name, known = Name(ref(mailbox), ("SORT", criteria, command.by_uid)), found.known(mailbox)
    line = answers.get(name, known) if _lasts(criteria) else None
    if line is not None:
        return line, True
    uids = await sorted_by(core, found.uids, criteria, found.scores, progress)
    line = plain("SORT", uids if command.by_uid else _numbers(found, uids))
    complete = len(uids) == len(found.uids)
    if _lasts(criteria) and complete and known == found.known(mailbox):
        answers.put(name, known, line)
    return line, complete


def _lasts(criteria: Sequence[Criterion]) -> bool:
    """Relevancies follow from more than a `Known` tells."""
    return all(criterion.by != "RELEVANCY" for criterion in criteria)


async def _sorted(core: Core, found: Matches, criteria: tuple[Criterion, ...], progress: Progress) -> list[int]:
    """As `sorted_by`; what was sorted before is kept where that lasts."""
    if not _lasts(criteria):
        return await sorted_by(core, found.uids, criteria, found.scores, progress)
    mailbox = core.selected.mailbox
    name, known = Name(ref(mailbox), ("SORT", criteria)), found.known(mailbox)
    kept = answers.get(name, known)
    if kept is not None:
        return memoryview(kept).cast("I").tolist()
    uids = await sorted_by(core, found.uids, criteria, found.scores, progress)
    if len(uids) == len(found.uids) and known == found.known(mailbox):
        answers.put(name, known, array("I", uids).tobytes())
    return uids


async def sorted_by(
    core: Core,
    uids: Sequence[int],
    criteria: Sequence[Criterion],
    scores: Mapping[int, int],
    progress: Progress | None = None,
) -> list[int]:
    """Of messages of the selected mailbox, those that exist. `uids` ascend; `scores` are those of `Matches`."""
    progress = progress or Progress(core)
    await learn(core, _learned(criteria), uids, progress)
    return await progress.during(core.workers.run(ordered, core.selected.mailbox, uids, criteria, scores))


async def learn(core: Core, names: Sequence[SortName | ColumnName], uids: Sequence[int], progress: Progress) -> None:
    """Gets ready, bit by bit, what messages are sorted or threaded by: they may have to be read.

    Each name is as many steps as there are messages in the mailbox.
    """
    sorting, steps = core.selected.mailbox.sorting, len(core.selected.view)
    begun = progress.done
    for place, name in enumerate(names):
        size, before, left = FIRST_BATCH, len(uids) + 1, len(uids)
        while 0 < left < before:  # where memory has no room for what is learned, it does not become less
            began = core.clock.monotonic()
            before, left = left, await progress.during(core.workers.run(sorting.learn, name, uids, size))
            progress.done = begun + place * steps + steps * (len(uids) - left) // len(uids)
            size = next_size(size, core.clock.monotonic() - began)
            await core.channel.drain()


def ordered(
    mailbox: Mailbox, uids: Sequence[int], criteria: Sequence[Criterion], scores: Mapping[int, int]
) -> list[int]:
    """Those that exist, sorted. Blocking."""
    order = uids
    for criterion in reversed(criteria):
        if criterion.by == "RELEVANCY":  # what is more relevant comes first (RFC 6203 §6)
            rates = dict(zip(order, relevancies(order, scores), strict=True))
            order = sorted(order, key=lambda uid: -rates[uid], reverse=criterion.reverse)
        else:
            order = mailbox.sorting.sorted(_NAMES[criterion.by], order, reverse=criterion.reverse)
    return list(order)
