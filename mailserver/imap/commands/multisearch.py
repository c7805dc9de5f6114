"""ESEARCH: a search in several mailboxes (RFC 7377)."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.commands.filters import Filter, Scope, mailbox_filter
from mailserver.imap.commands.returns import Returns, returns
from mailserver.imap.commands.search import Key, program
from mailserver.imap.syntax import Fault, Reader


@dataclass(frozen=True, slots=True)
class MultiSearch:
    """What is found is told by UID, for each mailbox by itself."""

    key: Key
    sources: tuple[Filter, ...]
    returns: Returns
    codec: str = ""

    @property
    def in_selected(self) -> bool:
        return any(source.of_selected for source in self.sources)


def multisearch(reader: Reader) -> MultiSearch:
    sources = _sources(reader)
    wanted = returns(reader) or Returns()
    if wanted.saves and not all(source.of_selected for source in sources):
        raise Fault("only what is found in the selected mailbox can be saved")
    key, codec = program(reader, wanted)
    return MultiSearch(key, sources, wanted, codec)


def _sources(reader: Reader) -> tuple[Filter, ...]:
    """` IN (...)`, when that comes next."""
    start = reader.position
    if not reader.accept(b" ") or reader.keyword_or_empty() != b"IN":
        reader.position = start
        return (Filter(Scope.SELECTED),)
    reader.space()
    # `scope-options` would come last; there are none
    return reader.listed(lambda: _source(reader), "list of mailboxes")


def _source(reader: Reader) -> Filter:
    source = mailbox_filter(reader)
    if source.scope is Scope.SELECTED_DELAYED:
        raise Fault("unknown kind of mailboxes")
    return source
