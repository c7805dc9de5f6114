"""A secret of this installation: random octets that nobody else knows, the same for all processes and after a restart.

Promises   Once it was given to one process it is given to all.
On failure OSError.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

LENGTH = 32  # octets


def load_secret(path: Path) -> bytes:
    """It is made when it is missing, or was cut short by a crash."""
    known = _read(path)
    if known is not None:
        return known
    mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(LENGTH))
        os.fsync(fd)
        os.link(mine, path)
    except FileExistsError:  # another process was faster
        if _read(path) is None:
            mine.replace(path)
    finally:
        os.close(fd)
        mine.unlink(missing_ok=True)
    made = _read(path)
    if made is None:
        raise OSError(f"{path} cannot be made")
    return made


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return content if len(content) == LENGTH else None
