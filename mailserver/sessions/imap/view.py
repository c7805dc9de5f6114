r"""What one client has been told of its selected mailbox: the order of the messages, and each one's flags.

Theory     Message sequence numbers are places in the list. What happens to the mailbox is taken in at any time, but the
           numbers that the client knows stay true: a message that vanished keeps its place until `news` may tell of it.
           New messages come at the end, for UIDs ascend. Flags are told when they differ from those told before.
Promises   EXPUNGE is told only where the caller says that it may be (RFC 3501 §7.4.1), and every change once.
           At most 24 octets a message: its UID, its flags as one of few sets that are shared, its MODSEQ, its UID if it
           is recent. No MODSEQ is told before the flags that it stands for.
On failure Nothing here fails.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, compress, count

from mailserver.imap import responses
from mailserver.imap.sequence import Range, SequenceSet, merge
from mailserver.imap.sequence import compress as uid_set
from mailserver.store import Changes, Flagged, Listing

Flags = frozenset[str]

REV2_KEYWORDS = frozenset({"$Forwarded", "$Junk", "$MDNSent", "$NotJunk", "$Phishing"})
"""Those that RFC 9051 §2.3.2 names: its clients are told of them in each mailbox."""


class View:
    """`uids[n - 1]`, `flags[n - 1]` and `modseqs[n - 1]` are those of the message with sequence number n, for others to
    read only.
    """

    def __init__(self, listing: Listing) -> None:
        """The columns of `listing` are shared with others until something is different here."""
        self._shared = True
        self.uids = listing.uids
        self.flags = listing.flags
        self.modseqs = listing.modseqs
        self.modseq = listing.modseq
        """Up to where changes were taken in."""
        self.told_modseq = listing.modseq
        """Up to where the client has been told everything."""
        self.condstore = False
        """News of flags have UID and MODSEQ (RFC 7162 §3.2.4)."""
        self.qresync = False
        """VANISHED is told in place of EXPUNGE (§3.2.10)."""
        self.rev2 = False
        r"""The client speaks IMAP4rev2: nothing is \Recent (RFC 9051, Appendix E)."""
        self.uid_only = False
        """So it is then, and UIDFETCH is told in place of FETCH: no number is told at all (RFC 9586)."""
        self.gone: set[int] = set()
        """UIDs that have vanished, which the client does not know yet."""
        self.touched: set[int] | None = None
        """UIDs of messages that came or have changed; None: nobody asks for it."""
        self.behind = False
        """New messages were left out: the mailbox as a whole must be compared."""
        self._recent = array("I")  # ascending; some may not be in the view
        self._recent_count: int | None = 0  # None: to be counted
        self._changed: set[int] = set()
        self._exists_told = len(self.uids)
        self._recent_told = 0
        self._saved = array("I")
        self._kinds = listing.kinds  # at the beginning
        self.keywords = _keywords(self._kinds)
        """Those that the client knows."""

    # finding messages

    def __len__(self) -> int:
        return len(self.uids)

    @property
    def highest_uid(self) -> int:
        return self.uids[-1] if self.uids else 0

    def number(self, uid: int) -> int | None:
        """The sequence number of the message with this UID."""
        place = bisect_left(self.uids, uid)
        return place + 1 if place < len(self.uids) and self.uids[place] == uid else None

    def ranges(self, messages: SequenceSet, *, by_uid: bool) -> list[Range]:
        """Ascending ranges of sequence numbers. Of UIDs, those of messages that are here; of numbers, all."""
        if messages.saved:
            return merge((number, number) for uid in self._saved if (number := self.number(uid)) is not None)
        if not by_uid:
            return messages.resolve(len(self))
        found = []
        for first, last in messages.resolve(self.highest_uid):
            start = bisect_left(self.uids, first)
            stop = bisect_left(self.uids, last + 1, lo=start)
            if start < stop:
                found.append((start + 1, stop))
        return found

    def save(self, uids: Iterable[int]) -> None:
        """What `$` stands for from now on (RFC 5182)."""
        self._saved = array("I", uids)

    def uids_of(self, numbers: Iterable[int]) -> list[int]:
        uids = self.uids
        if (place := _run(numbers)) is not None:
            return uids[place].tolist()
        return [uids[number - 1] for number in numbers]

    def flags_of(self, numbers: Iterable[int]) -> list[Flags]:
        flags = self.flags
        if (place := _run(numbers)) is not None:
            return flags[place]
        return [flags[number - 1] for number in numbers]

    def modseqs_of(self, numbers: Iterable[int]) -> list[int]:
        modseqs = self.modseqs
        if (place := _run(numbers)) is not None:
            return modseqs[place].tolist()
        return [modseqs[number - 1] for number in numbers]

    def newer(self, numbers: Iterable[int], modseq: int) -> array[int]:
        """Those of the messages whose MODSEQ is greater."""
        modseqs = self.modseqs
        return array("I", (number for number in numbers if modseqs[number - 1] > modseq))

    # taking in

    def take(self, changes: Changes, *, new: bool = True) -> None:
        """`changes` since `modseq`, which are complete. Not `new`: without the messages that appeared."""
        self.modseq = changes.modseq
        for message in changes.changed:
            self._change(message)
        for message in changes.appeared:
            self._put(message, new)
        self._vanish(changes.vanished)

    def compare(self, listing: Listing, *, new: bool = True) -> None:
        """Takes in a mailbox as a whole, where its changes are not known."""
        self.modseq = listing.modseq
        self.behind = False
        for message in map(Flagged._make, zip(listing.uids, listing.flags, listing.modseqs, strict=True)):
            self._put(message, new)
        self._vanish(set(self.uids).difference(listing.uids))

    def _own(self) -> None:
        """Before a column is written to."""
        if self._shared:
            self.uids, self.flags, self.modseqs = self.uids[:], self.flags[:], self.modseqs[:]
            self._shared = False

    def _put(self, message: Flagged, new: bool) -> None:
        if message.uid > self.highest_uid:
            if not new:
                self.behind = True
                return
            self._own()
            self.uids.append(message.uid)
            self.flags.append(message.flags)
            self.modseqs.append(message.modseq)
            self._touch(message.uid)
            self._recent_count = None
        else:
            self._change(message)

    def _change(self, message: Flagged) -> None:
        uid, flags, modseq = message
        number = self.number(uid)
        if number is None:
            return
        place = number - 1
        # who knows MODSEQs must hear of those that rose though the flags are the same again
        if self.flags[place] != flags or (self.condstore and self.modseqs[place] != modseq):
            self._changed.add(uid)
        if self.modseqs[place] != modseq:
            self._touch(uid)
        if self.modseqs[place] != modseq or self.flags[place] != flags:
            self._own()
            self.flags[place], self.modseqs[place] = flags, modseq

    def _touch(self, uid: int) -> None:
        if self.touched is not None:
            self.touched.add(uid)

    def hidden(self, uids: Iterable[int], *, flags: bool) -> set[int]:
        """Those of which something is still to be told: that they are there, or, where `flags`, their flags."""
        last = self.uids[self._exists_told - 1] if self._exists_told else 0
        return {uid for uid in uids if uid > last or (flags and uid in self._changed)}

    def _vanish(self, uids: Iterable[int]) -> None:
        known = {uid for uid in uids if self.number(uid) is not None}
        if not known:
            return
        # what the client was never told of may leave without a word
        untold = known.intersection(self.uids[self._exists_told :])
        if untold:
            self._remove(untold)
        self.gone |= known - untold

    def _remove(self, uids: set[int]) -> None:
        kept = bytearray(b"\1") * len(self.uids)
        for uid in uids:
            if (number := self.number(uid)) is not None:
                kept[number - 1] = 0
        self.uids = array("I", compress(self.uids, kept))
        self.flags = list(compress(self.flags, kept))
        self.modseqs = array("Q", compress(self.modseqs, kept))
        self._shared = False
        self.gone -= uids
        self._changed -= uids
        if self.touched is not None:
            self.touched -= uids
        self._recent = array("I", (uid for uid in self._recent if uid not in uids))
        self._recent_count = None

    # telling

    def told(self, messages: Sequence[Flagged]) -> list[tuple[int, Flags, Flags]]:
        """The client has been told, or has itself said, that messages have these flags.

        Of those in the view: the number, the flags that it knew before, and these.
        """
        found = []
        if messages:
            self._own()
        for uid, flags, modseq in messages:
            number = self.number(uid)
            if number is not None:
                found.append((number, self.flags[number - 1], flags))
                self.flags[number - 1], self.modseqs[number - 1] = flags, modseq
                self._touch(uid)
        self._changed.difference_update([message.uid for message in messages])
        return found

    def is_recent(self, uid: int) -> bool:
        place = bisect_left(self._recent, uid)
        return place < len(self._recent) and self._recent[place] == uid

    def recent_among(self, uids: Sequence[int]) -> array[int]:
        """Those of these that are, and of those between them."""
        return self._recent[bisect_left(self._recent, uids[0]) : bisect_right(self._recent, uids[-1])]

    def add_recent(self, uids: Collection[int]) -> None:
        r"""UIDs that are \Recent in this session; they may be of messages that the view has not taken in yet."""
        assert not self.rev2
        if not uids:
            return
        self._recent = array("I", sorted({*self._recent, *uids}))
        self._recent_count = None

    def speak_rev2(self) -> None:
        self.rev2 = True
        self._recent = array("I")
        self._recent_count = self._recent_told = 0
        self.keywords |= REV2_KEYWORDS

    def recent_count(self) -> int:
        """Counted only after a change: each command asks, and after an import all messages may be recent."""
        if self._recent_count is None:
            self._recent_count = len(set(self._recent).intersection(self.uids)) if self._recent else 0
        return self._recent_count

    def first_unseen(self) -> int | None:
        """Before anything else was taken in."""
        unseen = {flags for flags in self._kinds if "\\Seen" not in flags}
        return next(compress(count(1), map(unseen.__contains__, self.flags)), None) if unseen else None

    def flag_lists(self, numbers: Sequence[int]) -> list[bytes]:
        """The flags of these messages as they are sent; rendered once for each set of flags, as there are few."""
        told = self.flags_of(numbers)
        rendered = {each: responses.flag_list(each) for each in set(told)}
        lists = list(map(rendered.__getitem__, told))
        if self._recent:
            for place, uid in enumerate(self.uids_of(numbers)):
                if self.is_recent(uid):
                    lists[place] = responses.flag_list(told[place], True)
        return lists

    def flag_answers(self, numbers: Sequence[int], *, with_uids: bool) -> list[bytes]:
        """Untagged responses with the flags of these messages, as `news` gives them."""
        lists = self.flag_lists(numbers)
        if self.condstore:
            return self._answers(numbers, b"FLAGS %b MODSEQ (%d)", lists, self.modseqs_of(numbers))
        return self._answers(numbers, b"FLAGS %b", lists, with_uids=with_uids)

    def modseq_answers(self, numbers: Sequence[int]) -> list[bytes]:
        """As `flag_answers`, for who knows the flags and not the MODSEQs."""
        return self._answers(numbers, b"MODSEQ (%d)", self.modseqs_of(numbers))

    def _answers(
        self, numbers: Sequence[int], pattern: bytes, *columns: Sequence[bytes | int], with_uids: bool = True
    ) -> list[bytes]:
        named: tuple[Sequence[int], ...] = (numbers,)
        head = b"%d FETCH ("
        if self.uid_only:
            named, head = (self.uids_of(numbers),), b"%d UIDFETCH ("
        elif with_uids:
            named, head = (numbers, self.uids_of(numbers)), b"%d FETCH (UID %d "
        row = head + pattern + b")"
        return [row % values for values in zip(*named, *columns, strict=True)]

    def greeting(self) -> list[bytes]:
        """FLAGS, EXISTS and RECENT for SELECT."""
        self._recent_told = self.recent_count()
        greeting = [self._known_flags(), b"%d EXISTS" % len(self)]
        return greeting if self.rev2 else [*greeting, b"%d RECENT" % self._recent_told]

    def known_flags(self) -> list[bytes]:
        """FLAGS, when the client is to know keywords before they are told of a message."""
        return [self._known_flags()]

    def lasting_code(self, *, new: bool) -> str:
        r"""PERMANENTFLAGS. `new`: there may be more keywords, by `\*`."""
        flags = frozenset(responses.SYSTEM_FLAGS) | self.keywords | ({"\\*"} if new else set())
        return f"PERMANENTFLAGS {responses.flag_list(flags).decode()}"

    @property
    def exists_told(self) -> int:
        """How many messages the client knows of."""
        return self._exists_told

    @property
    def waits(self) -> bool:
        """Something was not told that is of a MODSEQ which the client may see elsewhere."""
        return bool(self.gone or self._changed or self.behind)

    def news(self, *, expunges: bool, flags: bool = True) -> list[bytes]:
        """Untagged responses for all that is new, without `* ` and line end."""
        news = self.expunges(self.gone) if expunges and self.gone else []
        if len(self) != self._exists_told:
            self._exists_told = len(self)
            news.append(b"%d EXISTS" % self._exists_told)
        if (recent := self.recent_count()) != self._recent_told:
            self._recent_told = recent
            news.append(b"%d RECENT" % recent)
        if self._changed and flags:
            news += self._flag_news()
        if not self.waits:
            self.told_modseq = self.modseq
        return news

    def expunges(self, uids: Iterable[int]) -> list[bytes]:
        """Tells that these are gone, which are."""
        vanished = sorted(self.gone.intersection(uids))
        numbers = [number for uid in vanished if (number := self.number(uid)) is not None]
        if not numbers:
            return []
        self._exists_told -= len(numbers)
        self._remove(set(vanished))
        if self.qresync or self.uid_only:
            return [b"VANISHED " + uid_set(vanished).encode()]
        # each EXPUNGE moves those behind it one place forward (§7.4.1)
        return [b"%d EXPUNGE" % (number - before) for before, number in enumerate(numbers)]

    def _flag_news(self) -> list[bytes]:
        changed, self._changed = self._changed, set()
        numbers = sorted(number for uid in changed if (number := self.number(uid)) is not None)
        news = self.keyword_news(self.flags[number - 1] for number in numbers)
        return news + self.flag_answers(numbers, with_uids=True)

    def keyword_news(self, changed: Iterable[Flags]) -> list[bytes]:
        """FLAGS, when among these, of messages that changed, is a keyword that the client does not know."""
        keywords = _keywords(changed)
        if keywords <= self.keywords:
            return []
        self.keywords |= keywords
        return [self._known_flags()]

    def _known_flags(self) -> bytes:
        return b"FLAGS " + responses.flag_list(frozenset(responses.SYSTEM_FLAGS) | self.keywords)


def _run(numbers: Iterable[int]) -> slice | None:
    """The places of messages of which it is plain that they are in a row, and ascend."""
    return slice(numbers.start - 1, numbers.stop - 1) if isinstance(numbers, range) and numbers.step == 1 else None


def _keywords(sets: Iterable[Flags]) -> frozenset[str]:
    return frozenset(flag for flag in chain.from_iterable(set(sets)) if not flag.startswith("\\"))
