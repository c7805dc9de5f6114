r"""What folders are for: \Sent, \Trash and their like (RFC 6154).

Layout     A folder that was given uses has them in its `mailserver-special-use`, one a line: so they move and go with
           the folder, in one rename. To a use that no folder was given the best known of the usual names leads.
Promises   A use leads to one folder at most. A file that is damaged, or that is none of ours, gives no use.
On failure SpecialUseRefused from `check`; OSError when a file is there that may not be read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from mailserver.store import content
from mailserver.store.folders import INBOX, SEPARATOR
from mailserver.store.model import SpecialUseRefused
from mailserver.store.syncing import replace_file

FILE = "mailserver-special-use"

# The names that clients give to such folders, best known first; compared without regard to case.
_USUAL: Mapping[str, tuple[str, ...]] = {
    "\\Archive": ("archive", "archives"),
    "\\Drafts": ("drafts", "draft"),
    "\\Junk": ("junk", "spam", "junk e-mail", "junk email", "bulk mail"),
    "\\Sent": ("sent", "sent messages", "sent items", "sent mail"),
    "\\Trash": ("trash", "deleted messages", "deleted items", "bin"),
}
USES = frozenset(_USUAL)
_RANKS = {name: (rank, use) for use, names in _USUAL.items() for rank, name in enumerate(names)}
_SIZE_LIMIT = 4096  # octets
_NONE: frozenset[str] = frozenset()


def check(wanted: frozenset[str], given: Iterable[frozenset[str]]) -> None:
    """Whether a new folder can have these uses beside the folders that were `given` theirs."""
    unknown = wanted - USES
    if unknown:
        raise SpecialUseRefused(f"No mailbox can have the use {min(unknown)}")
    taken = wanted & _NONE.union(*given)
    if taken:
        raise SpecialUseRefused(f"Another mailbox has the use {min(taken)}")


def change(folder: Path, name: str, wanted: Iterable[str], given: Mapping[str, frozenset[str]]) -> None:
    """Gives the folder of that name these uses in place of those that it had; `given` as for `assign`.

    Raises SpecialUseRefused, OSError.
    """
    spelled = {use.lower(): use for use in USES}
    uses = frozenset(spelled.get(use.lower(), use) for use in wanted)
    if name == INBOX:
        raise SpecialUseRefused("INBOX is for nothing else")
    check(uses, (others for other, others in given.items() if other != name))
    if assign({**given, name: uses})[name] != uses:
        raise SpecialUseRefused("The mailbox has its use by its name")
    write(folder, uses)


def assign(given: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """The uses of each folder, from those that it was given: by name, ascending where two were given the same."""
    uses: dict[str, frozenset[str]] = {}
    left = USES
    for name in sorted(given):
        uses[name] = given[name] & left
        left -= given[name]
    for _, name, use in sorted(usual for name in given if not given[name] and (usual := _usual(name))):
        if use in left:
            uses[name] |= {use}
            left -= {use}
    return uses


def _usual(name: str) -> tuple[tuple[int, bool], str, str] | None:
    """How well the name is known, and for which use; some clients put such folders below INBOX."""
    plain = name.removeprefix(INBOX + SEPARATOR)
    known = _RANKS.get(plain.lower())
    return ((known[0], plain != name), name, known[1]) if known else None


def read(folder: str) -> frozenset[str]:
    """What the folder was given. Raises OSError."""
    try:
        fd = content.open_message(f"{folder}/{FILE}")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return _NONE
        raise
    try:
        lines = os.read(fd, _SIZE_LIMIT).decode("ascii", "replace").splitlines()
    finally:
        os.close(fd)
    return USES.intersection(lines)


def write(folder: Path, uses: frozenset[str]) -> None:
    replace_file(folder / FILE, "".join(f"{use}\n" for use in sorted(uses)).encode("ascii"))
