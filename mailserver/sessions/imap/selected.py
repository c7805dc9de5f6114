"""The mailbox that is selected, as its client sees it, and what the client wants to hear of it.

Promises   Messages are picked by the numbers that the client knows. What happens to the mailbox is taken in when it is
           asked for, never by itself.
On failure `Refused` for numbers of no message; `StoreError` where the mailbox cannot be looked at.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from mailserver.imap import SequenceSet
from mailserver.imap.commands import Item
from mailserver.sessions.imap.kept import Context
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.view import View
from mailserver.sessions.imap.watching import Watch
from mailserver.store import Mailbox


@dataclass(frozen=True, slots=True)
class Ears:
    """What the client wants to hear of the selected mailbox, beside the answers to its own commands (RFC 5465).

    `messages`: new and expunged ones. `at_once`: also when no command is at work; expunges then only where
    `expunges_at_once`. `items`: what is fetched of new messages.
    """

    messages: bool = True
    flags: bool = True
    at_once: bool = False
    expunges_at_once: bool = False
    items: tuple[Item, ...] = ()


ALL_EARS = Ears()
"""As long as NOTIFY was not used."""
DEAF = Ears(messages=False, flags=False)


@dataclass(slots=True)
class Selected:
    """The mailbox that SELECT or EXAMINE opened."""

    mailbox: Mailbox
    view: View
    read_only: bool
    indexing: bool = False
    """It is being indexed."""
    stirred: bool = False
    """Something may have happened on the disk since the last look."""
    watch: Watch | None = None
    fetched: int = 0
    """The highest UID that was announced, and fetched where NOTIFY asks for it."""
    contexts: dict[str, Context] = field(default_factory=dict)
    """By the tag of the search."""
    brought: set[int] = field(default_factory=set)
    """Greater UIDs, of messages that the client itself appended or copied here."""
    key_changes: int = 0
    """Of the mailbox, as the client knows."""

    def __post_init__(self) -> None:
        self.key_changes = self.mailbox.key_changes

    def pick(self, messages: SequenceSet, *, by_uid: bool) -> Sequence[int]:
        """The sequence numbers of the messages that a command means, ascending. Raises Refused.

        RFC 3501 §9: a number that is not in the mailbox is an error of the client, a UID that is not is none.
        """
        view = self.view
        if not by_uid and (messages.highest > len(view) or (messages.uses_star and not len(view))):
            raise Refused("there is no message with that number", status="BAD")
        ranges = view.ranges(messages, by_uid=by_uid)
        if len(ranges) == 1:
            ((first, last),) = ranges
            return range(first, last + 1)
        return array("I", chain.from_iterable(range(first, last + 1) for first, last in ranges))

    def take_changes(self, *, new: bool) -> None:
        """Takes into the view what is known in memory; not `new`: without messages that are new."""
        view = self.view
        before = len(view)
        changes = self.mailbox.changes(view.modseq, at_hand=True)
        if changes.complete and not (new and view.behind):
            view.take(changes, new=new)
        else:
            view.compare(self.mailbox.listing(), new=new)
        if self._awaits_recent:
            view.add_recent(self.mailbox.recent.take())
        elif len(view) > before and not view.rev2:
            view.add_recent(self.mailbox.recent.peek())

    def speak_rev2(self) -> None:
        if self._awaits_recent:
            self.mailbox.recent.leave()
        self.view.speak_rev2()

    def close(self) -> None:
        """Blocking."""
        if self._awaits_recent:
            self.mailbox.recent.leave()
        self.mailbox.close()

    @property
    def _awaits_recent(self) -> bool:
        r"""It has joined those sessions of which one is told that a message is \Recent."""
        return not (self.read_only or self.view.rev2)
