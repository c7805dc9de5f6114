"""Which octets of a message a BODY section means (RFC 3501 §6.4.5).

Promises   Every section but a choice of header fields is a span of the message: nothing is made anew. Pure.
On failure A part that is not there is None, which is sent as NIL.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from mailserver.imap.commands import Section, Text
from mailserver.message import Part, fields, header_end, parse, section
from mailserver.message.header import FIELD_LIMIT
from mailserver.message.summary import covers
from mailserver.sessions.imap.binary import Decoded, Decoder

Span = tuple[int, int]
"""First octet, and the one behind the last."""

_CHOSEN = (Text.FIELDS, Text.FIELDS_NOT)
BINARY = (Text.DECODED, Text.DECODED_SIZE)
_NAME = re.compile(rb"[^\x00-\x20:\x7f]++")  # of a field, as in `message.header`


def needs_header_only(wanted: Section) -> bool:
    return not wanted.part and wanted.text in (Text.HEADER, *_CHOSEN)


def in_summary(wanted: Section) -> bool:
    """What the summary of the header has (`Mailbox.headers`)."""
    return not wanted.part and wanted.text is Text.FIELDS and covers(wanted.fields)


def is_span(wanted: Section) -> bool:
    return wanted.text not in (*_CHOSEN, *BINARY)


class Source:
    """A message in CRLF form, or its beginning up to the end of the header. Parsed when a section asks for a part."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._tree: Part | None = None
        self._decoder: Decoder | None = None

    def decoded(self, wanted: Section, spool: Path) -> Decoded | None:
        """What BINARY means, without its partial range. Raises as `Decoder.decode`."""
        part = self.part(wanted) if wanted.part else None
        if wanted.part and part is None:
            return None
        if self._decoder is None:
            self._decoder = Decoder(self.content, spool)
        return self._decoder.decode(part)

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
        part = self.part(wanted)
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
        part = self.part(wanted)
        return part.message.header if part is not None and part.message is not None else None

    def part(self, wanted: Section) -> Part | None:
        """The part that the numbers of the section name; without any, the message."""
        if self._tree is None:
            self._tree = parse(self.content)
        return section(self._tree, wanted.part)


def choose(header: bytes, wanted: Section) -> bytes:
    """The fields that HEADER.FIELDS or HEADER.FIELDS.NOT name, and the blank line."""
    if not header.endswith(b"\n"):
        header += b"\r\n"
    if header.count(b"\n") > FIELD_LIMIT:  # only then can there be so many fields
        header = header[: max((field.end for field in fields(header)), default=0)]
    chosen = _choice(wanted.fields, wanted.text is Text.FIELDS_NOT).findall(b"\n" + header)
    return b"".join(chosen)[1:] + b"\n\r\n" if chosen else b"\r\n"


@lru_cache(maxsize=32)
def _choice(names: tuple[bytes, ...], without: bool) -> re.Pattern[bytes]:
    """Finds whole fields, each with the line end before it instead of that behind it: so it begins with a letter."""
    chosen = b"|".join(re.escape(name) for name in names if _NAME.fullmatch(name)) or b"(?!)"
    chosen = b"(?!(?:%b)[ \t]*+:)%b" % (chosen, _NAME.pattern) if without else b"(?:%b)" % chosen
    return re.compile(b"\n" + chosen + rb"[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+", re.IGNORECASE)


def clipped(span: Span, partial: tuple[int, int] | None) -> Span:
    """The part of the span that a partial range leaves; empty when it begins behind the end."""
    if partial is None:
        return span
    start, end = span
    first, count = partial
    begin = min(start + first, end)
    return (begin, min(begin + count, end))
