"""What one header field says in many messages, in one run of octets: to search in it without reading the rest.

Promises   It never changes, so that any thread may read it; `added` gives a longer one.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, repeat

from mailserver.message.searchable import BORDER
from mailserver.store.shelf import Shelf

MEMORY_LIMIT = 32 * 2**20  # octets

_MESSAGE = 72  # octets that a message costs beside its text
_END = b"\xfe"  # another octet than BORDER that no UTF-8 has


@dataclass(frozen=True, slots=True)
class FieldTexts:
    """Of each message all that fields of one name say, `BORDER` after each."""

    known: frozenset[int] = frozenset()
    """The UIDs."""
    _uids: array[int] = field(default_factory=lambda: array("I"))
    _texts: bytes = b""
    """In the order of the UIDs, `_END` after what each message says."""

    @property
    def octets(self) -> int:
        return len(self._texts) + _MESSAGE * len(self._uids)

    def added(self, texts: Mapping[int, bytes]) -> FieldTexts:
        """With messages that are not in it yet, by UID."""
        more = b"".join([text + _END for text in texts.values()])
        return FieldTexts(self.known.union(texts), self._uids + array("I", texts), self._texts + more)

    def having(self, octets: bytes) -> set[int]:
        """The UIDs of messages with these octets, of which there are some."""
        uids, texts = self._uids, self._texts
        between = texts.split(octets, len(uids))
        if len(between) > len(uids) > 0:  # often, and in many messages more than once
            return {uid for uid, text in zip(uids, texts.split(_END)[:-1], strict=True) if octets in text}
        between.pop()
        ended = accumulate(map(bytes.count, between, repeat(_END)))  # how many messages, before each place
        return set(map(uids.__getitem__, ended))


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
