"""ESEARCH (RFC 7377): what SEARCH does, in several mailboxes, one after the other.

Promises   One mailbox is held at a time, but for the selected one, and closed again; nothing of it changes, and none of
           its messages is claimed as recent. Each mailbox is searched once, however often it is named. The work ends
           when the client is gone.
On failure A mailbox that does not exist is passed over, as is one that goes meanwhile. Too many mailboxes are refused
           before any is searched (§2.4). Where a limit is set for the messages of one command, as many are searched in
           all, and the answer has LIMIT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mailserver.imap import SEPARATOR
from mailserver.imap.commands import MultiSearch
from mailserver.imap.commands.multisearch import Scope, Source
from mailserver.sessions.imap import messagelimit
from mailserver.sessions.imap.core import Core, Refused, Selected
from mailserver.sessions.imap.results import extended, kept, relevancies, results, saving
from mailserver.sessions.imap.search import Matches, asks_of, matches
from mailserver.sessions.imap.selection import opened
from mailserver.store import AccountStore, NoSuchMailbox

MAILBOXES = 5000
"""That are searched by one command."""


async def multisearch(core: Core, tag: str, command: MultiSearch) -> None:
    if command.in_selected and not core.has_selected:
        raise Refused("no mailbox is selected", status="BAD")
    with_modseq, by_number = asks_of(core, command.key)
    core.catch_up()
    here = core.selected.mailbox.name if core.has_selected else None
    names = await core.workers.run(_named, core.account, command.sources, here)
    if len(names) > MAILBOXES:
        raise Refused(f"more than {MAILBOXES} mailboxes to search", "LIMIT")
    search = _Search(core, tag, command, with_modseq)
    with saving(core, command.returns):
        for name in names:
            await (search.selected() if name == here else search.other(name))
            await core.drain_if_much()
    core.tell_news(expunges=not by_number)
    text, code = "Searched", None if search.complete else "EXPUNGEISSUED"
    if search.cut:
        text, code = "Searched, but not all messages", "LIMIT"
    core.engine.done(tag, "OK", text, code)


class _Search:
    """One ESEARCH command."""

    def __init__(self, core: Core, tag: str, command: MultiSearch, with_modseq: bool) -> None:
        self.complete = True
        """Nothing was missed that was expunged meanwhile."""
        self.cut = False
        """Some messages were not searched, as they were too many."""
        self._core = core
        self._tag = tag
        self._command = command
        self._with_modseq = with_modseq
        self._left = core.limits.imap_messages

    async def selected(self) -> None:
        selected = self._core.selected
        found = await self._find(selected)
        if self._command.returns.saves:
            selected.view.save(kept(self._command.returns, found.uids))

    async def other(self, name: str) -> None:
        workers = self._core.workers
        try:
            mailbox, view = await workers.run(opened, self._core.account, name, True)
        except NoSuchMailbox:
            return
        try:
            await self._find(Selected(mailbox, view, read_only=True))
        finally:
            await workers.run(mailbox.close)

    async def _find(self, place: Selected) -> Matches:
        found = await matches(self._core, self._command.key, self._among(place), at=place)
        self.complete = self.complete and found.complete
        if found.uids and self._command.returns.tells:
            self._tell(place, found)
        return found

    def _among(self, place: Selected) -> Sequence[int]:
        among = messagelimit.scope(self._command.key, place.view)
        if self._core.limits.imap_messages:
            self.cut = self.cut or len(among) > self._left
            among = among[max(len(among) - self._left, 0) :]
            self._left -= len(among)
        return among

    def _tell(self, place: Selected, found: Matches) -> None:
        returns, engine = self._command.returns, self._core.engine
        items = results(returns, found.uids, relevancies(found.uids, found.scores))
        if self._with_modseq:
            told = sorted(kept(returns, found.numbers))
            items.append(("MODSEQ", str(max(place.view.modseqs_of(told), default=0))))
        mailbox = engine.mailbox(place.mailbox.name), place.mailbox.uidvalidity
        engine.untagged(extended(self._tag, items, by_uid=True, mailbox=mailbox))


def _named(account: AccountStore, sources: Iterable[Source], selected: str | None) -> list[str]:
    """Those that exist, each once. Blocking."""
    existing = [folder.name for folder in account.folders() if folder.selectable]
    subscribed = set(account.subscriptions()) if any(each.scope is Scope.SUBSCRIBED for each in sources) else set()
    wanted: dict[str, None] = {}
    for source in sources:
        wanted.update(dict.fromkeys(_of(source, existing, subscribed, selected)))
    here = {*existing, selected}
    return [name for name in wanted if name in here]


def _of(source: Source, existing: list[str], subscribed: set[str], selected: str | None) -> Iterator[str]:
    match source.scope:
        case Scope.SELECTED:
            assert selected is not None
            yield selected
        case Scope.INBOXES:
            yield "INBOX"  # there is no other place where mail is delivered to
        case Scope.PERSONAL:
            yield from existing
        case Scope.SUBSCRIBED:
            yield from (name for name in existing if name in subscribed)
        case Scope.MAILBOXES:
            yield from source.names
        case Scope.SUBTREE:
            tops = set(source.names)
            yield from (name for name in existing if not tops.isdisjoint(_lineage(name)))
        case Scope.SUBTREE_ONE:
            tops = set(source.names)
            yield from (name for name in existing if not tops.isdisjoint(_lineage(name)[-2:]))


def _lineage(name: str) -> list[str]:
    """The mailboxes above it, the highest first, and itself."""
    parts = name.split(SEPARATOR)
    return [SEPARATOR.join(parts[:depth]) for depth in range(1, len(parts) + 1)]
