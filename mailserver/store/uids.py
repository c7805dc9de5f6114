"""UIDs: given once, in ascending order, whatever happens.

The folder's `.uidvalidity` begins as isync's does: the UIDVALIDITY on the first line, the highest UID that was ever
given or reserved on the second. The third line is ours: the highest UID really given, the reservation that this belongs
to, and the system start during which it was written; then, in a folder that came from another server, its serial.

A folder's key is its UIDVALIDITY, which is unique within the account, but for folders from another server: some give
the same one to several folders. There the serial stands above its 32 bits and tells them apart.

Promises   No UID is given twice, by threads or processes, nor after a power cut: UIDs are reserved ahead in blocks, and
           the reservation is synced before its first UID is used. The third line is not synced, so it counts only while
           the system has not been started anew; after that giving goes on above the reservation.
           While `granting` lasts nobody else gives UIDs in this folder, so that files appear in the order of their
           UIDs.
On failure OSError. A file that is missing or damaged is made again from what `recover` knows.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mailserver.store.names import UID_LIMIT
from mailserver.store.syncing import locked, sync_directory, write_all

UIDS_FILE = ".uidvalidity"
BLOCK = 256

_CONTENT = re.compile(
    rb"\s*([0-9]{1,10})\n\s*([0-9]{1,10})"
    rb"(?:\n(?P<last>[0-9]{1,10}) (?P<reserved>[0-9]{1,10}) (?P<boot>[0-9a-z-]{1,64})"
    rb"(?: (?P<serial>[0-9]{1,10}))?\n)?\s*"
)

Recover = Callable[[], tuple[int, int]]
"""A key and the highest UID known to be given, for a folder that has no usable file."""


class Grants:
    """The right to give UIDs, held under the lock."""

    def __init__(self, directory: Path, fd: int, recover: Recover) -> None:
        self._directory = directory
        self._fd = fd
        self._boot = _boot()
        known = _parse(os.pread(fd, 256, 0), self._boot)
        if known is not None:
            self.key, self.last, self._reserved = known
        else:
            self.key, self.last = recover()
            self._reserve(self.last + BLOCK)

    @property
    def validity(self) -> int:
        return validity_of(self.key)

    def take(self, count: int) -> int:
        """The first of `count` UIDs in a row. Raises OSError; then none was given."""
        first = self.last + 1
        if first + count > UID_LIMIT:
            raise OSError("the mailbox has no UIDs left")
        if self.last + count > self._reserved:
            self._reserve(self.last + count + BLOCK)
        self.last += count
        self._write()
        return first

    def advance(self, upto: int) -> None:
        """UIDs up to this one are known to be given."""
        if self.last < upto <= UID_LIMIT:
            self.last = upto
            self._reserve(max(self._reserved, upto))

    def renew(self, validity: int) -> None:
        """Another UIDVALIDITY for the folder; the UIDs stay."""
        self.key = validity
        self._reserve(self.last + BLOCK)

    def _reserve(self, upto: int) -> None:
        self._reserved = upto
        self._write()
        os.fsync(self._fd)
        sync_directory(self._directory)

    def _write(self) -> None:
        _rewrite(self._fd, _format(self.key, self.last, self._reserved, self._boot))


@contextmanager
def granting(directory: Path, recover: Recover) -> Iterator[Grants]:
    """Waits until nobody else gives UIDs in the folder. Raises OSError."""
    with locked(directory / UIDS_FILE) as fd:
        yield Grants(directory, fd, recover)


def peek(directory: Path) -> tuple[int, int] | None:
    """UIDVALIDITY and the highest UID given, without the lock; None when there is no usable file."""
    known = _known(directory)
    return (validity_of(known[0]), known[1]) if known else None


def key(directory: Path) -> int | None:
    """The folder's key, without the lock; None when there is no usable file."""
    known = _known(directory)
    return known[0] if known else None


def make_key(validity: int, serial: int) -> int:
    """`serial` is less than 2**31."""
    return serial << 32 | validity


def validity_of(key: int) -> int:
    """The UIDVALIDITY in a key."""
    return key & UID_LIMIT


def _known(directory: Path) -> tuple[int, int, int] | None:
    try:
        return _parse((directory / UIDS_FILE).read_bytes()[:256], _boot())
    except OSError:
        return None


def begin(directory: Path, validity: int) -> None:
    """Makes the file of a new folder. The caller syncs the directory."""
    with locked(directory / UIDS_FILE) as fd:
        _rewrite(fd, _format(validity, 0, BLOCK, _boot()))
        os.fsync(fd)


def note_validity(lock_file: Path, validity: int, known: Callable[[], int]) -> None:
    """A folder brought this one; `next_validity` goes on above it."""
    with locked(lock_file) as fd:
        last = _last_validity(fd, known)
        if validity > last:
            _rewrite(fd, b"%d\n" % validity)
            os.fsync(fd)


def next_validity(lock_file: Path, known: Callable[[], int]) -> int:
    """A UIDVALIDITY greater than any that the account ever had, so that a name used again is never mistaken.

    `lock_file` keeps the last one; `known` finds the highest in use when the file is new.
    """
    with locked(lock_file) as fd:
        return next_validity_locked(fd, known)


def next_validity_locked(fd: int, known: Callable[[], int]) -> int:
    """As `next_validity`, for one who holds the lock."""
    last = _last_validity(fd, known)
    validity = max(int(time.time()), last + 1) if last < UID_LIMIT else int(time.time())
    _rewrite(fd, b"%d\n" % validity)
    os.fsync(fd)
    return validity


def _last_validity(fd: int, known: Callable[[], int]) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else known()


def _format(key: int, last: int, reserved: int, boot: str) -> bytes:
    """What is written without a sync is as long as before: a file cut at its old length must not lose its last line."""
    serial = key >> 32
    tail = f"{last:010d} {reserved} {boot or '-'}{f' {serial}' if serial else ''}\n" if boot or serial else ""
    return f"{validity_of(key)}\n{reserved}\n{tail}".encode()


def _parse(data: bytes, boot: str) -> tuple[int, int, int] | None:
    """Key, highest UID given as far as can be trusted, highest UID reserved."""
    match = _CONTENT.fullmatch(data)
    if match is None:
        return None
    validity, reserved = int(match[1]), int(match[2])
    if not 0 < validity <= UID_LIMIT or reserved > UID_LIMIT:
        return None
    last = reserved
    if boot and match["boot"] == boot.encode() and int(match["reserved"]) == reserved:
        last = min(int(match["last"]), reserved)
    return make_key(validity, int(match["serial"] or 0) & 0x7FFFFFFF), last, reserved


def _rewrite(fd: int, data: bytes) -> None:
    """One write, so that whoever reads without the lock sees it whole."""
    os.lseek(fd, 0, os.SEEK_SET)
    write_all(fd, data)
    if os.fstat(fd).st_size > len(data):
        os.ftruncate(fd, len(data))


@cache
def _boot() -> str:
    """Names this start of the system; empty when that cannot be known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
