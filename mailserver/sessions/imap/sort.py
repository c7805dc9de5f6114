"""SORT (RFC 5256, RFC 5957, RFC 5267, RFC 6203): what SEARCH finds, in an order.

Theory     The store gives a number for each message and criterion, in the order of what is compared. So to sort is to
           sort by numbers, once for each criterion, the last one first, as that keeps what is equal in its order.
Promises   What is equal by all criteria stays in the order of the mailbox, whatever is reversed. The work ends when the
           client is gone.
On failure As SEARCH.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
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
        order = await _sorted(core, found, command.criteria, progress)
    uids = _picked(found.uids, order)
    answer(
        core,
        tag,
        "SORT",
        command.returns,
        _picked(found.numbers, order),
        uids,
        by_uid=command.by_uid,
        with_modseq=with_modseq,
        scores=found.scores,
    )
    criteria = command.criteria
    contexts.begin(core, tag, command.returns, key, uids, by_uid=command.by_uid, criteria=criteria)
    complete = found.complete and len(order) == len(found.uids)
    _done(core, tag, complete, expunges=command.by_uid and not by_number)


def _done(core: Core, tag: str, complete: bool, *, expunges: bool) -> None:
    core.tell_news(expunges=expunges)
    core.engine.done(tag, "OK", "Sorted", None if complete else "EXPUNGEISSUED")


def _picked(numbers: Sequence[int], places: Iterable[int]) -> list[int]:
    return list(map(numbers.__getitem__, places))


def _learned(criteria: Sequence[Criterion]) -> list[SortName]:
    return [_NAMES[criterion.by] for criterion in criteria if criterion.by in _NAMES]


async def _line(core: Core, found: Matches, command: Sort, progress: Progress) -> tuple[bytes, bool]:
    """The answer without RETURN, which is kept as a whole, and whether all that was found is in it."""
    mailbox, criteria = core.selected.mailbox, command.criteria
    name, known = Name(ref(mailbox), ("SORT", criteria, command.by_uid)), found.known(mailbox)
    line = answers.get(name, known) if _lasts(criteria) else None
    if line is not None:
        return line, True
    order = await sorted_by(core, found.uids, criteria, found.scores, progress)
    line = plain("SORT", _picked(found.uids if command.by_uid else found.numbers, order))
    complete = len(order) == len(found.uids)
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
    order = await sorted_by(core, found.uids, criteria, found.scores, progress)
    if len(order) == len(found.uids) and known == found.known(mailbox):
        answers.put(name, known, array("I", order).tobytes())
    return order


async def sorted_by(
    core: Core,
    uids: Sequence[int],
    criteria: Sequence[Criterion],
    scores: Mapping[int, int],
    progress: Progress | None = None,
) -> list[int]:
    """The places of those of these messages that exist, sorted. `uids` ascend; `scores` are those of `Matches`."""
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
    """The places of those that exist, sorted; there is one criterion at least. Blocking."""
    *before, last = criteria
    places = _ordered(mailbox, uids, last, scores)
    for criterion in reversed(before):
        places = _picked(places, _ordered(mailbox, _picked(uids, places), criterion, scores))
    return places


def _ordered(mailbox: Mailbox, uids: Sequence[int], criterion: Criterion, scores: Mapping[int, int]) -> list[int]:
    if criterion.by != "RELEVANCY":
        return mailbox.sorting.order(_NAMES[criterion.by], uids, reverse=criterion.reverse)
    rates = [-rate for rate in relevancies(uids, scores)]  # what is more relevant comes first (RFC 6203 §6)
    return sorted(range(len(uids)), key=rates.__getitem__, reverse=criterion.reverse)
