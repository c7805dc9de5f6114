"""Messages as columns, against a list of rows."""

import io
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.store.columns import Columns, Row, State
from mailserver.store.contents import Contents

LONG = os.environ.get("MAILSERVER_LONG") == "1"
STATES = st.builds(State, st.sampled_from(["", ":2,", ":2,S", ":2,FSa", ":3"]), st.sampled_from(["", "late", "a b"]))
BASES = st.text("abcXYZ019.,=-_", min_size=1, max_size=12)
SEEN = State(":2,S")


def row(uid: int, state: State = SEEN, base: str = "1764000000.M123456P4321Q7.mx.example.test,S=900,W=921"):
    return Row(uid, f"{base},U={uid}", state, 1_764_000_000_000_000 + uid, 1_764_000_000.25, 921, uid)


def filled(rows) -> Columns:
    columns = Columns()
    for each in rows:
        columns.append(each, columns.number(each.state))
    return columns


def rows_of(columns: Columns) -> list[Row]:
    contents = Contents()
    contents.load(columns, 1, lambda state: frozenset())
    return contents.rows()


def again(columns: Columns) -> Columns:
    return Columns.unpack(io.BytesIO(columns.pack()).read)


@settings(max_examples=2000 if LONG else 80, deadline=None)
@given(data=st.data())
def test_columns_are_what_a_list_would_be(data):
    model: dict[int, Row] = {}
    columns = Columns()
    last = 0
    for _ in range(data.draw(st.integers(0, 12))):
        action = data.draw(st.sampled_from(["add", "add", "remove", "remove many", "put", "pack", "renumber"]))
        match action:
            case "add":
                for _ in range(data.draw(st.integers(1, 30))):
                    last += data.draw(st.integers(1, 3))
                    model[last] = row(last, data.draw(STATES), data.draw(BASES))
                    columns.append(model[last], columns.number(model[last].state))
            case "remove" | "remove many":
                most = 3 if action == "remove" else 40
                gone = data.draw(st.sets(st.integers(0, last + 1), max_size=most))
                columns.remove(columns.places(gone))
                model = {uid: each for uid, each in model.items() if uid not in gone}
            case "put":
                for uid in data.draw(st.sets(st.sampled_from(sorted(model)), max_size=5)) if model else ():
                    model[uid] = model[uid]._replace(state=data.draw(STATES), modseq=data.draw(st.integers(1, 2**60)))
                    assert columns.put(model[uid])
            case "pack":
                columns = again(columns)
            case "renumber":
                columns.renumber()
                assert len(columns.states) == len({each.state for each in model.values()})
        assert rows_of(columns) == list(model.values())
        assert columns.names() == [each.base + each.state.info for each in model.values()]
        for place, (uid, each) in enumerate(model.items()):
            assert columns.place(uid) == place
            assert columns.name(place) == each.base + each.state.info
        assert columns.place(last + 1) is None
        assert columns.places([last + 1, 0, *model]) == list(range(len(model)))


def test_a_row_is_not_put_before_others_nor_over_another_message():
    columns = filled([row(2), row(5)])
    assert not columns.put(row(3))
    assert not columns.put(row(5, base="other"))
    assert columns.put(row(6))
    assert list(columns.uids) == [2, 5, 6]


def test_more_states_than_two_octets_number():
    columns = filled(row(uid, State(":2,", f"k{uid}")) for uid in range(1, 70_001))
    assert columns.numbers.typecode == "I"
    back = again(columns)
    assert back.state(69_999) == State(":2,", "k70000")
    back.remove(range(100, 70_000))
    back.renumber()
    assert (back.numbers.typecode, len(back.states), back.state(99).words) == ("H", 100, "k100")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_packed_columns_that_were_damaged_are_refused(data):
    packed = bytearray(filled(row(uid) for uid in range(1, 20)).pack())
    how = data.draw(st.sampled_from(["bit", "cut", "zeros", "garbage"]))
    at = data.draw(st.integers(0, len(packed) - 1))
    match how:
        case "bit":
            packed[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del packed[at:]
        case "zeros":
            packed[at:] = bytes(len(packed) - at) + b"\0"
        case "garbage":
            packed = bytearray(data.draw(st.binary(max_size=200)))
    with pytest.raises(ValueError, match=r"packed|damaged|cut"):
        Columns.unpack(io.BytesIO(packed).read)


@pytest.mark.parametrize("packed", [False, True])
def test_a_message_takes_less_than_200_octets(packed):
    count = 20_000
    data = filled(row(uid) for uid in range(1, count + 1)).pack()
    tracemalloc.start()
    try:
        columns = Columns.unpack(io.BytesIO(data).read) if packed else filled(row(uid) for uid in range(1, count + 1))
        contents = Contents()
        contents.load(columns, 1, lambda state: frozenset({"\\Seen"}))
        contents.change((), dict.fromkeys(range(count), contents.number(State(":2,F"))), (), 2)
        octets, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(contents) == count
    assert octets / count < 200
