"""FETCH (RFC 3501 §6.4.5).

Theory     Flags, dates and sizes are answered from memory, envelopes and structures from the index, in batches.
           Contents are read by a worker, as many at a time as make about a megabyte. Of a large message only the places
           of its sections are kept; they are then streamed as fast as the client reads.
Promises   Memory stays at one batch, or one piece of a large message, whatever is asked for and how slow the client is.
           A literal has exactly the octets announced, or the connection breaks.
On failure A message that another session expunged is left out, and EXPUNGEISSUED says so (RFC 5530).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mailserver.imap import responses
from mailserver.imap.commands import Attribute, Fetch, Item, Section
from mailserver.sessions.imap.core import UNSENT_LIMIT, Core, Numbered, Refused, Selected
from mailserver.sessions.imap.reading import read_header
from mailserver.sessions.imap.sections import Source, Span, clipped, is_span, needs_header_only
from mailserver.store import Mailbox, Message, MessageGone, Prepared, StoreError

METADATA_BATCH = 1000
BATCH = 200
BATCH_OCTETS = 2**20
"""Of contents that are held at a time; a message that is larger is streamed."""

_SEEN = "\\Seen"


async def fetch(core: Core, tag: str, command: Fetch) -> None:
    core.catch_up()
    selected = core.selected
    ranges = selected.ranges(command.messages, by_uid=command.by_uid)
    fetching = _Fetching(core, selected, command.items)
    await fetching.run(list(selected.view.numbered(ranges)))
    core.take_changes()
    core.tell_news(expunges=command.by_uid)
    core.engine.done(tag, "OK", "Fetched", "EXPUNGEISSUED" if fetching.missed else None)


Write = Callable[[Message, "_Loaded"], bytes]
"""Gives one item of an answer, its name first."""


@dataclass(slots=True)
class _Loaded:
    """What a worker has read for the first `count` messages of a batch, by UID."""

    count: int
    prepared: dict[int, Prepared] = field(default_factory=dict)
    sections: dict[int, list[bytes | None]] = field(default_factory=dict)
    """In the order asked for."""
    places: dict[int, dict[Section, Span]] = field(default_factory=dict)
    """Of a large message: where its sections lie; they are None above."""
    seen: list[Message] = field(default_factory=list)
    r"""Messages that became \Seen by this."""


_FROM_MEMORY: dict[Attribute, Write] = {
    Attribute.UID: lambda message, _: b"UID %d" % message.uid,
    Attribute.INTERNALDATE: lambda message, _: b"INTERNALDATE " + responses.date_time(message.internal_date),
    Attribute.SIZE: lambda message, _: b"RFC822.SIZE %d" % message.size,
}
_FROM_INDEX: dict[Attribute, Write] = {
    Attribute.ENVELOPE: lambda message, loaded: b"ENVELOPE " + loaded.prepared[message.uid].envelope,
    Attribute.BODY: lambda message, loaded: b"BODY " + loaded.prepared[message.uid].body,
    Attribute.BODYSTRUCTURE: lambda message, loaded: b"BODYSTRUCTURE " + loaded.prepared[message.uid].bodystructure,
}


class BrokenOff(Exception):
    """A message cannot be read on in the middle of its literal. There is no way to go on."""


class _Fetching:
    """One FETCH command."""

    def __init__(self, core: Core, selected: Selected, items: Sequence[Item]) -> None:
        self.missed = False
        """Some messages were gone."""
        self._core = core
        self._view = selected.view
        self._mailbox = selected.mailbox
        self._items = items
        self._sections = [item for item in items if isinstance(item, Section)]
        self._writers = [self._writer(item) for item in items]
        self._from_index = any(item in _FROM_INDEX for item in items)
        self._header_only = all(map(needs_header_only, self._sections))
        self._batch = BATCH if self._from_index or self._sections else METADATA_BATCH
        self._marks_seen = not selected.read_only and any(not section.peek for section in self._sections)

    async def run(self, picked: list[Numbered]) -> None:
        position = 0
        while position < len(picked):
            batch = picked[position : position + self._batch]
            loaded = _Loaded(count=len(batch))
            if self._from_index or self._sections:
                loaded = await self._core.workers.run(self._load, [message for _, message in batch])
            for message in loaded.seen:
                self._view.told(message)
            await self._answer(batch[: loaded.count], loaded)
            await self._core.clock.sleep(0)  # others have their turn
            position += loaded.count

    async def _answer(self, batch: list[Numbered], loaded: _Loaded) -> None:
        changed = {message.uid: message for message in loaded.seen}
        send = self._core.engine.send
        for number, message in batch:
            uid = message.uid
            incomplete = self._from_index and uid not in loaded.prepared
            if incomplete or (self._sections and uid not in loaded.sections):
                self.missed = True
            elif uid in loaded.places:
                await self._stream(number, changed.get(uid, message), loaded, with_flags=uid in changed)
            else:
                current = changed.get(uid, message)
                written = [write(current, loaded) for write in self._writers]
                if uid in changed and Attribute.FLAGS not in self._items:
                    written.append(self._flags(current, loaded))
                answer = b" ".join(written)
                if self._sections:  # not to copy what is large
                    send(b"* %d FETCH (" % number)
                    send(answer)
                    send(b")\r\n")
                else:
                    send(b"* %d FETCH (%b)\r\n" % (number, answer))
            if self._core.engine.unsent > UNSENT_LIMIT:
                await self._core.channel.drain()

    def _writer(self, item: Item) -> Write:
        if isinstance(item, Section):
            place, label = self._sections.index(item), item.label
            return lambda message, loaded: _labelled(label, loaded.sections[message.uid][place])
        if item is Attribute.FLAGS:
            return self._flags
        return _FROM_INDEX.get(item) or _FROM_MEMORY[item]

    def _flags(self, message: Message, _loaded: _Loaded) -> bytes:
        return b"FLAGS " + responses.flag_list(message.flags, message.uid in self._view.recent)

    async def _stream(self, number: int, message: Message, loaded: _Loaded, *, with_flags: bool) -> None:
        """The answer for a large message, in pieces."""
        engine = self._core.engine
        places = loaded.places[message.uid]
        before = b"* %d FETCH (" % number
        for item, write in zip(self._items, self._writers, strict=True):
            engine.send(before)
            before = b" "
            if isinstance(item, Section) and item in places:
                first, end = places[item]
                engine.send(item.label + b" {%d}\r\n" % (end - first))
                await self._send(message.uid, places[item])
            else:
                engine.send(write(message, loaded))
        if with_flags and Attribute.FLAGS not in self._items:
            engine.send(b" " + self._flags(message, loaded))
        engine.send(b")\r\n")

    async def _send(self, uid: int, place: Span) -> None:
        """A literal's octets; waits for the client between them. Raises BrokenOff."""
        left = place[1] - place[0]
        stream = _octets(self._mailbox, uid, place)
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

    # in a worker

    def _load(self, messages: list[Message]) -> _Loaded:
        """As many of the messages as make a batch."""
        loaded = _Loaded(count=len(messages))
        if self._from_index:
            loaded.prepared = self._mailbox.prepared([message.uid for message in messages])
        if not self._sections:
            return loaded
        octets = 0
        for count, message in enumerate(messages, 1):
            try:
                octets += self._load_sections(message, loaded)
            except MessageGone:
                continue
            if octets > BATCH_OCTETS:
                loaded.count = count
                break
        if self._marks_seen:
            unseen = [m.uid for m in messages if _SEEN not in m.flags and m.uid in loaded.sections]
            if unseen:
                loaded.seen = self._mailbox.update_flags(unseen, "add", frozenset({_SEEN}))
        return loaded

    def _load_sections(self, message: Message, loaded: _Loaded) -> int:
        """Returns how many octets are held."""
        uid = message.uid
        source = Source(read_header(self._mailbox, message) if self._header_only else self._mailbox.read(uid))
        large = len(source.content) > BATCH_OCTETS
        sections: list[bytes | None] = []
        places: dict[Section, Span] = {}
        held = 0
        for section in self._sections:
            octets = None
            span = source.span(section) if is_span(section) else None
            if span is not None and (large or held > BATCH_OCTETS):
                places[section] = clipped(span, section.partial)
            else:
                octets = source.octets(section)
                held += len(octets or b"")
            sections.append(octets)
            if held > BATCH_OCTETS + len(source.content):
                raise Refused("the header is asked for too many times at once", "LIMIT")
        loaded.sections[uid] = sections
        if places:
            loaded.places[uid] = places
        return held


def _labelled(label: bytes, octets: bytes | None) -> bytes:
    """With a literal where there is something: what stands in a message need not fit a quoted string."""
    if octets:
        return b"%b {%d}\r\n%b" % (label, len(octets), _without_nul(octets))
    return label + (b" NIL" if octets is None else b' ""')


def _without_nul(octets: bytes) -> bytes:
    """No literal may carry NUL (RFC 3501 §9: CHAR8); the length stays."""
    return octets.replace(b"\0", b"\x80")


def _octets(mailbox: Mailbox, uid: int, place: Span) -> Iterator[bytes]:
    """The octets in a place of the message, in pieces. Each step blocks."""
    start, end = place
    position = 0
    for chunk in mailbox.chunks(uid):
        piece = chunk[max(start - position, 0) : max(end - position, 0)]
        position += len(chunk)
        if piece:
            yield _without_nul(piece)
        if position >= end:
            return


def _step(stream: Iterator[bytes]) -> bytes:
    return next(stream, b"")
