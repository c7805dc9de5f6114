"""The message content on the wire, both ways: its end, its dots, its line ends (RFC 5321 §2.3.8, §4.1.1.4, §4.5.2).

Promises   Only CRLF "." CRLF ends a content, and only a dot after CRLF is a stuffed one: a sender and a reader that
           follow the standard see the same octets, so nothing can be smuggled past either of them. What is read or
           written has no bare LF; what is written has no bare CR either. Chunks may be cut anywhere, and at most four
           octets are held back. Work is done by `bytes` methods on whole chunks, never line by line.
On failure A reader goes on to the true end and then tells its `fault`.
"""

from __future__ import annotations

from mailserver.mail import Reply

END = b"\r\n.\r\n"
TOO_LARGE = Reply.of(552, "5.3.4", "The message is too large")
CORRUPT = Reply.of(554, "5.6.0", "The message holds NUL or a bare CR")


class BodyReader:
    """Takes octets from the wire until the content has ended; `limit` is the largest content in octets."""

    __slots__ = ("_corrupt", "_ended", "_held", "_lead", "_limit", "rest", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = b"\r\n"  # the CRLF of the DATA line is the first half of an end that comes at once, §4.1.1.4
        self._lead = 2  # and so it is cut from the content
        self._corrupt = False
        self._ended = False
        self.size = 0
        """Octets of content so far, those counted that were not given out because of a fault."""
        self.rest = b""
        """Once the content has ended: the octets that follow it."""

    @property
    def fault(self) -> Reply | None:
        if self.size > self._limit:
            return TOO_LARGE
        return CORRUPT if self._corrupt else None

    def ended(self) -> bool:
        return self._ended

    @property
    def held(self) -> int:
        """Octets taken and not yet given out."""
        return len(self._held) - self._lead

    def feed(self, data: bytes) -> bytes:
        """The content in `data`; nothing from the chunk on in which a fault shows."""
        window = self._held + data
        end = window.find(END)
        if end >= 0:
            cut = end + 2
            self._held = b""
            self._ended = True
            self.rest = window[end + len(END) :]
        else:
            cut = len(window) - next(n for n in (4, 3, 2, 1, 0) if window.endswith(END[:n]))
            self._held = window[cut:]
        if not cut:
            return b""
        content = self._decode(window[:cut])[self._lead :]
        self._lead = 0
        self.size += len(content)
        return b"" if self.fault else content

    def _decode(self, raw: bytes) -> bytes:
        """`raw` never ends in CR, and begins in LF only when that is bare: `feed` holds such beginnings back."""
        pairs = raw.count(b"\r\n")
        if raw.count(b"\r") != pairs or b"\0" in raw:
            self._corrupt = True
        content = raw.replace(b"\r\n.", b"\r\n")
        if raw.count(b"\n") != pairs:
            content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return content


class BodyWriter:
    """Gives content the form for the wire. Bare CR and bare LF, which must not be sent (§2.3.8), become CRLF."""

    __slots__ = ("_held", "_line_start")

    def __init__(self) -> None:
        self._held = b""  # a CR whose LF may come with the next chunk
        self._line_start = True

    def feed(self, chunk: bytes) -> bytes:
        data = self._held + chunk
        self._held = data[-1:] if data.endswith(b"\r") else b""
        if self._held:
            data = data[:-1]
        if not data:
            return b""
        if not data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n"):
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        stuffed = data.replace(b"\r\n.", b"\r\n..")
        if self._line_start and data.startswith(b"."):
            stuffed = b"." + stuffed
        self._line_start = data.endswith(b"\r\n")
        return stuffed

    def end(self) -> bytes:
        """The end of the last line, when it lacks one, and of the content."""
        return b".\r\n" if self._line_start and not self._held else END
