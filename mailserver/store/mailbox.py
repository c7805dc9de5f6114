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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from mailserver.mail import Content
from mailserver.message.searchable import Phrase
from mailserver.store import content, names
from mailserver.store.index import Index
from mailserver.store.maildir import Maildir
from mailserver.store.model import (
    Addition,
    Changes,
    FlagAction,
    Message,
    MessageGone,
    NoSuchMailbox,
    OverQuota,
    Prepared,
    Status,
    Unavailable,
)
from mailserver.store.newcomers import Newcomer, of_written
from mailserver.store.notify import notifier
from mailserver.store.preparing import prepare
from mailserver.store.searchfile import SearchFile
from mailserver.store.searchtext import Found, SearchText
from mailserver.store.syncing import Directory, sync_directory, sync_files
from mailserver.store.writing import TMP, Written, discard, link_or_copy, write

log = logging.getLogger(__name__)

_PREPARE_BATCH = 200
_TRIES = 3  # to catch a message whose flags others change


class Mailbox:
    """Made by `AccountStore.open`, which counts its users; each calls `close` once."""

    def __init__(
        self,
        name: str,
        maildir: Maildir,
        index: Index,
        *,
        search: SearchFile,
        room: Callable[[int], bool],
        release: Callable[[Mailbox], None],
    ) -> None:
        """`room` takes so many octets, False: there are not as many; `release` is called at `close`."""
        self.name = name
        self._maildir = maildir
        self._contents = maildir.contents
        self._index = index
        self._text = SearchText(search, index, maildir.key)
        self._room = room
        self._release = release
        self._disk = threading.RLock()
        self.alive = True
        """False: the folder was deleted."""
        self._recent = threading.Lock()
        self._subscribers: dict[int, Callable[[], None]] = {}
        self._numbers = count()
        self._subscribing = threading.Lock()
        self._unwatch: Callable[[], None] | None = None

    @property
    def key(self) -> int:
        """What tells the folder from all others of the account, whatever its name."""
        return self._maildir.key

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

    # From memory

    def messages(self) -> list[Message]:
        """All, ascending by UID; the list is the caller's own."""
        return self._contents.all()

    def get(self, uids: Iterable[int]) -> list[Message]:
        """Those that exist, ascending by UID."""
        return self._contents.select(uids)

    def changes(self, since_modseq: int) -> Changes:
        """What is different since. Asks the index only for expunges of long ago."""
        found, vanished, modseq = self._contents.changed_since(since_modseq)
        complete = True
        if vanished is None:
            complete = since_modseq >= self._maildir.horizon
            vanished = set(self._index.vanished(self._maildir.key, since_modseq))
        appeared = [message for message in found if message.born > since_modseq]
        changed = [message for message in found if message.born <= since_modseq]
        return Changes(appeared, changed, sorted(vanished), modseq, complete)

    def claim_recent(self) -> set[int]:
        r"""The UIDs that no session was shown as \Recent; each goes to one caller only (RFC 3501 §2.3.2)."""
        with self._recent:
            recent = self._contents.above(self._maildir.told)
            if recent:
                self._maildir.told = max(recent)
            return recent

    def peek_recent(self) -> set[int]:
        """As `claim_recent`, without claiming them."""
        return self._contents.above(self._maildir.told)

    def status(self) -> Status:
        messages = self._contents.all()
        return Status(
            messages=len(messages),
            recent=len(self.peek_recent()),
            unseen=sum(r"\Seen" not in message.flags for message in messages),
            deleted=sum(r"\Deleted" in message.flags for message in messages),
            uidnext=self.uidnext,
            uidvalidity=self.uidvalidity,
            size=sum(message.size for message in messages),
            highest_modseq=self.highest_modseq,
        )

    # With the disk

    def sync(self) -> None:
        """Finds what others did and gives UIDs to new mail. Cheap when nothing happened."""
        with self._work():
            self._maildir.refresh()

    def update_flags(self, uids: Iterable[int], action: FlagAction, flags: frozenset[str]) -> list[Message]:
        r"""Returns the messages as they are now; those that are gone are left out. Durable.

        Raises InvalidFlag. `\Recent` is ignored.
        """
        wanted = sorted(set(uids))
        with self._work():
            flags = self._maildir.flags.accept(flags, giving=action != "remove")
            put = self._rename(wanted, action, flags)
            if put is None:
                self._maildir.refresh(anyway=True)
                self._rename(wanted, action, flags)
            return self._contents.select(wanted)

    def expunge(self, uids: Iterable[int]) -> list[int]:
        """Removes the files; the UIDs that are gone by that. Durable."""
        removed: set[int] = set()
        with self._work():
            try:
                with self._maildir.changing():
                    for message in self._contents.select(uids):
                        if self._unlink(message):
                            removed.add(message.uid)
                if removed:
                    sync_directory(self._maildir.cur.path)
            finally:
                known = removed & self._contents.uids()  # a refresh meanwhile may have missed some already
                self._maildir.commit({}, known, self._contents.next_modseq())
        return sorted(removed)

    def append(self, message: Content, flags: frozenset[str] = frozenset(), internal_date: float | None = None) -> int:
        """The UID of the new message. Durable. Raises InvalidFlag, OverQuota."""
        return self.append_many([Addition(message, flags, internal_date)])[0]

    def append_many(self, additions: Sequence[Addition]) -> list[int]:
        """All or none (RFC 3502 §6.3.11); the new UIDs in order. Durable. Raises InvalidFlag, OverQuota."""
        self._ask_room(sum(addition.content.size for addition in additions))
        written: list[Written] = []
        with self._work():
            accepted = [self._maildir.flags.accept(addition.flags) for addition in additions]
            try:
                newcomers = []
                for addition, flags in zip(additions, accepted, strict=True):
                    date = addition.internal_date if addition.internal_date is not None else time.time()
                    file = write(self._maildir.directory, self._maildir.host, addition.content.chunks, date)
                    written.append(file)
                    newcomers.append(of_written(file, self._maildir.flags.encode(flags), date, flags))
                for error in sync_files([file.fd for file in written]):
                    if error is not None:
                        raise error
                added = self._maildir.add(newcomers)
            finally:
                for file in written:
                    file.close()
                    discard(file.path)
        return [message.uid for message in added]

    def copy(self, uids: Iterable[int], target: Mailbox) -> list[tuple[int, int]]:
        """All that exist or none; pairs of the UID here and the UID there. Durable. Raises InvalidFlag, OverQuota."""
        chosen = self.get(uids)
        self._ask_room(sum(message.size for message in chosen))
        return self._copy(chosen, target)

    def move(self, uids: Iterable[int], target: Mailbox) -> list[tuple[int, int]]:
        """As `copy`, then the messages here are gone (RFC 6851). A crash in between leaves copies, never nothing."""
        pairs = self._copy(self.get(uids), target)
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

    def prepared(self, uids: Iterable[int]) -> dict[int, Prepared]:
        """The ready pieces of FETCH, of those that exist; they are made, and kept in the index, where missing."""
        wanted = [message.uid for message in self.get(uids)]
        found = self._index.prepared(self._maildir.key, wanted)
        missing = [uid for uid in wanted if uid not in found]
        for start in range(0, len(missing), _PREPARE_BATCH):
            made = {}
            for uid in missing[start : start + _PREPARE_BATCH]:
                try:
                    made[uid] = prepare(self.read(uid))
                except MessageGone:
                    continue
            self._index.store_prepared(self._maildir.key, made)
            found |= made
        return found

    def search_text(self, uids: Iterable[int], phrase: Phrase) -> Found:
        """Those of these messages that have a text. What was not packed is read, and packed. Raises Unavailable."""
        wanted = set(uids)
        here = wanted & self._contents.uids()
        found, gone = self._text.find(here, phrase, self.read)
        return Found(found, gone | (wanted - here))

    def pack(self, limit: int) -> int:
        """Packs the text of up to `limit` messages, so that they are searched fast; how many remain to be packed."""
        return self._text.pack(self._contents.uids(), limit, self.read)

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

    def save(self) -> None:
        """Leaves to the index what the next start can use."""
        with self._disk:
            self._maildir.save()

    def _open(self, uid: int) -> int:
        for last_try in (False, True):
            message = self._contents.get(uid)
            if message is None:
                break
            try:
                return content.open_message(self._maildir.path(message))
            except FileNotFoundError:
                if not last_try:
                    with self._work():
                        self._maildir.refresh(anyway=True)
            except OSError as error:
                raise self._unavailable(error) from error
        raise MessageGone("The message no longer exists")

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
                self.notify()

    def _unavailable(self, error: OSError) -> Unavailable:
        log.error("store=mailbox directory=%r error=%r", self._maildir.directory, error)
        return Unavailable("The mailbox is not available now", error.errno)

    def _ask_room(self, octets: int) -> None:
        if not self._room(octets):
            raise OverQuota("The account has no room for it")

    def _rename(self, uids: list[int], action: FlagAction, flags: frozenset[str]) -> list[int] | None:
        """Gives the files their new flags, durably. None: some file was not where it should be."""
        modseq = self._contents.next_modseq()
        put: dict[int, Message] = {}
        lost = False
        try:
            with self._maildir.changing(), Directory(self._maildir.cur.path) as cur:
                for message in self._contents.select(uids):
                    wanted = _apply(action, message.flags, flags)
                    if wanted == message.flags:
                        continue
                    letters = self._maildir.flags.encode(wanted, names.letters_of(message.name))
                    renamed = message._replace(
                        flags=wanted, modseq=modseq, name=names.with_letters(message.name, letters)
                    )
                    try:
                        cur.rename(message.name, renamed.name)
                    except FileNotFoundError:
                        lost = True
                        continue
                    put[message.uid] = renamed
                if put:
                    cur.sync()
        finally:
            self._maildir.commit(put, (), modseq)
        return None if lost else list(put)

    def _unlink(self, message: Message) -> bool:
        """False: somebody else removed it, or renames it faster than we look."""
        for _ in range(_TRIES):
            try:
                Path(self._maildir.path(message)).unlink()
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
            pairs = target._take_copies(chosen, self._maildir.path)
            if pairs is not None:
                return pairs
            with self._work():
                self._maildir.refresh(anyway=True)
            chosen = self.get(message.uid for message in chosen)
        raise Unavailable("The messages change too fast")

    def _take_copies(self, chosen: list[Message], path: Callable[[Message], str]) -> list[tuple[int, int]] | None:
        """None: a message was not where it should be."""
        made: list[str] = []
        with self._work():
            try:
                newcomers = []
                accepted = [self._maildir.flags.accept(message.flags) for message in chosen]
                for message, flags in zip(chosen, accepted, strict=True):
                    base = names.with_sizes_of(names.unique(self._maildir.host), message.name)
                    there = f"{self._maildir.directory}/{TMP}/{base}"
                    made.append(there)
                    try:
                        link_or_copy(path(message), there)
                    except FileNotFoundError:
                        return None
                    letters = self._maildir.flags.encode(flags)
                    newcomers.append(Newcomer(there, base, letters, message.internal_date, message.size, flags))
                added = self._maildir.add(newcomers)
            finally:
                for there in made:
                    discard(there)
        return [(message.uid, copy.uid) for message, copy in zip(chosen, added, strict=True)]


def _apply(action: FlagAction, before: frozenset[str], flags: frozenset[str]) -> frozenset[str]:
    match action:
        case "add":
            return before | flags
        case "remove":
            return before - flags
        case "set":
            return flags
