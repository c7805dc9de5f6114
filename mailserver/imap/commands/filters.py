"""Which mailboxes a command means that is about many: `filter-mailboxes` of NOTIFY and ESEARCH (RFC 5465 §6, RFC 7377
§2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mailserver.imap.syntax import Fault, Reader


class Scope(Enum):
    """The last three are of mailboxes that are named."""

    SELECTED = b"SELECTED"
    SELECTED_DELAYED = b"SELECTED-DELAYED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    SUBTREE_ONE = b"SUBTREE-ONE"
    MAILBOXES = b"MAILBOXES"


OF_SELECTED = frozenset({Scope.SELECTED, Scope.SELECTED_DELAYED})
_NAMING = frozenset({Scope.SUBTREE, Scope.SUBTREE_ONE, Scope.MAILBOXES})


@dataclass(frozen=True, slots=True)
class Filter:
    """`names` are those that the scope speaks of."""

    scope: Scope
    names: frozenset[str] = frozenset()

    @property
    def of_selected(self) -> bool:
        return self.scope in OF_SELECTED


def mailbox_filter(reader: Reader) -> Filter:
    try:
        scope = Scope(reader.keyword("kind of mailboxes"))
    except ValueError:
        raise Fault("unknown kind of mailboxes") from None
    if scope not in _NAMING:
        return Filter(scope)
    reader.space()
    several = reader.looking_at(b"(")
    return Filter(
        scope, frozenset(reader.listed(reader.mailbox, "list of mailboxes") if several else [reader.mailbox()])
    )
