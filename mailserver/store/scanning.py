"""What stands in cur/, compared with what is known. Only the differences are looked at one by one.

A message is known by its UID and its file's base name.

Promises   Of two files with one UID the one whose name is known keeps it.
On failure OSError.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mailserver.store import names
from mailserver.store.columns import Columns, Row
from mailserver.store.watch import regular_files


@dataclass(slots=True)
class Scan:
    """The names in cur/ that are not as they are known, sorted out."""

    lost: set[int] = field(default_factory=set)
    """Messages without a file of the known name."""
    renamed: dict[int, str] = field(default_factory=dict)
    fresh: dict[int, str] = field(default_factory=dict)
    """UIDs greater than any known here: given by another process."""
    strays: set[str] = field(default_factory=set)
    """Files without a UID of this folder, or with that of another file."""

    @property
    def missing(self) -> set[int]:
        return self.lost - self.renamed.keys()

    def then(self, later: Scan) -> Scan:
        """What two scans in a row tell together: a file that is renamed meanwhile may be missed by one of them."""
        renamed = {uid: name for uid, name in self.renamed.items() if uid in later.lost} | later.renamed
        return Scan(self.lost & later.lost, renamed, self.fresh | later.fresh, later.strays)


def scan(
    directory: str, columns: Columns, last: int, given: Mapping[int, Row] = MappingProxyType({}), upto: int = 0
) -> Scan:
    """`last` is the highest UID known to be given. `given`: the messages of which only the index knows, all that there
    are up to the UID `upto`.
    """
    there = regular_files(directory)
    known = set(columns.names())
    found = Scan(lost={names.uid_of(name) or 0 for name in known.difference(there)})
    for name in set(there).difference(known):
        uid = names.uid_of(name)
        if uid is None:
            found.strays.add(name)
            continue
        place, row = columns.place(uid), given.get(uid)
        base = columns.base(place) if place is not None else row.base if row is not None else names.base_of(name)
        if base != names.base_of(name) or (place is None and row is None and uid <= max(last, upto)):
            found.strays.add(name)
        elif place is None:
            _place(found, found.fresh, uid, name, directory, known)
        else:
            if uid not in found.lost:
                found.renamed.setdefault(uid, columns.name(place))
            _place(found, found.renamed, uid, name, directory, known)
    return found


def _place(found: Scan, place: dict[int, str], uid: int, name: str, directory: str, known: set[str]) -> None:
    """Of two files with one UID the known one keeps it. (Or they are one, renamed while the directory was read.)"""
    other = place.setdefault(uid, name)
    if other == name:
        return
    there = [each for each in (other, name) if os.path.lexists(f"{directory}/{each}")]
    there.sort(key=lambda each: (each not in known, each))
    if there:
        place[uid] = there[0]
        found.strays.update(there[1:])
