"""The secret keys by which URLs of messages are authorised (RFC 4467 §2.2), one for each folder.

Layout     A folder has its key in its `mailserver-access-key`, 64 hexadecimal digits and a line end, readable for its
           owner only. So it moves with the folder, and goes with it, in one rename.
Promises   A key has 256 bits of the system's randomness. It is replaced as a whole, synced, and never logged.
On failure OSError. A file that is damaged, or that is none of ours, is no key.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from pathlib import Path

from mailserver.store import content
from mailserver.store.syncing import replace_file, sync_directory

FILE = "mailserver-access-key"

_CONTENT = re.compile(rb"([0-9a-f]{64})\n")
_NONE_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def read(folder: str) -> bytes | None:
    """Raises OSError."""
    try:
        fd = content.open_message(f"{folder}/{FILE}")
    except OSError as error:
        if error.errno in _NONE_THERE:
            return None
        raise
    with os.fdopen(fd, "rb") as file:
        match = _CONTENT.fullmatch(file.read(128))
    return bytes.fromhex(match[1].decode()) if match is not None else None


def renew(folder: str) -> bytes:
    """The caller is alone. Raises OSError."""
    key = secrets.token_bytes(32)
    replace_file(Path(folder, FILE), key.hex().encode() + b"\n")
    return key


def remove(folder: str) -> None:
    """The caller is alone. Raises OSError."""
    try:
        Path(folder, FILE).unlink()
    except FileNotFoundError:
        return
    sync_directory(folder)
