"""ESEARCH (RFC 7377): what SEARCH does, in several mailboxes, one after the other.

Promises   One mailbox is held at a time, but for the selected one, and closed again; nothing of it changes, and none of
           its messages is claimed as recent. Each mailbox is searched once, however often it is named. The work ends
           when the client is gone.
           Where the result is to be kept up to date, that of the selected mailbox alone is (§2.2).
On failure A mailbox that does not exist is passed over, as is one that goes meanwhile. Too many mailboxes are refused
           before any is searched (§2.4). Where a limit is set for the messages of one command, as many are searched in
           all, and the answer has LIMIT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mailserver.imap.commands import MultiSearch
from mailserver.imap.commands.filters import Filter, Scope
from mailserver.sessions.imap import contexts, messagelimit
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.filters import lineage, means
from mailserver.sessions.imap.kept import Place, extended
from mailserver.sessions.imap.progress import Progress
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.results import kept, relevancies, results, saving
from mailserver.sessions.imap.search import Matches, asks_of, matches, only_utf8
from mailserver.sessions.imap.selected import Selected
from mailserver.sessions.imap.selection import opened
from mailserver.store import AccountStore, NoSuchMailbox

MAILBOXES = 5000
"""That are searched by one command."""


async def multisearch(core: Core, tag: str, command: MultiSearch) -> None:
    if (command.in_selected or command.returns.updates) and not core.has_selected:
        raise Refused("no mailbox is selected", status="BAD")
    only_utf8(core, command.codec, allowed="")
    with_modseq, by_number = asks_of(core, command.key)
    core.catch_up()
    here = core.selected.mailbox.name if core.has_selected else None
    names = await core.workers.run(_named, core.account, command.sources, here)
    if len(names) > MAILBOXES:
        raise Refused(f"more than {MAILBOXES} mailboxes to search", "LIMIT")
    if command.returns.updates and here not in names:
        contexts.refuse(core, tag, "Only what is found in the selected mailbox is kept up to date")
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
        self._progress = Progress(core, tag)
        self._kept = contexts.settled(core, tag, command.returns, command.key)
        """What is searched for in the selected mailbox."""

    async def selected(self) -> None:
        core, returns, selected = self._core, self._command.returns, self._core.selected
        key, among = self._kept, self._among(selected)
        if self.cut:
            key = contexts.narrowed(key, selected.view, among)
        found = await self._find(selected, among)
        if returns.saves:
            selected.view.save(kept(returns, found.uids))
        place = self._place(selected)
        contexts.begin(core, self._tag, returns, key, found.uids, by_uid=True, mailbox=place)

    async def other(self, name: str) -> None:
        workers = self._core.workers
        try:
            work = workers.run(opened, self._core.account, name, True, rev2=self._core.rev2)
            mailbox, view = await self._progress.during(work)
        except NoSuchMailbox:
            return
        try:
            place = Selected(mailbox, view, read_only=True)
            await self._find(place, self._among(place))
        finally:
            await workers.run(mailbox.close)

    async def _find(self, place: Selected, among: Sequence[int]) -> Matches:
        found = await matches(self._core, self._command.key, among, at=place, progress=self._progress)
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
        engine.untagged(extended(self._tag, items, by_uid=True, mailbox=self._place(place)))

    def _place(self, place: Selected) -> Place:
        return self._core.engine.mailbox(place.mailbox.name), place.mailbox.uidvalidity


def _named(account: AccountStore, sources: Iterable[Filter], selected: str | None) -> list[str]:
    """Those that exist, each once. Blocking."""
    names = dict.fromkeys(folder.name for folder in account.folders() if folder.selectable)
    if selected is not None:
        names[selected] = None
    places = {name: lineage(name) for name in names}
    subscribed = frozenset(account.subscriptions())
    wanted: dict[str, None] = {}
    for source in _joined(sources):
        for name in names:
            if means(source, places[name], subscribed=name in subscribed, selected=name == selected):
                wanted[name] = None
    return list(wanted)


def _joined(sources: Iterable[Filter]) -> Iterator[Filter]:
    """One of each scope: a client may name a thousand."""
    names: dict[Scope, set[str]] = {}
    for source in sources:
        names.setdefault(source.scope, set()).update(source.names)
    return (Filter(scope, frozenset(each)) for scope, each in names.items())
