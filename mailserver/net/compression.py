"""DEFLATE between a connection and its engine (RFC 4978, RFC 8437 §4.1), without I/O.

Theory     What came lies here compressed and is inflated in small pieces, as the engine asks for them; so the little
           that makes much (a bomb) is no more than the next piece. Both directions remember what went before, up to
           their end.
Promises   About 100 KiB a connection, and what was received and not read yet. A piece has at most `PIECE` octets and
           takes the time of as many. What `compress` gives ends at the border of an octet, so that the other side can
           read all.
On failure `Corrupt` from `read`; there is no way to go on.
"""

from __future__ import annotations

import zlib
from collections import deque

PIECE = 16 * 1024
"""Octets that are inflated at a time."""
_SLICE = 1024
"""Compressed octets that zlib is given at a time: what it leaves is copied, again and again where little makes much."""
# Answers repeat themselves within few kilobytes: a smaller window costs 3 % of the gain and saves 192 KiB of memory.
# Higher levels take twice the time and more for another 5 %.
_LEVEL, _WINDOW, _MEMORY = 1, 13, 6
_LARGEST_WINDOW = 15


class Corrupt(Exception):
    """What came is not DEFLATE, or its stream has ended."""


class Deflate:
    """Both directions of one connection."""

    __slots__ = ("_deflate", "_full", "_inflate", "_input", "_rest", "buffered")

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW, _MEMORY)
        self._inflate = zlib.decompressobj(-_LARGEST_WINDOW)
        self._input: deque[bytes] = deque()
        self._rest = b""  # what zlib left of a slice
        self._full = False  # zlib may have more, without more input
        self.buffered = 0
        """Compressed octets that wait."""

    def compress(self, data: bytes) -> bytes:
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH) if data else b""

    def finish(self) -> bytes:
        """The end of what was compressed: nothing follows."""
        return self._deflate.flush(zlib.Z_FINISH)

    def feed(self, data: bytes) -> None:
        """Octets as they came."""
        self._input += (data[start : start + _SLICE] for start in range(0, len(data), _SLICE))
        self.buffered += len(data)

    def read(self) -> bytes:
        """The next piece; empty: more input is needed. Raises Corrupt."""
        piece = b""
        while not piece and (self._full or self._rest or self._input):
            if self._inflate.eof:
                raise Corrupt("the stream has ended")
            octets = self._rest or (self._input.popleft() if self._input and not self._full else b"")
            try:
                piece = self._inflate.decompress(octets, PIECE)
            except zlib.error as error:
                raise Corrupt(str(error)) from error
            self._rest = self._inflate.unconsumed_tail
            self._full = len(piece) == PIECE
            self.buffered -= len(octets) - len(self._rest)
        return piece

    @property
    def ended(self) -> bool:
        """The client's stream has come to its end."""
        return self._inflate.eof

    def leave(self) -> bytes:
        """Takes out what came and is not compressed, when nothing more is to be.

        That is what lies behind the end of the client's stream; of a client that stops without an end, all that waits:
        it has to wait for the answer, since what it sends at once would be taken for more of the stream.
        """
        octets = self._rest + b"".join(self._input)
        self._rest, self.buffered = b"", 0
        self._input.clear()
        if self._inflate.eof:
            return self._inflate.unused_data + octets
        probe = self._inflate.copy()
        try:
            more = probe.decompress(octets, 1)
        except zlib.error:
            return octets
        if not probe.eof or more:
            return octets
        self._inflate = probe
        return probe.unused_data
