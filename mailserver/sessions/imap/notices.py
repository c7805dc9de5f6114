"""What NOTIFY tells of mailboxes that are not selected, and of their names, subscriptions and metadata (RFC 5465 §5).

Theory     The store tells that something may have happened somewhere (`store.surroundings`); what it was is found by
           comparing with what the client knows. So however much happens, no more than the names of the mailboxes where
           it did waits for a client that is slow to read, and it is told where they are by then. Mailboxes are opened
           when something happened to them, never in order to look. In case the kernel does not tell all, a few at a
           time are looked at by the modification times of their directories.
Promises   What the client itself did to names, subscriptions and metadata is not told. Nothing that happens after the
           answer to NOTIFY is missed: where it is not known what the client knows of a mailbox, more is told.
           No more than `MAILBOXES` are watched: who would watch more is told so, and hears nothing from then on.
On failure A mailbox that the disk refuses is looked at again by and by.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from mailserver.imap import responses
from mailserver.imap.commands.notify import OF_MESSAGES, Group, Happening
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.filters import lineage, parents
from mailserver.sessions.imap.interests import Change, Interests, changes
from mailserver.sessions.imap.listing import list_answer
from mailserver.sessions.imap.mailboxes import status_answer
from mailserver.sessions.imap.selected import DEAF, Selected
from mailserver.sessions.imap.watching import POLL
from mailserver.store import AccountStore, Folder, NoSuchMailbox, Scene, Stamp, Status, StoreError

log = logging.getLogger(__name__)

MAILBOXES = 2000
"""That one client may watch."""
TURN = 50
"""Mailboxes that are told of before commands have their turn."""
ROUND = 100
"""Mailboxes whose directories are looked at every `POLL` seconds."""

_METADATA = Happening.MAILBOX_METADATA_CHANGE
_WATCHED = OF_MESSAGES | {_METADATA}
_NAMES = frozenset({"created", "deleted", "renamed"})

Notes = dict[str, int]
"""Names of metadata entries, and hashes of their values."""


class Overflow(Exception):
    """Too many mailboxes would be watched."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the client knows of a mailbox. `unseen` None: it is not known how many it takes for unseen."""

    validity: int
    uidnext: int
    messages: int
    modseq: int
    unseen: int | None

    @classmethod
    def of(cls, numbers: Status) -> _Known:
        return cls(numbers.uidvalidity, numbers.uidnext, numbers.messages, numbers.highest_modseq, numbers.unseen)


@dataclass(slots=True)
class _Watched:
    """A mailbox. `known` None: it is not known what the client knows of it."""

    key: int | None
    events: frozenset[Happening]
    end: Callable[[], None]
    stamp: Stamp
    notes: Notes
    known: _Known | None = None


@dataclass(slots=True)
class _Begun:
    """What is to be had of a mailbox when watching begins."""

    end: Callable[[], None]
    stamp: Stamp
    notes: Notes = field(default_factory=dict)


class Watching:
    """Begun by `begin`."""

    def __init__(self, core: Core, groups: Sequence[Group]) -> None:
        self._core = core
        self._account = core.account
        self._interests = Interests(groups)
        self._scene = Scene({}, frozenset())
        self._watched: dict[str, _Watched] = {}
        self._server_notes: Notes = {}
        self._stirred: dict[str, None] = {}
        self._folders_stirred = False
        self._own: set[tuple[str, ...]] = set()
        self._round: list[str] = []
        self._active = True
        self._heard: set[str | None] = set()
        self._end = self._account.surroundings.listen(self._hear)
        self._timer = core.clock.call_later(POLL, self._poll)

    async def begin(self) -> None:
        """Raises Overflow, StoreError."""
        run = self._core.workers.run
        self._scene = await run(self._account.scene)
        self._server_notes = await run(self._noted_of_server)
        await self._arrange()

    def close(self) -> None:
        self._active = False
        self._end()
        self._timer.cancel()
        for watched in self._watched.values():
            watched.end()
        self._watched.clear()

    async def tell_status(self) -> None:
        """Where all mailboxes are, before the answer to NOTIFY (§3.1)."""
        core = self._core
        for name, watched in list(self._watched.items()):
            if not watched.events & OF_MESSAGES or self._is_selected(name):
                continue
            try:
                numbers = await core.workers.run(self._account.status, name)
            except StoreError as error:
                log.info("session=%s the status of a mailbox: %s", core.channel.id, error)
                continue
            watched.known = _Known.of(numbers)
            items = [b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY"]
            if Happening.FLAG_CHANGE in watched.events:
                items.append(b"HIGHESTMODSEQ")
            core.engine.untagged(status_answer(core, name, numbers, items))
            await core.drain_if_much()

    # hearing

    def _hear(self, name: str | None) -> None:
        """From any thread. What was heard of already, and waits for the main thread, is not passed on again."""
        if name not in self._heard:
            self._heard.add(name)
            self._core.workers.call_from_thread(partial(self._stir, name))

    def _stir(self, name: str | None) -> None:
        self._heard.discard(name)
        if not self._active:
            return
        if name is None:
            self._folders_stirred = True
        elif name in self._watched:
            self._stirred[name] = None
        else:
            return
        self._core.wake()

    def _poll(self) -> None:
        self._core.workers.spawn(self._look())

    async def _look(self) -> None:
        """What the kernel may not have told."""
        run = self._core.workers.run
        try:
            if await run(self._account.scene) is not self._scene:
                self._stir(None)
            if not self._round:
                self._round = list(self._watched)
            names, self._round = self._round[:ROUND], self._round[ROUND:]
            for name, stamp in (await run(self._account.surroundings.stamps, names)).items():
                watched = self._watched.get(name)
                if watched is not None and watched.stamp != stamp:
                    watched.stamp = stamp
                    self._stir(name)
        except StoreError as error:
            log.info("session=%s the folders cannot be looked at: %s", self._core.channel.id, error)
        finally:
            if self._active:
                self._timer = self._core.clock.call_later(POLL, self._poll)

    def left(self, selected: Selected) -> None:
        name, view, mailbox = selected.mailbox.name, selected.view, selected.mailbox
        watched = self._watched.get(name)
        if watched is None:
            return
        modseq = mailbox.highest_modseq
        watched.known = None
        if not view.waits and view.modseq == modseq and view.exists_told == len(view):
            watched.known = _Known(mailbox.uidvalidity, mailbox.uidnext, len(view), modseq, None)
        self._stir(name)  # it may be that nobody looked while it was selected

    def did(self, what: str, *names: str) -> None:
        self._own.add((what, *names))

    def noted(self, name: str | None, values: Mapping[str, bytes | None]) -> None:
        watched = self._watched.get(name) if name is not None else None
        notes = self._server_notes if name is None else watched.notes if watched is not None else {}
        for entry, value in values.items():
            if value is None:
                notes.pop(entry, None)
            else:
                notes[entry] = hash(value)

    # telling

    async def tell(self) -> None:
        core = self._core
        try:
            if self._folders_stirred:
                self._folders_stirred = False
                await self._tell_of_folders()
        except Overflow:
            self.close()
            core.notices, core.ears = None, DEAF
            core.listen()
            core.engine.status("OK", "There are too many mailboxes to watch", "NOTIFICATIONOVERFLOW")
            return
        except StoreError as error:
            log.info("session=%s the folders cannot be looked at: %s", core.channel.id, error)
        for name in list(islice(self._stirred, TURN)):
            del self._stirred[name]
            await self._tell_of(name)
            await core.drain_if_much()
        if self._stirred or self._folders_stirred:
            core.engine.wake()

    async def _tell_of(self, name: str) -> None:
        core, watched = self._core, self._watched.get(name)
        if watched is None:
            return
        try:
            if watched.events & OF_MESSAGES and not self._is_selected(name):
                numbers = await core.workers.run(_numbers, self._account, name, watched.known)
                if numbers is not None:
                    items = _news(watched, numbers, condstore="CONDSTORE" in core.enabled)
                    watched.known = _Known.of(numbers)
                    if items:
                        core.engine.untagged(status_answer(core, name, numbers, items))
            if _METADATA in watched.events:
                notes = await core.workers.run(_notes, self._account, name)
                self._tell_metadata(name, watched.notes, notes)
                watched.notes = notes
        except NoSuchMailbox:
            self._folders_stirred = True
        except StoreError as error:
            log.info("session=%s a mailbox cannot be looked at: %s", core.channel.id, error)
            watched.stamp = ()  # so the next round sees a difference

    def _is_selected(self, name: str) -> bool:
        return self._core.has_selected and self._core.selected.mailbox.name == name

    async def _tell_of_folders(self) -> None:
        run = self._core.workers.run
        notes = await run(self._noted_of_server)
        self._tell_metadata("", self._server_notes, notes)
        self._server_notes = notes
        own, self._own = self._own, set()  # what changed nothing is forgotten too
        before = self._scene
        try:
            self._scene = await run(self._account.scene)
            await self._tell_changes(before, own)
        except StoreError:
            self._scene, self._own = before, self._own | own  # the next look finds the difference again
            raise

    async def _tell_changes(self, before: Scene, own: set[tuple[str, ...]]) -> None:
        core, run = self._core, self._core.workers.run
        if self._scene is before:
            return
        found = [change for change in changes(before, self._scene) if not _is_own(change, own)]
        answers = list(self._answers(found, before))
        if answers:
            folders = {folder.name: folder for folder in await run(self._account.folders)}
            for name, old in answers:
                folder = folders.get(name) or Folder(name, selectable=False, has_children=False)
                subscribed = name in self._scene.subscribed
                core.engine.untagged(list_answer(core, folder, subscribed=subscribed, old_name=old))
                await core.drain_if_much()
        await self._arrange(frozenset(change.name for change in found if change.what == "created"))

    def _answers(self, found: Iterable[Change], before: Scene) -> Iterable[tuple[str, str]]:
        """Names to be listed, each with the one that it had before, or none."""
        told: dict[tuple[str, str], None] = {}
        for what, name, old in found:
            asked = Happening.MAILBOX_NAME if what in _NAMES else Happening.SUBSCRIPTION_CHANGE
            affected = [name, *parents(name)[:1]] if what in ("created", "deleted") else [name]
            for each in affected:
                if asked in self._wanted(each, before) or (old and asked in self._wanted(old, before)):
                    told[each, old] = None
        return told

    def _wanted(self, name: str, before: Scene) -> frozenset[Happening]:
        return self._interests.of(name, name in self._scene.subscribed or name in before.subscribed)

    def _tell_metadata(self, name: str, before: Notes, after: Notes) -> None:
        entries = sorted(entry for entry in before.keys() | after.keys() if before.get(entry) != after.get(entry))
        if entries:
            names = b" ".join(responses.astring(entry.encode()) for entry in entries)
            self._core.engine.untagged(b"METADATA %b %b" % (self._core.engine.mailbox(name), names))

    def _noted_of_server(self) -> Notes:
        """Blocking."""
        if Happening.SERVER_METADATA_CHANGE not in self._interests.any:
            return {}
        return _notes(self._account, None)

    # what is watched

    async def _arrange(self, created: frozenset[str] = frozenset()) -> None:
        """Watches what is wanted of the mailboxes that there are. Raises Overflow."""
        scene = self._scene
        wanted = {
            name: events
            for name in scene.keys
            if (events := self._interests.of(name, name in scene.subscribed) & _WATCHED)
        }
        if len(wanted) > MAILBOXES:
            raise Overflow
        for name in self._watched.keys() - wanted.keys():
            self._watched.pop(name).end()
            self._stirred.pop(name, None)
        fresh = {}
        for name, events in wanted.items():
            watched = self._watched.get(name)
            if watched is None or (watched.key != scene.keys[name] and watched.key is not None):
                fresh[name] = _METADATA in events
            else:
                watched.key = scene.keys[name]
        begun = await self._core.workers.run(_begin, self._account, fresh)
        for name, each in begun.items():
            previous = self._watched.get(name)
            watched = _Watched(scene.keys[name], wanted[name], each.end, each.stamp, each.notes)
            self._watched[name] = watched
            if not self._active:
                each.end()
            if previous is not None:  # another mailbox has that name now
                previous.end()
                watched.known, watched.notes = previous.known, previous.notes
            elif name in created:
                watched.known, watched.notes = _Known(0, 1, 0, 0, 0), {}
            if previous is not None or name in created:
                self._stir(name)


def _begin(account: AccountStore, names: Mapping[str, bool]) -> dict[str, _Begun]:
    """Blocking. By name, whether its metadata are of interest."""
    begun: dict[str, _Begun] = {}
    try:
        for name in names:
            begun[name] = _Begun(account.surroundings.attend(name), ())
        for name, stamp in account.surroundings.stamps(names).items():
            begun[name].stamp = stamp
        for name in filter(names.__getitem__, names):
            begun[name].notes = _notes(account, name)
    except BaseException:
        for each in begun.values():
            each.end()
        raise
    return begun


def _numbers(account: AccountStore, name: str, known: _Known | None) -> Status | None:
    """Blocking. None: nothing happened."""
    mailbox = account.open(name)
    try:
        if known and known.modseq == mailbox.highest_modseq and known.validity == mailbox.uidvalidity:
            return None
        return mailbox.status()
    finally:
        mailbox.close()


def _notes(account: AccountStore, name: str | None) -> Notes:
    """Blocking. None of a mailbox that is gone."""
    try:
        return {entry: hash(value) for entry, value in account.notes(name).items()}
    except NoSuchMailbox:
        return {}


def _news(watched: _Watched, numbers: Status, *, condstore: bool) -> list[bytes]:
    """The items of STATUS that tell what is new (§5.1 to §5.3)."""
    known, events = watched.known, watched.events
    items: dict[bytes, None] = {}
    replaced = known is not None and known.validity not in (0, numbers.uidvalidity)
    if known is None or replaced or (known.uidnext, known.messages) != (numbers.uidnext, numbers.messages):
        items |= dict.fromkeys([b"UIDNEXT", b"MESSAGES"])
        if condstore:
            items[b"HIGHESTMODSEQ"] = None
    if Happening.FLAG_CHANGE in events and (known is None or known.modseq != numbers.highest_modseq):
        if known is None or known.unseen != numbers.unseen:
            items |= dict.fromkeys([b"UIDVALIDITY", b"UNSEEN"])
        if condstore:
            items |= dict.fromkeys([b"UIDVALIDITY", b"HIGHESTMODSEQ"])
    if replaced:
        items[b"UIDVALIDITY"] = None
    return list(items)


def _is_own(change: Change, own: set[tuple[str, ...]]) -> bool:
    what, name, old = change
    if not old:
        return (what, name) in own
    return any(
        (what, above, new) in own and old.removeprefix(above) == name.removeprefix(new)
        for above, new in zip(lineage(old), lineage(name), strict=False)
    )
