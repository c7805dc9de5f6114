"""Which octets of a message a BODY section means (RFC 3501 §6.4.5).

Promises   Every section but a choice of header fields is a span of the message: nothing is made anew. Pure.
On failure A part that is not there is None, which is sent as NIL.
"""

from __future__ import annotations

from functools import lru_cache

from mailserver.imap.commands import Section, Text
from mailserver.message import Part, header_end, parse, section, whole_fields

Span = tuple[int, int]
"""First octet, and the one behind the last."""

_CHOSEN = (Text.FIELDS, Text.FIELDS_NOT)


def needs_header_only(wanted: Section) -> bool:
    return not wanted.part and wanted.text in (Text.HEADER, *_CHOSEN)


def is_span(wanted: Section) -> bool:
    return wanted.text not in _CHOSEN


class Source:
    """A message in CRLF form, or its beginning up to the end of the header. Parsed when a section asks for a part."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._tree: Part | None = None

    def octets(self, wanted: Section) -> bytes | None:
        """What the section holds, its partial range applied."""
        if is_span(wanted):
            span = self.span(wanted)
            return None if span is None else self.content[slice(*clipped(span, wanted.partial))]
        header = self._header(wanted)
        if header is None:
            return None
        chosen = choose(self.content[slice(*header)], wanted)
        return chosen[slice(*clipped((0, len(chosen)), wanted.partial))]

    def span(self, wanted: Section) -> Span | None:
        """Where it lies, without its partial range."""
        if not wanted.part:
            end = len(self.content)
            match wanted.text:
                case Text.ALL:
                    return (0, end)
                case Text.TEXT:
                    return (header_end(self.content), end)
                case _:
                    return self._header(wanted)
        part = self._part(wanted)
        if part is None:
            return None
        match wanted.text:
            case Text.ALL:
                return part.body
            case Text.MIME:
                return part.header
            case Text.TEXT:
                return part.message.body if part.message is not None else None
            case _:
                return self._header(wanted)

    def _header(self, wanted: Section) -> Span | None:
        if not wanted.part:
            return (0, header_end(self.content))
        part = self._part(wanted)
        return part.message.header if part is not None and part.message is not None else None

    def _part(self, wanted: Section) -> Part | None:
        if self._tree is None:
            self._tree = parse(self.content)
        return section(self._tree, wanted.part)


def choose(header: bytes, wanted: Section) -> bytes:
    """The fields that HEADER.FIELDS or HEADER.FIELDS.NOT name, and the blank line."""
    chosen = whole_fields(header, _names(wanted.fields), without=wanted.text is Text.FIELDS_NOT)
    if chosen and not chosen[-1].endswith(b"\n"):
        chosen.append(b"\r\n")
    return b"".join(chosen) + b"\r\n"


@lru_cache(maxsize=32)
def _names(fields: tuple[bytes, ...]) -> frozenset[bytes]:
    return frozenset(name.lower() for name in fields)


def clipped(span: Span, partial: tuple[int, int] | None) -> Span:
    """The part of the span that a partial range leaves; empty when it begins behind the end."""
    if partial is None:
        return span
    start, end = span
    first, count = partial
    begin = min(start + first, end)
    return (begin, min(begin + count, end))
