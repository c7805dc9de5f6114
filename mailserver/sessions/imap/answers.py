"""Answers that were made before, for messages in a row or for all that were found; sessions of the process share them.

Theory     An answer follows from what was asked for and from what is known of the messages: numbers, UIDs, flags and
           so on. It is kept with all of that, and used again only where all of that is the same. This is compared each
           time, which takes microseconds for a thousand messages; so nobody has to say that an answer no longer holds.
           What content decides is not compared, for the content of a message never changes.
Promises   At most `limit` octets are held. Used by the main thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import NamedTuple
from weakref import ref

from mailserver.imap.commands import Section
from mailserver.store import Mailbox

MEMORY_LIMIT = 64 * 2**20  # octets
LARGEST = 4 * 2**20
"""Octets of an answer that is worth keeping."""

_ENTRY = 500  # octets that an answer costs beside its own
_FIELD = 64  # octets that each name of a header field costs beside what is counted of the label


class Name(NamedTuple):
    """What an answer is kept under; that of a mailbox which is no longer open is found by nobody."""

    mailbox: ref[Mailbox]
    asked: tuple[Hashable, ...]
    first: int = 0
    """The number of its first message, where it is of messages in a row."""


class Known(NamedTuple):
    """What an answer follows from, beside its name."""

    numbers: Sequence[bytes]
    """Columns: UIDs, MODSEQs, dates and the like."""
    flags: Sequence[frozenset[str]] = ()

    @property
    def octets(self) -> int:
        return sum(map(len, self.numbers)) + 8 * len(self.flags)


class Answers:
    """Those used last are held."""

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self.limit = limit
        self.octets = 0
        self._answers: OrderedDict[Name, tuple[Known, bytes]] = OrderedDict()

    def get(self, name: Name, known: Known) -> bytes | None:
        answer = self._answers.get(name)
        if answer is None or answer[0] != known:
            return None
        self._answers.move_to_end(name)
        return answer[1]

    def put(self, name: Name, known: Known, answer: bytes) -> None:
        self._forget(name)
        if len(answer) > LARGEST:
            return
        self._answers[name] = (known, answer)
        self.octets += _cost(name, known, answer)
        while self.octets > self.limit:
            self._forget(next(iter(self._answers)))

    def _forget(self, name: Name) -> None:
        answer = self._answers.pop(name, None)
        if answer is not None:
            self.octets -= _cost(name, *answer)


def _cost(name: Name, known: Known, answer: bytes) -> int:
    sections = [item for item in name.asked if isinstance(item, Section)]
    asked = sum(2 * len(section.label) + _FIELD * len(section.fields) for section in sections)
    return _ENTRY + asked + known.octets + len(answer)


answers = Answers()
"""That of the process."""
