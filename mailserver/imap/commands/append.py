"""APPEND (RFC 3501 §6.3.11, RFC 3502, RFC 3516). Its message literals are not read here: they pass by the grammar."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.syntax import Fault, Reader


@dataclass(frozen=True, slots=True)
class Append:
    """One message of an APPEND: the one whose literal follows.

    `internal_date` in seconds since the epoch; None: now. `size` in octets. `binary`: it comes as `literal8`.
    """

    mailbox: str
    flags: frozenset[str]
    internal_date: float | None
    size: int
    binary: bool = False


def append_head(reader: Reader, size: int) -> Append:
    """All that stands before the first message literal, which has `size` octets."""
    reader.space()
    return append_next(reader, reader.mailbox(), size)


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
    return Append(mailbox, flags, internal_date, size, binary=reader.accept(b"~"))


def append(reader: Reader) -> Append:
    """An APPEND that ended without a message literal."""
    append_head(reader, 0)
    raise Fault("message literal expected")
