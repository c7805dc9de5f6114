"""Commands about messages but for FETCH and SEARCH (RFC 3501 §6.4).

UNSELECT is RFC 3691, UID EXPUNGE RFC 4315, MOVE RFC 6851, UNCHANGEDSINCE RFC 7162.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mailserver.imap.sequence import SequenceSet
from mailserver.imap.syntax import Fault, Reader

FlagAction = Literal["add", "remove", "set"]

_STORE_ITEMS: dict[bytes, tuple[FlagAction, bool]] = {
    b"FLAGS": ("set", False),
    b"FLAGS.SILENT": ("set", True),
    b"+FLAGS": ("add", False),
    b"+FLAGS.SILENT": ("add", True),
    b"-FLAGS": ("remove", False),
    b"-FLAGS.SILENT": ("remove", True),
}


@dataclass(frozen=True, slots=True)
class Check:
    pass


@dataclass(frozen=True, slots=True)
class Close:
    pass


@dataclass(frozen=True, slots=True)
class Unselect:
    pass


@dataclass(frozen=True, slots=True)
class Expunge:
    """`messages` are UIDs: UID EXPUNGE (RFC 4315 §2.1); None: all that are deleted."""

    messages: SequenceSet | None


@dataclass(frozen=True, slots=True)
class Store:
    """`by_uid`: `messages` are UIDs and not message sequence numbers.

    `unchanged_since`: not those with a greater MODSEQ (RFC 7162 §3.1.3).
    """

    messages: SequenceSet
    by_uid: bool
    action: FlagAction
    silent: bool
    flags: frozenset[str]
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY, or MOVE when `move`."""

    messages: SequenceSet
    by_uid: bool
    mailbox: str
    move: bool


def check(_reader: Reader) -> Check:
    return Check()


def close(_reader: Reader) -> Close:
    return Close()


def unselect(_reader: Reader) -> Unselect:
    return Unselect()


def expunge(_reader: Reader) -> Expunge:
    return Expunge(None)


def uid_expunge(reader: Reader) -> Expunge:
    reader.space()
    return Expunge(reader.sequence_set())


def store(reader: Reader, *, by_uid: bool = False) -> Store:
    reader.space()
    messages = reader.sequence_set()
    reader.space()
    unchanged_since = None
    if reader.looking_at(b"("):
        unchanged_since = reader.modifiers(lambda: _store_modifier(reader))[b"UNCHANGEDSINCE"]
        reader.space()
    item = _STORE_ITEMS.get(reader.keyword("FLAGS"))
    if item is None:
        raise Fault("FLAGS expected")
    reader.space()
    if reader.looking_at(b"("):
        flags = reader.flag_list()
    else:  # store-att-flags may do without the parentheses
        listed = [reader.flag()]
        while reader.accept(b" "):
            listed.append(reader.flag())
        flags = frozenset(listed)
    return Store(messages, by_uid, *item, flags, unchanged_since)


def _store_modifier(reader: Reader) -> tuple[bytes, int]:
    name = reader.keyword("modifier")
    if name != b"UNCHANGEDSINCE":
        raise Fault("unknown modifier")
    reader.space()
    return name, reader.modseq(zero=True)


def copy(reader: Reader, *, by_uid: bool = False) -> Copy:
    return _copy(reader, by_uid, move=False)


def move(reader: Reader, *, by_uid: bool = False) -> Copy:
    return _copy(reader, by_uid, move=True)


def _copy(reader: Reader, by_uid: bool, *, move: bool) -> Copy:
    reader.space()
    messages = reader.sequence_set()
    reader.space()
    return Copy(messages, by_uid, reader.mailbox(), move)
