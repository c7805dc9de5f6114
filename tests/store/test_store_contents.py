"""What is known of a mailbox in memory, against a naive model."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.store import contents as module
from mailserver.store.columns import Columns, Row, State
from mailserver.store.contents import Contents, Journal

INFOS = [":2,", ":2,S", ":2,Z", ":2,FS"]  # Z means nothing
MEANINGS = {"S": "\\Seen", "F": "\\Flagged"}


def decode(state: State) -> frozenset[str]:
    return frozenset(MEANINGS[letter] for letter in state.info if letter in MEANINGS) | frozenset(state.words.split())


def row(uid: int, modseq: int, state: State) -> Row:
    return Row(uid, f"1.x,U={uid}", state, modseq, 1.5, 10 * uid, modseq)


def empty() -> Contents:
    contents = Contents()
    contents.load(Columns(), 1, decode)
    return contents


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_contents_are_what_a_dictionary_would_be(data):
    contents = empty()
    known: dict[int, tuple[State, int, int]] = {}  # state, MODSEQ, born
    vanished: dict[int, int] = {}
    last, modseq = 0, 1
    states = st.builds(State, st.sampled_from(INFOS), st.sampled_from(["", "late"]))
    for _ in range(data.draw(st.integers(1, 10))):
        modseq += data.draw(st.integers(1, 5))
        fresh = {last + number: data.draw(states) for number in range(1, data.draw(st.integers(0, 3)) + 1)}
        changed = (
            {uid: data.draw(states) for uid in data.draw(st.sets(st.sampled_from(sorted(known))))} if known else {}
        )
        gone = data.draw(st.sets(st.sampled_from(sorted(known)), max_size=2)) if known else set()
        places = {contents.columns.place(uid): contents.number(state) for uid, state in changed.items()}
        added = [row(uid, modseq, state) for uid, state in fresh.items()]
        change = contents.change(added, places, sorted(gone), modseq)
        assert dict(change.words) == {
            uid: (known[uid][0].words, state.words)
            for uid, state in changed.items()
            if known[uid][0].words != state.words
        }
        for uid, state in changed.items():
            moved = decode(state) != decode(known[uid][0])
            known[uid] = state, modseq if moved else known[uid][1], known[uid][2]
        assert sorted(change.flagged) == [(uid, known[uid][0].info, known[uid][1]) for uid in sorted(changed)]
        known = {uid: each for uid, each in known.items() if uid not in gone}
        known |= {uid: (state, modseq, modseq) for uid, state in fresh.items()}
        vanished |= dict.fromkeys(gone, modseq)
        last = max([last, *fresh])

        found = contents.all()
        assert {m.uid: (m.flags, m.modseq, m.born) for m in found} == {
            uid: (decode(state), when, born) for uid, (state, when, born) in known.items()
        }
        assert [m.name for m in found] == [f"1.x,U={uid}{state.info}" for uid, (state, _, _) in known.items()]
        assert contents.select([*known, 999]) == found == [contents.get(uid) for uid in known]
        listing = contents.listing()
        assert (list(listing.uids), listing.flags, listing.modseq) == (list(known), [m.flags for m in found], modseq)
        assert listing.kinds == set(listing.flags)
        assert contents.uids() == set(known)
        assert contents.above(last - 2) == {uid for uid in known if uid > last - 2}
        counted, size = contents.tally()
        assert (counted.total(), size) == (len(known), sum(10 * uid for uid in known))
        assert all(count == sum(m.flags == flags for m in found) for flags, count in counted.items())
        since = data.draw(st.integers(1, modseq))
        appeared, changed, lost, now = contents.changed_since(since)
        newer = [m for m in found if m.modseq > since]
        assert appeared == [(m.uid, m.flags, m.modseq) for m in newer if m.born > since]
        assert changed == [(m.uid, m.flags, m.modseq) for m in newer if m.born <= since]
        assert now == modseq
        assert lost == {uid for uid, when in vanished.items() if when > since}


def test_letters_that_mean_something_else_change_their_messages_only():
    contents = empty()
    contents.change([row(1, 2, State(":2,S")), row(2, 2, State(":2,F")), row(3, 2, State(":2,"))], {}, (), 2)
    MEANINGS["S"] = "$Read"
    try:
        change = contents.reinterpret(lambda state, flags: State(state.info, "old" if "\\Seen" in flags else ""), 7)
    finally:
        MEANINGS["S"] = "\\Seen"
    assert (change.flagged, dict(change.words)) == ([(1, ":2,S", 7)], {1: ("", "old")})
    assert [(m.flags, m.modseq) for m in contents.all()] == [
        (frozenset({"$Read", "old"}), 7),
        (frozenset({"\\Flagged"}), 2),
        (frozenset(), 2),
    ]
    assert [m.uid for m in contents.changed_since(2)[1]] == [1]


def test_a_journal_forgets_what_is_long_ago_and_says_so():
    journal = Journal(5)
    for modseq in range(6, 106):
        journal.add(modseq, [modseq, modseq + 1])
    assert journal.since(4) is None
    assert journal.since(104) == {105, 106}
    journal.trim(100)
    assert journal.since(5) is None
    assert journal.since(90) == set(range(91, 107))


def test_what_was_forgotten_is_found_by_looking_at_all(monkeypatch):
    monkeypatch.setattr(module, "_JOURNAL_MINIMUM", 4)
    contents = empty()
    contents.change([row(uid, 2, State(":2,")) for uid in range(1, 11)], {}, (), 2)
    for modseq in range(3, 40):
        contents.change((), {modseq % 10: contents.number(State(INFOS[1 if modseq % 2 else 3]))}, (), modseq)
    assert [m.uid for m in contents.changed_since(2)[1]] == [m.uid for m in contents.all() if m.modseq > 2]


def test_states_that_no_message_has_any_more_are_forgotten():
    contents = empty()
    contents.change([row(1, 2, State(":2,"))], {}, (), 2)
    for modseq in range(3, 5000):
        contents.change((), {0: contents.number(State(":2,", f"k{modseq}"))}, (), modseq)
    assert len(contents.columns.states) < 1100
    assert contents.all()[0].flags == {"k4999"}


def test_readers_see_one_moment_while_another_thread_changes():
    """Each change gives all messages the same flags, and one of them vanishes as another appears."""
    contents = empty()
    contents.change([row(uid, 2, State(":2,")) for uid in range(1, 201)], {}, (), 2)
    stop = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            listing, messages = contents.listing(), contents.all()
            some = contents.select([message.uid for message in messages[:20]])
            good = (
                len(listing.uids) == len(listing.flags) == len(messages) == 200
                and len(set(listing.flags)) == len({m.flags for m in messages}) == 1
                and len({m.flags for m in some}) <= 1
                and all(m.name.startswith(f"1.x,U={m.uid}:") for m in messages)
                and contents.tally()[0].total() == 200
            )
            if not good:
                wrong.append(listing)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for modseq in range(3, 300):
        state = State(INFOS[1 if modseq % 2 else 3])
        restated = dict.fromkeys(range(1, 200), contents.number(state))
        contents.change([row(198 + modseq, modseq, state)], restated, [contents.columns.uids[0]], modseq)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
