"""SEARCH (RFC 3501 §6.4.4).

Theory     A key becomes a test over one candidate. Tests that need less are asked first: what is known in memory, then
           the header, then the whole content, which is read once at most. Batches of candidates go through a worker.
Promises   Text is compared decoded and without regard to case. The work ends when the client is gone.
On failure A message that another session expunged is not found.
"""

from __future__ import annotations

import datetime
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_tz
from functools import cached_property, partial

from mailserver.imap import contains
from mailserver.imap.commands import And, Dated, HasFlag, InHeader, InSet, InText, Key, Not, Or, Search, Sized
from mailserver.message import Field, body_texts, fields, first, header_end, header_text, parse
from mailserver.sessions.imap.core import Core, Numbered
from mailserver.sessions.imap.reading import read_header
from mailserver.sessions.imap.view import View
from mailserver.store import Mailbox, Message, MessageGone

BATCHES = (1000, 250, 50)
"""Candidates that go through a worker at once, by the cost of the test."""
_DATE_LIMIT = 200
_SPACES = re.compile(r"[^\S ]\s*| \s+")  # a lone space is right already, and most are


class Candidate:
    """One message that a search looks at. Blocking where the content is asked for; raises MessageGone."""

    def __init__(self, number: int, message: Message, recent: bool, mailbox: Mailbox) -> None:
        self.number = number
        self.message = message
        self.recent = recent
        self._mailbox = mailbox

    @cached_property
    def content(self) -> bytes:
        return self._mailbox.read(self.message.uid)

    @cached_property
    def fields(self) -> list[Field]:
        start = self.__dict__.get("content") or read_header(self._mailbox, self.message.uid)
        return fields(start[: header_end(start)])

    def values(self, name: bytes) -> Iterator[str]:
        """Of the fields of this name (lower case), decoded and case-folded."""
        return (_folded(header_text(field.value)) for field in self.fields if field.name.lower() == name)

    def header_lines(self) -> Iterator[str]:
        return (f"{field.name.decode('latin-1').lower()}: {_folded(header_text(field.value))}" for field in self.fields)

    @cached_property
    def body(self) -> list[str]:
        return [_folded(text) for text in body_texts(parse(self.content))]

    @cached_property
    def sent(self) -> datetime.date | None:
        """The Date field without time and zone (§6.4.4)."""
        value = first(self.fields, b"date")
        if value is None:
            return None
        try:
            parsed = parsedate_tz(value[:_DATE_LIMIT].decode("latin-1"))
            return datetime.date(*parsed[:3]) if parsed is not None else None
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Test:
    """`cost` 0: from memory; 1: the header; 2: the whole content."""

    cost: int
    holds: Callable[[Candidate], bool]


def compiled(key: Key, view: View) -> Test:
    """`view` gives `*` its meaning."""
    match key:
        case HasFlag("\\Recent"):
            return Test(0, lambda candidate: candidate.recent)
        case HasFlag(flag):
            wanted = flag.lower()
            if flag.startswith("\\"):
                return Test(0, lambda candidate: flag in candidate.message.flags)
            return Test(0, lambda candidate: any(wanted == each.lower() for each in candidate.message.flags))
        case InSet(messages, by_uid):
            ranges = messages.resolve(view.highest_uid if by_uid else len(view))
            if by_uid:
                return Test(0, lambda candidate: contains(ranges, candidate.message.uid))
            return Test(0, lambda candidate: contains(ranges, candidate.number))
        case Sized(larger, size):
            if larger:
                return Test(0, lambda candidate: candidate.message.size > size)
            return Test(0, lambda candidate: candidate.message.size < size)
        case Dated():
            return _dated(key)
        case InHeader(name, text):
            folded, field = _folded(text), name.encode()
            return Test(1, lambda candidate: any(folded in value for value in candidate.values(field)))
        case InText(text, header):
            return _in_text(_folded(text), header)
        case Not(inner):
            negated = compiled(inner, view)
            return Test(negated.cost, lambda candidate: not negated.holds(candidate))
        case And(keys):
            tests = _cheapest_first(keys, view)
            return Test(_cost(tests), lambda candidate: all(test.holds(candidate) for test in tests))
        case Or(keys):
            tests = _cheapest_first(keys, view)
            return Test(_cost(tests), lambda candidate: any(test.holds(candidate) for test in tests))


_COMPARE: dict[str, Callable[[datetime.date, datetime.date], bool]] = {
    "before": operator.gt,
    "on": operator.eq,
    "since": operator.le,
}


def _cheapest_first(keys: Iterable[Key], view: View) -> list[Test]:
    return sorted((compiled(key, view) for key in keys), key=lambda test: test.cost)


def _cost(tests: list[Test]) -> int:
    return max((test.cost for test in tests), default=0)


def _dated(key: Dated) -> Test:
    compare = partial(_COMPARE[key.relation], key.date)
    if key.sent:
        return Test(1, lambda candidate: candidate.sent is not None and compare(candidate.sent))
    return Test(0, lambda candidate: compare(_day(candidate.message.internal_date)))


def _day(seconds: float) -> datetime.date:
    """In UTC, as INTERNALDATE is shown."""
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=seconds // 86400)


def _in_text(folded: str, header: bool) -> Test:
    def holds(candidate: Candidate) -> bool:
        if any(folded in text for text in candidate.body):
            return True
        return header and any(folded in line for line in candidate.header_lines())

    return Test(2, holds)


def _folded(text: str) -> str:
    """Case does not count, nor how space is written."""
    return _SPACES.sub(" ", text).casefold()


async def search(core: Core, tag: str, command: Search) -> None:
    core.catch_up()
    selected = core.selected
    view = selected.view
    test = compiled(command.key, view)
    found: list[int] = []
    missed = False
    size = BATCHES[test.cost]
    for start in range(0, len(view), size):
        batch = list(enumerate(view.messages[start : start + size], start + 1))
        matches, complete = await core.workers.run(_matches, test, batch, view.recent, selected.mailbox)
        missed = missed or not complete
        found += [message.uid if command.by_uid else number for number, message in matches]
        await core.channel.drain()
    core.engine.untagged(b" ".join([b"SEARCH", *(b"%d" % number for number in found)]))
    core.tell_news(expunges=command.by_uid)
    core.engine.done(tag, "OK", "Searched", "EXPUNGEISSUED" if missed else None)


def _matches(test: Test, batch: list[Numbered], recent: set[int], mailbox: Mailbox) -> tuple[list[Numbered], bool]:
    """Blocking. One content is held at a time. False: some messages were gone."""
    matches = []
    complete = True
    for number, message in batch:
        try:
            if test.holds(Candidate(number, message, message.uid in recent, mailbox)):
                matches.append((number, message))
        except MessageGone:
            complete = False
    return matches, complete
