"""What clients note about mailboxes, and about the account: entries with a name and a value (RFC 5464).

Layout     A folder has them in its `mailserver-metadata`, so they move and go with it; those of the account stand in
           `mailserver-metadata-account`, beside INBOX. A line for each entry, a list in JSON: its name, in lower case,
           and its value, which is text, or {"base64": "..."} where it is none.
Promises   A file is replaced as a whole, synced. It never grows beyond `COUNT` entries of `VALUE_LIMIT` octets.
           A process sees what others noted about a folder, by the files' inodes and times, when it looks.
On failure AnnotationRefused; OSError. Lines that cannot be understood are passed over, and dropped at the next change.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from mailserver.store import content, specialuse
from mailserver.store.model import AnnotationRefused
from mailserver.store.syncing import replace_file

FILE = "mailserver-metadata"
ACCOUNT_FILE = "mailserver-metadata-account"
COUNT = 64
VALUE_LIMIT = 16 * 1024  # octets

Mark = tuple[int, int]
"""Tells a file from the one before."""

_FILE_LIMIT = 2 * COUNT * (VALUE_LIMIT + 4096)  # octets
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NONE_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def read(path: str) -> dict[str, bytes]:
    """Raises OSError."""
    try:
        fd = content.open_message(path)
    except OSError as error:
        if error.errno in _NONE_THERE:
            return {}
        raise
    with os.fdopen(fd, "rb") as file:
        lines = file.read(_FILE_LIMIT).split(b"\n")
    return dict(entry for line in lines if (entry := _parsed(line)) is not None)


def change(path: str, values: Mapping[str, bytes | None]) -> None:
    """All or none. The caller is alone. Raises AnnotationRefused, OSError."""
    if any(len(value) > VALUE_LIMIT for value in values.values() if value is not None):
        raise AnnotationRefused("A value is too large", largest=VALUE_LIMIT)
    before = read(path)
    after = {name: value for name, value in {**before, **values}.items() if value is not None}
    if len(after) > COUNT and not after.keys() <= before.keys():
        raise AnnotationRefused("There are too many entries")
    if after != before:
        replace_file(Path(path), b"".join(_line(name, after[name]) for name in sorted(after)))


class Notes:
    """What is noted about a folder, as it was at the last look; its special use can be set as an entry, too."""

    def __init__(self, folder: str) -> None:
        self._seen = _marks(folder)

    def look(self, folder: str) -> bool:
        """Whether it is different now."""
        before, self._seen = self._seen, _marks(folder)
        return before != self._seen


def _marks(folder: str) -> list[Mark | None]:
    return [_mark(f"{folder}/{file}") for file in (FILE, specialuse.FILE)]


def _mark(path: str) -> Mark | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _parsed(line: bytes) -> tuple[str, bytes] | None:
    try:
        match json.loads(line):
            case [str(name), str(text)]:
                return name, text.encode()
            case [str(name), {"base64": str(encoded)}]:
                return name, base64.b64decode(encoded, validate=True)
    except (ValueError, RecursionError):
        pass
    return None


def _line(name: str, value: bytes) -> bytes:
    written: str | dict[str, str]
    try:
        written = value.decode()
    except UnicodeDecodeError:
        written = "\0"
    if _NOT_TEXT.search(written):
        written = {"base64": base64.b64encode(value).decode()}
    return json.dumps([name, written], ensure_ascii=False).encode() + b"\n"
