"""An account: its folders, the mailboxes that are open, its subscriptions.

Promises   What changes the disk returns when it is durable. Changes of folders are alone under the account's lock file,
           among all processes. A name that is used again after a DELETE or RENAME has a greater UIDVALIDITY.
           Any thread may call anything.
On failure InvalidName, NoSuchMailbox, MailboxExists, SpecialUseRefused; Unavailable when the disk refuses.
Locks      Taken in this order, each left out or not, never the other way round:
           1. the account's thread lock, here;
           2. a mailbox's thread lock (`Mailbox`), one at a time;
           3. the folder's `.uidvalidity` (`uids`), among processes;
           4. the account's `mailserver.lock`, or the folder's lock for keywords (`flags`), among processes;
           5. the thread locks of the index, the search text, the quota and the warm mailboxes; SQLite's own.
           Whoever holds `mailserver.lock` renames directories, and tells the mailboxes when it is free again: a
           mailbox at work may wait for it (3 before 4). Those who watch a mailbox are called under 1, and take none.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mailserver.store import accesskeys, folders, layout, metadata, specialuse, subscriptions, uids, writing
from mailserver.store.index import Index
from mailserver.store.mailbox import Mailbox
from mailserver.store.maildir import Maildir
from mailserver.store.model import (
    Folder,
    InvalidName,
    MailboxExists,
    MailboxHasChildren,
    NoSuchMailbox,
    Status,
    StoreError,
    Unavailable,
    Usage,
)
from mailserver.store.objectids import mailbox_id
from mailserver.store.quota import Space, count_folder
from mailserver.store.searchfile import SearchFile
from mailserver.store.surroundings import Scene, Surroundings
from mailserver.store.syncing import locked, sync_directory
from mailserver.store.turns import Turn
from mailserver.store.warm import Warm

log = logging.getLogger(__name__)

LOCK_FILE = "mailserver.lock"
"""Its content is the highest UIDVALIDITY that the account ever had."""

SWEEP_INTERVAL = 3600.0  # seconds


def _ignored(_folder: str) -> None:
    """Nobody wants to know what arrives."""


class AccountStore:
    """Made by `Store.account`: one object for each account and process."""

    def __init__(self, path: str, host: str, warm: Warm, arrived: Callable[[str], None] = _ignored) -> None:
        """`arrived` is called with the directory of a folder below the path after messages were added to it."""
        self._path = path
        self._host = host
        self._arrived = arrived
        self._lock = threading.RLock()
        self._open: dict[str, Mailbox] = {}  # by directory; those in use, and those kept warm
        self._users: dict[Mailbox, int] = {}
        self._warm = warm
        self._index = Index(Path(path))
        self._search = SearchFile(Path(path), self._index)
        self._swept: dict[str, float] = {}
        self.surroundings = Surroundings(path)
        self.space = Space(path)
        """How much it holds; with its quota, which APPEND and COPY keep to."""
        layout.sweep(path)
        self._adopt_folders()

    # Folders

    def folders(self) -> list[Folder]:
        """INBOX first, then by name; names that are only parents of others are there too, not selectable."""
        with self._guarded():
            self._adopt_folders()
            existing = set(self._existing())
            uses = specialuse.assign(self._given_uses(existing))
        parents = {parent for name in existing for parent in _parents(name)}
        names = sorted(existing | parents, key=lambda name: (name != folders.INBOX, name))
        return [Folder(name, name in existing, name in parents, uses.get(name, frozenset())) for name in names]

    def meant(self, name: str) -> str:
        """The name of the mailbox that a client means who may write Unicode in any normal form: a mailbox of just that
        name, though nobody makes such ones here, else the one in form C (RFC 9051 §5.1).
        """
        composed = unicodedata.normalize("NFC", name)
        with self._guarded():
            if composed == name or self._selectable(name) or name in self.subscriptions():
                return name
        return composed

    def create(self, name: str, special_use: frozenset[str] = frozenset()) -> str:
        """Returns its MAILBOXID. A separator at the end is ignored (RFC 9051 §6.3.4).

        Raises SpecialUseRefused (RFC 6154 §3).
        """
        directory = folders.directory_of(name.removesuffix(folders.SEPARATOR))
        with self._guarded(), self._alone() as lock:
            if not directory:
                raise MailboxExists("INBOX always exists")
            if special_use:
                specialuse.check(special_use, self._given_uses(self._existing()).values())
            key = self._make(directory, lock, special_use)
        self.surroundings.changed(None)
        return mailbox_id(key)

    def delete(self, name: str) -> None:
        """Mailboxes below it stay (RFC 9051 §6.3.5). Raises MailboxHasChildren when there is nothing but those."""
        directory = folders.directory_of(name)
        with self._guarded(), self._lock:
            with self._alone():
                if not directory:
                    raise InvalidName("INBOX cannot be deleted")
                self._must_not_be_parent_only(name)
                self._must_exist(directory)
                key = uids.key(Path(self._path, directory))
                counts = self.space.counts
                leftover = layout.remove_folder(self._path, directory, self._host)
            self._drop(directory)
        self.surroundings.changed(None)
        self.space.removed(count_folder(str(leftover)), counts)
        layout.remove_tree(leftover)
        if key is not None:
            self._index.forget(key)
        with self._lock:
            self._rest_index()

    def rename(self, old: str, new: str) -> None:
        """With the mailboxes below it. INBOX stays and is emptied into the new one (RFC 9051 §6.3.6)."""
        old, new = folders.normalise(old), folders.normalise(new.removesuffix(folders.SEPARATOR))
        if not folders.directory_of(old):
            self._empty_inbox_into(new)
            return
        moved: list[tuple[str, str]] = []
        with self._guarded(), self._lock:
            try:
                with self._alone():
                    for before, after in self._moves(old, new):
                        self._move(before, after)
                        moved.append((before, after))
                    sync_directory(self._path)
            finally:
                for before, after in moved:
                    self._follow(before, after)
                self._rest_index()
        self.surroundings.changed(None)

    def subscribe(self, name: str) -> None:
        self._subscribe(name, add=True)

    def unsubscribe(self, name: str) -> None:
        """Does nothing when it was not subscribed."""
        self._subscribe(name, add=False)

    def subscriptions(self) -> list[str]:
        """Sorted; they need not exist."""
        with self._guarded():
            return subscriptions.read(Path(self._path))

    # Metadata

    def metadata(self, name: str | None) -> dict[str, bytes]:
        """What is noted about a mailbox, None: about the account. Raises NoSuchMailbox."""
        with self._guarded():
            return metadata.read(self._metadata_file(name))

    def notes(self, name: str | None) -> dict[str, bytes]:
        """As `metadata`, with the special use that the mailbox was given (RFC 6154 §5.4)."""
        with self._guarded():
            known = metadata.read(self._metadata_file(name))
            if name is not None and (uses := specialuse.read(self._place(folders.directory_of(name)))):
                known["/private/specialuse"] = " ".join(sorted(uses)).encode()
            return known

    def set_metadata(self, name: str | None, values: Mapping[str, bytes | None]) -> None:
        """All or none; None removes an entry. Durable. Raises NoSuchMailbox, AnnotationRefused."""
        with self._noting(name), self._guarded(), self._alone():
            metadata.change(self._metadata_file(name), values)
        self.surroundings.changed(None if name is None else folders.normalise(name))

    def set_special_use(self, name: str, uses: Iterable[str]) -> None:
        """What an existing mailbox is for. Raises NoSuchMailbox, SpecialUseRefused."""
        name = folders.normalise(name)
        with self._noting(name), self._guarded(), self._alone():
            place = self._folder(name)
            specialuse.change(Path(place), name, uses, self._given_uses(self._existing()))
        self.surroundings.changed(name)

    @contextmanager
    def _noting(self, name: str | None) -> Iterator[None]:
        """What is noted about a mailbox meanwhile is a change of it; None: about the account."""
        if name is None:
            yield
            return
        mailbox = self.open(name)
        try:
            yield
            with suppress(StoreError):  # the next look finds it
                mailbox.sync()
        finally:
            mailbox.close()

    def _metadata_file(self, name: str | None) -> str:
        if name is None:
            return f"{self._path}/{metadata.ACCOUNT_FILE}"
        return f"{self._folder(name)}/{metadata.FILE}"

    # Access keys

    def access_key(self, name: str) -> bytes | None:
        """What authorises URLs of a mailbox; None: it has no key. Raises NoSuchMailbox."""
        with self._guarded():
            return accesskeys.read(self._folder(name))

    def make_access_key(self, name: str) -> bytes:
        """As `access_key`; one is made if there is none. Durable."""
        known = self.access_key(name)
        if known is not None:
            return known
        with self._guarded(), self._alone():
            folder = self._folder(name)
            return accesskeys.read(folder) or accesskeys.renew(folder)

    def renew_access_key(self, name: str) -> None:
        """Ends all that the one before authorised. Durable. Raises NoSuchMailbox."""
        with self._guarded(), self._alone():
            accesskeys.renew(self._folder(name))
        with self._lock:
            mailbox = self._open.get(folders.directory_of(name))
            if mailbox is not None:
                mailbox.key_changed()

    def remove_access_keys(self) -> None:
        """Of all mailboxes. Durable."""
        with self._guarded(), self._alone():
            for name in self._existing():
                accesskeys.remove(self._place(folders.directory_of(name)))

    # Mailboxes

    def scene(self) -> Scene:
        """The folders and subscriptions; the same object as long as nothing of them changes."""
        with self._guarded():
            return self.surroundings.scene()

    def open(self, name: str) -> Mailbox:
        """The mailbox, up to date. One object for all users in this process; each calls its `close` once."""
        try:
            return self._enter_synced(name)
        except NoSuchMailbox:
            return self._enter_synced(name)  # another folder may have taken the place of the one that was known

    def turn(self, *, delay: float, alone: bool) -> Turn:
        """The right to open the maildrop for POP3, `delay` seconds after the last time; see `Turn`."""
        with self._guarded():
            return Turn(Path(self._path), delay=delay, alone=alone)

    def status(self, name: str) -> Status:
        """The numbers of a mailbox now, without claiming what is recent."""
        mailbox = self.open(name)
        try:
            return mailbox.status()
        finally:
            mailbox.close()

    def usage(self) -> Usage:
        """What all folders hold together."""
        return self.space.usage()

    def delivered(self, folder: str) -> None:
        """Mail was delivered into a folder's new/."""
        self._arrived(folder)
        mailbox = self._open.get(folder)
        if mailbox is not None:
            mailbox.notify()
        elif (name := folders.name_of(folder) if folder else folders.INBOX) is not None:
            self.surroundings.changed(name)

    def ensure(self, name: str) -> str:
        """The directory of a folder, made if it is missing."""
        directory = folders.directory_of(name)
        path = f"{self._path}/{directory}" if directory else self._path
        if not layout.is_maildir(path):
            with self._guarded(), self._alone() as lock:
                if not layout.is_maildir(path):
                    self._make(directory, lock)
            self.surroundings.changed(None)
        return path

    def close(self) -> None:
        """Nobody uses it any more in this process."""
        self._index.close()

    # Inside

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Refusals of the disk become Unavailable; the system's own words go to the log."""
        try:
            yield
        except OSError as error:
            log.error("store=account path=%r error=%r", self._path, error)
            raise Unavailable("The account is not available now", error.errno) from error

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Among all threads and processes; gives the lock file."""
        with self._lock, locked(Path(self._path, LOCK_FILE)) as lock:
            yield lock

    def _existing(self) -> list[str]:
        with os.scandir(self._path) as entries:
            names = [folders.name_of(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
        found = [name for name in names if name and layout.is_maildir(self._place(folders.directory_of(name)))]
        return [folders.INBOX, *found]

    def _place(self, directory: str) -> str:
        return f"{self._path}/{directory}" if directory else self._path

    def _folder(self, name: str) -> str:
        """Where a mailbox lies. Raises NoSuchMailbox."""
        directory = folders.directory_of(name)
        self._must_exist(directory)
        return self._place(directory)

    def _selectable(self, name: str) -> list[str]:
        return [name] if layout.is_maildir(self._place(folders.directory_of(name))) else []

    def _taken(self, directory: str) -> bool:
        return os.path.lexists(f"{self._path}/{directory}")

    def _must_exist(self, directory: str) -> None:
        if not layout.is_maildir(self._place(directory)):
            raise NoSuchMailbox("No such mailbox")

    def _must_not_be_parent_only(self, name: str) -> None:
        above = folders.normalise(name) + folders.SEPARATOR
        if not self._selectable(name) and any(other.startswith(above) for other in self._existing()):
            raise MailboxHasChildren("There is no such mailbox, only others below that name")

    def _given_uses(self, names: Iterable[str]) -> dict[str, frozenset[str]]:
        """What each folder was given, INBOX left out: it is for nothing else."""
        directories = {name: folders.directory_of(name) for name in names}
        return {name: specialuse.read(self._place(place)) for name, place in directories.items() if place}

    def _adopt_folders(self) -> None:
        """Folders that another program named in UTF-8 get the names that are kept here."""
        if layout.utf8_folders(self._path):
            with self._alone():
                for directory, place in layout.utf8_folders(self._path).items():
                    Path(self._path, directory).rename(Path(self._path, place))
                    log.info("store=adopted path=%r folder=%r renamed=%r", self._path, directory, place)
                sync_directory(self._path)

    def _make(self, directory: str, lock: int, special_use: frozenset[str] = frozenset()) -> int:
        """The folder's key."""
        if self._taken(directory):
            raise MailboxExists("That mailbox exists already")
        validity = uids.next_validity_locked(lock, self._highest_validity)
        layout.make_folder(self._path, directory, validity, special_use, self._host)
        return uids.make_key(validity, 0)

    def _moves(self, old: str, new: str) -> list[tuple[str, str]]:
        """The names that change when `old` becomes `new`, and what they become: all of them can."""
        below = [name for name in self._existing() if name.startswith(old + folders.SEPARATOR)]
        existing = [*self._selectable(old), *below]
        target = folders.directory_of(new)
        if not existing:
            raise NoSuchMailbox("No such mailbox")
        if not target or self._taken(target):
            raise MailboxExists("That mailbox exists already")
        if new.startswith(old + folders.SEPARATOR):
            raise InvalidName("A mailbox cannot be moved below itself")
        moves = [(name, new + name.removeprefix(old)) for name in existing]
        if any(self._taken(folders.directory_of(after)) for _, after in moves):
            raise MailboxExists("A mailbox below that name exists already")
        return moves

    def _move(self, old: str, new: str) -> None:
        source, target = folders.directory_of(old), folders.directory_of(new)
        Path(self._path, source).rename(Path(self._path, target))

    def _follow(self, old: str, new: str) -> None:
        """The mailbox that is open learns that its folder was renamed."""
        source, target = folders.directory_of(old), folders.directory_of(new)
        mailbox = self._open.pop(source, None)
        if mailbox is None:
            return
        self._open[target] = mailbox
        try:
            if uids.key(Path(self._path, target)) != mailbox.key:
                raise NoSuchMailbox("Another process was faster")
            mailbox.moved(new, target)
        except StoreError:
            self._drop(target)

    def _empty_inbox_into(self, new: str) -> None:
        self.create(new)
        self.set_metadata(new, self.metadata(folders.INBOX))  # a copy of them stays (RFC 5464 §4.1)
        inbox, target = self.open(folders.INBOX), self.open(new)
        try:
            inbox.move([message.uid for message in inbox.messages()], target)
        finally:
            inbox.close()
            target.close()

    def _subscribe(self, name: str, *, add: bool) -> None:
        name = folders.normalise(name)
        if add:
            folders.directory_of(name)  # refuses a name that could not be a mailbox's
        with self._guarded(), self._alone():
            before = set(subscriptions.read(Path(self._path)))
            after = before | {name} if add else before - {name}
            if after != before:
                subscriptions.write(Path(self._path), sorted(after))
        self.surroundings.changed(None)

    def _new_validity(self) -> int:
        return uids.next_validity(Path(self._path, LOCK_FILE), self._highest_validity)

    def _note_validity(self, validity: int) -> None:
        uids.note_validity(Path(self._path, LOCK_FILE), validity, self._highest_validity)

    def _highest_validity(self) -> int:
        places = (Path(self._place(folders.directory_of(name))) for name in self._existing())
        return max((known[0] for known in map(uids.peek, places) if known), default=0)

    def _enter_synced(self, name: str) -> Mailbox:
        mailbox = self._enter(name)
        try:
            mailbox.sync()
        except BaseException:
            mailbox.close()
            raise
        return mailbox

    def _enter(self, name: str) -> Mailbox:
        directory = folders.directory_of(name)
        with self._guarded(), self._lock:
            mailbox = self._open.get(directory)
            if mailbox is None or not mailbox.alive or mailbox not in self._users:
                if not layout.is_maildir(self._place(directory)):
                    raise NoSuchMailbox("No such mailbox")
                self._sweep(directory)
                mailbox = self._still_warm(directory) or self._load(name, directory)
                self._open[directory] = mailbox
            self._users[mailbox] = self._users.get(mailbox, 0) + 1
            return mailbox

    def _sweep(self, directory: str) -> None:
        """Once in a while. Also makes what a Maildir by another program lacks."""
        now = time.monotonic()
        if now - self._swept.get(directory, -math.inf) < SWEEP_INTERVAL:
            return
        self._swept[directory] = now
        layout.complete(self._place(directory))
        writing.sweep(self._place(directory))

    def _still_warm(self, directory: str) -> Mailbox | None:
        """The mailbox that was kept, if others have not put another folder in its place."""
        mailbox = self._open.get(directory)
        if mailbox is None or not mailbox.alive:
            return None
        self._warm.take(mailbox)
        return mailbox if uids.key(Path(self._place(directory))) == mailbox.key else None

    def _load(self, name: str, directory: str) -> Mailbox:
        maildir = Maildir(
            self._path,
            directory,
            index=self._index,
            host=self._host,
            new_validity=self._new_validity,
            note_validity=self._note_validity,
        )
        return Mailbox(
            folders.normalise(name),
            maildir,
            self._index,
            search=self._search,
            space=self.space,
            release=self._leave,
            changed=self.surroundings.changed,
            arrived=self._arrived,
        )

    def _leave(self, mailbox: Mailbox) -> None:
        with self._lock:
            users = self._users.get(mailbox, 0)
            if users > 1:
                self._users[mailbox] = users - 1
                return
            if users == 1:
                del self._users[mailbox]
                if mailbox.alive:
                    mailbox.save()
                    self._warm.keep(mailbox, self._evict)
                else:
                    self._remove(mailbox)
            self._rest_index()
        self._warm.trim()

    def _evict(self, mailbox: Mailbox) -> None:
        with self._lock:
            if mailbox not in self._users:
                self._remove(mailbox)

    def _remove(self, mailbox: Mailbox) -> None:
        for directory in [key for key, each in self._open.items() if each is mailbox]:
            del self._open[directory]

    def _rest_index(self) -> None:
        if not self._users:
            self._warm.rest(self._index)

    def _drop(self, directory: str) -> None:
        mailbox = self._open.pop(directory, None)
        if mailbox is not None:
            self._warm.take(mailbox)
            mailbox.gone()


def _parents(name: str) -> list[str]:
    parts = name.split(folders.SEPARATOR)
    return [folders.SEPARATOR.join(parts[:length]) for length in range(1, len(parts))]
