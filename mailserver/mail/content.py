"""The content of a message on its way: header and body as on the wire, lines ended by CRLF.

Promises   At most `SPOOL_LIMIT` octets are held in memory; what is larger lies in a nameless temporary file that the
           system frees when the content is closed or the process dies.
           Once written, `chunks` may be read any number of times, from several threads at once.
On failure OSError from the temporary file (disk full) comes out of `write`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SPOOL_LIMIT = 1024 * 1024
CHUNK = 256 * 1024
PIECES_LIMIT = 1000  # a piece of two octets takes sixty


class Content:
    """Write pieces in order, then read them back. `size` counts octets, each line end as two."""

    __slots__ = ("_directory", "_fd", "_pieces", "line_ends", "size")

    def __init__(self, *pieces: bytes, directory: Path | None = None) -> None:
        self._directory = directory
        self._pieces: list[bytes] = []
        self._fd: int | None = None
        self.size = 0
        self.line_ends: int | None = None
        """How many CRLF there are and no other CR or LF, where whoever wrote it has counted them."""
        for piece in pieces:
            self.write(piece)

    @classmethod
    def of_file(cls, path: Path) -> Content:
        """The octets of a regular file that nobody changes any more. Raises OSError."""
        content = cls()
        content._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        content.size = os.fstat(content._fd).st_size
        return content

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.line_ends = None
        if self._fd is None:
            self._pieces.append(data)
            if self.size <= SPOOL_LIMIT:
                if len(self._pieces) > PIECES_LIMIT:
                    self._pieces = [b"".join(self._pieces)]
                return
            fd, name = tempfile.mkstemp(dir=self._directory)
            Path(name).unlink()
            self._fd = fd
            data = b"".join(self._pieces)
            self._pieces = []
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def chunks(self, offset: int = 0, end: int = sys.maxsize) -> Iterator[bytes]:
        """The octets in order, from `offset` up to `end`, in pieces of at most `CHUNK` when they lie in a file."""
        if self._fd is None:
            if len(self._pieces) > 1:
                self._pieces = [b"".join(self._pieces)]
            yield from (piece[offset:end] for piece in tuple(self._pieces))
            return
        while data := os.pread(self._fd, min(CHUNK, end - offset), offset):
            offset += len(data)
            yield data

    def piece(self, start: int, size: int) -> Piece:
        return Piece(self, start, size)

    @property
    def in_memory(self) -> bool:
        """Reading it takes no time."""
        return self._fd is None

    def head(self, limit: int) -> bytes:
        """The first octets, at most `limit`."""
        if self._fd is None:
            return b"".join(self._pieces)[:limit]
        return os.pread(self._fd, limit, 0)

    def close(self) -> None:
        """Frees the file; the content cannot be read again."""
        self._pieces = []
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __del__(self) -> None:
        self.close()


class Piece(NamedTuple):
    """Some of a content's octets, as long as that is open."""

    content: Content
    start: int
    size: int

    def chunks(self) -> Iterator[bytes]:
        """In order, as `Content.chunks`."""
        return self.content.chunks(self.start, self.start + self.size)
