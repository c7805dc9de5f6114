"""A folder that Dovecot or Courier wrote becomes ours: each message keeps the UID that it had there.

The UIDs move from the other server's list into the file names, one rename for each message. The folder's own UID file
is written after that, so until all is done the folder is not ours, and whoever opens it next begins again: what is
renamed already is known by its name. Once it is done the list is never asked again, whatever the other server may write
into it later.

Promises   Every file that the list names, and that is still there, has its UID in its name, durably, when `adopt`
           returns. The list, and all else that the other server left, stays as it is.
           No file is replaced by another. Files that the list does not name are left alone: they get UIDs above its
           last as new mail does.
On failure OSError: also when a message may not be read, since it would lose its UID if it were passed over.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mailserver.store import names
from mailserver.store.flags import WITHOUT_LETTER, Flags
from mailserver.store.foreign import UidList
from mailserver.store.model import InvalidFlag
from mailserver.store.newcomers import Newcomer, examine_one
from mailserver.store.syncing import Directory, sync_directory
from mailserver.store.watch import regular_files

log = logging.getLogger(__name__)

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Adopted:
    """A message with the UID that it had. `name` is that of its file in cur/ now."""

    uid: int
    newcomer: Newcomer
    name: str


def adopt(listed: UidList, directory: str, flags: Flags, host: str) -> list[Adopted]:
    """Ascending by UID. The caller holds the folder's UID lock. Raises OSError."""
    cur, new = f"{directory}/cur", f"{directory}/new"
    found = {cur: regular_files(cur), new: regular_files(new)}
    chosen = _choose(listed, found[cur], found[new])
    keywords = _accepted(flags, listed)
    bases = {uid: base for base, uid in listed.uids.items()} if keywords else {}
    # Where no name has a UID yet, nobody but us can make one that has: changes of flags leave the base name.
    clashing = any(",U=" in name for place in (cur, new) for name in os.listdir(place))  # noqa: PTH208
    adopted = []
    with Directory(cur) as held:
        for uid, (there, file) in sorted(chosen.items()):
            path = f"{cur if there else new}/{file}"
            newcomer = examine_one(path, names.parse(file), host, urgent=True)
            if newcomer is None:
                _must_not_be_hidden(path)
                continue
            more = keywords.get(bases[uid], _NONE) if keywords else _NONE
            if more:
                letters = flags.encode(flags.decode(newcomer.letters) | more, newcomer.letters)
                newcomer = replace(newcomer, letters=letters, flags=more)
            name = _move(newcomer, uid, listed, held, host, clashing=clashing)
            if name is not None:
                adopted.append(Adopted(uid, newcomer, name))
    sync_directory(cur)
    sync_directory(new)
    log.info("store=adopted directory=%r uidvalidity=%d messages=%d", directory, listed.validity, len(adopted))
    return adopted


def _choose(listed: UidList, cur: Iterable[str], new: Iterable[str]) -> dict[int, tuple[bool, str]]:
    """UID -> whether the file lies in cur/, and its name. One file for each UID, one UID for each file."""
    cur, new = sorted(cur), sorted(new)
    bases = {uid: base for base, uid in listed.uids.items()}
    chosen: dict[int, tuple[bool, str]] = {}
    likely, possible = [], []
    for name in cur:  # what an adoption that did not come to its end has renamed already
        uid = names.uid_of(name)
        if uid in bases and names.base_of(name) not in listed.uids:
            if names.bare(name) != names.bare(bases[uid]):
                possible.append((uid, name))
            elif names.uid_of(bases[uid]) is not None:
                likely.append((uid, name))
            else:
                chosen.setdefault(uid, (True, name))
    for there, each in ((True, cur), (False, new)):
        for name in each:
            uid = listed.uids.get(names.base_of(name))
            if uid is not None:
                chosen.setdefault(uid, (there, name))
    for uid, name in likely + possible:  # renamed already as well, if the listed file is no longer there
        chosen.setdefault(uid, (True, name))
    return chosen


def _move(newcomer: Newcomer, uid: int, listed: UidList, cur: Directory, host: str, *, clashing: bool) -> str | None:
    """The new name; None: the file was taken away meanwhile. It must not be taken for another message's later."""
    name = names.with_uid(newcomer.base, uid, newcomer.letters, newcomer.sizes)
    if newcomer.path == f"{cur.path}/{name}":
        return name
    if (clashing and cur.has(name)) or listed.uids.get(names.base_of(name), uid) != uid:
        base = names.with_fields_of(names.unique(host), newcomer.base + newcomer.sizes)
        name = names.with_uid(base, uid, newcomer.letters)
    try:
        cur.take(newcomer.path, name)
    except FileNotFoundError:
        return None
    return name


def _must_not_be_hidden(path: str) -> None:
    if os.path.lexists(path) and not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _accepted(flags: Flags, listed: UidList) -> Mapping[str, frozenset[str]]:
    """The messages' keywords as they are kept here, those for which there are letters with letters."""
    usable = {}
    for keyword in sorted({keyword for each in listed.keywords.values() for keyword in each}):
        try:
            if not keyword.startswith("\\"):
                usable[keyword] = flags.accept(frozenset({keyword}), giving=False)
        except InvalidFlag:
            log.warning("store=adoption keyword=%r refused=invalid", keyword)
    wanted = list(usable)[:WITHOUT_LETTER]
    if wanted:
        flags.accept(frozenset(wanted))
        usable = {keyword: flags.accept(frozenset({keyword}), giving=False) for keyword in wanted}
    return {
        base: frozenset[str]().union(*(usable.get(keyword, _NONE) for keyword in each))
        for base, each in listed.keywords.items()
    }
