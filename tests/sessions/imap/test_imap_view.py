"""The view against a naive model of a client that believes every response."""

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap import SequenceSet
from mailserver.sessions.imap.view import View
from mailserver.store import Changes, Flagged, Listing

FLAG_SETS = [frozenset(), frozenset({"\\Seen"}), frozenset({"\\Deleted", "work"}), frozenset({"\\Seen", "$Junk"})]


def message(uid: int, flags: frozenset[str] = frozenset(), modseq: int = 1) -> Flagged:
    return Flagged(uid, flags, modseq)


def listing(messages: Iterable[Flagged], modseq: int = 1) -> Listing:
    found = list(messages)
    return Listing(
        array("I", [each.uid for each in found]),
        [each.flags for each in found],
        array("Q", [each.modseq for each in found]),
        modseq,
        frozenset(each.flags for each in found),
    )


def view_of(*uids: int) -> View:
    return View(listing(map(message, uids)))


@dataclass
class NaiveMailbox:
    """Keeps everything that ever happened."""

    messages: dict[int, Flagged] = field(default_factory=dict)
    vanished: dict[int, int] = field(default_factory=dict)
    born: dict[int, int] = field(default_factory=dict)
    modseq: int = 1
    uidnext: int = 1

    def add(self, flags: frozenset[str]) -> None:
        self.modseq += 1
        self.messages[self.uidnext] = message(self.uidnext, flags, self.modseq)
        self.born[self.uidnext] = self.modseq
        self.uidnext += 1

    def flag(self, place: int, flags: frozenset[str]) -> None:
        if self.messages:
            uid = list(self.messages)[place % len(self.messages)]
            self.modseq += 1
            self.messages[uid] = message(uid, flags, self.modseq)

    def expunge(self, place: int) -> None:
        if self.messages:
            uid = list(self.messages)[place % len(self.messages)]
            self.modseq += 1
            del self.messages[uid]
            self.vanished[uid] = self.modseq

    def listing(self) -> Listing:
        return listing(self.messages.values(), self.modseq)

    def changes(self, since: int) -> Changes:
        found = [m for m in self.messages.values() if m.modseq > since]
        return Changes(
            [m for m in found if self.born[m.uid] > since],
            [m for m in found if self.born[m.uid] <= since],
            sorted(uid for uid, at in self.vanished.items() if at > since),
            self.modseq,
        )


@dataclass
class NaiveClient:
    """A list of flags by sequence number, kept by the responses alone; None: not told yet."""

    flags: list[str | None] = field(default_factory=list)
    recent: int = 0

    def hear(self, line: bytes) -> None:
        number, word = line.split(b" ")[:2]
        match word:
            case b"EXISTS":
                assert int(number) >= len(self.flags), "EXISTS never takes messages away"
                self.flags += [None] * (int(number) - len(self.flags))
            case b"EXPUNGE":
                del self.flags[int(number) - 1]
            case b"RECENT":
                self.recent = int(number)
            case b"FETCH":
                told = re.fullmatch(rb"\d+ FETCH \(UID \d+ FLAGS \((.*)\)\)", line)
                assert told
                assert 1 <= int(number) <= len(self.flags)
                self.flags[int(number) - 1] = told[1].decode()
            case _:
                assert line.startswith(b"FLAGS ("), line


STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(FLAG_SETS)),
    st.tuples(st.just("flag"), st.tuples(st.integers(0, 20), st.sampled_from(FLAG_SETS))),
    st.tuples(st.just("expunge"), st.integers(0, 20)),
    st.tuples(st.just("take"), st.booleans()),
    st.tuples(st.just("tell"), st.booleans()),
)


@given(st.integers(0, 5), st.lists(STEPS, max_size=40))
def test_a_client_that_believes_every_response_knows_the_mailbox(size: int, steps: list[tuple[str, object]]) -> None:
    mailbox = NaiveMailbox()
    for _ in range(size):
        mailbox.add(frozenset())
    view = View(mailbox.listing())
    client = NaiveClient()
    for line in view.greeting()[1:]:
        client.hear(line)
    client.flags = [""] * size  # fetched by the client after SELECT

    for name, argument in [*steps, ("take", True), ("tell", True)]:
        match name, argument:
            case "add", frozenset() as flags:
                mailbox.add(flags)
            case "flag", (int() as place, frozenset() as flags):
                mailbox.flag(place, flags)
            case "expunge", int() as place:
                mailbox.expunge(place)
            case "take", complete:
                if complete:
                    view.take(mailbox.changes(view.modseq))
                else:
                    view.compare(mailbox.listing())
            case "tell", expunges:
                numbers_before = list(view.uids)
                news = view.news(expunges=bool(expunges))
                for line in news:
                    client.hear(line)
                if not expunges:
                    assert not any(b"EXPUNGE" in line for line in news)
                    assert list(view.uids)[: len(numbers_before)] == numbers_before
                assert len(client.flags) == len(view)
                assert view.news(expunges=bool(expunges)) == [], "every change is told once"

    assert list(view.uids) == list(mailbox.messages)
    for known, actual in zip(client.flags, mailbox.messages.values(), strict=True):
        # a message that appeared is fetched by the client itself
        assert known is None or set(known.split()) == actual.flags


def test_expunges_are_numbered_as_each_moves_the_rest() -> None:
    view = view_of(10, 20, 30, 40, 50)
    view.take(Changes([], [], [20, 30, 50], 2))
    assert view.news(expunges=False) == []
    assert len(view) == 5
    assert view.gone == {20, 30, 50}
    assert view.news(expunges=True) == [b"2 EXPUNGE", b"2 EXPUNGE", b"3 EXPUNGE"]
    assert list(view.uids) == [10, 40]


def test_what_came_and_went_between_two_tellings_is_never_told() -> None:
    view = view_of(1)
    view.take(Changes([message(2)], [], [], 2))
    view.take(Changes([], [], [2], 3))
    assert view.news(expunges=True) == []


def test_a_new_message_and_an_expunge_together() -> None:
    view = view_of(1, 2)
    view.take(Changes([message(3)], [], [1], 2))
    assert view.news(expunges=False) == [b"3 EXISTS"]
    assert view.news(expunges=True) == [b"1 EXPUNGE"]


def test_flags_that_the_client_set_itself_are_no_news() -> None:
    view = view_of(1)
    assert view.told([Flagged(1, frozenset({"\\Seen"}), 2)]) == [(1, frozenset(), frozenset({"\\Seen"}))]
    view.take(Changes([], [message(1, frozenset({"\\Seen"}), 2)], [], 2))
    assert view.news(expunges=True) == []


def test_a_new_keyword_is_told_before_its_use() -> None:
    view = view_of(1)
    view.take(Changes([], [message(1, frozenset({"work"}), 2)], [], 2))
    assert view.news(expunges=True) == [
        b"FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work)",
        b"1 FETCH (UID 1 FLAGS (work))",
    ]


def test_recent_is_told_when_it_changes() -> None:
    view = view_of(1, 2)
    view.add_recent({2})
    assert view.greeting()[1:] == [b"2 EXISTS", b"1 RECENT"]
    view.take(Changes([message(3)], [], [], 2))
    view.add_recent({3})
    assert view.news(expunges=True) == [b"3 EXISTS", b"2 RECENT"]
    view.take(Changes([], [], [2], 3))
    assert view.news(expunges=True) == [b"2 EXPUNGE", b"1 RECENT"]


def test_uids_lead_to_numbers() -> None:
    view = view_of(10, 20, 30)
    assert view.ranges(SequenceSet.parse("1:9,20:4294967295"), by_uid=True) == [(2, 3)]
    assert view.ranges(SequenceSet.parse("11:19"), by_uid=True) == []
    assert view.ranges(SequenceSet.parse("*"), by_uid=True) == [(3, 3)]
    assert view.uids_of([2, 3]) == [20, 30]
    assert view.number(30) == 3
    assert view.number(31) is None


def test_news_is_cheap_when_all_messages_are_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(*range(1, 1001))
    view.add_recent(range(1, 1011))
    assert view.greeting()[-1] == b"1000 RECENT"
    looked_up: list[int] = []
    monkeypatch.setattr(View, "number", lambda _self, uid: looked_up.append(uid))
    assert view.news(expunges=True) == []
    assert looked_up == []


@pytest.mark.parametrize("change", ["flag", "tell", "append", "vanish"])
def test_what_is_different_in_one_view_is_not_so_in_others(change: str) -> None:
    shared = listing(map(message, (1, 2, 3)))
    changed, other = View(shared), View(shared)
    flagged = message(2, frozenset({"\\Seen"}), 9)
    match change:
        case "flag":
            changed.take(Changes([], [flagged], [], 9))
        case "tell":
            changed.told([flagged])
        case "append":
            changed.take(Changes([message(4, modseq=9)], [], [], 9))
        case "vanish":
            changed.take(Changes([], [], [2], 9))
            changed.news(expunges=True)
    assert other.uids == shared.uids == array("I", [1, 2, 3])
    assert other.flags == shared.flags == [message(uid).flags for uid in (1, 2, 3)]
    assert other.modseqs == shared.modseqs == array("Q", [message(uid).modseq for uid in (1, 2, 3)])
    assert (changed.uids, changed.flags) != (shared.uids, shared.flags)
