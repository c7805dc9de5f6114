"""Which mailboxes a filter means (RFC 5465 §6, RFC 7377 §2.2).

Promises   Names alone decide, and what is subscribed and selected, so nothing is opened.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailserver.imap import SEPARATOR
from mailserver.imap.commands.filters import Filter, Scope


def means(wanted: Filter, places: Sequence[str], *, subscribed: bool, selected: bool = False) -> bool:
    """`places`: the name of a mailbox, and those of its parents, as in `lineage`."""
    match wanted.scope:
        case Scope.SELECTED | Scope.SELECTED_DELAYED:
            return selected
        case Scope.INBOXES:
            return places[0] == "INBOX"  # there is no other place where mail is delivered to
        case Scope.PERSONAL:
            return True
        case Scope.SUBSCRIBED:
            return subscribed
        case Scope.SUBTREE:
            return not wanted.names.isdisjoint(places)
        case Scope.SUBTREE_ONE:
            return not wanted.names.isdisjoint(places[:2])
        case Scope.MAILBOXES:
            return places[0] in wanted.names


def lineage(name: str) -> list[str]:
    """A mailbox and its parents, the direct one first."""
    parts = name.split(SEPARATOR)
    return [SEPARATOR.join(parts[:depth]) for depth in range(len(parts), 0, -1)]


def parents(name: str) -> list[str]:
    return lineage(name)[1:]
