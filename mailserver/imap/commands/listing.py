"""LIST and LSUB (RFC 3501 §6.3.8, §6.3.9), with the options of RFC 5258, RFC 5819, RFC 6154 and
RFC 9590.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mailserver.imap.commands.mailboxes import status_items
from mailserver.imap.commands.metadata import entry
from mailserver.imap.syntax import Fault, Reader

SUBSCRIBED = b"SUBSCRIBED"
SPECIAL_USE = b"SPECIAL-USE"
RECURSIVE = b"RECURSIVEMATCH"
_REMOTE = b"REMOTE"
_STATUS = b"STATUS"
_METADATA = b"METADATA"

_SELECTING = frozenset({SUBSCRIBED, SPECIAL_USE, RECURSIVE, _REMOTE})
_RETURNING = frozenset({SUBSCRIBED, SPECIAL_USE, b"CHILDREN", _STATUS, _METADATA})
_NONE: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class List:
    """`extended`: written as RFC 5258 has it, with options or with patterns in parentheses.

    `patterns` are those that could match something.

    `selecting` and `returning` are options in upper case; `status` the items of the return option STATUS, `metadata`
    the entries of METADATA as they are written.
    """

    reference: str
    patterns: tuple[str, ...]
    extended: bool = False
    selecting: frozenset[bytes] = _NONE
    returning: frozenset[bytes] = _NONE
    status: tuple[bytes, ...] = ()
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListSubscribed:
    """LSUB."""

    reference: str
    pattern: str


def list_(reader: Reader) -> List:
    reader.space()
    extended = reader.looking_at(b"(")
    selecting = _selecting(reader) if extended else _NONE
    reference = _reference(reader)
    reader.space()
    if reader.looking_at(b"("):
        extended = True
        written = reader.listed(lambda: _pattern(reader), "list of patterns")
    else:
        written = (_pattern(reader),)
    patterns = tuple(pattern for pattern in written if pattern is not None)
    if not reader.accept(b" "):
        return List(reference, patterns, extended, selecting)
    if reader.keyword("RETURN") != b"RETURN":
        raise Fault("RETURN expected")
    reader.space()
    returned = reader.listed(lambda: _returning(reader), "return options", empty=True)
    status = {option.name: option.items for option in returned}.get(_STATUS, ())
    entries = {option.name: option.entries for option in returned}.get(_METADATA, ())
    names = frozenset(option.name for option in returned)
    return List(reference, patterns, True, selecting, names, status, entries)


def _reference(reader: Reader) -> str:
    """What a pattern begins with; it need not be a mailbox's name."""
    return str(reader.mailbox())


def _pattern(reader: Reader) -> str | None:
    """None: it can match nothing, and is passed over (RFC 5258 §3)."""
    try:
        return reader.pattern()
    except Fault as fault:
        if fault.status != "NO":
            raise
        return None


def _selecting(reader: Reader) -> frozenset[bytes]:
    options = frozenset(reader.listed(lambda: _option(reader, _SELECTING), "selection options", empty=True))
    reader.space()
    if RECURSIVE in options and not options & {SUBSCRIBED, SPECIAL_USE}:
        raise Fault("RECURSIVEMATCH needs another selection option")
    return options


class _Returned(NamedTuple):
    name: bytes
    items: tuple[bytes, ...] = ()
    entries: tuple[str, ...] = ()


def _returning(reader: Reader) -> _Returned:
    name = _option(reader, _RETURNING)
    if name == _STATUS:
        reader.space()
        return _Returned(name, items=status_items(reader))
    if name == _METADATA:
        reader.space()
        return _Returned(name, entries=reader.listed(lambda: entry(reader), "list of entries"))
    return _Returned(name)


def _option(reader: Reader, known: frozenset[bytes]) -> bytes:
    option = reader.keyword("option")
    if option not in known:
        raise Fault("unknown option")
    return option


def lsub(reader: Reader) -> ListSubscribed:
    reader.space()
    reference = _reference(reader)
    reader.space()
    return ListSubscribed(reference, reader.pattern())
