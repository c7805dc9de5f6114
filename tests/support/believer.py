"""A naive IMAP client that believes every response, and says where one cannot be true.

Theory     It keeps a list of messages, one place for each sequence number, and changes it by responses alone. What it
           may be told when is RFC 3501 §5.5, §7.4.1 and RFC 7162 §3.2.10; it raises AssertionError for anything else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.imap import Client, Value, parse_responses

Flags = frozenset[str]

_KEEPS_NUMBERS = re.compile(rb"(?:UID )?(?:FETCH|STORE|SEARCH|SORT|THREAD) ", re.IGNORECASE)
_CODE = re.compile(rb"(?m)^(\S+) (OK|NO|BAD|BYE) (?:\[([^\]]*)\])?")


@dataclass
class Known:
    """A message, as far as it was told. `None`: not told yet."""

    uid: int | None = None
    flags: Flags | None = None
    recent: bool = False
    modseq: int = 0


@dataclass
class Believer:
    """`selected` is the mailbox; None: there is none."""

    client: Client
    condstore: bool = False
    qresync: bool = False
    selected: str | None = None
    read_only: bool = False
    validity: int = 0
    messages: list[Known] = field(default_factory=list)
    recent: int = 0
    highest: int = 0
    """Up to here the client knows all there was (RFC 7162)."""
    codes: dict[bytes, list[bytes]] = field(default_factory=dict)
    """Response codes of the last command."""
    status: bytes = b""
    """OK, NO or BAD: how the last command ended."""
    told: set[int] = field(default_factory=set)
    """UIDs whose flags the last command told."""
    found: list[int] = field(default_factory=list)
    """What the last SEARCH or SORT found."""

    @property
    def uids(self) -> list[int]:
        """Of those that are known."""
        return [each.uid for each in self.messages if each.uid is not None]

    def do(self, command: str | bytes) -> bytes:
        """The whole answer, believed."""
        text = command.encode() if isinstance(command, str) else command
        answer = self.client.command(text)
        self.hear(answer, text)
        return answer

    def hear(self, answer: bytes, command: bytes = b"") -> None:
        """What is said while a command is at work; without a command, while the client idles."""
        self._take(answer, parse_responses(_simple(answer)), command)

    def _take(self, answer: bytes, responses: Sequence[list[Value]], command: bytes) -> None:
        self.codes, self.status, self.told, self.found = {}, b"", set(), []
        fetched_modseq = 0
        for words in responses:
            fetched_modseq = max(fetched_modseq, self._response(words, command))
        for tag, status, code in _CODE.findall(answer):
            name, _, value = code.partition(b" ")
            self.codes.setdefault(name, []).append(value)
            if tag != b"*":
                self.status = status
        if b"HIGHESTMODSEQ" in self.codes:
            self.highest = int(self.codes[b"HIGHESTMODSEQ"][-1])
        else:
            self.highest = max(self.highest, fetched_modseq)

    def _response(self, words: list[Value], command: bytes) -> int:
        """Returns the MODSEQ that it tells."""
        match words:
            case [b"*", b"SEARCH" | b"SORT", *found]:
                self.found = [int(each) for each in found if isinstance(each, bytes) and each.isdigit()]
            case [b"*", b"VANISHED", [b"EARLIER"], bytes() as uids]:
                assert self.qresync
                self._vanish(uids, earlier=True)
            case [b"*", b"VANISHED", bytes() as uids]:
                assert self.qresync, "VANISHED is for those who ask for it"
                assert self._may_expunge(command), command
                self._vanish(uids, earlier=False)
            case [b"*", bytes() as number, b"EXISTS"]:
                assert int(number) >= len(self.messages), "EXISTS never takes messages away"
                self.messages += [Known() for _ in range(int(number) - len(self.messages))]
            case [b"*", bytes() as number, b"RECENT"]:
                assert int(number) <= len(self.messages)
                self.recent = int(number)
            case [b"*", bytes() as number, b"EXPUNGE"]:
                assert not self.qresync
                assert self._may_expunge(command), command
                assert 1 <= int(number) <= len(self.messages)
                del self.messages[int(number) - 1]
            case [b"*", bytes() as number, b"FETCH", list() as items]:
                return self._fetch(int(number), items)
        return 0

    @staticmethod
    def _may_expunge(command: bytes) -> bool:
        """By numbers or by UIDs: what is told by UID may go with expunges (RFC 3501 §7.4.1)."""
        keeps = _KEEPS_NUMBERS.match(command)
        return keeps is None or command[:4].upper() == b"UID "

    def _vanish(self, uids: bytes, *, earlier: bool) -> None:
        ranges = _ranges(uids)
        gone = [each for each in self.messages if _within(ranges, each.uid)]
        if not earlier:
            count = sum(last - first + 1 for first, last in ranges)
            strangers = [each for each in self.messages if each.uid is None][: count - len(gone)]
            assert count == len(gone) + len(strangers), "VANISHED without (EARLIER) is of what the client was told of"
            gone += strangers  # of those it knows nothing, so one is as good as another
        self.messages = [each for each in self.messages if not any(each is one for one in gone)]

    def _fetch(self, number: int, items: list[Value]) -> int:
        assert 1 <= number <= len(self.messages), (number, len(self.messages))
        known = self.messages[number - 1]
        told = dict(zip(items[::2], items[1::2], strict=True))
        if b"UID" in told:
            uid = int(told[b"UID"])
            assert known.uid in (None, uid), "a sequence number never changes its message unsaid"
            if known.uid is None:
                before = [each.uid or 0 for each in self.messages[: number - 1]]
                behind = [each.uid for each in self.messages[number:] if each.uid is not None]
                assert max(before, default=0) < uid < min(behind, default=2**32), "UIDs ascend"
            known.uid = uid
        if b"FLAGS" in told:
            flags = {each.decode() for each in told[b"FLAGS"]}
            known.recent = "\\Recent" in flags
            known.flags = frozenset(flags - {"\\Recent"})
            if known.uid is not None:
                self.told.add(known.uid)
        if b"MODSEQ" in told:
            (modseq,) = told[b"MODSEQ"]
            assert int(modseq) >= known.modseq, "MODSEQs never fall"
            known.modseq = int(modseq)
            return known.modseq
        return 0

    # what a client does of itself

    def look(self) -> None:
        """Asks for what it does not know."""
        while unknown := [n for n, each in enumerate(self.messages, 1) if each.uid is None or each.flags is None]:
            self.do(f"FETCH {','.join(map(str, unknown))} (UID FLAGS)")
            if self.status != b"OK":
                self.do("NOOP")

    def begin(self, command: str, mailbox: str, *, keeping: Sequence[Known] = ()) -> None:
        """SELECT or EXAMINE. `keeping`: what is known from an earlier time, where that still counts."""
        self.messages, self.recent, self.highest, self.selected = [], 0, 0, None
        answer = self.client.command(command)
        responses = parse_responses(_simple(answer))
        if keeping:
            self.messages = self._come_back(keeping, responses)
            responses = [words for words in responses if words[1] != b"VANISHED"]
        self._take(answer, responses, command.encode())
        if self.status != b"OK":
            self.messages = []
            return
        self.selected, self.read_only = mailbox, b"[READ-ONLY]" in answer
        self.validity = int(self.codes[b"UIDVALIDITY"][0])

    def _come_back(self, keeping: Sequence[Known], responses: Sequence[list[Value]]) -> list[Known]:
        """RFC 7162 §3.2.5: VANISHED (EARLIER) takes away, FETCH by UID adds; EXISTS is the count after both."""
        known = {each.uid: each for each in keeping}
        exists = 0
        for words in responses:
            match words:
                case [b"*", bytes() as number, b"EXISTS"]:
                    exists = int(number)
                case [b"*", b"VANISHED", [b"EARLIER"], bytes() as uids]:
                    ranges = _ranges(uids)
                    known = {uid: each for uid, each in known.items() if not _within(ranges, uid)}
                case [b"*", _, b"FETCH", list() as items]:
                    uid = int(dict(zip(items[::2], items[1::2], strict=True))[b"UID"])
                    known.setdefault(uid, Known(uid))
        assert len(known) == exists, "who comes back is told all that came or went"
        return [known[uid] for uid in sorted(known)]


def _ranges(uids: bytes) -> list[tuple[int, int]]:
    found = []
    for each in uids.split(b","):
        first, _, last = each.partition(b":")
        found.append((int(first), int(last or first)))
    return found


def _within(ranges: Sequence[tuple[int, int]], uid: int | None) -> bool:
    return uid is not None and any(first <= uid <= last for first, last in ranges)


def _simple(answer: bytes) -> bytes:
    """Without status responses and continuations, whose text is free."""
    return re.sub(rb"(?m)^(?:\S+ (?:OK|NO|BAD|BYE) |\+).*\r\n", b"", answer)
