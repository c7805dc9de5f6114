"""Finding a text in the messages of one mailbox.

Theory     What is packed (`searchfile`) is read in large pieces and searched with `bytes.find`; each hit is then put
           down to its message. The rest is read from the messages, and packed by the way, so that it is read once.
Promises   The answer is the same whatever is packed. Text is searched only after its checksum was found right.
           Thread-safe. 48 octets a message are held once a mailbox was searched or packed.
On failure Unavailable when a message that is not packed cannot be read.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Set
from operator import itemgetter
from typing import NamedTuple

from mailserver.message.searchable import BORDER, Phrase, Searchable, searchable
from mailserver.store.index import Index, Packed
from mailserver.store.model import MessageGone, StoreError
from mailserver.store.searchfile import Opened, SearchFile

log = logging.getLogger(__name__)

CHUNK = 2**20  # octets that are read or written at once, unless one text is longer
GAP = 16 * 1024  # octets that are rather read than passed over
COMPACTION_INTERVAL = 60.0  # seconds

_START = itemgetter(1)

Read = Callable[[int], bytes]
"""Gives a whole message by its UID. Raises MessageGone, Unavailable."""


class Found(NamedTuple):
    """UIDs of the messages that have a text, and of those that no longer exist."""

    uids: set[int]
    gone: set[int]


class _Span(NamedTuple):
    """The text of one message within some octets; a hit counts from `floor` on."""

    start: int
    floor: int
    stop: int
    uid: int


class _Table:
    """Where the texts of one mailbox lie in the file of this name."""

    def __init__(self, mark: int, rows: Iterable[Packed] = ()) -> None:
        self.mark = mark
        self._columns = tuple(array("q") for _ in Packed._fields)
        self.add(rows)

    def add(self, rows: Iterable[Packed]) -> None:
        """By one thread at a time; others may read meanwhile."""
        for column, values in zip(self._columns, zip(*rows, strict=True), strict=False):
            column.extend(values)

    def uids(self) -> set[int]:
        return set(self._columns[0])

    def rows(self) -> Iterator[tuple[int, ...]]:
        """In the order of `Packed`."""
        return zip(*self._columns, strict=False)


class SearchText:
    """One for each `Mailbox`."""

    def __init__(self, file: SearchFile, index: Index, key: int) -> None:
        """`key` is what the index knows the mailbox by."""
        self._file = file
        self._index = index
        self._key = key
        self._lock = threading.Lock()
        self._filling = threading.Lock()
        self._table = _Table(0)
        self._unreadable: set[int] = set()
        self._compaction_due = time.monotonic()

    def find(self, uids: Set[int], phrase: Phrase, read: Read) -> Found:
        """Of these messages, those that have the phrase."""
        found, done = self._scan(uids, phrase)
        if len(done) == len(uids):
            return Found(found, set())
        with self._filling:  # another thread may have packed them meanwhile
            more, done_now = self._scan(uids - done, phrase)
            rest, gone = self._fill(sorted(uids - done - done_now), phrase, read)
        return Found(found | more | rest, gone)

    def pack(self, uids: Set[int], limit: int, read: Read) -> int:
        """Packs up to `limit` of these messages; how many remain. Zero too when the disk refuses."""
        if not self._filling.acquire(blocking=False):
            return 0  # who is at it goes on
        try:
            with self._file.reading() as opened:
                if opened is not None and opened.mark != self._table.mark:
                    self._look_up(opened, uids)
                known = self._table.uids() if opened is not None else set()
                missing = sorted(uids - known - self._unreadable)
                found = self._look_up(opened, missing[:limit]) if opened is not None else []  # by other processes
            packed = {each.uid for each in found}
            unpacked = [uid for uid in missing[:limit] if uid not in packed]
            tried, texts = self._readable(unpacked, read)
            if texts and not self._keep(texts):
                return 0
        finally:
            self._filling.release()
        remaining = len(missing) - len(packed) - tried
        if not remaining and time.monotonic() >= self._compaction_due:
            self._file.compact()
            self._compaction_due = time.monotonic() + COMPACTION_INTERVAL
        return remaining

    # What is packed

    def _scan(self, wanted: Set[int], phrase: Phrase) -> tuple[set[int], set[int]]:
        """Those of the packed messages that have the phrase, and those that were searched."""
        found: set[int] = set()
        done: set[int] = set()
        with self._file.reading() as opened:
            if opened is None:
                return found, done
            table = self._known(opened, wanted)
            header_only = phrase.field is not None or not phrase.body
            bad: set[int] = set()
            rows = sorted((row for row in table.rows() if row[0] in wanted), key=_START)
            for run in _runs(rows, header_only=header_only):
                hits, wrong = _search(opened, run, phrase, header_only=header_only)
                found |= hits
                bad |= wrong
                done.update(row[0] for row in run)
        if bad:
            log.warning("store=search damaged=%d", len(bad))
            self._forget(table, bad)
            done -= bad
        return found, done

    def _known(self, opened: Opened, wanted: Set[int]) -> _Table:
        table = self._table
        missing = wanted - table.uids() if table.mark == opened.mark else wanted
        if missing:
            self._look_up(opened, missing)
        with self._lock:
            return self._table if self._table.mark == opened.mark else _Table(opened.mark)

    def _look_up(self, opened: Opened, uids: Iterable[int]) -> list[Packed]:
        """What the index knows of them."""
        rows = self._index.packed(self._key, opened.mark, uids)
        self._note(opened.mark, rows)
        return rows

    def _note(self, mark: int, rows: Iterable[Packed]) -> None:
        with self._lock:
            if self._table.mark != mark:
                self._table = _Table(mark)
            known = self._table.uids()
            self._table.add([row for row in rows if row.uid not in known])

    def _forget(self, table: _Table, uids: set[int]) -> None:
        self._index.forget_packed(self._key, table.mark, uids)
        with self._lock:
            if self._table.mark == table.mark:
                rows = (Packed(*row) for row in self._table.rows() if row[0] not in uids)
                self._table = _Table(table.mark, rows)

    # What is not

    def _fill(self, uids: list[int], phrase: Phrase, read: Read) -> tuple[set[int], set[int]]:
        """Those that have the phrase, and those that are gone. The others are packed."""
        found: set[int] = set()
        gone: set[int] = set()
        texts: dict[int, Searchable] = {}
        octets = 0
        try:
            for uid in uids:
                try:
                    text = searchable(read(uid))
                except MessageGone:
                    gone.add(uid)
                    continue
                if _within(text, phrase):
                    found.add(uid)
                texts[uid] = text
                octets += len(text.header) + len(text.body)
                if octets > CHUNK:
                    self._keep(texts)
                    texts, octets = {}, 0
        finally:
            if texts:
                self._keep(texts)
        return found, gone

    def _readable(self, uids: list[int], read: Read) -> tuple[int, dict[int, Searchable]]:
        """The texts of the first ones, as many as shall be held at once; how many those are, with what has none."""
        texts: dict[int, Searchable] = {}
        octets = 0
        for tried, uid in enumerate(uids):
            if octets > CHUNK:
                return tried, texts
            try:
                text = texts[uid] = searchable(read(uid))
            except MessageGone:
                continue
            except StoreError:
                self._unreadable.add(uid)
                continue
            octets += len(text.header) + len(text.body)
        return len(uids), texts

    def _keep(self, texts: dict[int, Searchable]) -> bool:
        mark, rows = self._file.append(self._key, texts)
        if rows:
            self._note(mark, rows)
        return bool(rows)


def _runs(rows: Iterable[tuple[int, ...]], *, header_only: bool) -> Iterator[list[tuple[int, ...]]]:
    """What is read at once. `rows` are in the order of the file."""
    end = 2 if header_only else 3
    run: list[tuple[int, ...]] = []
    first = last = 0
    for row in rows:
        if run and (row[end] - first > CHUNK or row[1] - last > GAP):
            yield run
            run = []
        if not run:
            first = row[1]
        run.append(row)
        last = row[end]
    if run:
        yield run


def _search(
    opened: Opened, run: list[tuple[int, ...]], phrase: Phrase, *, header_only: bool
) -> tuple[set[int], set[int]]:
    """The UIDs of the messages that have the phrase, and of those whose text is damaged."""
    base, end = run[0][1], run[-1][2 if header_only else 3]
    try:
        data = os.pread(opened.fd, max(0, min(end, opened.size) - base), base)
    except OSError as error:
        log.warning("store=search error=%r", error)
        data = b""
    view, length, crc32 = memoryview(data), len(data), zlib.crc32
    bad: set[int] = set()
    for uid, start, body, stop, header_sum, whole_sum in run:
        if header_only:
            stop, whole_sum = body, header_sum
        if stop - base > length or crc32(view[start - base : stop - base], uid) != whole_sum:
            bad.add(uid)
    if phrase.octets not in data:
        return set(), bad
    spans = []
    for uid, start, body, stop, *_ in run:
        if header_only:
            stop = body
        if start < stop and uid not in bad:
            spans.append(_Span(start - base, (start if phrase.header else body) - base, stop - base, uid))
    return _hits(data, spans, phrase), bad


def _within(text: Searchable, phrase: Phrase) -> bool:
    header_only = phrase.field is not None or not phrase.body
    data = text.header if header_only else text.header + text.body
    floor = 0 if phrase.header else len(text.header)
    return bool(data and _hits(data, [_Span(0, floor, len(data), 0)], phrase))


def _hits(data: bytes, spans: list[_Span], phrase: Phrase) -> set[int]:
    """The UIDs of the spans, which ascend, that have the phrase."""
    found: set[int] = set()
    wanted = phrase.octets
    anchor = phrase.anchor
    if not spans or (phrase.field is not None and anchor is None):
        return found
    ahead = len(anchor) if anchor is not None else 0
    starts = [span.start for span in spans]
    position = 0
    while (position := data.find(wanted if anchor is None else anchor, position)) >= 0:
        place = bisect_right(starts, position) - 1
        span = spans[max(place, 0)]
        if place < 0 or position + ahead >= span.stop:  # between two of them, or the last border of one
            place += 1
            if place == len(spans):
                break
            position = starts[place]
        elif position < span.floor:
            position = span.floor
        elif anchor is None or _in_value(data, position + ahead, wanted):
            found.add(span.uid)
            position = span.stop
        else:
            position += ahead
    return found


def _in_value(data: bytes, start: int, wanted: bytes) -> bool:
    """Whether the value of the field that begins there has it."""
    return data.find(wanted, start, data.index(BORDER, start)) >= 0
