"""The message content on the wire, both ways: its end, its dots, its line ends (RFC 5321 §2.3.8, §4.1.1.4, §4.5.2),
and content in chunks of told size (RFC 3030).

Promises   Only CRLF "." CRLF ends a content, and only a dot after CRLF is a stuffed one: a sender and a reader that
           follow the standard see the same octets, so nothing can be smuggled past either of them. What is read has no
           bare LF, unless it came as BINARYMIME; what is written has no bare CR either. Chunks may be cut anywhere, and
           at most four octets are held back. Work is done by `bytes` methods on whole chunks, never line by line.
On failure A reader goes on to the true end and then tells its `fault`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.mail import Reply

END = b"\r\n.\r\n"
LINE_LIMIT = 998  # octets without the CRLF, RFC 5322 §2.1.1
TOO_LARGE = Reply.of(552, "5.3.4", "The message is too large")
CORRUPT = Reply.of(554, "5.6.0", "The message holds NUL or a bare CR")
BARE_LF = Reply.of(550, "5.5.2", "The message holds a bare LF; lines end in CRLF")
LONG_LINE = Reply.of(554, "5.6.0", f"The message holds a line of more than {LINE_LIMIT} octets")


@dataclass(frozen=True, slots=True)
class Strictness:
    """What is refused although it can be read. A bare LF that is not refused becomes CRLF."""

    bare_lf: bool = False
    bare_cr_and_nul: bool = True
    long_lines: bool = False


STRICTNESS = Strictness()


class _Lines:
    """Looks at the line ends of content that comes in pieces; no piece ends in CR."""

    __slots__ = ("_length", "_strictness", "count", "fault")

    def __init__(self, strictness: Strictness) -> None:
        self._strictness = strictness
        self._length = 0  # of the line that is not complete
        self.fault: Reply | None = None
        self.count = 0
        """Line ends so far, the bare LFs that became CRLF among them."""

    @property
    def ends(self) -> int | None:
        """As many as there are CRs and LFs; None: some of these may be bare, or parts of the content were left out."""
        return self.count if self._strictness.bare_cr_and_nul and self.fault is None else None

    def check(self, raw: bytes) -> bytes:
        """`raw` with its bare LFs made CRLF. A piece begins in LF only when that is bare."""
        pairs, feeds = raw.count(b"\r\n"), raw.count(b"\n")
        self.count += feeds
        if self._strictness.bare_cr_and_nul and (raw.count(b"\r") != pairs or b"\0" in raw):
            self._note(CORRUPT)
        if self._strictness.long_lines:
            self._measure(raw)
        if feeds == pairs:
            return raw
        if self._strictness.bare_lf:
            self._note(BARE_LF)
        return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def _measure(self, raw: bytes) -> None:
        first, *others = [len(line.removesuffix(b"\r")) for line in raw.split(b"\n")]
        if max(self._length + first, *others, 0) > LINE_LIMIT:
            self._note(LONG_LINE)
        self._length = others[-1] if others else self._length + first

    def _note(self, fault: Reply) -> None:
        self.fault = self.fault or fault


class BodyReader:
    """Takes octets from the wire until the content has ended; `limit` is the largest content in octets."""

    __slots__ = ("_ended", "_held", "_lead", "_limit", "_lines", "rest", "size")

    def __init__(self, limit: int, strictness: Strictness = STRICTNESS) -> None:
        self._limit = limit
        self._held = b"\r\n"  # the CRLF of the DATA line is the first half of an end that comes at once, §4.1.1.4
        self._lead = 2  # and so it is cut from the content
        self._lines = _Lines(strictness)
        self._ended = False
        self.size = 0
        """Octets of content so far, those counted that were not given out because of a fault."""
        self.rest = b""
        """Once the content has ended: the octets that follow it."""

    @property
    def fault(self) -> Reply | None:
        return TOO_LARGE if self.size > self._limit else self._lines.fault

    @property
    def line_ends(self) -> int | None:
        """As in `BodyEnd`, once the content has ended. The CRLF of the DATA line was looked at with it."""
        ends = self._lines.ends
        return None if ends is None else ends - 1

    def ended(self) -> bool:
        return self._ended

    @property
    def held(self) -> int:
        """Octets taken and not yet given out."""
        return len(self._held) - self._lead

    def feed(self, data: bytes) -> bytes:
        """The content in `data`; nothing from the chunk on in which a fault shows."""
        window = self._held + data
        dot = window.find(b"\r\n.")  # most content has none, and is looked through only once
        end = window.find(END, dot) if dot >= 0 else -1
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
        raw = window[:cut]
        content = self._lines.check(raw.replace(b"\r\n.", b"\r\n") if dot >= 0 else raw)[self._lead :]
        self._lead = 0
        self.size += len(content)
        return b"" if self.fault else content


class ChunkReader:
    """Takes the octets of BDAT chunks, as many as each announces. `limit` is the largest content in octets."""

    __slots__ = ("_held", "_limit", "_lines", "last", "remaining", "size")

    def __init__(self, limit: int, strictness: Strictness = STRICTNESS, *, binary: bool = False) -> None:
        """`binary`: BODY=BINARYMIME, whose octets may be any."""
        self._limit = limit
        self._lines = None if binary else _Lines(strictness)
        self._held = b""  # a CR whose LF may come next
        self.remaining = 0
        """Octets of the chunk that are still to come."""
        self.last = False
        self.size = 0
        """As in `BodyReader`."""

    @property
    def fault(self) -> Reply | None:
        if self.size > self._limit:
            return TOO_LARGE
        return self._lines.fault if self._lines is not None else None

    @property
    def line_ends(self) -> int | None:
        """As in `BodyEnd`."""
        return self._lines.ends if self._lines is not None else None

    @property
    def held(self) -> int:
        return len(self._held)

    def begin(self, size: int, *, last: bool) -> None:
        """A further chunk follows."""
        self.remaining, self.last = size, last

    def ended(self) -> bool:
        """The chunk is complete."""
        return self.remaining == 0

    def feed(self, data: bytes) -> bytes:
        """The content in `data`, all of which belongs to the chunk; nothing once a fault has shown."""
        self.remaining -= len(data)
        if self._lines is None:
            content = data
        else:
            raw = self._held + data
            whole = self.last and self.remaining == 0
            self._held = b"\r" if raw.endswith(b"\r") and not whole else b""
            content = self._lines.check(raw[: len(raw) - len(self._held)])
        self.size += len(content)
        return b"" if self.fault else content


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
