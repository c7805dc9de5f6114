"""What is to be done for an account so that all its messages are indexed, told without opening a mailbox.

Theory     The index has the modification time that `new/` and `cur/` had when a folder was known as a whole, and which
           messages have pieces and packed text.
Promises   Read only, and about a millisecond where nothing is to be done. A folder that is told may prove to be done;
           one that is not told may have changed within the grain of its times.
On failure A folder that cannot be looked at is told, so that whoever opens it hears why. Raises OSError when the
           account cannot be read, FileNotFoundError when it is gone.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from mailserver.store import folders, layout, uids
from mailserver.store.lag import mark, reading

QUIET = 10.0  # seconds since the last change of a folder that nobody has opened: perhaps it is being copied here

_KNOWN = "SELECT key, new_mtime, cur_mtime FROM mailboxes"
_UNFINISHED = """
SELECT DISTINCT key FROM messages WHERE NOT EXISTS
(SELECT 1 FROM prepared WHERE prepared.key = messages.key AND prepared.uid = messages.uid)
OR NOT EXISTS
(SELECT 1 FROM packed WHERE packed.key = messages.key AND packed.uid = messages.uid AND packed.mark = ?)
"""

Times = tuple[int, int]


def outstanding(account: Path) -> dict[str, bool]:
    """The directories of folders, INBOX first; whether somebody may be copying one here still."""
    known, unfinished = _indexed(account)
    told = {}
    for folder in _folders(account):
        try:
            key = uids.key(account / folder)
            if key is not None and key in known:
                if key in unfinished or known[key] != _times(account / folder):
                    told[folder] = False
            elif any(_has_files(account / folder / part) for part in ("cur", "new")):
                told[folder] = key is None and _stirs(account / folder)
        except OSError:
            told[folder] = False
    return told


def _indexed(account: Path) -> tuple[dict[int, Times], set[int]]:
    """The times of folders as they were known, by key; the keys of those with messages that are not made ready."""
    try:
        with reading(account) as db:
            if db is None:
                return {}, set()
            known = {key: (new, cur) for key, new, cur in db.execute(_KNOWN)}
            return known, {key for (key,) in db.execute(_UNFINISHED, (mark(account),))}
    except sqlite3.Error:
        return {}, set()


def _folders(account: Path) -> Iterator[str]:
    if layout.is_maildir(str(account)):
        yield ""
    with os.scandir(account) as entries:
        found = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for name in found:
        if folders.name_of(name) is not None and layout.is_maildir(f"{account}/{name}"):
            yield name


def _times(folder: Path) -> Times:
    """Of `new/` and `cur/`."""
    return os.lstat(folder / "new").st_mtime_ns, os.lstat(folder / "cur").st_mtime_ns


def _stirs(folder: Path) -> bool:
    """Something happens here that is no delivery."""
    last = max(os.lstat(path).st_mtime for path in (folder, folder / "cur"))
    return last > time.time() - QUIET


def _has_files(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return any(entry.name[0] != "." for entry in entries)
