"""APPEND and REPLACE (RFC 3501 §6.3.11, RFC 3502, RFC 3516, RFC 6855 §4; RFC 8508).

Their message literals are not read here: they pass by the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from mailserver.imap.sequence import SequenceSet
from mailserver.imap.syntax import Fault, Reader

_UTF8 = re.compile(rb"UTF8 \((?=~)", re.IGNORECASE)
_NUMBER = re.compile(rb"[1-9]\d{0,9}|\*")


@dataclass(frozen=True, slots=True)
class Append:
    """One message of an APPEND: the one whose literal follows.

    `internal_date` in seconds since the epoch; None: now. `size` in octets. `binary`: it comes as `literal8`.
    `bracketed`: it is `UTF8 (literal8)`, so a bracket follows it.
    `replaced`: the one message that goes when this one is there (REPLACE), by its number or, with `by_uid`, its UID.
    """

    mailbox: str
    flags: frozenset[str]
    internal_date: float | None
    size: int
    binary: bool = False
    bracketed: bool = False
    replaced: SequenceSet | None = None
    by_uid: bool = False


def append_head(reader: Reader, size: int) -> Append | None:
    """All that stands before the first message literal, which has `size` octets.

    None: it is no message that comes, but the mailbox's name.
    """
    reader.space()
    return None if reader.at_end else append_next(reader, reader.mailbox(), size)


def replace_head(reader: Reader, size: int, *, by_uid: bool = False) -> Append | None:
    """As `append_head`."""
    reader.space()
    replaced = reader.parse_sequence_set(reader.match(_NUMBER, "number")[0])
    head = append_head(reader, size)
    return head and replace(head, replaced=replaced, by_uid=by_uid)


def append_next(reader: Reader, mailbox: str, size: int) -> Append:
    """`append-message` of RFC 3502, up to the brace of its literal."""
    reader.space()
    flags: frozenset[str] = frozenset()
    internal_date = None
    if reader.looking_at(b"("):
        flags = reader.flag_list()
        reader.space()
    if reader.looking_at(b'"'):
        internal_date = reader.date_time()
        reader.space()
    bracketed = reader.optional(_UTF8) is not None
    return Append(mailbox, flags, internal_date, size, binary=reader.accept(b"~"), bracketed=bracketed)


def unfinished(reader: Reader, head: Callable[[Reader, int], Append | None]) -> Append:
    """A command that ended without a message literal."""
    head(reader, 0)
    raise Fault("message literal expected")
