"""SEARCH (RFC 3501 §6.4.4, RFC 4731, RFC 5032, RFC 7162 §3.1.5, RFC 8474 §6; RFC 8514 SAVEDATE;
RFC 6203).

Theory     A key becomes a test that picks from candidates. Tests that need less are asked first, and each gets what the
           one before it left: what the view knows, then what the mailbox has in memory, then texts, which the store
           finds (`Mailbox.search_text`), then the Date field. Batches of candidates go through a worker; how large they
           are follows from the time that they take.
Promises   Text is compared decoded and without regard to case. The work ends when the client is gone.
On failure A message that another session expunged is not found.
"""

from __future__ import annotations

import datetime
import math
import operator
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from typing import NamedTuple

from mailserver.imap.commands import (
    Aged,
    And,
    Dated,
    Fuzzy,
    HasFlag,
    HasId,
    InHeader,
    InSet,
    InText,
    Key,
    Modified,
    Not,
    Or,
    Saved,
    Search,
    Sized,
    leaves,
)
from mailserver.imap.sequence import Range
from mailserver.message import Fuzzy as Words
from mailserver.message import Phrase, fields, first, fuzzy, sent_day
from mailserver.sessions.imap import contexts, messagelimit
from mailserver.sessions.imap.answers import Known
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.progress import Progress
from mailserver.sessions.imap.reading import header_batches
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.results import answer, saving
from mailserver.sessions.imap.selected import Selected
from mailserver.sessions.imap.view import View
from mailserver.store import Mailbox, Message, ObjectIds

FIRST_BATCH = 500  # candidates that go through a worker at once; each may have to be read
GROWTH = 4
SHORT, LONG = 0.025, 0.25
"""Seconds: after a batch that takes less the next is larger, after one that takes more it is smaller."""

_IDS_KEPT = 100_000  # about 200 octets each
_DAY = 86400
_EPOCH = datetime.date(1970, 1, 1)
_VIEW, _MEMORY, _HEADER, _CONTENT, _DATE = range(5)

Numbers = Sequence[int]
"""Sequence numbers, ascending."""


@dataclass(slots=True)
class Batch:
    """Where tests look; `gone` are the UIDs that they did not find in the mailbox."""

    view: View
    mailbox: Mailbox
    gone: set[int] = field(default_factory=set)
    scores: dict[int, list[int]] = field(default_factory=dict)
    """By UID, what a message scored in each fuzzy test that it passed."""
    _ids: dict[int, ObjectIds] = field(default_factory=dict)

    def ids(self, candidates: Numbers) -> Iterable[tuple[int, ObjectIds]]:
        """By sequence number. Kept for the next key: clients ask for many identifiers at once (RFC 8474 §8.3)."""
        uids = self.view.uids_of(candidates)
        missing = [uid for uid in uids if uid not in self._ids and uid not in self.gone]
        if missing:
            if len(self._ids) > _IDS_KEPT:
                self._ids.clear()
                missing = [uid for uid in uids if uid not in self.gone]
            found = self.mailbox.object_ids(missing)
            self._ids |= found
            self.gone.update(uid for uid in missing if uid not in found)
        return ((number, self._ids[uid]) for number, uid in zip(candidates, uids, strict=True) if uid in self._ids)

    def messages(self, candidates: Numbers) -> dict[int, Message]:
        """By sequence number."""
        numbers = dict(zip(self.view.uids_of(candidates), candidates, strict=True))
        found = {numbers[message.uid]: message for message in self.mailbox.get(numbers)}
        if len(found) < len(numbers):
            self.gone.update(uid for uid, number in numbers.items() if number not in found)
        return found


@dataclass(frozen=True, slots=True)
class Test:
    """`pick` gives those of the candidates that pass, in order. `cost`: one of `_VIEW` to `_DATE`."""

    cost: int
    pick: Callable[[Batch, Numbers], Numbers]


def compiled(key: Key, view: View, now: float, near: bool = False) -> Test:
    """`view` gives numbers, UIDs and `*` their meaning; `now` is what ages count from, since the epoch.

    `near`: what is near to a text passes too. All other keys mean what they say all the same (RFC 6203 §5).
    """
    match key:
        case HasFlag("\\Recent"):
            return Test(_VIEW, _recent)
        case HasFlag(flag):
            return _flagged(flag, wanted=True)
        case Not(HasFlag(flag)) if flag != "\\Recent":
            return _flagged(flag, wanted=False)
        case InSet(messages, by_uid):
            return Test(_VIEW, partial(_within, view.ranges(messages, by_uid=by_uid)))
        case Modified(modseq):
            return Test(_VIEW, lambda batch, candidates: batch.view.newer(candidates, modseq - 1))
        case Sized(larger, size):
            compare = operator.gt if larger else operator.lt
            return _known(lambda message: compare(message.size, size))
        case Dated(sent=False):
            earliest, end = _times(key)
            # §6.4.4: the date as it is told, whatever its zone
            return _known(lambda message: earliest <= message.internal_date + message.zone * 60 < end)
        case Aged(older, ago):
            limit = int(now) - ago
            if older:
                return _known(lambda message: int(message.internal_date) <= limit)
            return _known(lambda message: int(message.internal_date) >= limit)
        case Saved():
            earliest, end = _times(key)
            return _known(lambda message: earliest <= message.saved < end)
        case Dated():
            return Test(_DATE, partial(_sent_in, *_times(key)))
        case InHeader(name, text):
            return Test(_HEADER, _having(Phrase(text, body=False, field=name), near))
        case HasId(wanted, thread):
            return Test(_HEADER, partial(_called, wanted, thread))
        case InText(text, header):
            return Test(_CONTENT, _having(Phrase(text, header=header), near))
        case Fuzzy(inner):
            return compiled(inner, view, now, near=True)
        case Not(inner):
            negated = compiled(inner, view, now, near)
            return Test(negated.cost, partial(_failing, negated))
        case And(keys):
            tests = _cheapest_first(keys, view, now, near)
            return Test(_cost(tests), partial(_passing_all, tests))
        case Or(keys):
            tests = _cheapest_first(keys, view, now, near)
            return Test(_cost(tests), partial(_passing_any, tests))


def _recent(batch: Batch, candidates: Numbers) -> Numbers:
    numbered = zip(candidates, batch.view.uids_of(candidates), strict=True)
    return [number for number, uid in numbered if batch.view.is_recent(uid)]


def _flagged(flag: str, *, wanted: bool) -> Test:
    """Decided once for each set of flags, as there are few. Case does not count in keywords."""
    if flag.startswith("\\"):
        return Test(_VIEW, partial(_with_flags, lambda flags: (flag in flags) is wanted))
    lower = flag.lower()
    return Test(_VIEW, partial(_with_flags, lambda flags: any(lower == each.lower() for each in flags) is wanted))


def _with_flags(holds: Callable[[frozenset[str]], bool], batch: Batch, candidates: Numbers) -> Numbers:
    flags = batch.view.flags_of(candidates)
    passing = set(filter(holds, set(flags)))
    return [number for number, each in zip(candidates, flags, strict=True) if each in passing]


def _within(ranges: Iterable[Range], _batch: Batch, candidates: Numbers) -> Numbers:
    picked: list[int] = []
    for first_number, last_number in ranges:
        picked += candidates[bisect_left(candidates, first_number) : bisect_right(candidates, last_number)]
    return picked


def _known(holds: Callable[[Message], bool]) -> Test:
    """What the mailbox has in memory."""
    return Test(
        _MEMORY,
        lambda batch, candidates: [number for number, message in batch.messages(candidates).items() if holds(message)],
    )


def _having(phrase: Phrase, near: bool) -> Callable[[Batch, Numbers], Numbers]:
    wanted = fuzzy(phrase) if near else phrase
    return partial(_near, wanted) if isinstance(wanted, Words) else partial(_with_phrase, wanted)


def _near(words: Words, batch: Batch, candidates: Numbers) -> Numbers:
    uids = batch.view.uids_of(candidates)
    scores, gone = batch.mailbox.rate_text(uids, words)
    batch.gone |= gone
    for uid, score in scores.items():
        batch.scores.setdefault(uid, []).append(score)
    return [number for number, uid in zip(candidates, uids, strict=True) if uid in scores]


def _with_phrase(phrase: Phrase, batch: Batch, candidates: Numbers) -> Numbers:
    uids = batch.view.uids_of(candidates)
    found, gone = batch.mailbox.search_text(uids, phrase)
    batch.gone |= gone
    return list(compress(candidates, map(found.__contains__, uids))) if found else []


def _called(wanted: str, thread: bool, batch: Batch, candidates: Numbers) -> Numbers:
    return [number for number, ids in batch.ids(candidates) if (ids.thread if thread else ids.email) == wanted]


def _times(key: Dated | Saved) -> tuple[float, float]:
    """From when on, and up to when, days being those of UTC."""
    start = (key.date - _EPOCH).days * _DAY
    match key.relation:
        case "before":
            return -math.inf, start
        case "on":
            return start, start + _DAY
        case "since":
            return start, math.inf


def _sent_in(earliest: float, end: float, batch: Batch, candidates: Numbers) -> Numbers:
    numbers = {message.uid: number for number, message in batch.messages(candidates).items()}
    picked = []
    for messages in header_batches(batch.mailbox.get(numbers)):
        headers = batch.mailbox.headers([message.uid for message in messages])
        for message in messages:
            header = headers.get(message.uid)
            if header is None:
                batch.gone.add(message.uid)
            elif (sent := _sent(header)) is not None and earliest <= sent < end:
                picked.append(numbers[message.uid])
    return picked


def _sent(header: bytes) -> int | None:
    """When the day of the Date field began, as if it were in UTC (§6.4.4)."""
    value = first(fields(header), b"date")
    return sent_day(value) if value is not None else None


def _failing(test: Test, batch: Batch, candidates: Numbers) -> Numbers:
    return _without(candidates, test.pick(batch, candidates))


def _passing_all(tests: list[Test], batch: Batch, candidates: Numbers) -> Numbers:
    for test in tests:
        if not candidates:
            break
        candidates = test.pick(batch, candidates)
    return candidates


def _passing_any(tests: list[Test], batch: Batch, candidates: Numbers) -> Numbers:
    left = candidates
    for test in tests:
        left = _without(left, test.pick(batch, left))
    return _without(candidates, left)


def _without(candidates: Numbers, others: Numbers) -> Numbers:
    numbers = set(others)
    return [number for number in candidates if number not in numbers]


def _cheapest_first(keys: Iterable[Key], view: View, now: float, near: bool) -> list[Test]:
    return sorted((compiled(key, view, now, near) for key in keys), key=lambda test: test.cost)


def _cost(tests: list[Test]) -> int:
    return max((test.cost for test in tests), default=_VIEW)


class Matches(NamedTuple):
    """What was found, ascending: sequence numbers and their UIDs. `complete`: nothing was missed that is gone.

    `scores`: how relevant it is, by UID, from 1 to 100; of what passed a fuzzy test (RFC 6203).
    """

    numbers: Sequence[int]
    uids: list[int]
    complete: bool
    scores: Mapping[int, int]

    def known(self, mailbox: Mailbox) -> Known:
        """What follows of what is found, and of the mailbox."""
        of_all = mailbox.measured()
        columns = (array("I", self.numbers), array("I", self.uids), of_all.uids, of_all.sizes, of_all.dates)
        return Known([column.tobytes() for column in columns])


async def search(core: Core, tag: str, command: Search) -> None:
    only_utf8(core, command.codec, allowed="")
    with_modseq, by_number = asks_of(core, command.key)
    core.catch_up()
    key = contexts.settled(core, tag, command.returns, command.key)
    with saving(core, command.returns):
        among, cut = messagelimit.newest(core, messagelimit.scope(key, core.selected.view))
        if cut is not None:
            key = contexts.narrowed(key, core.selected.view, among)
        found = await matches(core, key, among, progress=Progress(core, tag, len(among)))
    answer(
        core,
        tag,
        "SEARCH",
        command.returns,
        found.numbers,
        found.uids,
        by_uid=command.by_uid,
        with_modseq=with_modseq,
        scores=found.scores,
    )
    contexts.begin(core, tag, command.returns, key, found.uids, by_uid=command.by_uid)
    core.tell_news(expunges=command.by_uid and not by_number)
    messagelimit.done(core, tag, "Searched", None if found.complete else "EXPUNGEISSUED", cut)


def only_utf8(core: Core, codec: str, *, allowed: str = "utf-8") -> None:
    """After ENABLE UTF8=ACCEPT no charset is named but what must be (RFC 6855 §3, RFC 9755 §3). Raises Refused."""
    if "UTF8=ACCEPT" in core.enabled and codec != allowed:
        raise Refused("with UTF8=ACCEPT all text is UTF-8: name no other charset", status="BAD")


def asks_of(core: Core, key: Key) -> tuple[bool, bool]:
    """Does it ask for MODSEQs, which turns CONDSTORE on, and does it name messages by their numbers?

    These must mean the same to the end (RFC 7162 §3.2.10.2).
    """
    keys = list(leaves(key))
    with_modseq = any(isinstance(each, Modified) for each in keys)
    if with_modseq:
        core.enable_condstore()
    return with_modseq, any(isinstance(each, InSet) and not each.by_uid for each in keys)


async def matches(
    core: Core,
    key: Key,
    among: Numbers | None = None,
    *,
    at: Selected | None = None,
    progress: Progress | None = None,
) -> Matches:
    """Those of the selected mailbox that pass, or of one that is opened as if it were selected.

    Without those that are seen to be gone. `among`: the messages that may pass, each of which is a step; None: those
    that the key's sets leave.
    """
    at = at or core.selected
    progress = progress or Progress(core)
    view = at.view
    if among is None:
        among = messagelimit.scope(key, view)
    if _is_all(key):
        progress.done = len(among)
        return Matches(among, view.uids_of(among), True, {})
    test = compiled(key, view, core.clock.wall())
    batch = Batch(view, at.mailbox)
    found: list[int] = []
    done, size = 0, FIRST_BATCH
    while done < len(among):
        candidates = among[done : done + size]
        began = core.clock.monotonic()
        found += await progress.during(core.workers.run(test.pick, batch, candidates))
        done += size
        progress.done = min(done, len(among))
        size = next_size(size, core.clock.monotonic() - began)
        await core.channel.drain()
    uids = view.uids_of(found)
    if batch.gone:
        here = [place for place, uid in enumerate(uids) if uid not in batch.gone]
        found, uids = [found[place] for place in here], [uids[place] for place in here]
    scores = {uid: round(sum(each) / len(each)) for uid, each in batch.scores.items()}
    return Matches(found, uids, not batch.gone, scores)


def _is_all(key: Key) -> bool:
    return isinstance(key, And) and all(map(_is_all, key.keys))


def next_size(size: int, seconds: float) -> int:
    """Of the next batch, after one of `size` took so long."""
    if seconds < SHORT:
        return size * GROWTH
    return max(size // GROWTH, 1) if seconds > LONG else size
