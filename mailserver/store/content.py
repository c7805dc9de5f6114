"""Line ends: LF on disk, CRLF on the wire, nothing lost.

A message whose line ends are all CRLF is stored with LF, as every Maildir tool expects. One that LF form cannot carry
(a bare CR or a bare LF in it) is stored as it is, and known by its first line: a file whose first line ends in CRLF
is read verbatim, any other gets CRLF for each LF. So a message whose first line ends in a bare LF has its bare LFs
made CRLF before it is stored: the only change that is ever made.

Promises   Memory stays at one chunk, whatever the message's size. Only regular files are opened, never through a
           symbolic link, never waiting (a FIFO in new/ stalls nobody).
On failure OSError.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Self

CHUNK = 256 * 1024
_SMALL = 64 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Form(Enum):
    """How a message goes from wire form to its file."""

    LF = "each CRLF becomes LF"
    CRLF = "each bare LF becomes CRLF"
    VERBATIM = "nothing changes"


@dataclass(frozen=True, slots=True)
class Plan:
    """The form that carries a message, and its octets on disk and on the wire."""

    form: Form
    size: int
    wire_size: int

    def followed_by(self, octets: int, line_ends: int) -> Plan:
        """With more behind it whose CRs and LFs all are line ends."""
        return Plan(self.form, self.size + octets - line_ends, self.wire_size + octets)


def plan(chunks: Iterable[bytes]) -> Plan:
    """Reads a message once to see how it can be stored."""
    octets = cr = lf = crlf = 0
    first_is_bare: bool | None = None
    last = b""
    for chunk in chunks:
        if not chunk:
            continue
        octets += len(chunk)
        cr += chunk.count(b"\r")
        found = chunk.count(b"\n")
        if found:
            lf += found
            crlf += chunk.count(b"\r\n") + (last == b"\r" and chunk[:1] == b"\n")
            if first_is_bare is None:
                first_is_bare = not _ends_in_crlf(last, chunk)
        last = chunk[-1:]
    if first_is_bare:
        wire = octets + lf - crlf
        return Plan(Form.LF, wire - lf, wire) if cr == crlf else Plan(Form.CRLF, wire, wire)
    if cr == lf == crlf:
        return Plan(Form.LF, octets - crlf, octets)
    return Plan(Form.VERBATIM, octets, octets)


def stored(chunks: Iterable[bytes], form: Form) -> Iterator[bytes]:
    """The octets of the file."""
    match form:
        case Form.LF:
            return _to_lf(chunks)
        case Form.CRLF:
            return _to_crlf(chunks)
        case Form.VERBATIM:
            return iter(chunks)


def open_message(path: str) -> int:
    """A descriptor for reading. OSError ELOOP for anything but a regular file."""
    fd = os.open(path, _OPEN)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, "not a regular file")
    return fd


def wire_chunks(fd: int) -> Iterator[bytes]:
    """The message in CRLF form. Does not close the descriptor."""
    last = b""
    chunks = _read(fd)
    for chunk in chunks:
        if b"\n" in chunk:
            rest = _chain(chunk, chunks)
            yield from rest if _ends_in_crlf(last, chunk) else _to_crlf(rest)
            return
        last = chunk[-1:]
        yield chunk


def wire(fd: int) -> bytes:
    """The whole message in CRLF form. Does not close the descriptor."""
    data = os.pread(fd, _SMALL, 0)  # nearly all are as small as that
    if len(data) == _SMALL:
        return b"".join(wire_chunks(fd))
    return _to_wire(data)


class SmallMessages:
    """Those of one directory, read with three system calls each. What cannot be read so is left to `wire`.

    Nothing asks what kind of file it is: one that is not regular has not the size that is expected, or no offsets.
    """

    def __init__(self, directory: str) -> None:
        try:
            self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1  # then none can be read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def read(self, name: str, size: int) -> bytes | None:
        """The whole message in CRLF form; None unless it is small, and has that size."""
        if size > _SMALL:
            return None
        try:
            fd = os.open(name, _OPEN, dir_fd=self._fd)
            try:
                data = os.pread(fd, size + 1, 0)
            finally:
                os.close(fd)
        except OSError:
            return None
        data = _to_wire(data)
        return data if len(data) == size else None


def _to_wire(data: bytes) -> bytes:
    """Of a whole message."""
    if b"\r" not in data:
        return data.replace(b"\n", b"\r\n")
    return data if _ends_in_crlf(b"", data) else b"".join(_to_crlf([data]))


def _read(fd: int) -> Iterator[bytes]:
    offset = 0
    while data := os.pread(fd, CHUNK, offset):
        offset += len(data)
        yield data


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _ends_in_crlf(before: bytes, chunk: bytes) -> bool:
    """Whether the first LF of the chunk follows a CR; `before` is the octet ahead of the chunk."""
    at = chunk.find(b"\n")
    return (chunk[at - 1 : at] if at else before) == b"\r"


def _to_lf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Of content without a bare CR: to leave all of them out takes a quarter of the time of looking for pairs."""
    return (chunk.translate(None, b"\r") for chunk in chunks)


def _to_crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    after_cr = False
    for chunk in filter(None, chunks):
        data = chunk
        if after_cr and data.startswith(b"\n"):
            yield b"\n"
            data = data[1:]
        after_cr = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        yield data.replace(b"\n", b"\r\n")
