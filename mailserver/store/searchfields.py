"""What one header field says in many messages, in one run of octets: to search in it without reading the rest.

Promises   It never changes, so that any thread may read it; `added` gives a longer one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from mailserver.message.searchable import BORDER
from mailserver.store.shelf import Shelf

MEMORY_LIMIT = 32 * 2**20  # octets

_MESSAGE = 80  # octets that a message costs beside its text


@dataclass(frozen=True, slots=True)
class FieldTexts:
    """Of each message all that fields of one name say, `BORDER` after each."""

    known: frozenset[int] = frozenset()
    """The UIDs."""
    _uids: array[int] = field(default_factory=lambda: array("I"))
    _starts: array[int] = field(default_factory=lambda: array("Q"))
    _texts: bytes = b""

    @property
    def octets(self) -> int:
        return len(self._texts) + _MESSAGE * len(self._uids)

    def added(self, texts: Mapping[int, bytes]) -> FieldTexts:
        """With messages that are not in it yet, by UID."""
        starts = accumulate(map(len, texts.values()), initial=len(self._texts))
        places = array("Q", starts)
        places.pop()
        return FieldTexts(
            self.known.union(texts),
            self._uids + array("I", texts),
            self._starts + places,
            b"".join((self._texts, *texts.values())),
        )

    def having(self, octets: bytes) -> set[int]:
        """The UIDs of messages with these octets, of which there are some."""
        uids, starts, find = self._uids, self._starts, self._texts.find
        ends = len(starts) - 1
        found = set()
        position = find(octets)
        place = 0
        while position >= 0:
            place = bisect_right(starts, position, place) - 1
            found.add(uids[place])
            if place == ends:
                break
            place += 1
            position = find(octets, starts[place])
        return found


def field_text(header: bytes | bytearray, start: int, stop: int, anchor: bytes) -> bytes:
    """What the fields say that `anchor` names, in a header that was packed there."""
    values = b""
    while (start := header.find(anchor, start, stop)) >= 0:
        start += len(anchor)
        end = header.find(BORDER, start, stop) + 1
        values += header[start:end]
        start = end - 1  # where the next field begins
    return values


shelf: Shelf[FieldTexts] = Shelf(MEMORY_LIMIT)
"""That of the process: by mailbox and anchor."""
