"""Cuts what a client sends into lines and literal octets (RFC 3501 §4.3, RFC 7888).

Theory     The receiver knows lines, and literals only as "so many octets that come now". Whoever uses it looks at the
           announcement at a line's end and calls `expect` to have that many octets handed on, in pieces as they come.
           A line ends with CRLF; a bare LF is taken as well, as other servers do.
Promises   Holds one line of at most the limit, or the octets of one read. Each octet is looked at once. What an endless
           line has is dropped as it comes, but for its first and last octets, which name the tag and a literal.
On failure Nothing here fails: an overlong line is marked as such.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ANNOUNCEMENT = re.compile(rb"\{(\d{1,20})(\+?)\}\r?\n\Z")
_HEAD = 256
_TAIL = 32


@dataclass(frozen=True, slots=True)
class Announcement:
    """`{size}` or `{size+}` at the end of a line. With `waits` the client sends the octets only when asked to."""

    size: int
    waits: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its end; an overlong one has lost its middle."""

    data: bytes
    announcement: Announcement | None
    overlong: bool

    @property
    def text(self) -> bytes:
        """Without the line end."""
        return self.data[:-2] if self.data.endswith(b"\r\n") else self.data[:-1]


@dataclass(frozen=True, slots=True)
class Octets:
    """A piece of a literal; `left` octets are still to come."""

    data: bytes
    left: int


class Receiver:
    """`limit` may be changed at any time: octets of one line."""

    __slots__ = ("_buffer", "_expected", "_head", "_scanned", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._scanned = 0
        self._expected = 0
        self._head = b""  # of an overlong line, whose middle was dropped

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def clear(self) -> None:
        """Forgets all input (RFC 3501 §6.2.1: nothing sent before TLS counts)."""
        self._buffer.clear()
        self._scanned = self._expected = 0
        self._head = b""

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def expect(self, size: int) -> None:
        """The next `size` octets are a literal's."""
        self._expected = size

    def next(self) -> Line | Octets | None:
        """None: more input is needed."""
        return self._next_octets() if self._expected else self._next_line()

    def _next_octets(self) -> Octets | None:
        if not self._buffer:
            return None
        with memoryview(self._buffer) as view:
            data = bytes(view[: self._expected])
        del self._buffer[: len(data)]
        self._expected -= len(data)
        return Octets(data, self._expected)

    def _next_line(self) -> Line | None:
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            if self._scanned > self.limit + 1:
                self._drop_middle()
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._scanned = 0
        overlong = bool(self._head) or len(line) > self.limit + 2
        if overlong:
            line = (self._head or line[:_HEAD]) + b" " + line[-_TAIL:]
            self._head = b""
        return Line(line, _announcement(line), overlong)

    def _drop_middle(self) -> None:
        self._head = self._head or bytes(self._buffer[:_HEAD])
        del self._buffer[:-_TAIL]
        self._scanned = len(self._buffer)


def _announcement(line: bytes) -> Announcement | None:
    match = _ANNOUNCEMENT.search(line[-_TAIL:])
    return Announcement(int(match[1]), waits=not match[2]) if match else None
