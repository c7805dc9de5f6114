"""GETMETADATA, SETMETADATA (RFC 5464).

The options of GETMETADATA stand before the mailbox in the RFC's grammar and behind it in its examples: both are taken.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from mailserver.imap.syntax import Fault, Reader

NAME_LIMIT = 1024  # octets

_ENTRY = re.compile(rb"(?:/[^\x00-\x19/*%\x80-\xff]+)+")
_OPTIONS = re.compile(rb"\((?![/\"{])")
_DEPTHS = {b"0": 0, b"1": 1, b"INFINITY": math.inf}
_SCOPES = ("private", "shared")


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """`mailbox` is empty for the server. `entries` as written; `depth` is 0, 1 or infinite."""

    mailbox: str
    entries: tuple[str, ...]
    depth: float = 0
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """`values` by the names of entries, in lower case; None: it is to be removed."""

    mailbox: str
    values: tuple[tuple[str, bytes | None], ...]


def get_metadata(reader: Reader) -> GetMetadata:
    reader.space()
    options: dict[bytes, float] = {}
    if reader.looking_at(b"("):
        options = _options(reader)
    mailbox = reader.mailbox()
    reader.space()
    if _is_options(reader):
        options |= _options(reader)
    several = reader.looking_at(b"(")
    entries = reader.listed(lambda: entry(reader), "list of entries") if several else (entry(reader),)
    max_size = options.get(b"MAXSIZE")
    return GetMetadata(mailbox, entries, options.get(b"DEPTH", 0), None if max_size is None else int(max_size))


def _is_options(reader: Reader) -> bool:
    start = reader.position
    found = reader.optional(_OPTIONS) is not None
    reader.position = start
    return found


def _options(reader: Reader) -> dict[bytes, float]:
    def option() -> tuple[bytes, float]:
        name = reader.keyword("option")
        reader.space()
        if name == b"MAXSIZE":
            return name, reader.number()
        depth = _DEPTHS.get(reader.keyword("value")) if name == b"DEPTH" else None
        if depth is None:
            raise Fault("unknown option")
        return name, depth

    options = dict(reader.listed(option, "list of options"))
    reader.space()
    return options


def entry(reader: Reader) -> str:
    """The name of one, as it is written."""
    name = reader.astring()
    if len(name) > NAME_LIMIT or not _ENTRY.fullmatch(name):
        raise Fault("that cannot be the name of an entry")
    text = name.decode("ascii")
    if text.split("/")[1].lower() not in _SCOPES:
        raise Fault("the name of an entry begins with /private or /shared")
    return text


def set_metadata(reader: Reader) -> SetMetadata:
    reader.space()
    mailbox = reader.mailbox()
    reader.space()

    def value() -> tuple[str, bytes | None]:
        name = entry(reader).lower()
        parts = name.split("/")[1:]
        if len(parts) < (4 if parts[1:2] == ["vendor"] else 2):
            raise Fault("the name of the entry has too few parts")
        reader.space()
        return name, reader.nstring8()

    return SetMetadata(mailbox, reader.listed(value, "list of entries and values"))
