"""The directories of an account and its folders.

Promises   What is made is of mode 0700, complete before it is seen, and synced together with the directory that it is
           in.
On failure OSError; leftovers have names that are no folder's.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from mailserver.store import folders, names, specialuse, uids
from mailserver.store.syncing import sync_directory
from mailserver.store.watch import is_directory
from mailserver.store.writing import TMP_LIFETIME

FOLDER_MARK = "maildirfolder"
LEFTOVER = "mailserver-removed-"
UNFINISHED = "mailserver-made-"

_PARTS = ("tmp", "new", "cur")


def is_maildir(path: str) -> bool:
    return is_directory(path) and is_directory(f"{path}/cur")


def make_account(path: str) -> bool:
    """The Maildir of an account and all directories above it. False: all was there."""
    if all(is_directory(f"{path}/{part}") for part in _PARTS):
        return False
    _sync_parents([*_make_with_parents(Path(path)), *_make_parts(Path(path))])
    return True


def make_folder(account: str, folder: str, validity: int, special_use: frozenset[str], host: str) -> None:
    """A folder beside INBOX, whose place must be free."""
    unfinished = Path(account, UNFINISHED + names.unique(host))
    unfinished.mkdir(mode=0o700)
    try:
        _make_parts(unfinished)
        (unfinished / FOLDER_MARK).touch(mode=0o600)
        uids.begin(unfinished, validity)
        if special_use:
            specialuse.write(unfinished, special_use)
        sync_directory(unfinished)
        unfinished.rename(Path(account, folder))
    except BaseException:
        remove_tree(unfinished)
        raise
    sync_directory(account)


def utf8_folders(account: str) -> dict[str, str]:
    """Folders whose names on disk are in UTF-8, and the free directories that their names are kept in here."""
    with os.scandir(account) as entries:
        found = {entry.name: folders.utf8_name_of(entry.name) for entry in entries}
    places = {directory: folders.directory_of(name) for directory, name in found.items() if name}
    return {
        directory: place
        for directory, place in sorted(places.items())
        if is_maildir(f"{account}/{directory}") and not os.path.lexists(f"{account}/{place}")
    }


def complete(directory: str) -> None:
    """Makes the parts that a Maildir by another program lacks."""
    _sync_parents(_make_parts(Path(directory)))


def remove_folder(account: str, folder: str, host: str) -> Path:
    """Durable. Returns the directory, now none of a folder; the caller removes what is in it."""
    leftover = Path(account, LEFTOVER + names.unique(host))
    Path(account, folder).rename(leftover)
    sync_directory(account)
    return leftover


def sweep(account: str) -> None:
    """Removes what a crash left of folders that were being removed and, after 36 hours, of those being made."""
    limit = time.time() - TMP_LIFETIME
    with os.scandir(account) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process has just made a folder of it
                unfinished = entry.name.startswith(UNFINISHED) and entry.stat(follow_symlinks=False).st_ctime < limit
                if (unfinished or entry.name.startswith(LEFTOVER)) and entry.is_dir(follow_symlinks=False):
                    remove_tree(Path(entry.path))


def remove_tree(directory: Path) -> None:
    """As far as that is possible."""
    shutil.rmtree(directory, ignore_errors=True)


def _make_with_parents(directory: Path) -> list[Path]:
    """Returns what was made, the outermost first."""
    if directory.is_dir():
        return []
    return [*_make_with_parents(directory.parent), *_make(directory)]


def _make_parts(directory: Path) -> list[Path]:
    return [made for part in _PARTS for made in _make(directory / part)]


def _make(directory: Path) -> list[Path]:
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return []
    return [directory]


def _sync_parents(made: list[Path]) -> None:
    for parent in dict.fromkeys(directory.parent for directory in made):
        sync_directory(parent)
