"""Files that are to get a UID: what they are, and under which name they will be kept.

Promises   Only regular files that can be read are taken; the others are left alone.
           The name to be kept is plain ASCII, short enough, and tells the sizes, so that the file explains itself
           without the index.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from mailserver.store import content, names
from mailserver.store.writing import Written

log = logging.getLogger(__name__)

_BASE_LIMIT = 150  # octets; sizes, UID and flags come on top, and a file's name may have 255


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A file and what its message will start with. `base` is the name to be kept, without UID and flags.

    `sizes` are those that the base name does not tell (see `names.with_uid`).
    """

    path: str
    base: str
    letters: str
    date: float
    size: int
    flags: frozenset[str] = frozenset()
    """Those that have no letter are needed; the letters speak for the others."""
    sizes: str = ""
    stays: bool = False
    """The file keeps the name that it has, and gets another one."""


def of_written(written: Written, letters: str, date: float, flags: frozenset[str]) -> Newcomer:
    return Newcomer(written.path, written.base, letters, date, written.wire_size, flags)


def examine(directory: str, found: Iterable[str], host: str) -> list[Newcomer]:
    """The files of these names in the order of their delivery, but for those that are gone or cannot be read."""
    parsed = sorted(((names.parse(name), name) for name in set(found)), key=lambda pair: pair[0].arrival)
    examined = (examine_one(f"{directory}/{name}", file_name, host) for file_name, name in parsed)
    return [newcomer for newcomer in examined if newcomer is not None]


def examine_one(path: str, name: names.FileName, host: str, *, urgent: bool = False) -> Newcomer | None:
    """The file of this name; None when it is gone or cannot be read.

    `urgent`: it is not looked at again later. Then OSError is raised for what is wrong with no file.
    """
    base, wire_size, sizes = name.base, name.wire_size, ""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        if wire_size is None or name.size != status.st_size or not name.size <= wire_size <= 2 * name.size:
            wire_size = _wire_size(path)
    except OSError as error:
        if urgent and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        if not isinstance(error, FileNotFoundError):
            log.warning("store=unreadable path=%r error=%r", path, error)
        return None
    if not names.is_plain(base) or len(base) > _BASE_LIMIT:
        base = names.unique(host)
    told_wrong = name.size not in (None, status.st_size) or name.wire_size not in (None, wire_size)
    if base != name.base or told_wrong:
        base = names.with_sizes(base, status.st_size, wire_size)
    else:
        sizes += f",S={status.st_size}" if name.size is None else ""
        sizes += f",W={wire_size}" if name.wire_size is None else ""
    return Newcomer(path, base, _letters(name.letters), status.st_mtime, wire_size, sizes=sizes)


@lru_cache(maxsize=1024)  # there are few different ones
def _letters(written: str) -> str:
    return "".join(sorted({letter for letter in written if letter.isascii() and letter.isalpha()}))


def _wire_size(path: str) -> int:
    fd = content.open_message(path)
    try:
        return sum(map(len, content.wire_chunks(fd)))
    finally:
        os.close(fd)
