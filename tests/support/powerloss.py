"""What a disk may hold after the power went: a model, fed with the calls that a process makes.

A file holds what it held at its last fsync. Names come and go in the order of the calls; such a change is kept when one
of the directories that it touches was synced after it (a rename touches two, and is never kept by half), or the whole
file system was. All else may be kept or lost:

strict     nothing that was not synced is kept. A file that was never synced, under a name that was, is empty.
journal    the changes of names are kept up to some moment, as a journalling file system does; the content of files
           that were not synced is there, or empty, or cut short.

SQLite's files are not followed: the index is a cache, so they may be there as they were at some time, or not at all.
"""

from __future__ import annotations

import os
import random
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailserver.store.index import INDEX_FILE


@dataclass(eq=False, slots=True)
class Node:
    """A file or a directory. `kept` is the content that is safe; None: none ever was."""

    directory: bool
    now: bytes = b""
    kept: bytes | None = None
    before: dict[str, Node] = field(default_factory=dict)
    """The names in a directory when all began."""


@dataclass(slots=True)
class Change:
    """Names of directories come to stand for a node, or for nothing."""

    names: list[tuple[Node, str, Node | None]]
    safe: bool = False


class Disk:
    """A witness (`cuts.Witness`) of all that happens below `root`; what is there now is safe."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._nodes: dict[tuple[int, int], Node] = {}
        self._changes: list[Change] = []
        self._names: dict[tuple[Node, str], Node] = {}
        self._top = self._walk(self._root)

    def __call__(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any], result: Any) -> None:
        match name:
            case "open":
                self._opened(arguments[0], options.get("dir_fd"), result)
            case "write" | "pwrite" | "ftruncate":
                node = self._of(os.fstat(arguments[0]))
                if node is not None:
                    node.now = _content(arguments[0])
            case "fsync" | "fdatasync":
                self._synced(arguments[0])
            case "syncfs":
                for change in self._changes:
                    change.safe = True
                for node in self._nodes.values():
                    node.kept = node.now
            case "rename" | "replace":
                source = self._place(arguments[0], options.get("src_dir_fd"))
                target = self._place(arguments[1], options.get("dst_dir_fd"))
                self._changed((source, None), (target, self._names.get(source) if source else None))
            case "link":
                target = self._place(arguments[1], options.get("dst_dir_fd"))
                if target is not None:
                    self._changed((target, self._of(os.lstat(arguments[1], dir_fd=options.get("dst_dir_fd")))))
            case "mkdir":
                place = self._place(arguments[0], options.get("dir_fd"))
                if place is not None:
                    self._changed((place, self._add(os.lstat(arguments[0], dir_fd=options.get("dir_fd")))))
            case "unlink" | "remove" | "rmdir":
                self._changed((self._place(arguments[0], options.get("dir_fd")), None))

    def lose_power(self, target: Path, chance: random.Random | None = None) -> None:
        """Makes what is left: by chance, as a journal may leave it, or without that the strictest."""
        moment = chance.randrange(len(self._changes) + 1) if chance is not None else 0
        names = {(node, name): child for node in self._nodes.values() for name, child in node.before.items()}
        for number, change in enumerate(self._changes):
            if change.safe or number < moment:
                for directory, name, node in change.names:
                    names.pop((directory, name), None)
                    if node is not None:
                        names[directory, name] = node
        children: dict[Node, list[tuple[str, Node]]] = {}
        for (directory, name), node in names.items():
            children.setdefault(directory, []).append((name, node))
        _build(self._top, target, children, chance)

    def _walk(self, path: str) -> Node:
        node = self._add(os.lstat(path))
        if not node.directory:
            node.now = node.kept = Path(path).read_bytes()
            return node
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.name.startswith(INDEX_FILE) and not entry.is_symlink():
                    node.before[entry.name] = self._names[node, entry.name] = self._walk(entry.path)
        return node

    def _add(self, status: os.stat_result) -> Node:
        node = self._nodes[status.st_dev, status.st_ino] = Node(stat.S_ISDIR(status.st_mode))
        return node

    def _of(self, status: os.stat_result) -> Node | None:
        return self._nodes.get((status.st_dev, status.st_ino))

    def _place(self, path: str | os.PathLike[str], within: int | None) -> tuple[Node, str] | None:
        """The directory and the name in it; None: elsewhere."""
        parent, name = os.path.split(os.fspath(path))
        try:
            directory = self._of(
                os.stat(parent or ".", dir_fd=within) if parent or within is None else os.fstat(within)
            )
        except FileNotFoundError:
            return None
        return (directory, name) if directory is not None else None

    def _opened(self, path: str | os.PathLike[str], within: int | None, fd: int) -> None:
        place = self._place(path, within)
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode) or (place is None and not os.fspath(path).startswith(self._root)):
            return
        if status.st_nlink == 0:  # O_TMPFILE
            self._add(status)
        elif place is not None and (place not in self._names or self._names[place] is not self._of(status)):
            self._changed((place, self._add(status)))

    def _synced(self, fd: int) -> None:
        node = self._of(os.fstat(fd))
        if node is None:
            return
        node.kept = node.now
        for change in self._changes:
            change.safe = change.safe or any(directory is node for directory, _, _ in change.names)

    def _changed(self, *names: tuple[tuple[Node, str] | None, Node | None]) -> None:
        change = Change([])
        for place, node in names:
            if place is None:
                continue
            self._names.pop(place, None)
            if node is not None:
                self._names[place] = node
            change.names.append((*place, node))
        self._changes.append(change)


def _content(fd: int) -> bytes:
    return Path(f"/proc/self/fd/{fd}").read_bytes()  # it may be open for writing alone


def _build(node: Node, path: Path, children: dict[Node, list[tuple[str, Node]]], chance: random.Random | None) -> None:
    if node.directory:
        path.mkdir(mode=0o700)
        for name, child in children.get(node, []):
            _build(child, path / name, children, chance)
        return
    kept = node.kept if node.kept is not None else b""
    if chance is not None and node.now != node.kept:
        cut = max(len(kept), len(node.now) // 2)  # what overwrites is there or not; what makes it longer, in part
        kept = chance.choice((kept, node.now, node.now[:cut]))
    path.write_bytes(kept)
