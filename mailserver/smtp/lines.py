"""Octets received and not yet consumed, given out as command lines.

Promises   Only CRLF ends a line. Of a line that is too long at most one octet is kept while its end is awaited.
           The same lines come out however the input was cut.
"""

from __future__ import annotations

from enum import Enum

ENDLESS = 2**20


class Overlong(Enum):
    """A line longer than its limit. SKIPPED: it has ended. ENDLESS: it is not worth to wait for its end."""

    SKIPPED = "skipped"
    ENDLESS = "endless"


class LineBuffer:
    """Append what comes, take lines or everything."""

    __slots__ = ("_data", "_skipped", "_unwanted")

    def __init__(self) -> None:
        self._data = bytearray()
        self._skipped = 0  # octets of the current line that were thrown away
        self._unwanted = 0  # octets still to come that no one wants

    def __len__(self) -> int:
        return len(self._data)

    def append(self, data: bytes) -> None:
        self._data += data
        if self._unwanted:
            self.discard(self._unwanted)

    @property
    def within_line(self) -> bool:
        """Whether the beginning of the next line was thrown away."""
        return self._skipped > 0

    @property
    def beginning(self) -> bytes:
        """Five octets of the next line, as far as they are there, in upper case; none within a line."""
        return b"" if self._skipped else bytes(self._data[:5]).upper()

    def discard(self, count: int) -> None:
        """Throws the next octets away, those in the buffer and then those to come."""
        self._unwanted = max(0, count - len(self._data))
        del self._data[:count]

    def clear(self) -> None:
        self._data.clear()
        self._skipped = self._unwanted = 0

    def take(self, count: int) -> bytes:
        """The next octets, at most so many."""
        data = bytes(self._data[:count])
        del self._data[:count]
        return data

    def take_all(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data

    def line(self, limit: int) -> bytes | Overlong | None:
        """The next line without its CRLF; None until it is complete. `limit` counts octets with the CRLF."""
        end = self._data.find(b"\r\n")
        length = self._skipped + (len(self._data) if end < 0 else end + 2)
        if length <= limit:
            if end < 0:
                return None
            line = bytes(self._data[:end])
            del self._data[: end + 2]
            return line
        if length > ENDLESS:
            self.clear()
            return Overlong.ENDLESS
        if end >= 0:
            self._skipped = 0
            del self._data[: end + 2]
            return Overlong.SKIPPED
        keep = self._data.endswith(b"\r")  # its LF may come next
        self._skipped = length - keep
        del self._data[: len(self._data) - keep]
        return None
