"""Who watches an account: its list of folders, its subscriptions, and any number of its mailboxes, also closed ones.

Theory     A change made in this process is told at once, one by another process or program as soon as the kernel tells
           of it (`notify`). What is told is only where to look: who watches compares what is there with what it knew.
Promises   Watching reads nothing and opens no mailbox. A folder is watched once for all who watch it. Any thread may
           call anything; callbacks come from any thread, perhaps under locks of the store: they must be quick, and
           take none.
On failure Where the kernel tells nothing, changes by others are told to nobody: `scene` and `stamps` are for that.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mailserver.store import folders, layout, metadata, subscriptions, uids
from mailserver.store.notify import notifier

Listener = Callable[[str | None], None]
"""Called with the name of a mailbox that may have changed; None: the list of folders or the subscriptions may have."""

Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """The folders and subscriptions of an account at one moment."""

    keys: Mapping[str, int | None]
    """By the name of each mailbox, what tells its folder from all others, whatever its name; None: nobody knows."""
    subscribed: frozenset[str]


@dataclass(slots=True)
class _Attended:
    """A folder that is watched, and by how many."""

    stamp: Stamp
    end: Callable[[], None]
    users: int = 0


class Surroundings:
    """One for each account and process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._numbers = count()
        self._listeners: dict[int, Listener] = {}
        self._end: Callable[[], None] | None = None
        self._attended: dict[str, _Attended] = {}
        self._looking = threading.Lock()
        self._scene = Scene({}, frozenset())
        self._seen: object = None
        self._unfinished: list[str] = []

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Returns what ends it."""
        number = next(self._numbers)
        with self._lock:
            self._listeners[number] = listener
            if self._end is None:
                self._end = notifier.watch([self._path], lambda: self.changed(None))

        def cancel() -> None:
            with self._lock:
                self._listeners.pop(number, None)
                if not self._listeners and self._end is not None:
                    self._end()
                    self._end = None

        return cancel

    def attend(self, name: str) -> Callable[[], None]:
        """The listeners are told of what others do to this mailbox as well. Blocking.

        Returns what ends it, to be called once.
        """
        with self._lock:
            attended = self._attended.get(name)
            place = self._place(name)
            stamp = _stamp(place)[:1]
            if attended is None or attended.stamp != stamp:  # another folder may have its name now
                places = [place, f"{place}/new", f"{place}/cur"]
                attended = _Attended(stamp, notifier.watch(places, lambda: self.changed(name)))
                self._attended[name] = attended
            attended.users += 1

        def cancel() -> None:
            with self._lock:
                attended.users -= 1
                if not attended.users:
                    attended.end()
                    if self._attended.get(name) is attended:
                        del self._attended[name]

        return cancel

    def changed(self, name: str | None) -> None:
        """Tells the listeners."""
        for listener in tuple(self._listeners.values()):
            listener(name)

    def scene(self) -> Scene:
        """As it is now; the same object as before when nothing changed. Blocking. Raises OSError."""
        with self._looking:
            with os.scandir(self._path) as entries:
                places = frozenset((each.name, each.inode()) for each in entries if each.is_dir(follow_symlinks=False))
            files = (subscriptions.SUBSCRIPTIONS_FILE, metadata.ACCOUNT_FILE)
            seen = (places, [_stamp(f"{self._path}/{file}") for file in files])
            if self._seen != seen or any(map(layout.is_maildir, self._unfinished)):
                self._scene = self._read([place for place, _ in places])
                self._seen = seen
            return self._scene

    def _read(self, directories: Iterable[str]) -> Scene:
        keys: dict[str, int | None] = {folders.INBOX: None}
        self._unfinished = []  # others make the directory first, then what is in it
        for directory in directories:
            name, place = folders.name_of(directory), f"{self._path}/{directory}"
            if name is not None and layout.is_maildir(place):
                keys[name] = uids.key(Path(place))
            elif name is not None:
                self._unfinished.append(place)
        return Scene(keys, frozenset(subscriptions.read(Path(self._path))))

    def stamps(self, names: Iterable[str]) -> dict[str, Stamp]:
        """What is different after a change of a mailbox, without opening it. Blocking."""
        places = {name: self._place(name) for name in names}
        parts = ("new", "cur", metadata.FILE)
        return {name: sum((_stamp(f"{place}/{part}") for part in parts), ()) for name, place in places.items()}

    def _place(self, name: str) -> str:
        directory = folders.directory_of(name)
        return f"{self._path}/{directory}" if directory else self._path


def _stamp(path: str) -> Stamp:
    try:
        status = os.lstat(path)
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size
