"""ESEARCH: a search in several mailboxes (RFC 7377)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mailserver.imap.commands.returns import Returns, returns
from mailserver.imap.commands.search import Key, program
from mailserver.imap.syntax import Fault, Reader


class Scope(Enum):
    """Which mailboxes are searched. The last three are of mailboxes that are named."""

    SELECTED = b"SELECTED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    SUBTREE_ONE = b"SUBTREE-ONE"
    MAILBOXES = b"MAILBOXES"


_NAMING = (Scope.SUBTREE, Scope.SUBTREE_ONE, Scope.MAILBOXES)


@dataclass(frozen=True, slots=True)
class Source:
    scope: Scope
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MultiSearch:
    """What is found is told by UID, for each mailbox by itself."""

    key: Key
    sources: tuple[Source, ...]
    returns: Returns

    @property
    def in_selected(self) -> bool:
        return any(source.scope is Scope.SELECTED for source in self.sources)


def multisearch(reader: Reader) -> MultiSearch:
    sources = _sources(reader)
    wanted = returns(reader) or Returns()
    if wanted.saves and any(source.scope is not Scope.SELECTED for source in sources):
        raise Fault("only what is found in the selected mailbox can be saved")
    return MultiSearch(program(reader, wanted), sources, wanted)


def _sources(reader: Reader) -> tuple[Source, ...]:
    """` IN (...)`, when that comes next."""
    start = reader.position
    if not reader.accept(b" ") or reader.keyword_or_empty() != b"IN":
        reader.position = start
        return (Source(Scope.SELECTED),)
    reader.space()
    # `scope-options` would come last; there are none
    return reader.listed(lambda: _source(reader), "list of mailboxes")


def _source(reader: Reader) -> Source:
    try:
        scope = Scope(reader.keyword("kind of mailboxes"))
    except ValueError:
        raise Fault("unknown kind of mailboxes") from None
    if scope not in _NAMING:
        return Source(scope)
    reader.space()
    if reader.looking_at(b"("):
        return Source(scope, reader.listed(reader.mailbox, "list of mailboxes"))
    return Source(scope, (reader.mailbox(),))
