"""The kernel tells when something happens in a directory (inotify(7)), where it can.

Theory     One thread for all watched directories of the process waits for events; what comes together is told once. It
           lives while something is watched and keeps no process from ending.
Promises   A callback comes within about `PAUSE` of a change, never more often than that, from the thread. Our own
           changes are told as well. The descriptor is closed when nothing is watched.
On failure Where there is no inotify, or no more of it is to be had, nothing is told: whoever watches must also look by
           itself now and then. That is so for changes by other machines on a network file system, too.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable
from itertools import count

log = logging.getLogger(__name__)

PAUSE = 0.01  # seconds
WATCHES = 20_000

_IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x40, 0x80, 0x100, 0x200
_IN_Q_OVERFLOW, _IN_IGNORED = 0x4000, 0x8000
_IN_ONLYDIR, _IN_DONT_FOLLOW = 0x01000000, 0x02000000
_MASK = _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_ONLYDIR | _IN_DONT_FOLLOW
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BUFFER = 64 * 1024

Callback = Callable[[], None]

_libc = ctypes.CDLL(None, use_errno=True)


class Notifier:
    """Directories are watched by the number that the kernel gives each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = -1
        self._callbacks: dict[int, dict[int, Callback]] = {}  # by watch, by the number of the call
        self._numbers = count()
        self._refused = False

    def watch(self, directories: Iterable[str], callback: Callback) -> Callback:
        """Returns what ends it. `callback` must be quick, and may be called once more while that runs."""
        number = next(self._numbers)
        with self._lock:
            watches = [self._add(directory, number, callback) for directory in directories]

        def cancel() -> None:
            with self._lock:
                for watch in watches:
                    self._remove(watch, number)

        return cancel

    def _add(self, directory: str, number: int, callback: Callback) -> int:
        """The watch; -1: it is not to be had."""
        fd = self._fd
        try:
            if len(self._callbacks) >= WATCHES:
                raise OSError(errno.ENOSPC, "too many watches")
            if fd < 0:
                fd = _checked(_libc.inotify_init1(os.O_CLOEXEC))
            watch = _checked(_libc.inotify_add_watch(fd, os.fsencode(directory), ctypes.c_uint32(_MASK)))
        except (OSError, AttributeError) as error:
            if fd != self._fd:
                os.close(fd)
            if not self._refused:
                self._refused = True
                log.warning("store=notify directory=%r error=%r", directory, error)
            return -1
        self._callbacks.setdefault(watch, {})[number] = callback
        if fd != self._fd:
            self._fd = fd
            threading.Thread(target=self._run, args=(fd,), name="notify", daemon=True).start()
        return watch

    def _remove(self, watch: int, number: int) -> None:
        callbacks = self._callbacks.get(watch, {})
        if callbacks.pop(number, None) is not None and not callbacks:
            del self._callbacks[watch]
            _libc.inotify_rm_watch(self._fd, watch)  # an event says so, which wakes the thread

    def _run(self, fd: int) -> None:
        ended = False
        while not ended:
            data = os.read(fd, _BUFFER)
            with self._lock:
                callbacks = self._happened(data)
                ended = not self._callbacks
                if ended:
                    self._fd = -1
                    os.close(fd)
            for callback in callbacks:
                try:
                    callback()
                except Exception:
                    log.exception("store=notify a callback failed")
            time.sleep(PAUSE)

    def _happened(self, data: bytes) -> list[Callback]:
        """Whom the events are of interest to."""
        found: dict[int, Callback] = {}
        position = 0
        while position < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            if mask & _IN_Q_OVERFLOW:
                for callbacks in self._callbacks.values():
                    found |= callbacks
            found |= self._callbacks.get(watch, {})
            if mask & _IN_IGNORED:
                self._callbacks.pop(watch, None)
        return list(found.values())


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


notifier = Notifier()
