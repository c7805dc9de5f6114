"""Header fields (RFC 5322 §2.2).

Promises   Every line of a header belongs to one field or to none; a line without a field name is passed over.
           At most `FIELD_LIMIT` fields are seen. One pass, no backtracking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

FIELD_LIMIT = 10_000
_SMALL = 64 * 1024  # octets; all lines of such a header may be held at once

# A field with its folded lines, or else a line that is none: matches follow each other without a gap.
# The quantifiers are possessive, so that a failure never tries a shorter way.
_LINE = re.compile(rb"(?:([^\x00-\x20:\x7f]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)|[^\n]++)\n?+|\n")
_PARENTHESIS = re.compile(rb"[^()\\]*+(?:\\.[^()\\]*+)*+([()])", re.DOTALL)
_BLANK_LINE = re.compile(rb"\n\r?\n")


class Field(NamedTuple):
    """`value` is raw: folded, with the space after the colon, without the last line end.

    `start` and `end` are the span of the whole field in the header, its last line end included.
    """

    name: bytes
    value: bytes
    start: int
    end: int


def header_end(content: bytes, start: int = 0, end: int | None = None) -> int:
    """Where the body begins: after the first blank line, or at `end` when there is none."""
    if end is None:
        end = len(content)
    if content.startswith((b"\r\n", b"\n"), start, end):
        return content.index(b"\n", start) + 1
    blank = _BLANK_LINE.search(content, start, end)
    return blank.end() if blank else end


def fields(header: bytes) -> list[Field]:
    """The fields in order, with their spans."""
    return [
        Field(match[1], match[2].removesuffix(b"\r"), match.start(), match.end())
        for match in _lines(header, 0, len(header))
    ]


def first(fields: Iterable[Field], name: bytes) -> bytes | None:
    """The raw value of the first field of this name, in any case."""
    name = name.lower()
    return next((field.value for field in fields if field.name.lower() == name), None)


def select(content: bytes, start: int, end: int, names: frozenset[bytes]) -> dict[bytes, list[bytes]]:
    """The raw values of the fields whose lower-case names are in `names`, in order."""
    found: dict[bytes, list[bytes]] = {}
    if end - start <= _SMALL:
        lines: Iterable[Sequence[bytes]] = _LINE.findall(content, start, end)[:FIELD_LIMIT]
    else:
        lines = map(re.Match.groups, islice(_LINE.finditer(content, start, end), FIELD_LIMIT))
    for name, value in lines:
        if name and (name := name.lower()) in names:
            found.setdefault(name, []).append(value)
    return found


def whole_fields(header: bytes, names: frozenset[bytes], *, without: bool = False) -> list[bytes]:
    """The fields as they stand there whose lower-case names are in `names`, or all others."""
    return [match[0] for match in _lines(header, 0, len(header)) if (match[1].lower() in names) is not without]


def _lines(content: bytes, start: int, end: int) -> Iterator[re.Match[bytes]]:
    return islice((match for match in _LINE.finditer(content, start, end) if match[1]), FIELD_LIMIT)


def unfold(value: bytes) -> bytes:
    """The value in one line, without space around it (RFC 5322 §2.2.3); NUL is dropped."""
    return value.translate(None, b"\r\n\0").strip(b" \t")


def comment_end(value: bytes, start: int) -> int:
    """Where the comment that opens at `start` ends, nested ones counted (RFC 5322 §3.2.2), or else the value."""
    depth, position = 0, start
    while match := _PARENTHESIS.match(value, position):
        depth += 1 if match[1] == b"(" else -1
        position = match.end()
        if depth == 0:
            return position
    return len(value)
