"""Of which mailboxes a client wants to hear what (RFC 5465 §6), and what happened to the mailboxes of an account.

Promises   Several groups may mean a mailbox: what each asks for is told; one without events means that nothing is.
           A folder that was renamed is known again, with those below it, by its key: one event for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from mailserver.imap.commands.notify import Group, Happening
from mailserver.sessions.imap.filters import lineage, means, parents
from mailserver.store import Scene

_NOTHING: frozenset[Happening] = frozenset()


class Interests:
    """Groups but for those of the selected mailbox."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self._groups = [group for group in groups if not group.mailboxes.of_selected]
        self.any = frozenset().union(*(group.events for group in self._groups))
        """What is wanted of some mailbox."""

    def of(self, name: str, subscribed: bool) -> frozenset[Happening]:
        """What is wanted of the mailbox with this name."""
        wanted = _NOTHING
        places = lineage(name)
        for group in self._groups:
            if means(group.mailboxes, places, subscribed=subscribed):
                if not group.events:
                    return _NOTHING
                wanted |= group.events
        return wanted


class Change(NamedTuple):
    """`old`: the name before a rename."""

    what: Literal["created", "deleted", "renamed", "subscribed", "unsubscribed"]
    name: str
    old: str = ""


def changes(before: Scene, after: Scene) -> Iterator[Change]:
    """In an order in which they may have happened."""
    gone = {key: name for name, key in before.keys.items() if name not in after.keys and key is not None}
    moved: dict[str, str] = {}
    created = []
    for name, key in after.keys.items():
        if name not in before.keys:
            if key is not None and key in gone:
                moved[gone[key]] = name
            else:
                created.append(name)
    for name in sorted(before.keys.keys() - after.keys.keys() - moved.keys()):
        yield Change("deleted", name)
    for old in sorted(moved):
        if not _came_along(old, moved):
            yield Change("renamed", moved[old], old)
    for name in sorted(created):
        yield Change("created", name)
    for name in sorted(before.subscribed - after.subscribed):
        yield Change("unsubscribed", name)
    for name in sorted(after.subscribed - before.subscribed):
        yield Change("subscribed", name)


def _came_along(old: str, moved: Mapping[str, str]) -> bool:
    """With a parent."""
    return any(parent in moved and moved[old] == moved[parent] + old.removeprefix(parent) for parent in parents(old))
