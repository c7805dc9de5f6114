"""SEARCH (RFC 3501 §6.4.4).

Theory     A key becomes a test that picks from candidates. Tests that need less are asked first, and each gets what the
           one before it left: what is known in memory, then texts, which the store finds (`Mailbox.search_text`), then
           the Date field, which is read from the message. Batches of candidates go through a worker.
Promises   Text is compared decoded and without regard to case. The work ends when the client is gone.
On failure A message that another session expunged is not found.
"""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_tz
from functools import partial

from mailserver.imap import contains
from mailserver.imap.commands import And, Dated, HasFlag, InHeader, InSet, InText, Key, Not, Or, Search, Sized
from mailserver.message import Phrase, fields, first, header_end
from mailserver.sessions.imap.core import Core, Numbered
from mailserver.sessions.imap.reading import read_header
from mailserver.sessions.imap.view import View
from mailserver.store import Mailbox, Message, MessageGone

BATCH = 5000  # candidates that go through a worker at once
BATCH_OCTETS = 16 * 2**20  # of their messages, when a content may have to be read
_DATE_LIMIT = 200
_MEMORY, _HEADER, _CONTENT, _DATE = range(4)


@dataclass(slots=True)
class Batch:
    """Some messages of the view, and where to look for more about them; `gone` are the UIDs not found there."""

    candidates: list[Numbered]
    recent: set[int]
    mailbox: Mailbox
    gone: set[int] = field(default_factory=set)


Pick = Callable[[Batch, list[Numbered]], list[Numbered]]
"""Those of the candidates that pass, in order."""


@dataclass(frozen=True, slots=True)
class Test:
    """`cost`: one of `_MEMORY` to `_DATE`."""

    cost: int
    pick: Pick


def compiled(key: Key, view: View) -> Test:
    """`view` gives `*` its meaning."""
    match key:
        case HasFlag("\\Recent"):
            return Test(_MEMORY, lambda batch, candidates: [each for each in candidates if each[1].uid in batch.recent])
        case HasFlag(flag):
            wanted = flag.lower()
            if flag.startswith("\\"):
                return _known(lambda _, message: flag in message.flags)
            return _known(lambda _, message: any(wanted == each.lower() for each in message.flags))
        case InSet(messages, by_uid):
            ranges = messages.resolve(view.highest_uid if by_uid else len(view))
            if by_uid:
                return _known(lambda _, message: contains(ranges, message.uid))
            return _known(lambda number, _: contains(ranges, number))
        case Sized(larger, size):
            if larger:
                return _known(lambda _, message: message.size > size)
            return _known(lambda _, message: message.size < size)
        case Dated():
            return _dated(key)
        case InHeader(name, text):
            return Test(_HEADER, partial(_having, Phrase(text, body=False, field=name)))
        case InText(text, header):
            return Test(_CONTENT, partial(_having, Phrase(text, header=header)))
        case Not(inner):
            negated = compiled(inner, view)
            return Test(negated.cost, partial(_failing, negated))
        case And(keys):
            tests = _cheapest_first(keys, view)
            return Test(_cost(tests), partial(_passing_all, tests))
        case Or(keys):
            tests = _cheapest_first(keys, view)
            return Test(_cost(tests), partial(_passing_any, tests))


def _known(holds: Callable[[int, Message], bool]) -> Test:
    """`holds` is asked with sequence number and message."""
    return Test(_MEMORY, lambda _, candidates: [each for each in candidates if holds(*each)])


def _having(phrase: Phrase, batch: Batch, candidates: list[Numbered]) -> list[Numbered]:
    found, gone = batch.mailbox.search_text((message.uid for _, message in candidates), phrase)
    batch.gone |= gone
    return [each for each in candidates if each[1].uid in found]


def _failing(test: Test, batch: Batch, candidates: list[Numbered]) -> list[Numbered]:
    return _without(candidates, test.pick(batch, candidates))


def _passing_all(tests: list[Test], batch: Batch, candidates: list[Numbered]) -> list[Numbered]:
    for test in tests:
        if not candidates:
            break
        candidates = test.pick(batch, candidates)
    return candidates


def _passing_any(tests: list[Test], batch: Batch, candidates: list[Numbered]) -> list[Numbered]:
    left = candidates
    for test in tests:
        left = _without(left, test.pick(batch, left))
    return _without(candidates, left)


def _without(candidates: list[Numbered], others: list[Numbered]) -> list[Numbered]:
    numbers = {number for number, _ in others}
    return [each for each in candidates if each[0] not in numbers]


_COMPARE: dict[str, Callable[[datetime.date, datetime.date], bool]] = {
    "before": operator.gt,
    "on": operator.eq,
    "since": operator.le,
}


def _cheapest_first(keys: Iterable[Key], view: View) -> list[Test]:
    return sorted((compiled(key, view) for key in keys), key=lambda test: test.cost)


def _cost(tests: list[Test]) -> int:
    return max((test.cost for test in tests), default=_MEMORY)


def _dated(key: Dated) -> Test:
    compare = partial(_COMPARE[key.relation], key.date)
    if not key.sent:
        return _known(lambda _, message: compare(_day(message.internal_date)))

    def pick(batch: Batch, candidates: list[Numbered]) -> list[Numbered]:
        picked = []
        for each in candidates:
            try:
                sent = _sent(read_header(batch.mailbox, each[1]))
            except MessageGone:
                batch.gone.add(each[1].uid)
                continue
            if sent is not None and compare(sent):
                picked.append(each)
        return picked

    return Test(_DATE, pick)


def _day(seconds: float) -> datetime.date:
    """In UTC, as INTERNALDATE is shown."""
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=seconds // 86400)


def _sent(content: bytes) -> datetime.date | None:
    """The Date field without time and zone (§6.4.4)."""
    value = first(fields(content[: header_end(content)]), b"date")
    if value is None:
        return None
    try:
        parsed = parsedate_tz(value[:_DATE_LIMIT].decode("latin-1"))
        return datetime.date(*parsed[:3]) if parsed is not None else None
    except (ValueError, OverflowError):
        return None


async def search(core: Core, tag: str, command: Search) -> None:
    core.catch_up()
    selected = core.selected
    view = selected.view
    test = compiled(command.key, view)
    found: list[int] = []
    missed = False
    for candidates in _batches(view.messages.copy(), BATCH_OCTETS if test.cost else None):
        batch = Batch(candidates, view.recent, selected.mailbox)
        matches = await core.workers.run(_matches, test, batch)
        missed = missed or bool(batch.gone)
        found += [message.uid if command.by_uid else number for number, message in matches]
        await core.channel.drain()
    core.engine.untagged(b" ".join([b"SEARCH", *(b"%d" % number for number in found)]))
    core.tell_news(expunges=command.by_uid)
    core.engine.done(tag, "OK", "Searched", "EXPUNGEISSUED" if missed else None)


def _batches(messages: Sequence[Message], octets: int | None) -> Iterator[list[Numbered]]:
    """Each has one message at least."""
    batch: list[Numbered] = []
    held = 0
    for numbered in enumerate(messages, 1):
        held += numbered[1].size
        if batch and (len(batch) == BATCH or (octets is not None and held > octets)):
            yield batch
            batch, held = [], numbered[1].size
        batch.append(numbered)
    if batch:
        yield batch


def _matches(test: Test, batch: Batch) -> list[Numbered]:
    """Blocking. One content is held at a time."""
    return [each for each in test.pick(batch, batch.candidates) if each[1].uid not in batch.gone]
