"""FETCH (RFC 3501 §6.4.5; RFC 3516 BINARY; RFC 7162 §3.1.4, §3.2.6; RFC 8474 §5.3; RFC 8514 SAVEDATE; RFC 8970
PREVIEW; RFC 9586 §3.3).

Theory     An item is a column: a pattern, and a value for each message of a batch. A batch is answered by one pattern
           of all items, filled in for each message and joined, so that little is done for each message by itself.
           UIDs and flags come from the view, dates and sizes from the mailbox's memory, envelopes, structures and most
           header fields from the index. Contents are read by a worker, as many at a time as make about a megabyte. Of a
           large message only the places of its sections are kept; they are streamed as fast as the client reads.
           Answers that need no message to be read are kept when they were told (`answers`), and told again.
Promises   Memory stays at one batch, or one piece of a large message, whatever is asked for and how slow the client is.
           A literal has exactly the octets announced, or the connection breaks.
On failure A message that another session expunged is left out, and EXPUNGEISSUED says so (RFC 5530).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from weakref import ref

from mailserver.imap.commands import Attribute, Fetch, Item, Section, Text
from mailserver.sessions.imap import messagelimit
from mailserver.sessions.imap.answers import LARGEST, Known, Name, answers
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.fetchitems import (
    FROM_INDEX,
    FROM_MEMORY,
    OF_IDS,
    Batch,
    Column,
    Place,
    PlainRow,
    preview_of,
)
from mailserver.sessions.imap.reading import HEADERS, header_batches, measure, read_header, without_nul
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.resync import tell_vanished
from mailserver.sessions.imap.sections import BINARY, Source, clipped, in_summary, is_span, needs_header_only
from mailserver.sessions.imap.selected import Selected
from mailserver.sessions.imap.view import View
from mailserver.store import MessageGone, StoreError

METADATA_BATCH = 1000
BATCH = 200
BATCH_OCTETS = 2**20
"""Of contents that are held at a time; a message that is larger is streamed."""
ROWS = 50
"""Answers, or pieces of them, that are joined before they are sent."""

_SEEN = "\\Seen"
_TURN = 0.005  # seconds after which others have their turn


async def fetch(core: Core, tag: str, command: Fetch) -> None:
    if command.vanished:
        core.require_qresync()
        core.take_changes()
        await tell_vanished(core, command)  # before any FETCH
    if Attribute.MODSEQ in command.items:
        core.enable_condstore()
    core.catch_up()
    selected = core.selected
    picked: Sequence[int] = selected.pick(command.messages, by_uid=command.by_uid)
    if command.partial is not None:
        picked = command.partial.of(picked)  # before CHANGEDSINCE (RFC 9394 §3.4)
    if command.changed_since is not None:
        lost = command.vanished and not selected.mailbox.remembers(command.changed_since)
        picked = selected.view.newer(picked, 0 if lost else command.changed_since)
    if command.partial is not None:
        messagelimit.require_few(core, len(picked))
    picked, cut = messagelimit.newest(core, picked)
    fetching = _Fetching(core, selected, _items(command, selected.view), newest_first=cut is not None)
    await fetching.run(picked if cut is None else picked[::-1])
    core.take_changes()
    core.tell_news(expunges=command.by_uid)
    messagelimit.done(core, tag, "Fetched", "EXPUNGEISSUED" if fetching.missed else None, cut)


def _items(command: Fetch, view: View) -> tuple[Item, ...]:
    """What each answer has. Where the UID is the name of the answer it is an item only if that was asked for."""
    named = not command.by_uid or view.uid_only or Attribute.UID in command.items
    return command.items if named else (Attribute.UID, *command.items)


async def tell(core: Core, selected: Selected, items: tuple[Item, ...], numbers: Sequence[int]) -> None:
    """What is told of messages unasked."""
    await _Fetching(core, selected, items, newest_first=False).run(numbers)


class BrokenOff(Exception):
    """A message cannot be read on in the middle of its literal. There is no way to go on."""


class _Fetching:
    """One FETCH command."""

    def __init__(self, core: Core, selected: Selected, items: tuple[Item, ...], *, newest_first: bool) -> None:
        """`newest_first`: the messages are picked in descending order."""
        self.missed = False
        """Some messages were gone."""
        self._core = core
        self._view = selected.view
        self._mailbox = selected.mailbox
        self._items = items
        self._newest_first = newest_first
        self._sections = [item for item in items if isinstance(item, Section)]
        self._marks_seen = not selected.read_only and any(not section.peek for section in self._sections)
        self._columns = [self._column(item) for item in items]
        patterns = b" ".join(pattern for pattern, _ in self._columns)
        if self._marks_seen:
            self._columns.append((b"%b", self._news_of_seen))
            patterns += b"%b"
        self._head = b"* %d UIDFETCH (" if self._view.uid_only else b"* %d FETCH ("
        self._row = self._head + patterns + b")\r\n"
        self._asked = (frozenset(core.enabled), self._row, *items)  # what is enabled may change how things are written
        self._with_prepared = any(item in FROM_INDEX for item in items)
        self._with_ids = any(item in OF_IDS for item in items)
        self._from_index = self._with_prepared or self._with_ids
        self._if_ready = not self._with_prepared and Attribute.PREVIEW_IF_READY in items
        self._from_memory = bool(self._sections) or any(item in FROM_MEMORY for item in items)
        self._from_summaries = all(map(in_summary, self._sections))
        self._header_only = all(map(needs_header_only, self._sections))
        self._whole_only = all(not section.part and section.text is Text.ALL for section in self._sections)
        self._plain = self._plain_row([pattern for pattern, _ in self._columns])
        self._lasting = self._from_summaries and not (self._marks_seen or self._if_ready or newest_first)

    def _column(self, item: Item) -> Column:
        if isinstance(item, Section):
            place = self._sections.index(item)
            return b"%b", lambda batch: [batch.sections[uid][place] for uid in batch.uids]
        if item is Attribute.UID:
            return b"UID %d", lambda batch: batch.uids
        if item is Attribute.PREVIEW_IF_READY:
            return b"PREVIEW %b", lambda batch: [preview_of(batch.prepared.get(uid)) for uid in batch.uids]
        if item is Attribute.MODSEQ:
            return b"MODSEQ (%d)", lambda batch: self._view.modseqs_of(batch.numbers)
        if item is Attribute.FLAGS:
            return b"FLAGS %b", lambda batch: self._view.flag_lists(batch.numbers)
        return FROM_INDEX.get(item) or OF_IDS.get(item) or FROM_MEMORY[item]

    def _news_of_seen(self, batch: Batch) -> list[bytes]:
        """Of the messages that became \\Seen by this: what is told of new flags, where it was not asked for."""
        seen = {message.uid for message in batch.seen}
        wanted = [Attribute.FLAGS]
        if (self._view.condstore or self._view.rev2) and not self._view.uid_only:
            wanted.append(Attribute.UID)
        if self._view.condstore:
            wanted.append(Attribute.MODSEQ)
        news = [b""] * len(batch.uids)
        for pattern, values in (self._column(item) for item in wanted if item not in self._items):
            news = [told + b" " + pattern % value for told, value in zip(news, values(batch), strict=True)]
        return [told if uid in seen else b"" for told, uid in zip(news, batch.uids, strict=True)]

    def _plain_row(self, patterns: Sequence[bytes]) -> PlainRow | None:
        """When the only section is the message as it is. To format that would copy it twice."""
        if not self._whole_only or len(self._sections) != 1 or self._sections[0].partial is not None:
            return None
        cut = self._items.index(self._sections[0]) + 1
        before = self._head + b" ".join(patterns[:cut])
        return PlainRow(cut, before, self._row.removeprefix(before))

    @property
    def _size(self) -> int:
        """Messages of a batch."""
        if not self._waits:
            return METADATA_BATCH
        return HEADERS if self._from_summaries and not self._from_index else BATCH

    @property
    def _waits(self) -> bool:
        """For the disk."""
        return bool(self._from_index or self._if_ready or self._sections)

    async def run(self, picked: Sequence[int]) -> None:
        position = 0
        clock = self._core.clock
        began = clock.monotonic()
        while position < len(picked):
            position += await self._answer(self._next(picked, position))
            if clock.monotonic() - began >= _TURN:
                await clock.sleep(0)  # others have their turn
                began = clock.monotonic()

    def _next(self, picked: Sequence[int], position: int) -> Sequence[int]:
        """What is answered together; of messages in a row so that the next time it is the same ones."""
        size = self._size
        if self._lasting:
            numbers = picked[position : position + size - (picked[position] - 1) % size]
            if _in_a_row(numbers):
                return numbers
        return picked[position : position + size]

    async def _answer(self, numbers: Sequence[int]) -> int:
        """To how many of these messages."""
        known = self._known(numbers) if self._lasting and self._is_block(numbers) else None
        name = Name(ref(self._mailbox), self._asked, numbers[0])
        if known is not None and (kept := answers.get(name, known)) is not None:
            self._core.engine.send(kept)
            await self._core.drain_if_much()
            return len(numbers)
        batch = Batch(numbers, self._view.uids_of(numbers))
        count = await self._core.workers.run(self._load, batch) if self._waits else self._load(batch)
        self._view.told(batch.seen)
        lasts = known is not None and len(batch.uids) == len(numbers) and known == self._known(numbers)
        answer = await self._tell(batch, keep=lasts)
        if known is not None and answer is not None:
            answers.put(name, known, answer)
        return count

    def _is_block(self, numbers: Sequence[int]) -> bool:
        """They are in a row, and begin and end where others that are answered together do."""
        whole = len(numbers) == self._size or numbers[-1] == len(self._view)
        return whole and (numbers[0] - 1) % self._size == 0 and _in_a_row(numbers)

    def _known(self, numbers: Sequence[int]) -> Known | None:
        """What is known of messages in a row that the answer follows from; None: one of them is gone."""
        view, place = self._view, slice(numbers[0] - 1, numbers[-1])
        uids = view.uids[place]
        fixed = self._mailbox.fixed(uids) if self._from_index or self._from_memory else b""
        if fixed is None:
            return None
        columns = [uids.tobytes(), fixed]
        if Attribute.MODSEQ in self._items:
            columns.append(view.modseqs[place].tobytes())
        if Attribute.FLAGS not in self._items:
            return Known(columns)
        return Known([*columns, view.recent_among(uids).tobytes()], view.flags[place])

    async def _tell(self, batch: Batch, *, keep: bool) -> bytes | None:
        """The answer as it was told, if it is to be kept."""
        large = batch.split_last() if batch.uids and batch.uids[-1] in batch.places else None
        rows = self._rows(batch)
        kept: list[bytes] = []
        octets = 0
        while joined := b"".join(islice(rows, ROWS)):
            self._core.engine.send(joined)
            octets += len(joined)
            keep = keep and octets <= LARGEST
            if keep:
                kept.append(joined)
            await self._core.drain_if_much()
        if large is not None:
            await self._stream(large)
        return b"".join(kept) if keep and large is None else None

    def _rows(self, batch: Batch) -> Iterator[bytes]:
        """The answers, or pieces of them."""
        names, plain = self._names(batch), self._plain
        columns = [values(batch) for _, values in self._columns]
        if plain is None:
            return map(self._row.__mod__, zip(names, *columns, strict=True))
        ahead, behind = columns[: plain.cut], columns[plain.cut :]
        before = map(plain.before.__mod__, zip(names, *ahead, strict=True))
        after = map(plain.after.__mod__, zip(*behind, strict=True)) if behind else repeat(plain.after % ())
        return chain.from_iterable(zip(before, map(batch.contents.__getitem__, batch.uids), after, strict=False))

    def _names(self, batch: Batch) -> Sequence[int]:
        """What the answers call the messages."""
        return batch.uids if self._view.uid_only else batch.numbers

    async def _stream(self, batch: Batch) -> None:
        """The answer for one large message, in pieces."""
        engine = self._core.engine
        (uid,) = batch.uids
        places = batch.places[uid]
        before = self._head % self._names(batch)[0]
        for item, (pattern, values) in zip(self._items, self._columns, strict=False):
            engine.send(before)
            before = b" "
            if isinstance(item, Section) and item in places:
                place = places[item]
                engine.send(item.label + b" " + place.announcement)
                await self._send(place.size, place.octets(self._mailbox, uid))
            else:
                engine.send(pattern % tuple(values(batch)))
        for pattern, values in self._columns[len(self._items) :]:
            engine.send(pattern % tuple(values(batch)))
        engine.send(b")\r\n")

    async def _send(self, left: int, stream: Iterator[bytes]) -> None:
        """A literal's octets; waits for the client between them. Raises BrokenOff."""
        while left:
            try:
                data = await self._core.workers.run(_step, stream)
            except (StoreError, OSError) as error:
                raise BrokenOff from error
            if not data:
                raise BrokenOff
            self._core.engine.send(data)
            left -= len(data)
            await self._core.channel.drain()

    # in a worker, when there is something to wait for

    def _load(self, batch: Batch) -> int:
        """Leaves in the batch the first messages, as many as can be held, without those gone; how many with these."""
        if self._from_memory:
            messages = self._mailbox.get(batch.uids)
            if self._newest_first:
                messages.reverse()
            batch.messages = {message.uid: message for message in messages}
        if self._sections:
            self._load_sections(batch)
        count = len(batch.uids)
        if self._from_memory:
            batch.keep(batch.sections if self._sections else batch.messages)
        if self._with_prepared:
            batch.prepared = self._mailbox.prepared(batch.uids)
            batch.keep(batch.prepared)
        elif self._if_ready:
            batch.prepared = self._mailbox.prepared(batch.uids, ready=True)
        if self._with_ids:
            batch.ids = self._mailbox.object_ids(batch.uids)
            batch.keep(batch.ids)
        if len(batch.uids) < count:
            self.missed = True
        if self._marks_seen:
            unseen = [uid for uid in batch.uids if _SEEN not in batch.messages[uid].flags]
            if unseen:
                batch.seen = self._mailbox.update_flags(unseen, "add", frozenset({_SEEN}))
        return count

    def _load_sections(self, batch: Batch) -> None:
        octets = 0
        for uid, content in self._contents(batch):
            if self._plain is not None and len(content) <= BATCH_OCTETS:
                label = self._sections[0].label
                batch.sections[uid] = [b"%b {%d}\r\n" % (label, len(content)) if content else label + b' ""']
                batch.contents[uid] = without_nul(content)
                octets += len(content)
            else:
                octets += self._cut_up(batch, uid, content)
            if octets > BATCH_OCTETS or uid in batch.places:
                batch.end_with(uid)
                break

    def _contents(self, batch: Batch) -> Iterator[tuple[int, bytes]]:
        """By UID, in the order of the batch, what the sections are taken from; nothing of a message that is gone."""
        if self._from_summaries:
            held = next(header_batches(batch.messages.values()), [])
            if len(held) < len(batch.messages):
                batch.end_with(held[-1].uid)
            yield from sorted(self._mailbox.headers(batch.uids).items(), reverse=self._newest_first)
            return
        with self._mailbox.reading() as read:
            for uid, message in batch.messages.items():
                try:
                    if self._whole_only and message.size > BATCH_OCTETS:
                        self._place_whole(batch, uid)
                        return
                    yield uid, read_header(self._mailbox, message) if self._header_only else read(message)
                except MessageGone:
                    continue

    def _place_whole(self, batch: Batch, uid: int) -> None:
        """A large message of which no section needs to be looked for is never held as a whole."""
        span = (0, measure(self._mailbox, uid))
        batch.sections[uid] = [b""] * len(self._sections)
        batch.places[uid] = {section: Place(clipped(span, section.partial)) for section in self._sections}
        batch.end_with(uid)

    def _cut_up(self, batch: Batch, uid: int, content: bytes) -> int:
        """Returns how many octets are held."""
        source = Source(content)
        large = len(content) > BATCH_OCTETS
        sections: list[bytes] = []
        places: dict[Section, Place] = {}
        held = chosen = 0
        for section in self._sections:
            span = source.span(section) if is_span(section) else None
            if section.text in BINARY:
                value = self._decoded(source, section, much=held > BATCH_OCTETS)
                if isinstance(value, Place):
                    places[section] = value
                    value = b""
                sections.append(value)
                held += len(value)
            elif span is not None and (large or held > BATCH_OCTETS):
                places[section] = Place(clipped(span, section.partial))
                sections.append(b"")
            else:
                octets = source.octets(section)
                sections.append(_labelled(section.label, octets))
                held += len(octets or b"")
                if span is None:  # a choice of fields lies nowhere that it could be streamed from
                    chosen += len(octets or b"")
                    if chosen > BATCH_OCTETS + len(content):
                        raise Refused("the header is asked for too many times at once", "LIMIT")
        batch.sections[uid] = sections
        if places:
            batch.places[uid] = places
        return held

    def _decoded(self, source: Source, section: Section, *, much: bool) -> bytes | Place:
        """The whole item, or where it lies when it is large, or there is `much` already."""
        decoded = source.decoded(section, self._core.spool)
        if section.text is Text.DECODED_SIZE:
            return b"%b %d" % (section.label, 0 if decoded is None else decoded.octets.size)
        if decoded is None:
            return section.label + b" NIL"
        decoded = decoded.clipped(section.partial)
        if much or decoded.octets.size > BATCH_OCTETS:
            return Place(decoded=decoded)
        octets = b"".join(decoded.octets.chunks())
        return section.label + (b" " + decoded.announcement + octets if octets else b' ""')


def _in_a_row(numbers: Sequence[int]) -> bool:
    return numbers[-1] - numbers[0] + 1 == len(numbers)


def _labelled(label: bytes, octets: bytes | None) -> bytes:
    """With a literal where there is something: what stands in a message need not fit a quoted string."""
    if octets:
        return b"%b {%d}\r\n%b" % (label, len(octets), without_nul(octets))
    return label + (b" NIL" if octets is None else b' ""')


def _step(stream: Iterator[bytes]) -> bytes:
    return next(stream, b"")
