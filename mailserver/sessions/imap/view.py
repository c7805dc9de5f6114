r"""What one client has been told of its selected mailbox: the order of the messages, and each one's flags.

Theory     Message sequence numbers are places in the list. What happens to the mailbox is taken in at any time, but the
           numbers that the client knows stay true: a message that vanished keeps its place until `news` may tell of it.
           New messages come at the end, for UIDs ascend. Flags are told when they differ from those told before.
Promises   EXPUNGE is told only where the caller says that it may be (RFC 3501 §7.4.1), and every change once.
On failure Nothing here fails.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from mailserver.imap import responses
from mailserver.imap.sequence import Range
from mailserver.store import Changes, Message


class View:
    """`messages[n - 1]` is the message with sequence number n. `modseq`: up to where changes were taken in."""

    def __init__(self, messages: Sequence[Message], modseq: int) -> None:
        self.messages = list(messages)
        self.modseq = modseq
        self.recent: set[int] = set()
        r"""UIDs that are \Recent in this session, as the mailbox gave them out; `add_recent` adds."""
        self._recent_count: int | None = 0  # None: to be counted
        self.gone: set[int] = set()
        """UIDs that have vanished, which the client does not know yet."""
        self._changed: set[int] = set()
        self._exists_told = len(self.messages)
        self._recent_told = 0
        self._keywords = _keywords(self.messages)

    # finding messages

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def highest_uid(self) -> int:
        return self.messages[-1].uid if self.messages else 0

    def number(self, uid: int) -> int | None:
        """The sequence number of the message with this UID."""
        place = bisect_left(self.messages, (uid,))
        return place + 1 if place < len(self.messages) and self.messages[place].uid == uid else None

    def numbers_of(self, uids: Iterable[Range]) -> list[Range]:
        """The sequence numbers of the messages whose UIDs are in these ascending ranges, as ascending ranges."""
        found = []
        for first, last in uids:
            start = bisect_left(self.messages, (first,))
            stop = bisect_left(self.messages, (last + 1,), lo=start)
            if start < stop:
                found.append((start + 1, stop))
        return found

    def numbered(self, ranges: Iterable[Range]) -> Iterator[tuple[int, Message]]:
        """Sequence numbers and messages."""
        for first, last in ranges:
            yield from enumerate(self.messages[first - 1 : last], first)

    def keywords(self) -> frozenset[str]:
        """All keywords in use."""
        return _keywords(self.messages)

    # taking in

    def take(self, changes: Changes) -> None:
        """`changes` since `modseq`, which are complete."""
        self.modseq = changes.modseq
        for message in changes.changed:
            self._change(message)
        for message in changes.appeared:
            if message.uid > self.highest_uid:
                self.messages.append(message)
                self._recent_count = None
            else:
                self._change(message)
        known = {uid for uid in changes.vanished if self.number(uid) is not None}
        if not known:
            return
        # what the client was never told of may leave without a word
        untold = {message.uid for message in self.messages[self._exists_told :]} & known
        if untold:
            self._remove(untold)
        self.gone |= known - untold

    def compare(self, messages: Sequence[Message], modseq: int) -> None:
        """Takes in a mailbox as a whole, where its changes are not known."""
        here = {message.uid for message in messages}
        vanished = [message.uid for message in self.messages if message.uid not in here]
        self.take(Changes(list(messages), [], vanished, modseq))

    def _change(self, message: Message) -> None:
        number = self.number(message.uid)
        if number is None:
            return
        if self.messages[number - 1].flags != message.flags:
            self._changed.add(message.uid)
        self.messages[number - 1] = message

    def _remove(self, uids: set[int]) -> None:
        self.messages = [message for message in self.messages if message.uid not in uids]
        self.gone -= uids
        self._changed -= uids
        self.recent -= uids
        self._recent_count = None

    # telling

    def told(self, message: Message) -> None:
        """The client has been told, or has itself said, that `message` has these flags."""
        number = self.number(message.uid)
        if number is not None:
            self.messages[number - 1] = message
            self._changed.discard(message.uid)

    def is_recent(self, uid: int) -> bool:
        return uid in self.recent

    def add_recent(self, uids: Iterable[int]) -> None:
        """They may be of messages that the view has not taken in yet."""
        self.recent.update(uids)
        self._recent_count = None

    def recent_count(self) -> int:
        """Counted only after a change: each command asks, and after an import all messages may be recent."""
        if self._recent_count is None:
            self._recent_count = sum(self.number(uid) is not None for uid in self.recent)
        return self._recent_count

    def first_unseen(self) -> int | None:
        return next((number for number, message in enumerate(self.messages, 1) if "\\Seen" not in message.flags), None)

    def greeting(self) -> list[bytes]:
        """FLAGS, EXISTS and RECENT for SELECT."""
        self._recent_told = self.recent_count()
        return [self._flags(), b"%d EXISTS" % len(self.messages), b"%d RECENT" % self._recent_told]

    def news(self, *, expunges: bool) -> list[bytes]:
        """Untagged responses for all that is new, without `* ` and line end."""
        news = self._expunges() if expunges and self.gone else []
        if len(self.messages) != self._exists_told:
            self._exists_told = len(self.messages)
            news.append(b"%d EXISTS" % self._exists_told)
        if (recent := self.recent_count()) != self._recent_told:
            self._recent_told = recent
            news.append(b"%d RECENT" % recent)
        if self._changed:
            news += self._flag_news()
        return news

    def _expunges(self) -> list[bytes]:
        numbers = sorted(number for uid in self.gone if (number := self.number(uid)) is not None)
        self._exists_told -= len(numbers)
        self._remove(set(self.gone))
        # each EXPUNGE moves those behind it one place forward (§7.4.1)
        return [b"%d EXPUNGE" % (number - before) for before, number in enumerate(numbers)]

    def _flag_news(self) -> list[bytes]:
        changed, self._changed = sorted(self._changed), set()
        numbers = [(uid, number) for uid in changed if (number := self.number(uid)) is not None]
        news = self.keyword_news(self.messages[number - 1] for _, number in numbers)
        for uid, number in numbers:
            flags = responses.flag_list(self.messages[number - 1].flags, self.is_recent(uid))
            news.append(b"%d FETCH (UID %d FLAGS %b)" % (number, uid, flags))
        return news

    def keyword_news(self, messages: Iterable[Message]) -> list[bytes]:
        """FLAGS, when these messages, which changed, have a keyword that the client does not know."""
        keywords = _keywords(messages)
        if keywords <= self._keywords:
            return []
        self._keywords |= keywords
        return [self._flags()]

    def _flags(self) -> bytes:
        return b"FLAGS " + responses.flag_list(frozenset(responses.SYSTEM_FLAGS) | self._keywords)


def _keywords(messages: Iterable[Message]) -> frozenset[str]:
    used = frozenset[str]().union(*{message.flags for message in messages})
    return frozenset(flag for flag in used if not flag.startswith("\\"))
