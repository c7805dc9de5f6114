"""Onto the disk: files, directories, small files replaced whole, locks between processes.

Promises   What these functions returned for survives a power cut.
           Many files at once go down together: where one `syncfs` tells of every write error (Linux 5.8)
           it costs about half of an fsync each. It writes everything that waits on the file system, so when it was
           slow (a backup is running) files are synced one by one for a while.
On failure OSError. After a failed `syncfs` each file is asked by itself, so that one bad file does not condemn others.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Self

from mailserver import metrics

SLOW = 0.25  # seconds
PENALTY = 30.0  # seconds

_SYNC_FILE_RANGE_WRITE = 2
_WHOLE_FILE = struct.pack("hhqqiq", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0, 0)
_libc = ctypes.CDLL(None, use_errno=True)
_avoid_syncfs_until = 0.0


def sync_files(fds: Sequence[int]) -> list[OSError | None]:
    """One result for each open file, in order; None is success."""
    begun = time.perf_counter()
    try:
        return _sync_files(fds)
    finally:
        metrics.SYNC_TIMES.observe(time.perf_counter() - begun)


def _sync_files(fds: Sequence[int]) -> list[OSError | None]:
    if len(fds) > 1:
        if _may_syncfs(fds):
            try:
                syncfs(fds[0])
                return [None] * len(fds)
            except OSError:
                pass
        else:
            for fd in fds:
                _start_writing(fd)
    return [_fsync(fd) for fd in fds]


def syncfs(fd: int) -> None:
    """Everything on the file system that the descriptor lies on. Raises OSError."""
    global _avoid_syncfs_until
    began = time.monotonic()
    if _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    ended = time.monotonic()
    if ended - began > SLOW:
        _avoid_syncfs_until = ended + PENALTY


def sync_directory(directory: str | Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    begun = time.perf_counter()
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
        metrics.SYNC_TIMES.observe(time.perf_counter() - begun)


class Directory:
    """A directory held open, for work on many files: the way to it is walked only once. Raises OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def rename(self, old: str, new: str) -> None:
        """Both are names in it."""
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def has(self, name: str) -> bool:
        """Whatever it is."""
        try:
            os.lstat(name, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    def take(self, path: str, name: str) -> None:
        """A file from another directory comes into it."""
        os.rename(path, name, dst_dir_fd=self._fd)

    def link(self, path: str, name: str) -> None:
        """A file in another directory gets a name in it as well."""
        os.link(path, name, dst_dir_fd=self._fd, follow_symlinks=False)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self._fd)

    def sync(self) -> None:
        os.fsync(self._fd)


def replace_file(path: Path, data: bytes) -> None:
    """The file has all of `data`, or what it had before."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    if written < len(data):
        view = memoryview(data)[written:]
        while view:
            view = view[os.write(fd, view) :]


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """The file's descriptor, open for reading and writing, made if missing; one holder among all threads and processes.

    An open-file-description lock: it meets the fcntl locks of other Maildir programs and works on network file systems.
    """
    fd = lock(path)
    try:
        yield fd
    finally:
        os.close(fd)


def lock(path: Path, *, wait: bool = True) -> int:
    """As `locked`, held until the descriptor is closed. Raises BlockingIOError when it is not to wait and has to."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _WHOLE_FILE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _fsync(fd: int) -> OSError | None:
    try:
        os.fsync(fd)
    except OSError as error:
        return error
    return None


def _may_syncfs(fds: Sequence[int]) -> bool:
    if time.monotonic() < _avoid_syncfs_until:
        return False
    devices = {os.fstat(fd).st_dev for fd in fds}
    return len(devices) == 1 and _trustworthy(devices.pop())


def _start_writing(fd: int) -> None:
    """A hint, so that the fsyncs that follow find most of the work done; its result does not matter."""
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))


@cache
def _trustworthy(device: int) -> bool:
    """Whether `syncfs` reports write errors here: not on older kernels, nor on layered or network file systems."""
    version = tuple(int(part) for part in platform.release().split(".")[:2] if part.isdecimal())
    if platform.system() != "Linux" or version < (5, 8):
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    kinds = {line.split(" - ")[1].split()[0] for line in mounts if line.split()[2] == wanted}
    return bool(kinds) and kinds <= {"ext4", "xfs", "btrfs", "f2fs", "tmpfs"}
