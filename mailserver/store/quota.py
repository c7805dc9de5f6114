"""How much an account's folders hold: `maildirsize` of Maildir++, shared with Courier and Dovecot.

An account with a limit has this file. Its first line is the limit, the others are to be added up: what was counted,
then what came (or, negative, what went) since. It is counted anew when it is missing, malformed, longer than 5120
octets, made for another limit, negative, or says that there is no room.

Promises   What does not fit by the file is refused only after the folders were counted: no room that was made, by
           whomever, is overlooked. A directory is read again only when its modification time moved.
           Room that was taken for messages on their way is held: a count, which does not see them yet, keeps it.
           A crash, or another program that keeps no book, makes the sum wrong until the next count; nothing is lost.
           A file of another server stays where no limit is set here, and is kept up to date.
On failure What cannot be written is logged. A folder that cannot be read counts as empty.
Layout     `<octets>S,<messages>C`, then lines `<octets> <messages>`. Sizes are those of the files (`S=` in the names).
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from mailserver.mail import UNLIMITED, Quota
from mailserver.store import folders, names
from mailserver.store.model import Usage
from mailserver.store.syncing import write_all
from mailserver.store.watch import Watch, is_directory, regular_files
from mailserver.store.writing import TMP, create, discard

log = logging.getLogger(__name__)

FILE = "maildirsize"
LENGTH = 5120
"""Octets of the file from which on it is counted anew."""

_LINES = re.compile(rb"(?: *-?[0-9]{1,18} +-?[0-9]{1,18} *\n)*")
_LIMIT = re.compile(rb"([0-9]{1,18})([SC])")
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOTHING = Usage(0, 0)
_PARTS = ("new", "cur")


@dataclass(frozen=True, slots=True)
class _Book:
    """The file as it was read last."""

    data: bytes
    quota: Quota
    usage: Usage

    @classmethod
    def of(cls, data: bytes, before: _Book | None) -> _Book | None:
        """None: it cannot be used. What was read `before` is not parsed again."""
        if len(data) > LENGTH or not data.endswith(b"\n"):
            return None
        if before is not None and data.startswith(before.data):
            quota, usage, lines = before.quota, before.usage, data[len(before.data) :]
        else:
            first, _, lines = data.partition(b"\n")
            limits = [_LIMIT.fullmatch(part) for part in first.split(b",")]
            found = {match[2]: int(match[1]) for match in limits if match}
            if not lines or len(found) != len(limits):
                return None
            quota, usage = Quota(found.get(b"S"), found.get(b"C")), _NOTHING
        if not _LINES.fullmatch(lines):
            return None
        numbers = [int(number) for number in lines.split()]
        return cls(data, quota, Usage(usage.messages + sum(numbers[1::2]), usage.octets + sum(numbers[::2])))


@dataclass(slots=True)
class _Counted:
    watch: Watch
    usage: Usage = _NOTHING

    def count(self) -> Usage:
        for last_try in (False, True):
            began = time.time_ns()
            try:
                stamp = self.watch.stamp()
                if not self.watch.unchanged(stamp):
                    self.usage = _count(self.watch.path)
                    self.watch.was_read(stamp, began)
            except OSError:
                if last_try:
                    break
                self.watch = Watch(self.watch.path)  # another directory may have come into its place
            else:
                return self.usage
        return _NOTHING


@dataclass(slots=True)
class Space:
    """One account's. Thread-safe."""

    account: str
    quota: Quota = UNLIMITED
    """What `take` keeps to; delivery brings its own."""
    counts: int = 0
    """How often all was counted."""
    _held: Usage = _NOTHING
    """What was taken for messages that are on their way: no count sees them yet."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _directories: dict[str, _Counted] = field(default_factory=dict)
    _book: _Book | None = None

    def usage(self) -> Usage:
        """Counted now."""
        with self._lock:
            return self._count()

    def has_room(self, more: Usage, quota: Quota) -> bool:
        """Whether so much more stays within the limits."""
        if quota == UNLIMITED:
            return True
        with self._lock:
            return self._has_room(more, quota)

    def take(self, more: Usage, *, freeing: Usage = _NOTHING) -> bool:
        """Holds room for messages if they stay within the account's quota, until `stored` or `give_back`.

        `freeing` will be gone when they are there: only what is needed above that counts.
        """
        net = more + -freeing
        with self._lock:
            if self.quota != UNLIMITED and max(net.messages, net.octets) > 0 and not self._has_room(net, self.quota):
                return False
            self._held += more
            self._add(more)
            return True

    def stored(self, held: Usage) -> None:
        """The messages that room was held for are there."""
        with self._lock:
            self._held += -held

    def give_back(self, held: Usage) -> None:
        """They do not come."""
        with self._lock:
            self._held += -held
            self._add(-held)

    def removed(self, less: Usage, counts: int) -> None:
        """So much is gone since `counts` was as given. What was counted meanwhile may have seen that, or not."""
        with self._lock:
            if counts == self.counts:
                self._add(-less)
            else:
                discard(f"{self.account}/{FILE}")

    def add(self, more: Usage) -> None:
        """So much was stored or, negative, removed."""
        with self._lock:
            self._add(more)

    def _has_room(self, more: Usage, quota: Quota) -> bool:
        self._book = _Book.of(self._read(), self._book)
        noted = self._book.usage if self._book is not None and self._book.quota == quota else None
        if noted is not None and min(noted.octets, noted.messages) >= 0 and _fits(noted + more, quota):
            return True
        self.counts += 1
        known = self._count() + self._held
        if known != noted:
            self._write(quota, known)
        return _fits(known + more, quota)

    def _add(self, more: Usage) -> None:
        try:
            fd = os.open(f"{self.account}/{FILE}", _APPEND)
            try:
                if os.lseek(fd, 0, os.SEEK_END) <= LENGTH:
                    write_all(fd, b"%d %d\n" % (more.octets, more.messages))
            finally:
                os.close(fd)
        except FileNotFoundError:
            pass  # no limit
        except OSError as error:
            log.warning("store=quota account=%r error=%r", self.account, error)

    def _read(self) -> bytes:
        try:
            fd = os.open(f"{self.account}/{FILE}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return os.read(fd, LENGTH + 1)
            finally:
                os.close(fd)
        except OSError:
            return b""

    def _write(self, quota: Quota, usage: Usage) -> None:
        """Not synced: what a crash makes of it is counted anew."""
        kinds = ((quota.octets, "S"), (quota.messages, "C"))
        limits = [f"{limit}{letter}" for limit, letter in kinds if limit is not None]
        temporary = f"{self.account}/{TMP}/{names.unique(FILE)}"
        try:
            fd = create(temporary)
            try:
                write_all(fd, f"{','.join(limits)}\n{usage.octets} {usage.messages}\n".encode())
            finally:
                os.close(fd)
            Path(temporary).rename(f"{self.account}/{FILE}")
        except OSError as error:
            log.warning("store=quota account=%r error=%r", self.account, error)
            discard(temporary)

    def _count(self) -> Usage:
        paths = {f"{folder}/{part}" for folder in _folders(self.account) for part in _PARTS}
        self._directories = {path: self._directories.get(path) or _Counted(Watch(path)) for path in paths}
        return sum((directory.count() for directory in self._directories.values()), _NOTHING)


def count_folder(folder: str) -> Usage:
    """What a folder's directory holds. What cannot be read counts as empty."""
    return sum((_Counted(Watch(f"{folder}/{part}")).count() for part in _PARTS), _NOTHING)


def _fits(usage: Usage, quota: Quota) -> bool:
    return quota.allows(usage.octets, usage.messages)


def _folders(account: str) -> list[str]:
    found = [account]
    try:
        with os.scandir(account) as entries:
            found += [entry.path for entry in entries if folders.name_of(entry.name) and is_directory(entry.path)]
    except OSError:
        return found
    return found


def _count(path: str) -> Usage:
    messages = octets = 0
    for name in regular_files(path):
        size = names.parse(name).size
        if size is None:
            try:
                size = os.lstat(f"{path}/{name}").st_size
            except FileNotFoundError:
                continue
        messages += 1
        octets += size
    return Usage(messages, octets)
