"""One folder: its files, and what is known of them. How the two are brought together.

A scan of cur/ is compared with the names known (`scanning`). A file that a scan misses is looked for in a second one,
and in more while others rename, since readdir may miss a file that is renamed meanwhile: a large directory is read in
pieces. A file without a UID of this folder (new mail, copied by hand, brought from elsewhere) gets one as it is renamed
into its place in cur/.

Promises   A message's UID never changes, and stands in its file's name. UIDs appear in ascending order, also those that
           other processes give: giving, and reading what others gave, happen under the folder's UID lock.
           A change is never missed for good, and new mail never at all: when a change of ours may hide one of others,
           the UIDs given tell of it. The index only saves work: everything here comes from the files but
           keywords without a letter, MODSEQ and the expunges of the past.
On failure OSError; NoSuchMailbox when the folder is gone. What is known is then still true, if not new.
"""

from __future__ import annotations

import errno
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from mailserver.store import foreign, names, uids
from mailserver.store.adoption import adopt
from mailserver.store.columns import Change, Columns, Row, State
from mailserver.store.contents import Contents
from mailserver.store.flags import Flags
from mailserver.store.index import Header, Index
from mailserver.store.model import FlagAction, Message, NoSuchMailbox
from mailserver.store.newcomers import Newcomer, examine
from mailserver.store.scanning import Scan, scan
from mailserver.store.syncing import Directory, sync_directory
from mailserver.store.watch import Watch, regular_files
from mailserver.store.writing import discard

_LOOKS = 5  # at most, at a directory in which others rename
_SNAPSHOT_MINIMUM = 1000  # messages
_SNAPSHOT_SHARE = 16  # of the messages, one changed: worth a new snapshot
_NOTHING = Change()
_NOT_KEPT = "the index does not take the keywords that have no letter"


class _Move(NamedTuple):
    """From one state to another: the number of that one, and what stands behind the base name before and after."""

    number: int
    old: str
    info: str


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
        self._turn = 0  # the index's, up to which we know its keywords without a letter
        self._alone = True  # nobody else saved since the index had all we know: its rows are as we know them
        self.overtaken = False
        """Another process saved since the last `refresh`: what it knows has smaller MODSEQs than what we give."""
        self._late = 0  # rows of the index that no snapshot has
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
    def behind(self) -> bool:
        """Others changed cur/ since it was read."""
        return self.cur.trusted is not None and self._stamp(self.cur) != self.cur.trusted

    @property
    def alone(self) -> bool:
        """Nobody else saved: no message came and went that was never known here."""
        return self._alone

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
            loaded = self._index.mailboxes.load(grants.key)
            header = loaded.header
            if header is not None and header.directory != self.folder and self._copied(header):
                grants.renew(self._new_validity())
                header = None
            if header is not None:
                grants.advance(header.last)  # the file may be an older one, from a backup
            key, self._floor = grants.key, grants.last
        self.flags.refresh()
        self._interpreted = self.flags.version
        self._saved = self._index.generation
        if header is None:
            # All files are looked at; those with a UID up to the last one given keep it.
            self.told, self.horizon = self._floor, self.contents.next_modseq()
            self.contents.load(Columns(), self.horizon, self._meaning)
            return key
        self.last, self.told, self.horizon = header.last, header.told, header.horizon
        self.contents.load(loaded.columns, header.modseq, self._meaning, loaded.lost)
        self._new.trusted, self.cur.trusted = header.new_mtime, header.cur_mtime
        self._saved_header, self._turn, self._late = header, loaded.turn, loaded.late
        return key

    def _copied(self, header: Header) -> bool:
        """Whether this folder came about by copying another one with everything in it."""
        return uids.key(Path(self._account, header.directory)) == header.key

    # Looking

    def refresh(self, *, anyway: bool = False) -> None:
        """Brings what is known up to date with the files. Cheap when the directories did not change."""
        try:
            for _ in range(_LOOKS):
                self._refresh(anyway)
                if not self.behind:
                    break
                anyway = False
        except BaseException:
            self.distrust()
            raise

    def distrust(self) -> None:
        """The next `refresh` reads everything."""
        self._new.distrust()
        self.cur.distrust()

    def _refresh(self, anyway: bool) -> None:
        self.learn()
        others, self.overtaken = self.overtaken, False
        began = time.time_ns()
        new_stamp, cur_stamp = self._stamp(self._new), self._stamp(self.cur)
        read_new = anyway or not self._new.unchanged(new_stamp)
        as_known = self.cur.unchanged(cur_stamp)
        given = self._given_by_others() if self.cur.doubtful or not as_known else 0
        read_cur = anyway or given > 0 or not as_known or (others and self.cur.doubtful)
        if not (read_new or read_cur):
            return
        self.flags.refresh()
        self._interpret()
        put: dict[int, Row] = {}
        missing: set[int] = set()
        seen = Scan()
        # What others move out of new/ meanwhile is seen in one of the two: files never go back.
        found = regular_files(self._new.path) if read_new else []
        if read_cur:
            seen = self._scan()
            missing = seen.missing
            for _ in self._more_looks():
                if not (missing or seen.strays):
                    break
                again = self._scan()
                missing &= again.missing
                seen = seen.then(again)
            self.cur.was_read(cur_stamp, began)
        # Greater than any that another process told before it changed what is seen here. Another look finds what this
        # one did not see, and what has a smaller one there.
        modseq = self.contents.next_modseq()
        newcomers = examine(self._new.path, found, self.host)
        if found or seen.fresh or seen.strays or self.last < max(given, self._floor):
            try:
                with self._granting() as grants, self.changing():
                    strays = self._take_over(grants.last, seen, put, modseq)
                    readable = examine(self.cur.path, strays, self.host)
                    self._give(grants, [*readable, *newcomers], put, modseq)
            except BaseException:
                self.distrust()
                self.commit(put, {}, (), modseq)  # `last` tells that these are known
                raise
            if len(readable) < len(strays):
                self.cur.distrust()
        if read_new and len(newcomers) == len(found):
            self._new.was_read(new_stamp, began)
        self.commit(put, self._renamed(seen.renamed), missing, modseq)

    def _given_by_others(self) -> int:
        """The highest UID that was given and is not known here; 0: there is none. Costs a look into a small file."""
        known = uids.peek(Path(self.directory))
        return known[1] if known is not None and known[1] > max(self.last, self._floor) else 0

    def _stamp(self, watch: Watch) -> int:
        try:
            return watch.stamp()
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchMailbox("The mailbox no longer exists") from None

    def _more_looks(self) -> Iterator[None]:
        """After a first one; until nobody changes the directory during one of them."""
        for _ in range(1, _LOOKS):
            before = self._stamp(self.cur)
            yield
            if self._stamp(self.cur) == before:
                return

    def _scan(self, given: Mapping[int, Row] = MappingProxyType({}), upto: int = 0) -> Scan:
        return scan(self.cur.path, self.contents.columns, self.last, given, upto)

    def _renamed(self, found: Mapping[int, str]) -> dict[int, int]:
        """Places of messages whose file has another name, with the number of their new state."""
        columns = self.contents.columns
        restated = {}
        for uid, name in found.items():
            place = columns.place(uid)
            if place is not None:
                state = State(names.info_of(name), columns.state(place).words)
                if state != columns.state(place):
                    restated[place] = self.contents.number(state)
        return restated

    # Flags

    def accept(self, flags: frozenset[str], *, giving: bool = True) -> frozenset[str]:
        """As `Flags.accept`."""
        accepted = self.flags.accept(flags, giving=giving)
        self._interpret()
        return accepted

    def would_change(self, uids: Iterable[int], action: FlagAction, flags: frozenset[str]) -> bool:
        """Whether each of the messages, as far as they are known, has other flags after that."""
        columns = self.contents.columns
        numbers = {columns.numbers[place] for place in columns.places(uids)}
        return all(self._move(number, action, flags) is not None for number in numbers)

    def update_flags(self, uids: Iterable[int], action: FlagAction, flags: frozenset[str]) -> list[int]:
        """Gives the messages their new flags, durably. UIDs whose file was not where it should be. Raises OSError."""
        columns = self.contents.columns
        moves: dict[int, _Move | None] = {}  # by the number of the state before
        changes: list[tuple[int, _Move]] = []  # by place, ascending
        for place in columns.places(uids):
            number = columns.numbers[place]
            move = moves[number] if number in moves else moves.setdefault(number, self._move(number, action, flags))
            if move is not None:
                changes.append((place, move))
        missed: list[int] = []
        restated: dict[int, int] = {}
        try:
            if any(move.info != move.old for _, move in changes):
                missed = self._rename(changes, restated)
            else:
                restated = {place: move.number for place, move in changes}
        finally:
            # taken when the files have their names: whom another process told less before has a smaller one
            kept = self.commit({}, restated, (), self.contents.next_modseq())
        if not kept:
            raise OSError(errno.EIO, _NOT_KEPT)
        return missed

    def _rename(self, changes: list[tuple[int, _Move]], restated: dict[int, int]) -> list[int]:
        """Puts into `restated` what was changed, durably. UIDs whose file was not where it should be."""
        columns, missed = self.contents.columns, list[int]()
        with self.changing(), Directory(self.cur.path) as cur:
            for place, move in changes:
                if move.info != move.old:
                    base = columns.base(place)
                    try:
                        cur.rename(base + move.old, base + move.info)
                    except FileNotFoundError:
                        missed.append(columns.uids[place])
                        continue
                restated[place] = move.number
            cur.sync()
        return missed

    def _move(self, number: int, action: FlagAction, flags: frozenset[str]) -> _Move | None:
        """From a state to the one that the action makes of it; None: it stays."""
        before = self.contents.flags(number)
        wanted = before | flags if action == "add" else before - flags if action == "remove" else flags
        if wanted == before:
            return None
        old = self.contents.columns.states[number].info
        letters = self.flags.encode(wanted, names.letters_of(old))
        state = State(f":2,{letters}", self._words(wanted))
        return _Move(self.contents.number(state), old, state.info)

    def _words(self, flags: frozenset[str]) -> str:
        return " ".join(sorted(self.flags.without_letter(flags)))

    def _meaning(self, state: State) -> frozenset[str]:
        flags = self.flags.decode(names.letters_of(state.info))
        return flags | frozenset(state.words.split()) if state.words else flags

    def _interpret(self) -> None:
        """Letters may mean something else now. A keyword that lost its letter stays with its messages."""
        if self.flags.version == self._interpreted:
            return
        self._interpreted = self.flags.version

        def interpret(state: State, flags: frozenset[str]) -> State:
            told = {flag.lower() for flag in self.flags.decode(names.letters_of(state.info))}
            words = self.flags.without_letter(flags).union(state.words.split())
            return State(state.info, " ".join(sorted(word for word in words if word.lower() not in told)))

        change = self.contents.reinterpret(interpret, self.contents.next_modseq())
        if change.flagged:
            self.save(change)

    def learn(self) -> None:
        """Takes over the keywords without a letter that other processes gave and took."""
        mailboxes, columns = self._index.mailboxes, self.contents.columns
        latest = mailboxes.turn(self.key)
        if latest is None or self._saved != self._index.generation:
            return
        turn, told = latest
        self.told = max(self.told, told)
        if turn == self._turn:
            return
        self._alone, self.overtaken = False, True
        known = mailboxes.words(self.key)
        if known is None or self._saved != self._index.generation:
            return
        self._turn, words = known
        worded = {number for number, state in enumerate(columns.states) if state.words}
        places = {place for place, number in enumerate(columns.numbers) if number in worded} if worded else set()
        restated = {}
        for place in places.union(columns.places(words)):
            state = State(columns.state(place).info, words.get(columns.uids[place], ""))
            if state != columns.state(place):
                restated[place] = self.contents.number(state)
        if restated:
            self.contents.change((), restated, (), self.contents.next_modseq())

    # Giving UIDs

    def add(self, newcomers: list[Newcomer]) -> list[int]:
        """Files become messages here: all of them, durably, or none. Their UIDs. Raises OSError, NoSuchMailbox."""
        modseq = self.contents.next_modseq()
        others: dict[int, Row] = {}
        put: dict[int, Row] = {}
        try:
            with self._granting() as grants, self.changing():
                self._take_over(grants.last, Scan(), others, modseq)
                self._give(grants, newcomers, put, modseq)
            if len(put) < len(newcomers):
                raise FileNotFoundError("a file was taken away")
            sync_directory(self.cur.path)
        except BaseException:
            self.distrust()
            for row in put.values():
                discard(f"{self.cur.path}/{row.base}{row.state.info}")
            put.clear()
            raise
        finally:
            kept = self.commit(others | put, {}, (), modseq)
        if not kept:
            for row in put.values():
                discard(f"{self.cur.path}/{row.base}{row.state.info}")
            self.commit({}, {}, put, self.contents.next_modseq())
            raise OSError(errno.EIO, _NOT_KEPT)
        return list(put)

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
        known = self._index.mailboxes.latest(self.folder)
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
        rows = [self._row(each.uid, each.newcomer, each.name, modseq) for each in adopted]
        self._note_validity(listed.validity)
        last = listed.last
        header = Header(key, self.folder, last, modseq, horizon=modseq, told=last, new_mtime=None, cur_mtime=None)
        self._index.mailboxes.save(header, Change(added=rows), None)
        return key

    def _take_over(self, upto: int, seen: Scan, put: dict[int, Row], modseq: int) -> set[str]:
        """What other processes gave UIDs to, up to `upto`, while nobody gives. Returns the files that need one."""
        if upto == self.last:
            return seen.strays | set(seen.fresh.values())
        taken: dict[int, Row] = {}
        covered, saved = self._index.mailboxes.above(self.key, self.last)
        for look in range(_LOOKS):
            before = self._stamp(self.cur)
            seen = self._scan(saved, covered)
            given = {uid: name for uid, name in seen.fresh.items() if uid <= upto}
            for uid in given.keys() - taken.keys():
                row = self._given(uid, given[uid], saved.get(uid), modseq)
                if row is not None:
                    taken[uid] = row
            # Others may set flags meanwhile: a file that was not there, or not seen, is looked for again. Once `last`
            # has passed its UID it would be taken for one that came from elsewhere.
            still = look > 0 and given.keys() <= taken.keys() and self._stamp(self.cur) == before
            if still or len(taken) == upto - self.last:
                break
        self.last = upto
        put |= taken
        return seen.strays | (set(seen.fresh.values()) - set(given.values()))

    def _given(self, uid: int, name: str, row: Row | None, modseq: int) -> Row | None:
        """A message that another process gave a UID to, as the index or else the file tells."""
        if row is not None:
            state = State(names.info_of(name), row.state.words)
            return row._replace(state=state, modseq=modseq, born=modseq)
        for newcomer in examine(self.cur.path, [name], self.host):
            return self._row(uid, newcomer, name, modseq)
        return None

    def _give(self, grants: uids.Grants, newcomers: list[Newcomer], put: dict[int, Row], modseq: int) -> None:
        """Brings each file into cur/ under a UID; one that somebody else took away is passed over.

        Raises FileNotFoundError for one that was to stay where it is: there are to be copies of all.
        """
        if not newcomers:
            return
        uid = grants.take(len(newcomers))
        self.last = grants.last
        with Directory(self.cur.path) as cur:
            for newcomer in newcomers:
                name = names.with_uid(newcomer.base, uid, newcomer.letters, newcomer.sizes)
                try:
                    (cur.link if newcomer.stays else cur.take)(newcomer.path, name)
                except FileNotFoundError:
                    if newcomer.stays:
                        raise
                    continue
                put[uid] = self._row(uid, newcomer, name, modseq)
                uid += 1

    def _row(self, uid: int, newcomer: Newcomer, name: str, modseq: int) -> Row:
        state = State(names.info_of(name), self._words(newcomer.flags))
        return Row(uid, names.base_of(name), state, modseq, newcomer.date, newcomer.size, modseq)

    # Remembering

    def commit(
        self, added: Mapping[int, Row], restated: Mapping[int, int], vanished: Iterable[int], modseq: int
    ) -> bool:
        """Makes changes known, in memory and to the index (see `Contents.change`).

        False: the index refused keywords without a letter, which stand nowhere else; messages have those of before.
        """
        gone = sorted(vanished)
        if not (added or restated or gone):
            return True
        change = self.contents.change([added[uid] for uid in sorted(added)], restated, gone, modseq)
        if self.save(change) or not (change.words or any(row.state.words for row in change.added)):
            return True
        if self.save(Change(words=change.words)):  # another file may have come into the index's place
            return True
        columns, before = self.contents.columns, {}
        for uid, (words, _) in change.words.items():
            place = columns.place(uid)
            if place is not None:
                before[place] = self.contents.number(State(columns.state(place).info, words))
        self.contents.change((), before, (), self.contents.next_modseq())
        return False

    def save(self, change: Change = _NOTHING) -> bool:
        """To the index; everything, when the index lost what it had. False: it was not written."""
        anew = self._saved != self._index.generation
        if anew:
            rows = self.contents.rows()
            self._saved, change = None, Change(added=rows, words=change.words, vanished=change.vanished)
            self.horizon = self.contents.modseq
        header = Header(
            key=self.key,
            directory=self.folder,
            last=self.last,
            modseq=self.contents.modseq,
            horizon=self.horizon,
            told=self.told,
            new_mtime=self._new.certain if anew or self._alone else None,
            cur_mtime=self.cur.certain if anew or self._alone else None,
        )
        if header == self._saved_header and self._saved is not None and change is _NOTHING:
            return True
        saved = self._index.mailboxes.save(header, change, self._saved, self._turn)
        self._saved, self._saved_header = saved.generation if saved is not None else None, header
        if saved is not None:
            in_order = saved.turn == self._turn + 1  # nobody else saved in between
            self._alone = anew or (self._alone and in_order)
            self.overtaken |= not (anew or in_order)
            if in_order:
                self._turn = saved.turn
        self._late += len(change.added) + len(change.flagged) + len(change.vanished)
        return saved is not None

    def rest(self) -> None:
        """Leaves to the index what the next start can use."""
        self.save()
        count = len(self.contents)
        if count >= _SNAPSHOT_MINIMUM and self._late > count // _SNAPSHOT_SHARE:
            self._index.mailboxes.snapshot(self.key)
            self._late = 0
