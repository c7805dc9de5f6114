"""Finding a text in the messages of one mailbox.

Theory     What is packed (`searchfile`) is read in large pieces and searched with `bytes.find`; each hit is then put
           down to its message; a `Fuzzy` one rates one text after the other. The rest is read from the messages, and
           packed by the way, so that it is read once. What a field says that was searched in is held in memory, as it
           is short, and the next search is in that.
Promises   The answer is the same whatever is packed. Text is searched only after its checksum was found right, in this
           process and in the very state of the file: when others wrote anything there, all is checked once more.
           Thread-safe. 29 octets a message are held once a mailbox was searched or packed.
On failure Unavailable when a message that is not packed cannot be read.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Set
from typing import NamedTuple, TypeVar

from mailserver.message.fuzzy import FULL, Fuzzy
from mailserver.message.searchable import BORDER, Phrase, Searchable
from mailserver.store.index import Index, Place
from mailserver.store.model import MessageGone, StoreError
from mailserver.store.searchfields import FieldTexts, field_text, shelf
from mailserver.store.searchfile import Opened, SearchFile
from mailserver.store.searchtable import HEADER_SOUND, SOUND, Table
from mailserver.store.shelf import Shelf

log = logging.getLogger(__name__)

R = TypeVar("R")

CHUNK = 2**20  # octets that are read or written at once, unless one text is longer
COMPACTION_INTERVAL = 60.0  # seconds

Make = Callable[[Iterable[int]], Iterable[tuple[int, Searchable | StoreError]]]
"""Gives the UIDs that exist, in order, with the text of the messages, or what hinders that."""


Wanted = Phrase | Fuzzy


Scores = dict[int, int]
"""How well messages answer, by UID; of those alone that do."""


class Found(NamedTuple):
    """UIDs of the messages that have a text, and of those that no longer exist."""

    uids: set[int]
    gone: set[int]


class Rated(NamedTuple):
    """As `Found`."""

    scores: Scores
    gone: set[int]


class SearchText:
    """One for each `Mailbox`."""

    def __init__(
        self, file: SearchFile, index: Index, key: int, make: Make, *, shelf: Shelf[FieldTexts] = shelf
    ) -> None:
        """`key` is what the index knows the mailbox by."""
        self._shelf = shelf
        self._owner = shelf.owner()
        self._file = file
        self._index = index
        self._key = key
        self._make = make
        self._lock = threading.Lock()
        self._filling = threading.Lock()
        self._table = Table(0)
        self._unreadable: set[int] = set()
        self._last = FieldTexts(), b"", set[int]()
        self._complete = (0, 0)
        """A file's name, and the UID up to which all messages were found packed in it."""
        self._compaction_due = time.monotonic()
        self.overtaken = False
        """Another process packed a part of what `pack` was to pack the last time."""
        self.refused = False
        """The disk did not keep what `pack` packed the last time."""

    def find(self, uids: Set[int], phrase: Phrase) -> Found:
        """Of these messages, those that have the phrase."""
        scores, gone = self.rate(uids, phrase)
        return Found(set(scores), gone)

    def rate(self, uids: Set[int], phrase: Wanted) -> Rated:
        """As `find`, with how well they have it."""
        found, done = self._scan(uids, phrase)
        if len(done) == len(uids):
            return Rated(found, set())
        with self._filling:  # another thread may have packed them meanwhile
            more, done_now = self._scan(uids - done, phrase)
            rest, gone = self._fill(sorted(uids - done - done_now), phrase)
        return Rated(found | more | rest, gone)

    def pack(self, above: Callable[[int], Set[int]], limit: int) -> int:
        """Packs up to `limit` messages; how many remain. Zero too when the disk refuses. `above` gives the UIDs of
        messages that are greater than one.
        """
        if not self._filling.acquire(blocking=False):
            return 0  # who is at it goes on
        try:
            with self._file.reading() as opened:
                mark, upto = self._complete
                uids = above(upto if opened is not None and opened.mark == mark else 0)
                if opened is not None and opened.mark != self._table.mark:
                    self._look_up(opened, uids)
                known = self._table.having(uids) if opened is not None else ()
                missing = sorted(set(uids).difference(self._unreadable, known))
                found = self._look_up(opened, missing[:limit]) if opened is not None else []  # by other processes
            packed = {each[0] for each in found}
            self.overtaken = bool(packed)
            unpacked = [uid for uid in missing[:limit] if uid not in packed]
            tried, texts = self._readable(unpacked)
            self.refused = bool(texts) and not self._keep(texts)
            if self.refused:
                return 0
            remaining = len(missing) - len(packed) - tried
            if opened is None or opened.mark == self._table.mark:
                left = [*unpacked[tried:], *missing[limit:]]
                self._complete = self._table.mark, left[0] - 1 if left else max(uids, default=upto)
        finally:
            self._filling.release()
        if not remaining and time.monotonic() >= self._compaction_due:
            self._file.compact()
            self._compaction_due = time.monotonic() + COMPACTION_INTERVAL
        return remaining

    # What is packed

    def _scan(self, wanted: Set[int], phrase: Wanted) -> tuple[Scores, Set[int]]:
        """Those of the packed messages that have the phrase, and those that were searched."""
        if isinstance(phrase, Phrase) and phrase.anchor is not None and phrase.octets:
            texts = self._field_texts(phrase.anchor, wanted)
            done = wanted if wanted <= texts.known else wanted & texts.known
            return dict.fromkeys(self._having(texts, phrase.octets) & wanted, FULL), done
        with self._file.reading() as opened:
            if opened is None:
                return {}, set()
            found, table = self._sound(opened, wanted, lambda table: _search(opened, table, wanted, phrase))
            return found, table.having(wanted)

    def _field_texts(self, anchor: bytes, wanted: Set[int]) -> FieldTexts:
        """What fields say in those of these messages that are packed, and in others."""
        texts = self._shelf.get(self._owner, anchor) or FieldTexts()
        missing = wanted - texts.known
        if missing:
            with self._file.reading() as opened:
                if opened is not None:
                    more, _ = self._sound(opened, missing, lambda table: _fields(opened, table, missing, anchor))
                    texts = texts.added(more)
                    self._shelf.put(self._owner, anchor, texts)
        return texts

    def _having(self, texts: FieldTexts, octets: bytes) -> set[int]:
        """As the texts say; kept for the next call, since a search comes in batches of messages."""
        last_texts, last_octets, found = self._last
        if texts is not last_texts or octets != last_octets:
            found = texts.having(octets)
            self._last = texts, octets, found
        return found

    def _sound(self, opened: Opened, wanted: Set[int], look: Callable[[Table], tuple[R, set[int]]]) -> tuple[R, Table]:
        """What `look` finds, once it tells of no messages that are damaged; and where it looked in the end."""
        table = self._known(opened, wanted)
        while True:
            found, bad = look(table)
            if not bad:
                return found, table
            log.warning("store=search damaged=%d", len(bad))
            self._forget(table, bad)
            table = table.without(bad)  # which may have hidden another, where both seemed to lie

    def _known(self, opened: Opened, wanted: Set[int]) -> Table:
        """All that is known of these messages in this file."""
        table = self._current(opened)
        missing = wanted - table.having(wanted)
        if missing:
            self._look_up(opened, missing)
            table = self._current(opened)
        return table

    def _current(self, opened: Opened) -> Table:
        with self._lock:
            if self._table.mark != opened.mark:
                return Table(opened.mark, opened.stamp)
            self._table = self._table.seen(opened.stamp)
            return self._table

    def _look_up(self, opened: Opened, uids: Iterable[int]) -> list[Place]:
        """What the index knows of them."""
        rows = self._index.packed.find(self._key, opened.mark, uids)
        with self._lock:
            if self._table.mark != opened.mark:
                self._table = Table(opened.mark, opened.stamp)
            self._table = self._table.added(rows)
        return rows

    def _forget(self, table: Table, uids: set[int]) -> None:
        self._index.packed.forget(self._key, table.mark, uids)
        self._complete = (0, 0)
        with self._lock:
            if self._table.mark == table.mark:
                self._table = self._table.without(uids)

    # What is not

    def _fill(self, uids: list[int], phrase: Wanted) -> tuple[Scores, set[int]]:
        """Those that have the phrase, and those that are gone. The others are packed."""
        found: Scores = {}
        gone = set(uids)
        texts: dict[int, Searchable] = {}
        octets = 0
        try:
            for uid, text in self._make(uids):
                if isinstance(text, MessageGone):
                    continue
                if isinstance(text, StoreError):
                    raise text
                gone.discard(uid)
                if score := _score(text, phrase):
                    found[uid] = score
                texts[uid] = text
                octets += len(text.header) + len(text.body)
                if octets > CHUNK:
                    self._keep(texts)
                    texts, octets = {}, 0
        finally:
            if texts:
                self._keep(texts)
        return found, gone

    def _readable(self, uids: list[int]) -> tuple[int, dict[int, Searchable]]:
        """The texts of the first ones, as many as shall be held at once; how many those are, with what has none."""
        texts: dict[int, Searchable] = {}
        octets = 0
        for uid, text in self._make(uids):
            if isinstance(text, MessageGone):
                continue
            if isinstance(text, StoreError):
                self._unreadable.add(uid)
                continue
            texts[uid] = text
            octets += len(text.header) + len(text.body)
            if octets > CHUNK:
                return uids.index(uid) + 1, texts
        return len(uids), texts

    def _keep(self, texts: dict[int, Searchable]) -> bool:
        appended = self._file.append(self._key, texts)
        if appended is None or not appended.rows:
            return False
        with self._lock:
            if self._table.mark != appended.mark:
                self._table = Table(appended.mark)
            self._table = self._table.grown(appended.before, appended.after).added(appended.rows)
        return True


def _search(opened: Opened, table: Table, wanted: Set[int], phrase: Wanted) -> tuple[Scores, set[int]]:
    """How well messages have the phrase, and the UIDs of those whose text is damaged."""
    found: Scores = {}
    bad: set[int] = set()
    reader = _Reader(opened, table)
    for run in table.runs(wanted, CHUNK):
        length, wrong = reader.load(run, header_only=_header_only(phrase))
        bad |= wrong
        if not wrong:
            found |= reader.rate(run, length, phrase)
    return found, bad


def _fields(opened: Opened, table: Table, wanted: Set[int], anchor: bytes) -> tuple[dict[int, bytes], set[int]]:
    """As `_search`, what fields say in each message."""
    found: dict[int, bytes] = {}
    bad: set[int] = set()
    reader = _Reader(opened, table)
    for run in table.runs(wanted, CHUNK):
        _, wrong = reader.load(run, header_only=True)
        bad |= wrong
        if not wrong:
            found |= reader.fields(run, anchor)
    return found, bad


class _Reader:
    """Searches the texts of one file, which it reads into one buffer."""

    def __init__(self, opened: Opened, table: Table) -> None:
        self._opened = opened
        self._table = table
        self._size = os.fstat(opened.fd).st_size  # others may have packed what the table knows after it was opened
        self._buffer = bytearray()

    def load(self, run: range, *, header_only: bool) -> tuple[int, set[int]]:
        """How many octets are in the buffer, and the UIDs of the messages whose text is damaged."""
        table = self._table
        sizes = table.headers if header_only else table.lengths
        base, stop = table.starts[run.start], table.starts[run[-1]] + sizes[run[-1]]
        length = self._read(base, min(stop, self._size) - base)
        return length, self._check(run, length, header_only=header_only)

    def _read(self, start: int, size: int) -> int:
        """How many octets are in the buffer."""
        if size <= 0:
            return 0
        if len(self._buffer) < size:
            self._buffer = bytearray(max(size, CHUNK))
        try:
            return os.preadv(self._opened.fd, [memoryview(self._buffer)[:size]], start)
        except OSError as error:
            log.warning("store=search error=%r", error)
            return 0

    def _check(self, run: range, length: int, *, header_only: bool) -> set[int]:
        """Those whose text is not what was packed. What was sound in this very file is so still."""
        table = self._table
        needed = HEADER_SOUND if header_only else SOUND
        base = table.starts[run.start]
        sizes, sums = (table.headers, table.header_sums) if header_only else (table.lengths, table.whole_sums)
        bad: set[int] = set()
        if min(table.sound[run.start : run.stop]) >= needed and table.starts[run[-1]] + sizes[run[-1]] - base <= length:
            return bad
        view = memoryview(self._buffer)
        for place in run:
            start, uid = table.starts[place] - base, table.uids[place]
            stop = start + sizes[place]
            if stop > length:
                bad.add(uid)
            elif table.sound[place] < needed:
                if zlib.crc32(view[start:stop], uid) == sums[place]:
                    table.sound[place] = needed
                else:
                    bad.add(uid)
        return bad

    def rate(self, run: range, length: int, phrase: Wanted) -> Scores:
        """How well messages have the phrase."""
        if isinstance(phrase, Fuzzy):
            return self._rated(run, phrase)
        return dict.fromkeys(
            self._with_header(run, phrase) if _header_only(phrase) else self._with_text(run, length, phrase), FULL
        )

    def _rated(self, run: range, phrase: Fuzzy) -> Scores:
        table = self._table
        base, octets = table.starts[run.start], memoryview(self._buffer)
        header_only = _header_only(phrase)
        found = {}
        for place in run:
            start = table.starts[place] - base
            body = start + table.headers[place]
            stop = body if header_only else start + table.lengths[place]
            if score := phrase.rate(bytes(octets[start:body]), bytes(octets[body:stop])):
                found[table.uids[place]] = score
        return found

    def _with_header(self, run: range, phrase: Phrase) -> set[int]:
        buffer = self._buffer
        return {uid for uid, start, stop in self._headers(run) if _in_header(buffer, start, stop, phrase)}

    def fields(self, run: range, anchor: bytes) -> dict[int, bytes]:
        """What fields say, by UID."""
        buffer = self._buffer
        return {uid: field_text(buffer, start, stop, anchor) for uid, start, stop in self._headers(run)}

    def _headers(self, run: range) -> Iterator[tuple[int, int, int]]:
        """UIDs, and where the headers lie in the buffer."""
        table, base = self._table, self._table.starts[run.start]
        columns = (column[run.start : run.stop] for column in (table.uids, table.starts, table.headers))
        return ((uid, start - base, start - base + octets) for uid, start, octets in zip(*columns, strict=True))

    def _with_text(self, run: range, length: int, phrase: Phrase) -> set[int]:
        table = self._table
        base = table.starts[run.start]
        found: set[int] = set()
        wanted, find = phrase.octets, self._buffer.find
        position, place = 0, run.start
        while (position := find(wanted, position, length)) >= 0:
            at = base + position
            place = bisect_right(table.starts, at, place, run.stop) - 1
            body = table.starts[place] + table.headers[place]
            if at >= table.stop(place):  # between two of them, or the last border of one
                place += 1
                if place == run.stop:
                    break
                position = table.starts[place] - base
            elif at < body and not phrase.header:
                position = body - base
            else:
                found.add(table.uids[place])
                position = table.stop(place) - base
        return found


def _header_only(wanted: Wanted) -> bool:
    phrase = wanted.phrase if isinstance(wanted, Fuzzy) else wanted
    return phrase.field is not None or not phrase.body


def _score(text: Searchable, phrase: Wanted) -> int:
    """0: it does not have the phrase."""
    if isinstance(phrase, Fuzzy):
        return phrase.rate(text.header, text.body)
    if _header_only(phrase):
        found = _in_header(text.header, 0, len(text.header), phrase)
    else:
        found = any(each and phrase.octets in each for each in (text if phrase.header else (text.body,)))
    return FULL if found else 0


def _in_header(data: bytes | bytearray, start: int, stop: int, phrase: Phrase) -> bool:
    """Whether the header that stands there has the phrase."""
    if start >= stop:
        return False
    wanted, anchor = phrase.octets, phrase.anchor
    if phrase.field is None:
        return data.find(wanted, start, stop) >= 0
    if anchor is None:
        return False
    while (start := data.find(anchor, start, stop)) >= 0:
        start += len(anchor)
        if data.find(wanted, start, data.find(BORDER, start, stop)) >= 0:
            return True
    return False
