"""What a client says of what it knows when it comes back: the parameter QRESYNC of SELECT (RFC 7162 §3.2.5)."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.sequence import SequenceSet
from mailserver.imap.syntax import Fault, Reader


@dataclass(frozen=True, slots=True)
class Match:
    """Messages whose numbers and UIDs the client knew: both begin a run of `count`."""

    number: int
    uid: int
    count: int


@dataclass(frozen=True, slots=True)
class Resync:
    """`uids` None: all that the mailbox ever had. `matches` ascend."""

    validity: int
    modseq: int
    uids: SequenceSet | None = None
    matches: tuple[Match, ...] = ()


def resync(reader: Reader) -> Resync:
    """The parameter's value, with its parentheses."""
    reader.expect(b"(")
    validity = reader.positive()
    reader.space()
    modseq = reader.modseq()
    uids = None
    matches: tuple[Match, ...] = ()
    separated = reader.accept(b" ")
    if separated and not reader.looking_at(b"("):
        uids = _numbers(reader)
        separated = reader.accept(b" ")
    if separated:
        matches = _matches(reader)
    reader.expect(b")")
    return Resync(validity, modseq, uids, matches)


def _numbers(reader: Reader) -> SequenceSet:
    numbers = reader.sequence_set()
    if numbers.uses_star:
        raise Fault("* is not allowed here")
    return numbers


def _ascending(reader: Reader) -> SequenceSet:
    numbers = _numbers(reader)
    last = 0
    for first, end in numbers.ranges:
        if first <= last:
            raise Fault("the numbers must ascend")
        last = end
    return numbers


def _matches(reader: Reader) -> tuple[Match, ...]:
    """Two sets of as many numbers, side by side as runs that are not expanded."""
    reader.expect(b"(")
    numbers = list(_ascending(reader).ranges)
    reader.space()
    uids = list(_ascending(reader).ranges)
    reader.expect(b")")
    numbers.reverse()
    uids.reverse()
    matches = []
    while numbers and uids:
        (number, last_number), (uid, last_uid) = numbers.pop(), uids.pop()
        count = min(last_number - number, last_uid - uid) + 1
        matches.append(Match(number, uid, count))
        if number + count <= last_number:
            numbers.append((number + count, last_number))
        if uid + count <= last_uid:
            uids.append((uid + count, last_uid))
    if numbers or uids:
        raise Fault("not as many numbers as UIDs")
    return tuple(matches)
