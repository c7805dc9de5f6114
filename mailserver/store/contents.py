"""What is known of a mailbox, in memory: messages by UID, and what changed when.

Promises   Any thread may read: each answer is of one moment, and no call waits for a disk. Only one thread at a time
           may change, and it alone may read `columns` itself. Lists ascend by UID. Changes since a recent MODSEQ cost
           as much as there are changes, not as there are messages. Less than 200 octets a message; a `Message` is made
           when it is asked for.
"""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from mailserver.store.columns import Change, Columns, Row, State
from mailserver.store.model import Drop, Flagged, Listing, Measured, Message
from mailserver.store.names import original, size_of

_JOURNAL_MINIMUM = 1000
_STATES_MINIMUM = 1000

Decode = Callable[[State], frozenset[str]]
Interpret = Callable[[State, frozenset[str]], State]


class Journal:
    """Pairs of MODSEQ and UID, ascending; complete for what is newer than `start`."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._modseqs = array("Q")
        self._uids = array("I")

    def add(self, modseq: int, uids: Sequence[int]) -> None:
        self._modseqs.extend([modseq] * len(uids))
        self._uids.extend(uids)

    def since(self, modseq: int) -> set[int] | None:
        """The UIDs noted after a MODSEQ; None when that is too long ago."""
        if modseq < self._start:
            return None
        return set(self._uids[bisect_right(self._modseqs, modseq) :])

    def trim(self, limit: int) -> None:
        if len(self._uids) > limit:
            cut = bisect_right(self._modseqs, self._modseqs[-limit // 2])
            self._start = self._modseqs[cut - 1]
            del self._modseqs[:cut]
            del self._uids[:cut]


class Contents:
    """The messages of one mailbox."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.columns = Columns()
        self._flags: list[frozenset[str]] = []  # by the number of a state
        self._decode: Decode = lambda state: frozenset()
        self._listed: Listing | None = None  # until something changes
        self._changed = Journal(0)
        self._vanished = Journal(0)
        self.modseq = 0
        self._begun = 0  # the MODSEQ that this began with, and the first that was given then
        self._first: int | None = None
        self._lost = range(0)

    def load(self, columns: Columns, modseq: int, decode: Decode, lost: range = range(0)) -> None:
        """Begins with these; `decode` gives the flags of a state. MODSEQs in `lost` were given and forgotten."""
        with self._lock:
            self.columns = columns
            self._listed = None
            self._decode = decode
            self._flags = [decode(state) for state in columns.states]
            self._changed, self._vanished = Journal(modseq), Journal(modseq)
            self.modseq = self._begun = modseq
            self._first, self._lost = None, lost

    def next_modseq(self) -> int:
        """Greater than all before, also than those of an index that was lost (unless the clock went back)."""
        return max(self.modseq + 1, time.time_ns() // 1000)

    # By the one who changes

    def number(self, state: State) -> int:
        """A state's number, which holds until `change` or `reinterpret`."""
        with self._lock:
            number = self.columns.number(state)
            if number == len(self._flags):
                self._flags.append(self._decode(state))
            return number

    def flags(self, number: int) -> frozenset[str]:
        return self._flags[number]

    def change(self, added: Sequence[Row], restated: Mapping[int, int], vanished: Sequence[int], modseq: int) -> Change:
        """`added` ascend above all that are there; `restated` gives places the number of their new state.

        A message whose new state means the same flags keeps its MODSEQ. `vanished` are UIDs. Returns what happened.
        """
        columns = self.columns
        numbers = [self.number(row.state) for row in added]
        with self._lock:
            self._listed = None
            flagged, words = self._restate(restated, modseq)
            if vanished:
                columns.remove(columns.places(vanished))
            for row, number in zip(added, numbers, strict=True):
                columns.append(row, number)
            self._changed.add(modseq, [row.uid for row in added])
            self._vanished.add(modseq, vanished)
            limit = _JOURNAL_MINIMUM + len(columns)
            self._changed.trim(limit)
            self._vanished.trim(limit)
            if len(self._flags) > _STATES_MINIMUM + 2 * len(columns):
                self._flags = [self._flags[number] for number in columns.renumber()]
            self._move_on(modseq)
        return Change(added, flagged, words, vanished)

    def _move_on(self, modseq: int) -> None:
        self.modseq = modseq
        if self._first is None:
            self._first = modseq

    def _restate(
        self, restated: Mapping[int, int], modseq: int
    ) -> tuple[list[tuple[int, str, int]], dict[int, tuple[str, str]]]:
        columns, flags, states = self.columns, self._flags, self.columns.states
        uids, numbers, modseqs = columns.uids, columns.numbers, columns.modseqs
        flagged, words, touched = [], {}, []
        for place, number in restated.items():
            before, uid = numbers[place], uids[place]
            numbers[place] = number
            if flags[before] != flags[number]:
                modseqs[place] = modseq
                touched.append(uid)
            if states[before].words != states[number].words:
                words[uid] = states[before].words, states[number].words
            flagged.append((uid, states[number].info, modseqs[place]))
        self._changed.add(modseq, touched)
        return flagged, words

    def reinterpret(self, interpret: Interpret, modseq: int) -> Change:
        """Letters mean something else now: `interpret` gives the new state for an old one and what that meant."""
        columns = self.columns
        with self._lock:
            self._listed = None
            before = columns.states
            columns.restate([interpret(state, flags) for state, flags in zip(before, self._flags, strict=True)])
            flags = [self._decode(state) for state in columns.states]
            touched = {number for number, meant in enumerate(self._flags) if meant != flags[number]}
            moved = {number for number, state in enumerate(before) if state != columns.states[number]} | touched
            self._flags = flags
            changed = [(place, number) for place, number in enumerate(columns.numbers) if number in moved]
            for place, number in changed:
                if number in touched:
                    columns.modseqs[place] = modseq
            uids = {place: columns.uids[place] for place, _ in changed}
            self._changed.add(modseq, [uids[place] for place, number in changed if number in touched])
            if changed:
                self._move_on(modseq)
            flagged = [(uids[place], columns.state(place).info, columns.modseqs[place]) for place, _ in changed]
            words = {uids[place]: (before[number].words, columns.state(place).words) for place, number in changed}
        return Change(flagged=flagged, words=words)

    def rows(self) -> list[Row]:
        """All messages."""
        columns = self.columns
        states = map(columns.states.__getitem__, columns.numbers)
        values = (columns.uids, columns.bases(), states, columns.modseqs, columns.dates, columns.sizes, columns.born)
        return list(map(Row._make, zip(*values, strict=True)))

    # By anyone

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, uid: int) -> bool:
        with self._lock:
            return self.columns.place(uid) is not None

    def get(self, uid: int) -> Message | None:
        with self._lock:
            place = self.columns.place(uid)
            return self._message(place) if place is not None else None

    def name(self, uid: int) -> str | None:
        """That of the message's file in cur/."""
        with self._lock:
            place = self.columns.place(uid)
            return self.columns.name(place) if place is not None else None

    def uids(self) -> set[int]:
        with self._lock:
            return set(self.columns.uids)

    def select(self, uids: Iterable[int]) -> list[Message]:
        """Those that exist, ascending."""
        with self._lock:
            places = self.columns.places(uids)
            if isinstance(places, range):
                return self._messages(places.start, places.stop)
            return [self._message(place) for place in places]

    def existing(self, uids: Iterable[int]) -> list[int]:
        """Ascending."""
        with self._lock:
            known = self.columns.uids
            return [known[place] for place in self.columns.places(uids)]

    def having(self, uids: Sequence[int]) -> Sequence[int]:
        """Those of these messages that exist, as they stand."""
        wanted = array("I", uids)
        with self._lock:
            known = self.columns.uids
            start = bisect_left(known, wanted[0]) if wanted else 0
            if known[start : start + len(wanted)] == wanted:
                return uids
            here = set(known)
        return [uid for uid in uids if uid in here]

    def parted(self, uids: Iterable[int]) -> tuple[set[int], set[int]]:
        """Those of these messages that exist, and the others."""
        wanted = list(uids)
        here = self.having(wanted)
        return set(here), set(wanted).difference(here) if len(here) < len(wanted) else set()

    def all(self) -> list[Message]:
        with self._lock:
            return self._messages(0, len(self.columns))

    def listing(self) -> Listing:
        with self._lock:
            if self._listed is None:
                columns = self.columns
                flags = list(map(self._flags.__getitem__, columns.numbers))
                self._listed = Listing(columns.uids[:], flags, columns.modseqs[:], self.modseq, frozenset(flags))
            return self._listed

    def drop(self, *, named: bool) -> Drop:
        with self._lock:
            bases = map(original, self.columns.bases()) if named else ()
            return Drop(self.columns.uids[:], self.columns.sizes[:], list(bases))

    def measured(self) -> Measured:
        with self._lock:
            return Measured(self.columns.uids[:], self.columns.sizes[:], self.columns.dates[:])

    def fixed(self, uids: array[int]) -> bytes | None:
        """What never changes of these messages, which ascend, in some form; None unless they are all there, and none
        between them.
        """
        with self._lock:
            columns = self.columns
            start = bisect_left(columns.uids, uids[0])
            place = slice(start, start + len(uids))
            if columns.uids[place] != uids:
                return None
            return b"".join(column[place].tobytes() for column in (columns.dates, columns.sizes, columns.born))

    def following(self, uid: int, count: int) -> list[int]:
        """From this UID on, as many as that, ascending."""
        with self._lock:
            start = self.columns.above(uid - 1)
            return self.columns.uids[start : start + count].tolist()

    def above(self, uid: int) -> set[int]:
        """UIDs greater than this one."""
        with self._lock:
            return set(self.columns.uids[self.columns.above(uid) :])

    def tally(self) -> tuple[Counter[frozenset[str]], int]:
        """How many messages have which flags, and the sum of their sizes."""
        with self._lock:
            counted: Counter[frozenset[str]] = Counter()
            for number, count in Counter(self.columns.numbers).items():
                counted[self._flags[number]] += count
            return counted, sum(self.columns.sizes)

    def octets(self, flag: str) -> int:
        """Of the files of all messages that have this flag."""
        with self._lock:
            columns = self.columns
            having = {number for number, flags in enumerate(self._flags) if flag in flags}
            places = [place for place, number in enumerate(columns.numbers) if number in having] if having else []
            return sum(size_of(columns.base(place)) for place in places)

    def unchanged(self, uids: Iterable[int], since: int) -> list[int]:
        """Those whose MODSEQ is not greater, ascending."""
        with self._lock:
            known, modseqs = self.columns.uids, self.columns.modseqs
            return [known[place] for place in self.columns.places(uids) if modseqs[place] <= since]

    def flagged(self, uids: Iterable[int]) -> list[Flagged]:
        """The flags of those that exist, ascending."""
        with self._lock:
            return self._flagged(self.columns.places(uids))

    def remembers(self, modseq: int) -> bool:
        """False: none such was given, as far as is known here. What was known then was lost with the index."""
        with self._lock:
            first = self.modseq + 1 if self._first is None else self._first
            return modseq not in self._lost and (modseq <= self._begun or first <= modseq <= self.modseq)

    def vanished_since(self, modseq: int) -> set[int] | None:
        """UIDs that vanished; None when that is too long ago."""
        with self._lock:
            return self._vanished.since(modseq)

    def changed_since(self, modseq: int) -> tuple[list[Flagged], list[Flagged], set[int] | None, int]:
        """Messages that appeared, and that changed; UIDs that vanished, None when too long ago; the MODSEQ now."""
        with self._lock:
            uids = self._changed.since(modseq)
            places: Sequence[int]
            if uids is None:
                places = [place for place, when in enumerate(self.columns.modseqs) if when > modseq]
            else:
                places = self.columns.places(uids)
            born = self.columns.born
            appeared = [place for place in places if born[place] > modseq]
            changed = [place for place in places if born[place] <= modseq] if appeared else places
            vanished = self._vanished.since(modseq)
            return self._flagged(appeared), self._flagged(changed), vanished, self.modseq

    def _flagged(self, places: Sequence[int]) -> list[Flagged]:
        columns, flags = self.columns, self._flags
        rows = zip(
            map(columns.uids.__getitem__, places),
            map(flags.__getitem__, map(columns.numbers.__getitem__, places)),
            map(columns.modseqs.__getitem__, places),
            strict=True,
        )
        return list(map(Flagged._make, rows))

    def _message(self, place: int) -> Message:
        columns = self.columns
        return Message(
            columns.uids[place],
            self._flags[columns.numbers[place]],
            columns.modseqs[place],
            columns.dates[place],
            columns.sizes[place],
            columns.born[place],
            columns.name(place),
        )

    def _messages(self, start: int, stop: int) -> list[Message]:
        """Of those in a row, much faster than one by one."""
        columns, places = self.columns, slice(start, stop)
        flags = map(self._flags.__getitem__, columns.numbers[places])
        fixed = (column[places] for column in (columns.modseqs, columns.dates, columns.sizes, columns.born))
        rows = zip(columns.uids[places], flags, *fixed, columns.names(start, stop), strict=True)
        return list(map(Message._make, rows))
