"""One folder: its files, and what is known of them. How the two are brought together.

A scan of cur/ is compared with the names known. A file that a scan misses is looked for in a second one, since readdir
may miss a file that is renamed meanwhile. A file without a UID of this folder (new mail, copied by hand, brought from
elsewhere) gets one as it is renamed into its place in cur/.

Promises   A message's UID never changes, and stands in its file's name. UIDs appear in ascending order, also those that
           other processes give: giving, and reading what others gave, happen under the folder's UID lock.
           A change is never missed for good. The index only saves work: everything here comes from the files but
           keywords without a letter, MODSEQ and the expunges of the past.
On failure OSError; NoSuchMailbox when the folder is gone. What is known is then still true, if not new.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from mailserver.store import foreign, names, uids
from mailserver.store.adoption import adopt
from mailserver.store.contents import Contents
from mailserver.store.flags import Flags
from mailserver.store.index import Header, Index, Row
from mailserver.store.model import Message, NoSuchMailbox
from mailserver.store.newcomers import Newcomer, examine
from mailserver.store.syncing import sync_directory
from mailserver.store.watch import Watch, regular_files
from mailserver.store.writing import discard

_LOOKS = 5  # at a directory in which others rename


@dataclass(slots=True)
class _Scan:
    """The names in cur/, sorted out."""

    current: dict[int, str] = field(default_factory=dict)
    fresh: dict[int, str] = field(default_factory=dict)
    """UIDs greater than any known here: given by another process."""
    strays: set[str] = field(default_factory=set)
    """Files without a UID of this folder, or with that of another file."""


class Maildir:
    """Not thread-safe, but for `contents`: `Mailbox` sees to that."""

    def __init__(
        self,
        account: str,
        folder: str,
        *,
        index: Index,
        host: str,
        new_validity: Callable[[], int],
        note_validity: Callable[[int], None],
    ) -> None:
        """`folder` is the directory below the account's, empty for INBOX. Raises OSError, NoSuchMailbox.

        `note_validity` is told the UIDVALIDITY that another server gave to the folder.
        """
        self.contents = Contents()
        self.last = 0
        """The highest UID given, as far as files were looked for."""
        self._floor = 0  # the highest UID given when this began
        self.told = 0
        r"""UIDs up to this one were shown as \Recent to some session."""
        self.horizon = 0
        """From this MODSEQ on all expunges are known."""
        self.host = host
        self._account = account
        self._index = index
        self._new_validity = new_validity
        self._note_validity = note_validity
        self._saved: int | None = None  # the index's generation that has all we know
        self._saved_header: Header | None = None
        self._place_at(folder)
        self.key = 0
        """What the index knows the folder by (see `uids`)."""
        self.key = self._load()

    def moved(self, folder: str) -> None:
        """The folder was renamed."""
        self._place_at(folder)
        self.flags.refresh()
        self._interpreted = self.flags.version
        self.save()

    @property
    def validity(self) -> int:
        return uids.validity_of(self.key)

    @property
    def uidnext(self) -> int:
        return max(self.last, self._floor) + 1

    @property
    def places(self) -> tuple[str, str]:
        """The directories in which messages come and go."""
        return self._new.path, self.cur.path

    def path(self, message: Message) -> str:
        return f"{self.directory}/cur/{message.name}"

    def _place_at(self, folder: str) -> None:
        self.folder = folder
        self.directory = f"{self._account}/{folder}" if folder else self._account
        self._new, self.cur = Watch(f"{self.directory}/new"), Watch(f"{self.directory}/cur")
        self.flags = Flags(Path(self.directory))
        self._interpreted = 0

    def _load(self) -> int:
        """Begins with what the index knows. Returns the key."""
        with self._granting() as grants:
            header, rows = self._index.load(grants.key)
            if header is not None and header.directory != self.folder and self._copied(header):
                grants.renew(self._new_validity())
                header = None
            if header is not None:
                grants.advance(header.last)  # the file may be an older one, from a backup
            key, self._floor = grants.key, grants.last
        self.flags.refresh()
        self._interpreted = self.flags.version
        if header is None:
            # All files are looked at; those with a UID up to the last one given keep it.
            self.told, self.horizon = self._floor, self.contents.next_modseq()
            self.contents.load([], self.horizon)
            self._saved = self._index.generation
            return key
        self.last, self.told, self.horizon = header.last, header.told, header.horizon
        self.contents.load((self._message(row) for row in rows), header.modseq)
        self._new.trusted, self.cur.trusted = header.new_mtime, header.cur_mtime
        self._saved, self._saved_header = self._index.generation, header
        return key

    def _copied(self, header: Header) -> bool:
        """Whether this folder came about by copying another one with everything in it."""
        return uids.key(Path(self._account, header.directory)) == header.key

    # Looking

    def refresh(self, *, anyway: bool = False) -> None:
        """Brings what is known up to date with the files. Cheap when the directories did not change."""
        try:
            self._refresh(anyway)
        except BaseException:
            self.distrust()
            raise

    def distrust(self) -> None:
        """The next `refresh` reads everything."""
        self._new.distrust()
        self.cur.distrust()

    def _refresh(self, anyway: bool) -> None:
        began = time.time_ns()
        new_stamp, cur_stamp = self._stamp(self._new), self._stamp(self.cur)
        read_new = anyway or not self._new.unchanged(new_stamp)
        read_cur = anyway or not self.cur.unchanged(cur_stamp)
        if not (read_new or read_cur):
            return
        self.flags.refresh()
        reinterpret = self.flags.version != self._interpreted
        self._interpreted = self.flags.version
        modseq = self.contents.next_modseq()
        put: dict[int, Message] = {}
        missing: set[int] = set()
        scan = _Scan()
        if read_cur or reinterpret:
            scan = self._scan()
            missing = self._missing(scan)
            if missing or scan.strays:
                again = self._scan()
                missing &= self._missing(again)
                scan = _Scan(scan.current | again.current, scan.fresh | again.fresh, again.strays)
            self.cur.was_read(cur_stamp, began)
            put = self._renamed(scan.current, modseq, reinterpret=reinterpret)
        found = regular_files(self._new.path) if read_new else []
        newcomers = examine(self._new.path, found, self.host)
        if newcomers or scan.fresh or scan.strays or self.last < self._floor:
            with self._granting() as grants, self.changing():
                strays = self._take_over(grants.last, scan, put, modseq)
                readable = examine(self.cur.path, strays, self.host)
                self._give(grants, [*readable, *newcomers], put, modseq)
            if len(readable) < len(strays):
                self.cur.distrust()
        if read_new and len(newcomers) == len(found):
            self._new.was_read(new_stamp, began)
        if put or missing:
            self.commit(put, missing, modseq)

    def _stamp(self, watch: Watch) -> int:
        try:
            return watch.stamp()
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchMailbox("The mailbox no longer exists") from None

    def _scan(self, given: Mapping[int, Row] = MappingProxyType({}), upto: int = 0) -> _Scan:
        """A message is known by its UID and base name.

        `given`: the messages of which only the index knows, all that there are up to the UID `upto`.
        """
        scan = _Scan()
        known, floor = self.contents.names, max(self.last, upto)
        for name in regular_files(self.cur.path):
            uid = known.get(name)
            if uid is not None:
                self._place(scan.current, uid, name, scan.strays)
                continue
            uid = names.uid_of(name)
            message = self.contents.get(uid) if uid is not None else None
            row = given.get(uid) if uid is not None else None
            before = message.name if message is not None else row[1] if row is not None else name
            if uid is None or names.base_of(name) != names.base_of(before):
                scan.strays.add(name)
            elif message is not None:
                self._place(scan.current, uid, name, scan.strays)
            elif uid > floor or row is not None:
                self._place(scan.fresh, uid, name, scan.strays)
            else:
                scan.strays.add(name)
        return scan

    def _place(self, place: dict[int, str], uid: int, name: str, strays: set[str]) -> None:
        """Of two files with one UID the known one keeps it. (Or they are one, renamed while it was read.)"""
        other = place.setdefault(uid, name)
        if other == name:
            return
        there = [each for each in (other, name) if os.path.lexists(f"{self.cur.path}/{each}")]
        there.sort(key=lambda each: (each not in self.contents.names, each))
        if there:
            place[uid] = there[0]
            strays.update(there[1:])

    def _missing(self, scan: _Scan) -> set[int]:
        return set() if len(scan.current) == len(self.contents) else self.contents.uids() - scan.current.keys()

    def _renamed(self, current: Mapping[int, str], modseq: int, *, reinterpret: bool) -> dict[int, Message]:
        """Messages whose file has other flags in its name, or whose letters mean something else than before."""
        put = {}
        for uid, name in current.items():
            message = self.contents.get(uid)
            if message is not None and (reinterpret or message.name != name):
                flags = self.flags.decode(names.letters_of(name)) | self.flags.without_letter(message.flags)
                if flags != message.flags:
                    put[uid] = message._replace(name=name, flags=flags, modseq=modseq)
                elif name != message.name:
                    put[uid] = message._replace(name=name)
        return put

    # Giving UIDs

    def add(self, newcomers: list[Newcomer]) -> list[Message]:
        """Files from tmp/ become messages: all of them, durably, or none. Raises OSError, NoSuchMailbox."""
        modseq = self.contents.next_modseq()
        others: dict[int, Message] = {}
        put: dict[int, Message] = {}
        try:
            with self._granting() as grants, self.changing():
                self._take_over(grants.last, _Scan(), others, modseq)
                self._give(grants, newcomers, put, modseq)
            if len(put) < len(newcomers):
                raise FileNotFoundError("a file was taken away")
            sync_directory(self.cur.path)
        except BaseException:
            self.distrust()
            for message in put.values():
                discard(self.path(message))
            put.clear()
            raise
        finally:
            self.commit(others | put, (), modseq)
        return list(put.values())

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Changes to cur/ that we make and know of."""
        before = self._stamp(self.cur)
        yield
        self.cur.changed_by_us(before, self._stamp(self.cur))

    @contextmanager
    def _granting(self) -> Iterator[uids.Grants]:
        try:
            with uids.granting(Path(self.directory), self._recover) as grants:
                if self.key and grants.validity != self.validity:
                    raise NoSuchMailbox("The mailbox no longer exists")
                grants.advance(self.last)  # the file may be an older one, from a backup
                yield grants
        except FileNotFoundError:
            if Path(self.cur.path).is_dir():
                raise
            raise NoSuchMailbox("The mailbox no longer exists") from None

    def _recover(self) -> tuple[int, int]:
        """For a folder without a usable UID file: what it was, or what another server made of it, or a new one."""
        if self.key:
            return self.key, self.last
        highest = max((names.uid_of(name) or 0 for name in regular_files(self.cur.path)), default=0)
        known = self._index.latest(self.folder)
        if known is not None:
            return known[0], max(known[1], highest)
        listed = foreign.uid_list(Path(self.directory))
        if listed is not None:
            return self._adopt(listed), max(listed.last, highest)
        return self._new_validity(), highest

    def _adopt(self, listed: foreign.UidList) -> int:
        """Takes the folder over from another server; from now on the index knows it by the key that is returned."""
        key = uids.make_key(listed.validity, zlib.crc32(self.folder.encode()) >> 1 | 1)
        self.flags.refresh()
        modseq = self.contents.next_modseq()
        adopted = adopt(listed, self.directory, self.flags, self.host)
        rows = [self._row(self._make(each.uid, each.newcomer, each.name, modseq)) for each in adopted]
        self._note_validity(listed.validity)
        last = listed.last
        header = Header(key, self.folder, last, modseq, horizon=modseq, told=last, new_mtime=None, cur_mtime=None)
        self._index.save(header, rows, [], None)
        return key

    def _take_over(self, upto: int, seen: _Scan, put: dict[int, Message], modseq: int) -> set[str]:
        """What other processes gave UIDs to, up to `upto`, while nobody gives. Returns the files that need one."""
        if upto == self.last:
            return seen.strays | set(seen.fresh.values())
        header, rows = self._index.load(self.key, above=self.last)
        saved = {row[0]: row for row in rows}
        covered = header.last if header is not None else 0
        for look in range(_LOOKS):
            scan = self._scan(saved, covered)
            given = {uid: name for uid, name in scan.fresh.items() if uid <= upto}
            for uid in given.keys() - put.keys():
                message = self._given(uid, given[uid], saved.get(uid), modseq)
                if message is not None:
                    put[uid] = message
            # Others may set flags meanwhile: a file that was not there, or not seen, is looked for again.
            if given.keys() <= put.keys() and (look or len(given) == upto - self.last):
                break
        self.last = upto
        return scan.strays | (set(scan.fresh.values()) - set(given.values()))

    def _given(self, uid: int, name: str, row: Row | None, modseq: int) -> Message | None:
        """A message that another process gave a UID to, as the index or else the file tells."""
        if row is not None and row[1] == name:
            return self._message(row)._replace(modseq=modseq, born=modseq)
        for newcomer in examine(self.cur.path, [name], self.host):
            return self._make(uid, newcomer, name, modseq)
        return None

    def _give(self, grants: uids.Grants, newcomers: list[Newcomer], put: dict[int, Message], modseq: int) -> None:
        """Renames each file into cur/ under a UID; one that somebody else took away is passed over."""
        if not newcomers:
            return
        uid = grants.take(len(newcomers))
        self.last = grants.last
        for newcomer in newcomers:
            name = names.with_uid(newcomer.base, uid, newcomer.letters)
            try:
                Path(newcomer.path).rename(f"{self.cur.path}/{name}")
            except FileNotFoundError:
                continue
            put[uid] = self._make(uid, newcomer, name, modseq)
            uid += 1

    def _make(self, uid: int, newcomer: Newcomer, name: str, modseq: int) -> Message:
        flags = self.flags.decode(newcomer.letters) | self.flags.without_letter(newcomer.flags)
        return Message(uid, flags, modseq, newcomer.date, newcomer.size, modseq, name)

    # Remembering

    def commit(self, put: Mapping[int, Message], vanished: Iterable[int], modseq: int) -> None:
        """Makes changes known, in memory and to the index."""
        gone = sorted(vanished)
        if put or gone:
            self.contents.change(put, gone, modseq)
            self.save(put.values(), gone)

    def save(self, changed: Iterable[Message] = (), vanished: Iterable[int] = ()) -> None:
        """To the index; everything, when the index lost what it had."""
        rows: Iterable[Message] = changed
        gone = list(vanished)
        if self._saved != self._index.generation:
            self._saved, rows = None, self.contents.all()
            self.horizon = self.contents.modseq
        header = Header(
            key=self.key,
            directory=self.folder,
            last=self.last,
            modseq=self.contents.modseq,
            horizon=self.horizon,
            told=self.told,
            new_mtime=self._new.certain,
            cur_mtime=self.cur.certain,
        )
        if header != self._saved_header or self._saved is None:
            self._saved = self._index.save(header, [self._row(message) for message in rows], gone, self._saved)
            self._saved_header = header

    def _row(self, message: Message) -> Row:
        extra = " ".join(sorted(self.flags.without_letter(message.flags)))
        return message.uid, message.name, extra, message.modseq, message.born, message.internal_date, message.size

    def _message(self, row: Row) -> Message:
        uid, name, extra, modseq, born, date, size = row
        flags = self.flags.decode(names.letters_of(name))
        return Message(uid, flags | frozenset(extra.split()) if extra else flags, modseq, date, size, born, name)
