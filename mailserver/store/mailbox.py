"""A mailbox: one object for each in a process, shared by all sessions that use it and by delivery.

Promises   What changes the disk returns when it is durable. Questions about messages are answered from memory and never
           wait for the disk. Each change, made here or found, moves `highest_modseq` and calls the subscribers.
           Any thread may call anything.
On failure NoSuchMailbox when the folder is gone, Unavailable when the disk refuses; other errors stand with the
           methods. A refused change leaves no half: memory is made to agree with the disk again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import compress, count
from typing import TypeVar

from mailserver import metrics
from mailserver.mail import Content
from mailserver.message.fuzzy import Fuzzy
from mailserver.message.searchable import Phrase
from mailserver.store import content
from mailserver.store.accesskeys import Renewals
from mailserver.store.adding import Adding, unavailable, usage
from mailserver.store.digest import PIECES, TEXT, Digest
from mailserver.store.helpers import PORTION, helpers
from mailserver.store.index import Index
from mailserver.store.maildir import Maildir
from mailserver.store.metadata import Notes
from mailserver.store.model import (
    Addition,
    Changes,
    Drop,
    FlagAction,
    Flagged,
    Listing,
    Measured,
    Message,
    MessageGone,
    NoSuchMailbox,
    ObjectIds,
    Prepared,
    SortKeys,
    Status,
    StoreError,
    Unavailable,
)
from mailserver.store.notify import notifier
from mailserver.store.objectids import mailbox_id, object_ids
from mailserver.store.preparing import Preparation
from mailserver.store.quota import Space
from mailserver.store.recent import Recent
from mailserver.store.searchfile import SearchFile
from mailserver.store.searchtext import Found, Rated, SearchText
from mailserver.store.sorting import Sorting
from mailserver.store.syncing import Directory

log = logging.getLogger(__name__)

T = TypeVar("T")

_TRIES = 20  # to catch a message whose flags others change
FEW = 32  # messages that are not worth a helper
PORTION_OCTETS = 2**20
"""Of messages that what is made of is held at a time."""


class Mailbox:
    """Made by `AccountStore.open`, which counts its users; each calls `close` once."""

    def __init__(
        self,
        name: str,
        maildir: Maildir,
        index: Index,
        *,
        search: SearchFile,
        space: Space,
        release: Callable[[Mailbox], None],
        changed: Callable[[str], None],
        arrived: Callable[[str], None],
    ) -> None:
        """`space` is the account's; `release` is called at `close`, `changed` with the name as subscribers are,
        `arrived` with the folder's directory when messages were added.
        """
        self.name = name
        self._maildir = maildir
        self._contents = maildir.contents
        self._index = index
        self._text = SearchText(search, index, maildir.key, partial(self._made, TEXT))
        self._preparation = Preparation(
            maildir.key, index.pieces, partial(self._made, PIECES), follow=self._contents.following
        )
        self.sorting = Sorting(maildir.key, maildir.contents, index, self._preparation.sort_keys)
        self._space = space
        self._adding = Adding(maildir, space)
        self.recent = Recent(maildir, index.mailboxes)
        self._release = release
        self._changed = changed
        self._arrived = arrived
        self._disk = threading.RLock()
        self.alive = True
        """False: the folder was deleted."""
        self._renewals = Renewals()
        self._notes = Notes(maildir.directory)
        self._subscribers: dict[int, Callable[[], None]] = {}
        self._numbers = count()
        self._subscribing = threading.Lock()
        self._unwatch: Callable[[], None] | None = None

    @property
    def key(self) -> int:
        """What tells the folder from all others of the account, whatever its name."""
        return self._maildir.key

    @property
    def mailbox_id(self) -> str:
        """MAILBOXID (RFC 8474)."""
        return mailbox_id(self.key)

    @property
    def uidvalidity(self) -> int:
        return self._maildir.validity

    @property
    def uidnext(self) -> int:
        return self._maildir.uidnext

    @property
    def highest_modseq(self) -> int:
        return self._contents.modseq

    @property
    def key_changes(self) -> int:
        """How many times it got another access key, as far as that was seen."""
        return self._renewals.count

    @property
    def message_count(self) -> int:
        return len(self._contents)

    def close(self) -> None:
        """This user is done with it."""
        self._release(self)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """`callback` is called from any thread after a change, or when mail was delivered; returns its cancellation.

        Where the kernel can tell, it is also called soon after something happened on the disk.
        """
        number = next(self._numbers)
        with self._subscribing:
            self._subscribers[number] = callback
            if self._unwatch is None:
                self._unwatch = notifier.watch(self._maildir.places, self.notify)

        def cancel() -> None:
            with self._subscribing:
                self._subscribers.pop(number, None)
                if not self._subscribers and self._unwatch is not None:
                    self._unwatch()
                    self._unwatch = None

        return cancel

    def notify(self) -> None:
        """Tells the subscribers that `sync` may find something."""
        for callback in tuple(self._subscribers.values()):
            callback()
        self._changed(self.name)

    # From memory

    def messages(self) -> list[Message]:
        """All, ascending by UID; the list is the caller's own."""
        return self._contents.all()

    def listing(self) -> Listing:
        """All messages in short, as they are at one moment."""
        return self._contents.listing()

    def drop(self, *, named: bool = False) -> Drop:
        """All messages as POP3 counts them; with the names of their files where `named`."""
        return self._contents.drop(named=named)

    def get(self, uids: Iterable[int]) -> list[Message]:
        """Those that exist, ascending by UID."""
        return self._contents.select(uids)

    def fixed(self, uids: array[int]) -> bytes | None:
        """What memory has of these messages in a row that never changes, in some form; None when one is gone."""
        return self._contents.fixed(uids)

    def measured(self) -> Measured:
        """UIDs, sizes and dates of all messages, as they are at one moment."""
        return self._contents.measured()

    def changes(self, since_modseq: int, *, at_hand: bool = False) -> Changes:
        """What is different since. Asks the index for expunges of long ago, unless only what is `at_hand` counts."""
        appeared, changed, vanished, modseq = self._contents.changed_since(since_modseq)
        if vanished is None and not at_hand:
            vanished = self._vanished_long_ago(since_modseq)
        return Changes(appeared, changed, sorted(vanished or ()), modseq, vanished is not None)

    def vanished(self, since_modseq: int) -> set[int] | None:
        """Also what came and went while only other processes looked; None when not all are known any more."""
        vanished = self._contents.vanished_since(since_modseq)
        if vanished is not None and self._maildir.alone:
            return vanished
        elsewhere = self._vanished_long_ago(since_modseq)
        return elsewhere if vanished is None or elsewhere is None else vanished | elsewhere

    def remembers(self, modseq: int) -> bool:
        """False: what led to it was lost (an index that a power cut set back). Then nothing that was told holds."""
        return self._contents.remembers(modseq)

    def _vanished_long_ago(self, since: int) -> set[int] | None:
        known = self._index.mailboxes.vanished(self._maildir.key, since)
        return set(known) if known is not None else None

    def status(self) -> Status:
        counted, size = self._contents.tally()
        return Status(
            messages=counted.total(),
            recent=len(self.recent.peek()),
            unseen=sum(count for flags, count in counted.items() if r"\Seen" not in flags),
            deleted=sum(count for flags, count in counted.items() if r"\Deleted" in flags),
            deleted_octets=self._contents.octets(r"\Deleted"),
            uidnext=self.uidnext,
            uidvalidity=self.uidvalidity,
            size=size,
            highest_modseq=self.highest_modseq,
            mailbox_id=self.mailbox_id,
        )

    # With the disk

    def sync(self) -> None:
        """Finds what others did and gives UIDs to new mail. Cheap when nothing happened."""
        with self._work():
            self._maildir.refresh()
            if self._notes.look(self._maildir.directory):  # a change as any other (RFC 7162 §3.2)
                self._contents.change((), {}, (), self._contents.next_modseq())
                self._maildir.save()
        if self._renewals.look(self._maildir.directory):
            self.notify()

    def update_flags(
        self, uids: Iterable[int], action: FlagAction, flags: frozenset[str], unchanged_since: int | None = None
    ) -> list[Flagged]:
        r"""Returns the flags that the messages have now; those that are gone are left out. Durable.

        Messages with a greater MODSEQ than `unchanged_since` are left alone, and out. Raises InvalidFlag. `\Recent` is
        ignored.
        """
        done: list[int] = []
        left = sorted(set(uids))
        with self._work():
            self._maildir.learn()
            flags = self._maildir.accept(flags, giving=action != "remove")
            if self._maildir.overtaken or not self._maildir.would_change(left, action, flags):
                self._maildir.refresh()  # another process may have made it necessary
            for _ in range(_TRIES):
                if unchanged_since is not None:
                    left = self._contents.unchanged(left, unchanged_since)
                missed = self._maildir.update_flags(left, action, flags)
                if not missed:
                    self._look_behind()
                    return self._contents.flagged(done + left)
                done += sorted(set(left).difference(missed))
                left = missed
                self._maildir.refresh(anyway=True)
        raise Unavailable("The messages change too fast")

    def expunge(self, uids: Iterable[int]) -> list[int]:
        """Removes the files; the UIDs that are gone by that. Durable."""
        removed: list[Message] = []
        counts = self._space.counts
        with self._work():
            try:
                with self._maildir.changing(), Directory(self._maildir.cur.path) as cur:
                    removed.extend(each for each in self._contents.select(uids) if self._unlink(cur, each))
                    if removed:
                        cur.sync()
            finally:
                gone = [message.uid for message in removed]
                known = [uid for uid in gone if uid in self._contents]  # a refresh meanwhile may have missed some
                self._maildir.commit({}, {}, known, self._contents.next_modseq())
                if removed:
                    self._space.removed(usage(removed), counts)
            self._look_behind()
        return gone

    def append(self, message: Content, flags: frozenset[str] = frozenset(), internal_date: float | None = None) -> int:
        """The UID of the new message. Durable. Raises InvalidFlag, OverQuota."""
        return self.append_many([Addition(message, flags, internal_date)])[0]

    def append_many(self, additions: Sequence[Addition]) -> list[int]:
        """All or none (RFC 3502 §6.3.11); the new UIDs in order. Durable. Raises InvalidFlag, OverQuota."""
        (uids,) = self.append_each([additions])
        if isinstance(uids, StoreError):
            raise uids
        return uids

    def append_each(self, jobs: Sequence[Sequence[Addition]]) -> list[list[int] | StoreError]:
        """Several `append_many` at once, durable together. Raises what concerns the mailbox as a whole."""
        with self._work():
            begun = time.perf_counter()
            try:
                added = self._adding.append(jobs)
            finally:
                metrics.STORE_TIMES.observe(time.perf_counter() - begun, "append")
        self._arrived(self._maildir.folder)
        return added

    def replace(self, uid: int, addition: Addition, target: Mailbox) -> int:
        """The message goes when the other one is there (RFC 8508). A crash in between leaves both, never none.

        The UID of the new one. Durable. Raises InvalidFlag, OverQuota, MessageGone.
        """
        replaced = self.get([uid])
        if not replaced:
            raise MessageGone("The message no longer exists")
        with target._work():
            (added,) = target._adding.append([[addition]], freeing=usage(replaced))
        target._arrived(target._maildir.folder)
        if isinstance(added, StoreError):
            raise added
        try:
            self.expunge([uid])
        except StoreError:
            with suppress(StoreError):
                target.expunge(added)
            raise
        return added[0]

    def copy(self, uids: Iterable[int], target: Mailbox) -> list[tuple[int, int]]:
        """All that exist or none; pairs of the UID here and the UID there. Durable. Raises InvalidFlag, OverQuota."""
        chosen = self.get(uids)
        with target._adding.room(usage(chosen)):
            return self._copy(chosen, target)

    def move(self, uids: Iterable[int], target: Mailbox) -> list[tuple[int, int]]:
        """As `copy`, then the messages here are gone (RFC 6851). A crash in between leaves copies, never nothing.

        Needs no room: also a full mailbox can be put in order.
        """
        chosen = self.get(uids)
        pairs = self._copy(chosen, target)
        target._space.add(usage(chosen))
        self.expunge(uid for uid, _ in pairs)
        return pairs

    def read(self, uid: int) -> bytes:
        """The whole message in CRLF form. Raises MessageGone."""
        fd = self._open(uid)
        try:
            return content.wire(fd)
        except OSError as error:
            raise self._unavailable(error) from error
        finally:
            os.close(fd)

    @contextmanager
    def reading(self) -> Iterator[Callable[[Message], bytes]]:
        """What reads as `read`, but quicker where many are small."""
        with content.SmallMessages(self._maildir.cur.path) as small:
            yield lambda message: small.read(message.name, message.size) or self.read(message.uid)

    def chunks(self, uid: int) -> Iterator[bytes]:
        """The message in CRLF form, in pieces. Raises MessageGone at once; an expunge meanwhile does no harm."""
        fd = self._open(uid)

        def pieces() -> Iterator[bytes]:
            try:
                yield b""
                yield from content.wire_chunks(fd)
            finally:
                os.close(fd)

        begun = pieces()
        next(begun)  # from here on the file is closed even if nobody reads on
        return begun

    def prepared(self, uids: Iterable[int], *, ready: bool = False) -> dict[int, Prepared]:
        """The ready pieces of FETCH, of those that exist; they are made, and kept, where missing.

        `ready`: none are made, and what is missing is left out.
        """
        return self._preparation.prepared(self._contents.existing(uids), ready=ready)

    def sort_keys(self, uids: Iterable[int]) -> dict[int, SortKeys]:
        """What messages are sorted and threaded by, of those that exist."""
        return self._preparation.sort_keys(self._contents.existing(uids))

    def headers(self, uids: Iterable[int]) -> dict[int, bytes]:
        """The header summaries (CRLF form, with the final empty line), of those that exist."""
        return self._preparation.headers(self._contents.existing(uids))

    def object_ids(self, uids: Iterable[int]) -> dict[int, ObjectIds]:
        """EMAILID and THREADID, of those that exist."""
        dates = {message.uid: message.internal_date for message in self.get(uids)}
        identities = self._preparation.identities(list(dates))
        return {uid: object_ids(identities[uid], date) for uid, date in dates.items() if uid in identities}

    def prepare(self, limit: int) -> int:
        """Makes the pieces of up to `limit` messages that have none, the newest first; how many remain."""
        return self._preparation.fill(self._contents.above(self._preparation.looked_up), limit)

    def search_text(self, uids: Iterable[int], phrase: Phrase) -> Found:
        """Those of these messages that have a text. What was not packed is read, and packed. Raises Unavailable."""
        here, gone_before = self._contents.parted(uids)
        found, gone = self._text.find(here, phrase)
        return Found(found, gone | gone_before)

    def rate_text(self, uids: Iterable[int], phrase: Fuzzy) -> Rated:
        """As `search_text`, by what is near to a text."""
        here, gone_before = self._contents.parted(uids)
        scores, gone = self._text.rate(here, phrase)
        return Rated(scores, gone | gone_before)

    def pack(self, limit: int) -> int:
        """Packs the text of up to `limit` messages, so that they are searched fast; how many remain to be packed."""
        return self._text.pack(self._contents.above, limit)

    @property
    def overtaken(self) -> bool:
        """Another process made a part of what `prepare` or `pack` was to make the last time."""
        return self._preparation.overtaken or self._text.overtaken

    @property
    def refused(self) -> bool:
        """The disk did not keep what `prepare` or `pack` made the last time."""
        return self._preparation.refused or self._text.refused

    # Inside the store

    def moved(self, name: str, folder: str) -> None:
        """The mailbox was renamed; its directory is `folder` now."""
        with self._work():
            self.name = name
            self._maildir.moved(folder)

    def gone(self) -> None:
        """The mailbox was deleted."""
        self.alive = False
        self.notify()

    def key_changed(self) -> None:
        """This process has given it another access key."""
        self._renewals.renewed(self._maildir.directory)
        self.notify()

    def save(self) -> None:
        """Leaves to the index what the next start can use."""
        with self._disk:
            self._maildir.rest()
        self.sorting.save()

    def _open(self, uid: int) -> int:
        for last_try in (False, True):
            name = self._contents.name(uid)
            if name is None:
                break
            try:
                return content.open_message(f"{self._maildir.cur.path}/{name}")
            except FileNotFoundError:
                if not last_try:
                    with self._work():
                        self._maildir.refresh(anyway=True)
            except OSError as error:
                raise self._unavailable(error) from error
        raise MessageGone("The message no longer exists")

    def _made(self, digest: Digest[T], uids: Iterable[int]) -> Iterator[tuple[int, T | StoreError]]:
        """What is made of these messages, those that exist, in order. Helpers make it where they are many."""
        for portion, made in self._helped(digest, self.get(uids)):
            for message, each in zip(portion, made, strict=True):
                if each is not None:
                    yield message.uid, each
                    continue
                try:
                    here = digest.make(self.read(message.uid))
                except StoreError as error:
                    yield message.uid, error
                else:
                    yield message.uid, here

    def _helped(
        self, digest: Digest[T], messages: Sequence[Message]
    ) -> Iterator[tuple[list[Message], Sequence[T | None]]]:
        """In portions, each with what helpers made of it: many messages, none of them large."""
        portions = list(_portions(messages))
        fit = [len(messages) >= FEW and _octets(portion) <= PORTION_OCTETS for portion in portions]
        paths = ([self._maildir.path(message) for message in portion] for portion in compress(portions, fit))
        with closing(helpers.made(digest.name, paths)) as made:
            for portion, helped in zip(portions, fit, strict=True):
                yield portion, next(made) if helped else [None] * len(portion)

    @contextmanager
    def _work(self) -> Iterator[None]:
        """Alone with the folder. Subscribers hear of it when something changed."""
        before = self.highest_modseq
        try:
            with self._disk:
                yield
        except NoSuchMailbox:
            self.alive = False
            raise
        except OSError as error:
            raise self._unavailable(error) from error
        finally:
            if self.highest_modseq != before:
                self.recent.claim()
                self.notify()

    def _look_behind(self) -> None:
        """After a change: who knows its MODSEQ is to know what other processes did before, also in the same moment."""
        if self._maildir.overtaken or self._maildir.behind:
            self._maildir.refresh()

    def _unavailable(self, error: OSError) -> Unavailable:
        return unavailable(self._maildir.directory, error)

    def _unlink(self, cur: Directory, message: Message) -> bool:
        """False: somebody else removed it, or renames it faster than we look."""
        for _ in range(_TRIES):
            try:
                cur.remove(message.name)
            except FileNotFoundError:
                self._maildir.refresh(anyway=True)
                found = self._contents.get(message.uid)
                if found is None:
                    return False
                message = found
            else:
                return True
        return False

    def _copy(self, chosen: list[Message], target: Mailbox) -> list[tuple[int, int]]:
        for _ in range(_TRIES):
            with target._work():
                added = target._adding.copies(chosen, self._maildir.path)
            if added is not None:
                target._arrived(target._maildir.folder)
                return list(zip((message.uid for message in chosen), added, strict=True))
            with self._work():
                self._maildir.refresh(anyway=True)
            chosen = self.get(message.uid for message in chosen)
        raise Unavailable("The messages change too fast")


def _portions(messages: Iterable[Message]) -> Iterator[list[Message]]:
    portion: list[Message] = []
    octets = 0
    for message in messages:
        octets += message.size
        if portion and (octets > PORTION_OCTETS or len(portion) == PORTION):
            yield portion
            portion, octets = [], message.size
        portion.append(message)
    if portion:
        yield portion


def _octets(messages: Iterable[Message]) -> int:
    return sum(message.size for message in messages)
