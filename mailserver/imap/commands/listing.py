"""LIST and LSUB (RFC 3501 §6.3.8, §6.3.9), with the options of RFC 5258, RFC 5819 and RFC 6154."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.commands.mailboxes import status_items
from mailserver.imap.syntax import Fault, Reader

SUBSCRIBED = b"SUBSCRIBED"
SPECIAL_USE = b"SPECIAL-USE"
RECURSIVE = b"RECURSIVEMATCH"
_REMOTE = b"REMOTE"
_STATUS = b"STATUS"

_SELECTING = frozenset({SUBSCRIBED, SPECIAL_USE, RECURSIVE, _REMOTE})
_RETURNING = frozenset({SUBSCRIBED, SPECIAL_USE, b"CHILDREN", _STATUS})
_NONE: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class List:
    """`extended`: written as RFC 5258 has it, with options or with patterns in parentheses.

    `selecting` and `returning` are options in upper case; `status` the items of the return option STATUS.
    """

    reference: str
    patterns: tuple[str, ...]
    extended: bool = False
    selecting: frozenset[bytes] = _NONE
    returning: frozenset[bytes] = _NONE
    status: tuple[bytes, ...] = ()


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
        patterns = reader.listed(reader.pattern, "list of patterns")
    else:
        patterns = (reader.pattern(),)
    if not reader.accept(b" "):
        return List(reference, patterns, extended, selecting)
    if reader.keyword("RETURN") != b"RETURN":
        raise Fault("RETURN expected")
    reader.space()
    returned = dict(reader.listed(lambda: _returning(reader), "return options", empty=True))
    return List(reference, patterns, True, selecting, frozenset(returned), returned.get(_STATUS, ()))


def _reference(reader: Reader) -> str:
    """What a pattern begins with; it need not be a mailbox's name."""
    return str(reader.mailbox())


def _selecting(reader: Reader) -> frozenset[bytes]:
    options = frozenset(reader.listed(lambda: _option(reader, _SELECTING), "selection options", empty=True))
    reader.space()
    if RECURSIVE in options and not options & {SUBSCRIBED, SPECIAL_USE}:
        raise Fault("RECURSIVEMATCH needs another selection option")
    return options


def _returning(reader: Reader) -> tuple[bytes, tuple[bytes, ...]]:
    option = _option(reader, _RETURNING)
    if option != _STATUS:
        return option, ()
    reader.space()
    return option, status_items(reader)


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
