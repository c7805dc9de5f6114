"""The tree of parts of a message (RFC 2045, RFC 2046).

Theory     Top down: a multipart's delimiter lines are found with `bytes.find`, and each part is then parsed within its
           own span, so that the outer boundary always wins. A delimiter line must be the boundary and nothing more
           than space after it: boundaries where one begins with the other are told apart.
Promises   Spans are offsets into the content, nothing is copied. Time is linear in the size (and a scan at memory speed
           for each level). Depth, parts, the octets of all their headers, and lines that only look like a delimiter
           are bounded.
On failure A multipart without any delimiter line is text/plain; what lies deeper than `DEPTH_LIMIT` is
           application/octet-stream; when the other bounds are reached the rest belongs to the last part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mailserver.message.header import header_end, select, unfold
from mailserver.message.parameters import Parameters, structured

DEPTH_LIMIT = 100
PART_LIMIT = 10_000
HEADER_LIMIT = 4 * 2**20
LOOKALIKE_LIMIT = 100_000

Span: TypeAlias = tuple[int, int]
Kind: TypeAlias = tuple[bytes, bytes]
"""Type and subtype in lower case."""

TEXT_PLAIN: Kind = (b"text", b"plain")
OCTET_STREAM: Kind = (b"application", b"octet-stream")
MESSAGES = frozenset(((b"message", b"rfc822"), (b"message", b"global")))

_DELIMITER_END = re.compile(rb"(--)?[ \t]*+\r?+(?:\n|\Z)")
_FIRST_WORD = re.compile(rb"[ \t]*+([^\s;(]++)")
_OF_PART = frozenset(
    (
        b"content-type",
        b"content-transfer-encoding",
        b"content-id",
        b"content-description",
        b"content-disposition",
        b"content-md5",
        b"content-language",
        b"content-location",
    )
)
_OF_MESSAGE = _OF_PART | frozenset(
    (
        b"date",
        b"subject",
        b"from",
        b"sender",
        b"reply-to",
        b"to",
        b"cc",
        b"bcc",
        b"in-reply-to",
        b"message-id",
        b"references",
    )
)


@dataclass(frozen=True, slots=True)
class Part:
    """A message or one of its parts. `header` includes the blank line after it; `body` reaches up to the line end
    before the next delimiter. `lines` counts the line ends in the body.

    `parts` are those of a multipart; `message` is what a message/rfc822 holds. Never both.
    """

    content: bytes = field(repr=False)
    header: Span
    body: Span
    type: bytes
    subtype: bytes
    parameters: Parameters
    lines: int
    parts: tuple[Part, ...]
    message: Part | None
    fields: dict[bytes, list[bytes]] = field(repr=False)
    """The raw values of the fields that BODYSTRUCTURE shows, by their names in lower case; of a message also those of
    its ENVELOPE (RFC 3501 §7.4.2), and References.
    """

    def parameter(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.parameters if key == name), None)

    def text(self, name: bytes) -> bytes | None:
        """The first field of this name, in one line."""
        values = self.fields.get(name)
        return unfold(values[0]) if values is not None else None

    @property
    def encoding(self) -> bytes:
        """Content-Transfer-Encoding in lower case; 7bit if there is none."""
        match = _FIRST_WORD.match(self.text(b"content-transfer-encoding") or b"")
        return match[1].lower() if match else b"7bit"

    @property
    def disposition(self) -> tuple[bytes, Parameters] | None:
        """Content-Disposition: the word in lower case and its parameters (RFC 2183)."""
        values = self.fields.get(b"content-disposition")
        if values is None:
            return None
        word, _, parameters = structured(values[0])
        return (word, parameters) if word else None

    def inner(self) -> Iterator[Part]:
        """All that lie in this one, at whatever depth, in order; an enclosed message is one too."""
        for part in self.parts if self.message is None else (self.message,):
            yield part
            yield from part.inner()

    def leaves(self) -> Iterator[Part]:
        """The parts without parts, in order; those of enclosed messages too."""
        if self.message is not None:
            yield from self.message.leaves()
        elif self.parts:
            for part in self.parts:
                yield from part.leaves()
        else:
            yield self


def parse(content: bytes) -> Part:
    """The message that `content` is. Never raises."""
    return _Parser(content).part(0, len(content), TEXT_PLAIN, DEPTH_LIMIT, _OF_MESSAGE)


def section(message: Part, numbers: Sequence[int]) -> Part | None:
    """The part that IMAP names by these numbers, from one up (RFC 3501 §6.4.5); no numbers: the message itself.

    Part 1 of a message that is no multipart is the message's own body.
    """
    part = message
    whole = True  # `part` is a message, so that number 1 may stand for its body
    for number in numbers:
        if not whole and part.message is not None:
            part, whole = part.message, True
        if part.parts:
            if not 1 <= number <= len(part.parts):
                return None
            part = part.parts[number - 1]
        elif number != 1 or not whole:
            return None
        whole = False
    return part


class _Parser:
    __slots__ = ("content", "header_left", "lookalikes_left", "parts_left")

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.parts_left = PART_LIMIT
        self.header_left = HEADER_LIMIT
        self.lookalikes_left = LOOKALIKE_LIMIT

    def part(self, start: int, end: int, default: Kind, depth: int, names: frozenset[bytes] = _OF_PART) -> Part:
        """The part in this span. `default` is its type if it names none; it may hold `depth` further levels."""
        content = self.content
        self.parts_left -= 1
        body = header_end(content, start, end)
        self.header_left -= body - start
        fields = select(content, start, body, names)
        kind, parameters = _content_type(fields.get(b"content-type"), default)
        parts: tuple[Part, ...] = ()
        message = None
        if kind[0] == b"multipart" or kind in MESSAGES:
            if depth <= 0 or self.parts_left <= 0 or self.header_left <= 0:
                kind = OCTET_STREAM
            elif kind in MESSAGES:
                message = self.part(body, end, TEXT_PLAIN, depth - 1, _OF_MESSAGE)
            else:
                parts = self.children(body, end, kind, dict(parameters).get(b"boundary", b""), depth - 1)
                if not parts:
                    kind, parameters = TEXT_PLAIN, ()
        lines = self.lines(body, end, (message,) if message is not None else parts)
        return Part(content, (start, body), (body, end), *kind, parameters, lines, parts, message, fields)

    def children(self, start: int, end: int, kind: Kind, boundary: bytes, depth: int) -> tuple[Part, ...]:
        default = (b"message", b"rfc822") if kind[1] == b"digest" else TEXT_PLAIN  # RFC 2046 §5.1.5
        return tuple(self.part(*span, default, depth) for span in self.spans(start, end, boundary.rstrip()))

    def spans(self, start: int, end: int, boundary: bytes) -> list[Span]:
        """Where the parts lie between the delimiter lines (RFC 2046 §5.1.1)."""
        if not boundary:
            return []
        content = self.content
        delimiter = b"\n--" + boundary
        found: list[Span] = []
        inside = -1  # where the current part begins
        position = start - 1  # the line end before the body may be that of the first delimiter
        while (position := content.find(delimiter, max(position, 0), end)) >= 0:
            tail = _DELIMITER_END.match(content, position + len(delimiter), end)
            if tail is None:
                self.lookalikes_left -= 1
                if self.lookalikes_left <= 0:
                    break
                position += 1
                continue
            if inside >= 0:
                before = position - 1 if content.startswith(b"\r", position - 1) else position
                found.append((inside, max(inside, before)))
            inside = tail.end()
            if tail[1]:
                return found
            if len(found) + 1 >= self.parts_left:
                break
            position = inside - 1
        if inside >= 0:
            found.append((inside, end))
        return found

    def lines(self, start: int, end: int, inner: Sequence[Part]) -> int:
        """The line ends in a body; those inside its parts are counted already."""
        count, position = 0, start
        for part in inner:
            count += self.content.count(b"\n", position, part.body[0]) + part.lines
            position = part.body[1]
        return count + self.content.count(b"\n", position, end)


def _content_type(values: list[bytes] | None, default: Kind) -> tuple[Kind, Parameters]:
    """RFC 2045 §5.2: what is missing or malformed is as if the field were not there; its parameters are kept."""
    parameters: Parameters = ()
    if values is not None:
        major, minor, parameters = structured(values[0])
        if major and minor:
            return (major, minor), parameters
    return default, parameters
