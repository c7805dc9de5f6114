"""Is the index of an account what the files say? And making it anew.

Theory     `check` looks at a copy of the index that SQLite makes at one moment, so that it is right beside a running
           server and changes nothing. The index claims to know a mailbox as long as `cur/` has the modification time
           that stands there; only then is a difference a fault. Otherwise it was just not looked at yet.
           `rebuild` empties the index within SQLite: whoever has a mailbox open writes what it knows again, and
           UIDs stand in the names of the files. Then it fills it.
Promises   A rebuild may be killed at any moment. UIDs, flags and keywords stay; only a keyword without a letter that
           somebody takes away in that very moment may be there again.
On failure What cannot be read is a finding. `rebuild` raises Unavailable when the index cannot be written.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mailserver.store import content, folders, layout, names, uids
from mailserver.store.account import AccountStore
from mailserver.store.columns import Columns
from mailserver.store.digest import prepare
from mailserver.store.index import INDEX_FILE, VERSION, Index, Packed, Words
from mailserver.store.model import Unavailable
from mailserver.store.searchfile import Opened, SearchFile, is_sound
from mailserver.store.watch import regular_files

SAMPLE = 20  # messages of a mailbox that are read
BATCH = 200  # messages that are prepared and packed at once

_WORDS = {
    2: "SELECT validity, uid, extra FROM messages WHERE extra <> ''",
    **dict.fromkeys(range(3, VERSION + 1), "SELECT key, uid, words FROM keywords"),
}
"""Where the keywords without a letter stand, by the version of the file."""

_TWICE = "with a UID that another file has, too"
_SIZES = "of another size in the index than the file's name tells"
_FAULTS = (_TWICE, _SIZES)
_NO_UID = "without a UID"
_UNKNOWN = "missing in the index"
_RENAMED = "under another name in the index"
_FLAGS = "with other flags in the index"
_GONE = "in the index without a file"
_DIFFERENCES = (_NO_UID, _UNKNOWN, _RENAMED, _FLAGS, _GONE)
"""Faults only when the index claims to know the mailbox as it is."""


class Finding(NamedTuple):
    """`wrong`: a fault; otherwise only worth knowing. `mailbox` is empty for what concerns the whole account."""

    mailbox: str
    text: str
    wrong: bool = True


@dataclass(slots=True)
class Report:
    """What `check` saw. Sizes in octets; `waiting` is for how many seconds the oldest unpacked message has been."""

    findings: list[Finding] = field(default_factory=list)
    mailboxes: int = 0
    messages: int = 0
    index_size: int = 0
    search_size: int = 0
    unpacked: int = 0
    waiting: float = 0.0

    @property
    def wrong(self) -> bool:
        return any(finding.wrong for finding in self.findings)


class Rebuilt(NamedTuple):
    """`keywords`: of so many messages they were read over; None: those that have no letter could not be read."""

    mailboxes: int
    messages: int
    keywords: int | None


def check(directory: Path) -> Report:
    """The account that lies there. Changes nothing."""
    report = Report(index_size=_size(directory / INDEX_FILE))
    if not (directory / INDEX_FILE).exists():
        report.findings.append(Finding("", "there is no index yet; it is made when the account is used", wrong=False))
        return report
    with tempfile.TemporaryDirectory() as copy:
        index = Index(Path(copy))
        try:
            with SearchFile(directory, index).reading() as opened:
                if _copy(directory, Path(copy), report):
                    report.search_size = opened.size if opened else 0
                    _Check(index, opened, report).account(directory)
        finally:
            index.close()
    return report


def rebuild(account: AccountStore, directory: Path) -> Rebuilt:
    """Makes the index and the search text of the account that lies there anew, also while others use it."""
    words = _words(directory / INDEX_FILE)
    index = Index(directory)
    try:
        if not index.renew(words or ()):
            raise Unavailable("The index cannot be written")
        SearchFile(directory, index).remove()
    finally:
        index.close()
    mailboxes = messages = 0
    for folder in account.folders():
        if folder.selectable:
            mailbox = account.open(folder.name)
            try:
                while mailbox.prepare(BATCH):
                    pass
                while mailbox.pack(BATCH):
                    pass
                mailboxes += 1
                messages += mailbox.message_count
            finally:
                mailbox.close()
    return Rebuilt(mailboxes, messages, len(words) if words is not None else None)


def _words(path: Path) -> list[Words] | None:
    """The keywords without a letter; None when they cannot be read."""
    if not path.exists():
        return []
    try:
        with closing(_read_only(path)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            return db.execute(_WORDS[version]).fetchall() if version in _WORDS else [] if version == 0 else None
    except sqlite3.Error:
        return None


def _copy(directory: Path, copy: Path, report: Report) -> bool:
    """Whether the index could be copied, and is what SQLite and we understand."""
    try:
        with closing(_read_only(directory / INDEX_FILE)) as db, closing(sqlite3.connect(copy / INDEX_FILE)) as target:
            db.backup(target)
            faults = [text for (text,) in target.execute("PRAGMA integrity_check(3)")]
            (version,) = target.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        report.findings.append(Finding("", f"the index cannot be read: {error}"))
        return False
    if faults != ["ok"]:
        report.findings.append(Finding("", f"the index is damaged: {'; '.join(faults)}"))
        return False
    if version not in (*_WORDS, 0):
        report.findings.append(Finding("", f"the index is of version {version}, which is not known here"))
        return False
    if version != VERSION:
        report.findings.append(
            Finding("", f"the index is of version {version}; the next use changes that", wrong=False)
        )
    return True


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _size(path: Path) -> int:
    """With what is not yet written into the file itself."""
    log = path.with_name(f"{path.name}-wal")
    return sum(each.stat().st_size for each in (path, log) if each.exists())


class _Check:
    """Of one account, by a copy of its index and its search text."""

    def __init__(self, index: Index, opened: Opened | None, report: Report) -> None:
        self._index = index
        self._opened = opened
        self._report = report
        index.mailboxes.turn(0)
        self._generation = index.generation

    def account(self, directory: Path) -> None:
        for name, path in _mailboxes(directory):
            self._report.mailboxes += 1
            try:
                self._mailbox(name, path)
            except OSError as error:
                self._find(name, f"the files cannot be read: {error.strerror}")

    def _find(self, mailbox: str, text: str, *, wrong: bool = True) -> None:
        self._report.findings.append(Finding(mailbox, text, wrong))

    def _mailbox(self, name: str, path: Path) -> None:
        waiting = len(regular_files(str(path / "new")))
        if waiting:
            self._find(name, f"{waiting} in new/ not looked at yet", wrong=False)
        key = uids.key(path)
        loaded = self._index.mailboxes.load(key) if key is not None else None
        if self._index.generation != self._generation:  # the copy was given up
            self._generation = self._index.generation
            self._find(name, "the index has rows that were never written")
            return
        if loaded is None or loaded.header is None:
            self._find(name, "not looked at yet", wrong=False)
            return
        cur = path / "cur"
        before = cur.stat().st_mtime_ns
        files = regular_files(str(cur))
        settled = loaded.header.cur_mtime == before == cur.stat().st_mtime_ns
        self._report.messages += len(loaded.columns)
        places = self._compare(name, cur, loaded.columns, files, settled=settled)
        self._sample(name, cur, loaded.header.key, loaded.columns, places)
        self._packed(name, loaded.header.key, loaded.columns)

    def _compare(self, name: str, cur: Path, columns: Columns, files: list[str], *, settled: bool) -> dict[int, str]:
        """The files of the messages that the index has right, by place in the columns."""
        found: dict[str, list[int]] = {text: [] for text in (*_FAULTS, *_DIFFERENCES)}
        by_uid: dict[int, str] = {}
        for file in files:
            uid = names.uid_of(file)
            if uid is None:
                found[_NO_UID].append(0)
            elif uid in by_uid and (cur / file).exists() and (cur / by_uid[uid]).exists():
                found[_TWICE].append(uid)
            else:
                by_uid[uid] = file
        right: dict[int, str] = {}
        for uid, file in by_uid.items():
            place = columns.place(uid)
            if place is None:
                found[_UNKNOWN].append(uid)
            elif columns.base(place) != names.base_of(file):
                found[_RENAMED].append(uid)
            else:
                right[place] = file
                if columns.name(place) != file:
                    found[_FLAGS].append(uid)
                if names.parse(file).wire_size not in (None, columns.sizes[place]):
                    found[_SIZES].append(uid)
        found[_GONE] = [uid for uid in columns.uids if uid not in by_uid]
        for text in _FAULTS:
            self._tell(name, found[text], text)
        for text in _DIFFERENCES:
            self._tell(name, found[text], text if settled else f"{text}: not looked at yet", wrong=settled)
        return right

    def _tell(self, name: str, found: list[int], text: str, *, wrong: bool = True) -> None:
        if found:
            example = f" (UID {found[0]})" if found[0] else ""
            self._find(
                name, f"{len(found)} {'message' if len(found) == 1 else 'messages'} {text}{example}", wrong=wrong
            )

    def _sample(self, name: str, cur: Path, key: int, columns: Columns, places: dict[int, str]) -> None:
        """What is stored of some messages, against what is made of their files now."""
        chosen = sorted(places)[:: max(1, len(places) // SAMPLE)][:SAMPLE]
        numbers = [columns.uids[place] for place in chosen]
        prepared, keys = self._index.pieces.prepared(key, numbers), self._index.pieces.sort_keys(key, numbers)
        headers = self._index.pieces.headers(key, numbers)
        identities = self._index.pieces.identities(key, numbers)
        sizes, pieces, unreadable = [], [], []
        for uid, place in zip(numbers, chosen, strict=True):
            message = _read(cur / places[place])
            if message is None:
                if (cur / places[place]).exists():
                    unreadable.append(uid)
                continue
            if len(message) != columns.sizes[place]:
                sizes.append(uid)
            fresh = prepare(message)
            stored = (
                (prepared, fresh.prepared),
                (keys, fresh.keys),
                (headers, fresh.header),
                (identities, fresh.identity),
            )
            if any(known.get(uid, made) != made for known, made in stored):
                pieces.append(uid)
        self._tell(name, unreadable, "that cannot be read")
        self._tell(name, sizes, "of another size in the index than the file has")
        self._tell(name, pieces, "with prepared pieces that do not fit")

    def _packed(self, name: str, key: int, columns: Columns) -> None:
        """The search text: what is damaged, and what is still to be packed."""
        opened = self._opened
        places = self._index.packed.find(key, opened.mark, columns.uids) if opened is not None else []
        packed = list(map(Packed._make, places))
        damaged = [each.uid for each in packed if not self._is_sound(each)]
        self._tell(name, damaged, "with damaged search text; a search packs it again")
        known = {each.uid for each in packed}
        born = [columns.born[place] for place, uid in enumerate(columns.uids) if uid not in known]
        self._report.unpacked += len(born)
        if born:
            waited = max(0.0, time.time() - min(born) / 1_000_000)  # a MODSEQ is the time, in microseconds
            self._report.waiting = max(self._report.waiting, waited)

    def _is_sound(self, packed: Packed) -> bool:
        """Whether the text lies there that was packed. More may have been, since the file was opened."""
        length, opened = packed.stop - packed.start, self._opened
        if opened is None or packed.stop > os.fstat(opened.fd).st_size:
            return False
        return is_sound(packed, os.pread(opened.fd, length, packed.start))


def _read(path: Path) -> bytes | None:
    try:
        fd = content.open_message(str(path))
    except OSError:
        return None
    try:
        return content.wire(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def _mailboxes(directory: Path) -> Iterator[tuple[str, Path]]:
    """Name and directory, INBOX first."""
    yield folders.INBOX, directory
    for entry in sorted(directory.iterdir()):
        name = folders.name_of(entry.name)
        if name is not None and layout.is_maildir(str(entry)):
            yield name, entry
