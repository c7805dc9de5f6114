"""What a client has of the results of a search that is kept up to date (RFC 5267), and how it is told of changes.

Promises   Who removes and adds what it is told, in that order, has what stands here. What is told has bounded lines.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from mailserver.imap import compress
from mailserver.imap.commands import Criterion, Item, Key
from mailserver.imap.responses import string
from mailserver.sessions.imap.view import View

PAIRS = 500
"""Positions of one response."""

_FEW = 64

Items = list[tuple[str, str]]
"""What an ESEARCH response tells: names and values."""

Place = tuple[bytes, int]
"""The name of a mailbox, as the client knows it, and the UIDVALIDITY."""

Pair = tuple[int, Sequence[int]]
"""A position, and the UIDs that come or go there; position 0: wherever they belong."""


@dataclass(slots=True)
class Context:
    """`criteria` are those of SORT. `items`: what is fetched of new messages that are found. `whole`: all messages are
    to be tested again after a change. `uids`: what the client has, in its order. `mailbox`: told with each change.
    """

    tag: str
    key: Key
    by_uid: bool
    criteria: tuple[Criterion, ...]
    items: tuple[Item, ...]
    whole: bool
    uids: array[int]
    mailbox: Place | None = None
    stale: bool = False
    """All are to be tested again: others are the last ones now."""

    def members(self, uids: Set[int]) -> set[int]:
        """Those that the client has."""
        if self.criteria or len(uids) > _FEW:
            return set(self.uids).intersection(uids) if uids else set()
        return {uid for uid in uids if _holds(self.uids, uid)}

    def remove(self, view: View, uids: Set[int]) -> Iterable[bytes]:
        """These are in the result no longer. What is told of that, while they still have their numbers."""
        self.stale = self.stale or (self.whole and bool(uids))
        gone = self.members(uids)
        if not gone:
            return ()
        before = self.uids
        self.uids = array("I", (uid for uid in before if uid not in gone))
        if not self.criteria:
            return self._lines(view, "REMOVEFROM", [(0, sorted(gone))])
        runs = list(_runs(before, gone))
        return self._lines(view, "REMOVEFROM", reversed(runs))  # so no position depends on what went before

    def add(self, view: View, uids: set[int]) -> Iterable[bytes]:
        """These are in the result of a SEARCH now."""
        if not uids:
            return ()
        if len(uids) > _FEW:
            self.uids = array("I", sorted({*self.uids, *uids}))
        else:
            for uid in uids:
                self.uids.insert(bisect_right(self.uids, uid), uid)
        return self._lines(view, "ADDTO", [(0, sorted(uids))])

    def reorder(self, view: View, order: Sequence[int], added: Set[int]) -> Iterable[bytes]:
        """These are in the result of a SORT now, which has this order. It has no others that were not there before."""
        lost = set(self.uids).difference(order)
        lines = list(self.remove(view, lost))
        self.uids = array("I", order)
        return [*lines, *self._lines(view, "ADDTO", _runs(order, added))]

    def _lines(self, view: View, name: str, pairs: Iterable[Pair]) -> Iterator[bytes]:
        by_uid = self.by_uid or view.uid_only
        words: list[str] = []
        for position, uids in pairs:
            if len(words) == PAIRS:
                yield self._line(name, words, by_uid)
                words = []
            known = uids if by_uid else [number for uid in uids if (number := view.number(uid)) is not None]
            words.append(f"{position} {compress(known)}")
        if words:
            yield self._line(name, words, by_uid)

    def _line(self, name: str, words: Sequence[str], by_uid: bool) -> bytes:
        return extended(self.tag, [(name, f"({' '.join(words)})")], by_uid=by_uid, mailbox=self.mailbox)


def _holds(uids: Sequence[int], uid: int) -> bool:
    place = bisect_left(uids, uid)
    return place < len(uids) and uids[place] == uid


def _runs(order: Sequence[int], uids: Set[int]) -> Iterator[Pair]:
    """Where in the order these stand, beside each other."""
    run: list[int] = []
    for place, uid in enumerate(order):
        if uid in uids:
            run.append(uid)
        elif run:
            yield place - len(run) + 1, run
            run = []
    if run:
        yield len(order) - len(run) + 1, run


def extended(tag: str, items: Items, *, by_uid: bool, mailbox: Place | None = None) -> bytes:
    """The ESEARCH response. `mailbox`: where it is not clear which one is meant (RFC 7377)."""
    place = b" MAILBOX %b UIDVALIDITY %d" % mailbox if mailbox is not None else b""
    head = b"ESEARCH (TAG %b%b)%b" % (string(tag.encode()), place, b" UID" if by_uid else b"")
    return b" ".join([head, *(f"{name} {value}".encode() for name, value in items)])
