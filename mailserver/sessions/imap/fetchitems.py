"""What FETCH knows of the messages that it answers together, and the items of its answers as columns.

Promises   A column gives one value for each message of the batch, in its order. Values are made of what was loaded into
           the batch, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import NamedTuple

from mailserver.imap import responses
from mailserver.imap.commands import Attribute, Section
from mailserver.sessions.imap.binary import Decoded
from mailserver.sessions.imap.reading import octets_at, without_nul
from mailserver.sessions.imap.sections import Span
from mailserver.store import Flagged, Mailbox, Message, ObjectIds, Prepared


@dataclass(slots=True)
class Batch:
    """Messages that are answered together, and what is known of them by UID."""

    numbers: Sequence[int]
    uids: Sequence[int]
    messages: dict[int, Message] = field(default_factory=dict)
    prepared: dict[int, Prepared] = field(default_factory=dict)
    ids: dict[int, ObjectIds] = field(default_factory=dict)
    sections: dict[int, list[bytes]] = field(default_factory=dict)
    """Name and octets of each, in the order asked for."""
    contents: dict[int, bytes] = field(default_factory=dict)
    """Of messages that are told as they are; above then is what announces them."""
    places: dict[int, dict[Section, Place]] = field(default_factory=dict)
    """Of a large message, which is the last: where its sections lie; they are empty above."""
    seen: list[Flagged] = field(default_factory=list)
    r"""Messages that became \Seen by this."""

    def end_with(self, uid: int) -> None:
        count = self.uids.index(uid) + 1
        self.numbers, self.uids = self.numbers[:count], self.uids[:count]

    def keep(self, known: Container[int]) -> None:
        """Leaves out the messages whose UIDs are not in `known`."""
        kept = [(number, uid) for number, uid in zip(self.numbers, self.uids, strict=True) if uid in known]
        self.numbers, self.uids = [number for number, _ in kept], [uid for _, uid in kept]

    def split_last(self) -> Batch:
        """Takes the last message out, into a batch of its own."""
        last = replace(self, numbers=self.numbers[-1:], uids=self.uids[-1:])
        self.numbers, self.uids = self.numbers[:-1], self.uids[:-1]
        return last


class PlainRow(NamedTuple):
    """The pattern of an answer, cut at the column whose octets stand between the two."""

    cut: int
    before: bytes
    after: bytes


Column = tuple[bytes, Callable[[Batch], Iterable[bytes | int]]]
"""The pattern of an item, its name first, and its values for the messages of a batch."""


def _of_messages(pattern: bytes, value: Callable[[Message], bytes | int]) -> Column:
    return pattern, lambda batch: [value(batch.messages[uid]) for uid in batch.uids]


def _of_prepared(pattern: bytes, value: Callable[[Prepared], bytes]) -> Column:
    return pattern, lambda batch: [value(batch.prepared[uid]) for uid in batch.uids]


def preview_of(prepared: Prepared | None) -> bytes:
    return responses.nstring(None if prepared is None else prepared.preview.encode())


FROM_MEMORY: dict[Attribute, Column] = {
    Attribute.INTERNALDATE: _of_messages(
        b"INTERNALDATE %b", lambda message: responses.date_time(message.internal_date, message.zone)
    ),
    Attribute.SAVEDATE: _of_messages(b"SAVEDATE %b", lambda message: responses.date_time(message.saved)),
    Attribute.SIZE: _of_messages(b"RFC822.SIZE %d", attrgetter("size")),
}
FROM_INDEX: dict[Attribute, Column] = {
    Attribute.ENVELOPE: _of_prepared(b"ENVELOPE %b", attrgetter("envelope")),
    Attribute.BODY: _of_prepared(b"BODY %b", attrgetter("body")),
    Attribute.BODYSTRUCTURE: _of_prepared(b"BODYSTRUCTURE %b", attrgetter("bodystructure")),
    Attribute.PREVIEW: _of_prepared(b"PREVIEW %b", preview_of),
}
OF_IDS: dict[Attribute, Column] = {
    Attribute.EMAILID: (b"EMAILID (%b)", lambda batch: [batch.ids[uid].email.encode() for uid in batch.uids]),
    Attribute.THREADID: (b"THREADID (%b)", lambda batch: [batch.ids[uid].thread.encode() for uid in batch.uids]),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the octets of a section lie: in the message, or in a part of it that was decoded."""

    span: Span = (0, 0)
    decoded: Decoded | None = None

    @property
    def size(self) -> int:
        return self.span[1] - self.span[0] if self.decoded is None else self.decoded.octets.size

    @property
    def announcement(self) -> bytes:
        return b"{%d}\r\n" % self.size if self.decoded is None else self.decoded.announcement

    def octets(self, mailbox: Mailbox, uid: int) -> Iterator[bytes]:
        """In pieces; each step blocks."""
        if self.decoded is not None:
            return self.decoded.octets.chunks()
        return map(without_nul, octets_at(mailbox, uid, self.span))
