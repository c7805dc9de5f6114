r"""The packed search text of one account: one file to which decoded text is appended, and what the index knows of it.

Layout     `MAGIC`, eight octets that name the file, then the text of one message after another (`message.searchable`).
           Where each lies, and its checksums, stand in the index, with the name of the file that they hold for.
Promises   A cache. The file and the index may be deleted, damaged, or exchanged for older ones at any time: text whose
           checksum is wrong counts as not packed. Whoever writes is alone with the file, among all threads and
           processes; a file is never changed but by appending, so that readers need no lock. It is read, not mapped:
           a file that somebody truncates while it is mapped kills the process.
On failure Logged. What could not be written is not packed.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mailserver.message.searchable import Searchable
from mailserver.store.index import Index, Packed, Place
from mailserver.store.searchtable import Stamp
from mailserver.store.syncing import locked, write_all

log = logging.getLogger(__name__)

SEARCH_FILE = "mailserver.search"
MAGIC = b"mailserver search 3\n"
SPARED = 2**20  # octets of dead text that are never worth a compaction

_NEW = ".new"
_MARK = 8
_START = len(MAGIC) + _MARK
_COPIED = 2**20


class Opened(NamedTuple):
    fd: int
    mark: int
    """Names the file."""
    size: int
    stamp: Stamp


class Appended(NamedTuple):
    """What is packed now of the messages that were given, and of which file we alone made which by that."""

    mark: int
    rows: list[Place]
    before: Stamp
    after: Stamp


class SearchFile:
    """Thread-safe."""

    def __init__(self, directory: Path, index: Index) -> None:
        self._path = directory / SEARCH_FILE
        self._index = index

    @contextmanager
    def reading(self) -> Iterator[Opened | None]:
        """The file as it is now; None when there is none of ours."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._warn(error)
            yield None
            return
        try:
            try:
                opened = self._opened(fd)
            except OSError as error:
                self._warn(error)
                opened = None
            yield opened
        finally:
            os.close(fd)

    def append(self, key: int, texts: Mapping[int, Searchable]) -> Appended | None:
        """Packs the text of messages, by UID. Some may be missing when the disk refuses, or all (None)."""
        try:
            with self._alone() as fd:
                opened = self._opened(fd) or self._begin(fd)
                known = self._index.packed.find(key, opened.mark, texts)
                missing = texts.keys() - {each[0] for each in known}
                added = self._write(opened, {uid: texts[uid] for uid in texts if uid in missing})
                if added and not self._index.packed.store(key, opened.mark, added):
                    os.ftruncate(fd, opened.size)
                    added = []
                return Appended(opened.mark, [*known, *added], opened.stamp, _stamp(os.fstat(fd)))
        except OSError as error:
            self._warn(error)
            return None

    def remove(self) -> None:
        """All is to be packed again."""
        try:
            with self._alone():
                self._path.unlink()
        except OSError as error:
            self._warn(error)

    def compact(self) -> bool:
        """Makes the file anew when more than a third of its text is of messages that are gone; whether it did."""
        try:
            with self.reading() as opened:
                if opened is None or not self._wasteful(opened):
                    return False
            with self._alone() as fd:
                opened = self._opened(fd)
                return opened is not None and self._wasteful(opened) and self._rewrite(opened)
        except OSError as error:
            self._warn(error)
            return False

    def _wasteful(self, opened: Opened) -> bool:
        living = self._index.packed.octets(opened.mark)
        everything = opened.size - _START
        return living is not None and everything - living > max(SPARED, everything // 3)

    def _rewrite(self, old: Opened) -> bool:
        """Kill it anywhere: text of which the index knows another place, or none, is packed again."""
        places = self._index.packed.all(old.mark)
        if places is None:
            return False
        path = self._path.with_name(SEARCH_FILE + _NEW)
        with locked(path) as fd:
            os.fchmod(fd, 0o600)
            new = self._begin(fd)
            moved = []
            pieces: list[bytes] = []
            held, end = 0, new.size
            for key, each in places:
                text = os.pread(old.fd, each.stop - each.start, each.start) if each.stop <= old.size else b""
                if not is_sound(each, text):
                    continue
                moved.append((key, each.moved(end - each.start)))
                pieces.append(text)
                end += len(text)
                held += len(text)
                if held > _COPIED:
                    write_all(fd, b"".join(pieces))
                    pieces, held = [], 0
            write_all(fd, b"".join(pieces))
            path.rename(self._path)
            # Whoever opens the new file to write waits until the index knows of it.
            self._index.packed.move(old.mark, new.mark, moved)
        log.info("store=search path=%r compacted=yes before=%d after=%d", str(self._path), old.size, end)
        return True

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """The file, made if missing, with nobody else writing."""
        while True:
            with locked(self._path) as fd:
                try:
                    current = os.path.samestat(os.fstat(fd), os.lstat(self._path))
                except FileNotFoundError:
                    current = False
                if current:
                    yield fd
                    return

    def _opened(self, fd: int) -> Opened | None:
        status = os.fstat(fd)
        head = os.pread(fd, _START, 0) if stat.S_ISREG(status.st_mode) else b""
        if len(head) < _START or not head.startswith(MAGIC):
            return None
        return Opened(fd, int.from_bytes(head[len(MAGIC) :], "big", signed=True), status.st_size, _stamp(status))

    def _begin(self, fd: int) -> Opened:
        """An empty file with a name of its own."""
        mark = secrets.token_bytes(_MARK)
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        write_all(fd, MAGIC + mark)
        return Opened(fd, int.from_bytes(mark, "big", signed=True), _START, _stamp(os.fstat(fd)))

    def _write(self, opened: Opened, texts: Mapping[int, Searchable]) -> list[Packed]:
        added = []
        end = opened.size
        for uid, text in texts.items():
            body = end + len(text.header)
            head = zlib.crc32(text.header, uid)
            stop = body + len(text.body)
            added.append(Packed(uid, end, body, stop, head, zlib.crc32(text.body, head)))
            end = stop
        os.lseek(opened.fd, opened.size, os.SEEK_SET)
        try:
            write_all(opened.fd, b"".join(piece for text in texts.values() for piece in text))
        except OSError:
            os.ftruncate(opened.fd, opened.size)
            raise
        return added

    def _warn(self, error: OSError) -> None:
        log.warning("store=search path=%r error=%r", str(self._path), error)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def is_sound(packed: Packed, text: bytes) -> bool:
    """Whether this is the text, from header to body, that was packed there."""
    return zlib.crc32(text, packed.uid) == packed.whole_sum
