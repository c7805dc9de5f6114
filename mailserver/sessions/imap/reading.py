"""Reading the headers and parts of messages, for FETCH and SEARCH."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mailserver.store import Mailbox, Message, Unavailable

HEADERS = 500
HEADER_OCTETS = 16 * 2**20
"""Of messages whose headers are held at a time: a header may be all of a message."""

_WHOLE = 64 * 1024
"""Octets up to which a message is read at once."""


def header_batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Messages whose headers may be held together, in order; each batch has one at least."""
    batch: list[Message] = []
    octets = 0
    for message in messages:
        octets += message.size
        if batch and (len(batch) == HEADERS or octets > HEADER_OCTETS):
            yield batch
            batch, octets = [], message.size
        batch.append(message)
    if batch:
        yield batch


def read_header(mailbox: Mailbox, message: Message) -> bytes:
    """The message as far as its header goes, and perhaps some more. Blocking. Raises MessageGone, Unavailable."""
    if message.size <= _WHOLE:
        return mailbox.read(message.uid)
    pieces = []
    tail = b"\n"  # the blank line may be the first
    for chunk in _chunks(mailbox, message.uid):
        pieces.append(chunk)
        joint = tail + chunk
        if b"\n\r\n" in joint or b"\n\n" in joint:
            break
        tail = joint[-2:]
    return b"".join(pieces)


def measure(mailbox: Mailbox, uid: int) -> int:
    """Octets that the message really has. Blocking. Raises MessageGone, Unavailable."""
    return sum(map(len, _chunks(mailbox, uid)))


def _chunks(mailbox: Mailbox, uid: int) -> Iterator[bytes]:
    try:
        yield from mailbox.chunks(uid)
    except OSError as error:
        raise Unavailable("The message cannot be read now", error.errno) from error


def octets_at(mailbox: Mailbox, uid: int, place: tuple[int, int]) -> Iterator[bytes]:
    """The octets in a place of the message, in pieces. Each step blocks. Raises MessageGone, Unavailable."""
    start, end = place
    position = 0
    for chunk in _chunks(mailbox, uid):
        piece = chunk[max(start - position, 0) : max(end - position, 0)]
        position += len(chunk)
        if piece:
            yield piece
        if position >= end:
            return


def without_nul(octets: bytes) -> bytes:
    """No literal may carry NUL (RFC 3501 §9: CHAR8); the length stays."""
    return octets.replace(b"\0", b"\x80")
