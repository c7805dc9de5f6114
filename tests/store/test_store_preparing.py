"""What is prepared of messages: made once, kept in memory within bounds and in the index, made again where lost."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.store import preparing
from mailserver.store.digest import prepare
from mailserver.store.index import INDEX_FILE, Index
from mailserver.store.model import MessageGone, Pieces, Prepared, SortKeys, StoreError, Unavailable
from mailserver.store.preparing import Memory, Preparation

KEY = 1_700_000_000
MESSAGE = b"""\
Received: from somewhere
Date: Sun, 31 Dec 2000 16:01:33 -0800
From: Alice <alice@example.org>
To: =?utf-8?Q?J=C3=BCrgen?= <j@example.net>, bob@example.net
Subject: Re: [list] the plan (fwd)
Message-ID: <3@example.org>
References: <1@example.org> <2@example.org>

Hello,
here it is.
""".replace(b"\n", b"\r\n")


def text_of(uid: int) -> bytes:
    return b"Subject: %d\r\n\r\nbody %d\r\n" % (uid, uid)


class Messages:
    """Numbered messages of a mailbox; counts how often each is read."""

    def __init__(self, *gone: int) -> None:
        self.gone = gone
        self.reads: list[int] = []

    def __call__(self, uids: Iterable[int]) -> Iterator[tuple[int, Pieces | StoreError]]:
        for uid in uids:
            self.reads.append(uid)
            if uid in self.gone:
                yield uid, MessageGone()
            else:
                yield uid, prepare(text_of(uid))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path)


@pytest.fixture
def messages() -> Messages:
    return Messages(13)


@pytest.fixture
def again(index: Index, messages: Messages) -> Callable[[], Preparation]:
    """As another process would have it: nothing is in memory yet."""
    return lambda: Preparation(KEY, index.pieces, messages, memory=Memory())


def test_all_that_is_prepared_of_a_message() -> None:
    pieces = prepare(MESSAGE)
    assert pieces.prepared.envelope.startswith(b'("Sun, 31 Dec 2000 16:01:33 -0800" "Re: [list] the plan (fwd)" ((')
    assert pieces.prepared.body == b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 21 2)'
    assert pieces.prepared.bodystructure == pieces.prepared.body[:-1] + b" NIL NIL NIL NIL)"
    assert pieces.prepared.preview == "Hello, here it is."
    assert pieces.keys == SortKeys(
        sent=978_307_293,
        subject="the plan",
        reply=True,
        sender="alice",
        to="j",
        cc="",
        display_from="Alice",
        display_to="Jürgen",
        message_id="3@example.org",
        references=("1@example.org", "2@example.org"),
    )
    assert pieces.header == MESSAGE[MESSAGE.index(b"Date:") : MESSAGE.index(b"Hello")]


def test_of_nothing_there_is_nothing() -> None:
    pieces = prepare(b"")
    assert pieces.keys == SortKeys(None, "", False, "", "", "", "", "", "", ())
    assert pieces.header == b"\r\n"


def test_pieces_are_made_once_and_those_of_messages_gone_are_left_out(
    again: Callable[[], Preparation], messages: Messages
) -> None:
    first = again()
    prepared = first.prepared([1, 2, 13])
    assert sorted(prepared) == [1, 2]
    assert sorted(first.sort_keys([1, 2])) == sorted(first.headers([1, 2])) == [1, 2]
    assert messages.reads == [1, 2, 13]
    second = again()
    assert second.prepared([1, 2]) == prepared
    assert second.sort_keys([2]) == {2: prepare(text_of(2)).keys}
    assert second.headers([1]) == {1: b"Subject: 1\r\n\r\n"}
    assert messages.reads == [1, 2, 13]


def test_filling_takes_the_newest_first_and_tells_what_remains(
    again: Callable[[], Preparation], messages: Messages
) -> None:
    preparation = again()
    assert preparation.fill(range(1, 8), 5) == 2
    assert messages.reads == [7, 6, 5, 4, 3]
    assert preparation.fill(range(1, 8), 5) == 0
    assert preparation.fill(range(1, 8), 5) == 0
    assert messages.reads == [7, 6, 5, 4, 3, 2, 1]


def test_a_message_that_cannot_be_read_stops_no_filling(index: Index, messages: Messages) -> None:
    def make(uids: Iterable[int]) -> Iterator[tuple[int, Pieces | StoreError]]:
        return ((uid, Unavailable("no") if uid == 3 else pieces) for uid, pieces in messages(uids))

    preparation = Preparation(KEY, index.pieces, make, memory=Memory())
    assert [preparation.fill(range(1, 8), 3) for _ in range(3)] == [4, 1, 0]
    assert sorted(index.pieces.prepared(KEY, range(1, 8))) == [1, 2, 4, 5, 6, 7]
    with pytest.raises(Unavailable):
        preparation.prepared([3])


def test_filling_ends_when_the_index_keeps_nothing(
    again: Callable[[], Preparation], messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_BATCH", 2)
    monkeypatch.setattr("mailserver.store.index.PieceTables.store", lambda *_: False)
    assert again().fill(range(1, 8), 6) == 0
    assert messages.reads == [7, 6]


def test_an_index_that_keeps_nothing_costs_only_time(
    again: Callable[[], Preparation], messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.store.index.PieceTables.store", lambda *_: False)
    preparation = again()
    assert preparation.prepared([1]) == {1: prepare(text_of(1)).prepared}
    assert sorted(preparation.headers([1, 2])) == [1, 2]


def test_what_the_index_does_not_keep_is_held_in_memory(
    again: Callable[[], Preparation], messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.store.index.PieceTables.store", lambda *_: False)
    preparation = again()
    made = preparation.prepared([1, 2, 13])
    assert preparation.prepared([1, 2]) == preparation.prepared([1, 2], ready=True) == made
    assert messages.reads == [1, 2, 13]


@pytest.mark.parametrize("uids", [[2, 3, 4], [2, 4], [1, 2, 90], [90], [], [4, 3, 2, 3]])
def test_only_those_are_given_that_were_asked_for(again: Callable[[], Preparation], uids: list[int]) -> None:
    preparation = again()
    preparation.prepared([1, 2, 3, 4, 5, 90, 91])
    for kind in (preparation.prepared, preparation.sort_keys, preparation.headers, preparation.identities):
        assert sorted(kind(uids)) == sorted(set(uids))


DAMAGE = [
    ("prepared", "envelope", b'("cut'),
    ("prepared", "envelope", "(text)"),
    ("prepared", "bodystructure", b""),
    ("prepared", "preview", b"octets"),
    ("sorting", "sent", "yesterday"),
    ("sorting", "subject", b"octets"),
    ("sorting", "reply", "x"),
    ("sorting", '"references"', b"octets"),
    ("headers", "header", "text"),
    ("headers", "header", b"Subject: cut"),
    ("identities", "content", b"short"),
    ("identities", "thread", "text"),
]


def all_of(preparation: Preparation) -> list[object]:
    kinds = (preparation.prepared, preparation.sort_keys, preparation.headers, preparation.identities)
    return [kind([1, 2]) for kind in kinds]


@pytest.mark.parametrize(("table", "column", "value"), DAMAGE)
def test_a_row_that_was_never_written_so_is_prepared_again(
    index: Index, again: Callable[[], Preparation], tmp_path: Path, table: str, column: str, value: object
) -> None:
    everything = again()
    expected = all_of(everything)
    index.close()
    with sqlite3.connect(tmp_path / INDEX_FILE) as db:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE uid = 1", (value,))
    damaged = again()
    assert all_of(damaged) == expected
    with sqlite3.connect(tmp_path / INDEX_FILE) as db:
        (left,) = db.execute(f"SELECT count(*) FROM {table} WHERE {column} IS ?", (value,)).fetchone()
    assert left == 0


def test_a_file_that_is_no_index_is_made_anew(
    index: Index, again: Callable[[], Preparation], messages: Messages, tmp_path: Path
) -> None:
    prepared = again().prepared([1, 2])
    index.close()
    for path in tmp_path.iterdir():
        path.write_bytes(b"something else" * 100)
    assert again().prepared([1, 2]) == prepared
    assert again().prepared([1, 2]) == prepared
    assert messages.reads == [1, 2, 1, 2]


@pytest.mark.parametrize("text", ["+2AA-", "a\0b", "\udc80", "\ud800", "\U0001f600"])
def test_no_text_spoils_the_index(index: Index, again: Callable[[], Preparation], text: str) -> None:
    octets = text.encode("utf-8", "surrogatepass")
    message = b"From: %b <%b@b>\r\nSubject: =?utf-7?Q?%b?= %b\r\nMessage-ID: <%b>\r\n" % ((octets,) * 5)
    message += b"Content-Type: text/plain; charset=utf-7\r\n\r\n" + octets
    generation = index.generation
    Preparation(KEY, index.pieces, lambda _: [(1, prepare(message))], memory=Memory()).prepared([1])
    generation = index.generation
    found = again()
    assert found.prepared([1]) == {1: prepare(message).prepared}
    assert found.sort_keys([1]) == {1: prepare(message).keys}
    assert index.generation == generation


def piece(size: int) -> Prepared:
    return Prepared(b"x" * size, b"", b"", "")


def test_memory_forgets_what_was_used_longest_ago() -> None:
    memory = Memory(limit=10_000)
    owner = memory.owner()
    memory.put(owner, Prepared, {1: piece(3000)})
    memory.put(owner, Prepared, {2: piece(3000)})
    assert list(memory.get(owner, Prepared, [1])) == [1]
    memory.put(owner, Prepared, {3: piece(3000)})
    assert list(memory.get(owner, Prepared, [1, 2, 3])) == [1, 3]


def test_memory_tells_owners_and_kinds_apart() -> None:
    memory = Memory()
    one, other = memory.owner(), memory.owner()
    memory.put(one, bytes, {1: b"mine"})
    assert memory.get(one, bytes, [1]) == {1: b"mine"}
    assert memory.get(other, bytes, [1]) == {}
    assert memory.get(one, Prepared, [1]) == {}


def test_one_large_request_does_not_drive_out_all_others() -> None:
    memory = Memory(limit=10_000)
    owner = memory.owner()
    memory.put(owner, bytes, {1: b"kept"})
    memory.put(owner, bytes, dict.fromkeys(range(2, 30), b"x" * 1000))
    assert list(memory.get(owner, bytes, range(30))) == [1]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 3000)), max_size=40))
def test_memory_stays_within_its_bound_and_gives_what_was_put_last(puts: list[tuple[int, int]]) -> None:
    memory = Memory(limit=8_000)
    owner = memory.owner()
    put: dict[int, bytes] = {}
    for uid, size in puts:
        octets = bytes([uid]) * size
        memory.put(owner, bytes, {uid: octets})
        put[uid] = octets
        assert 0 <= memory.octets <= memory.limit
        found = memory.get(owner, bytes, put)
        assert all(put[uid] == value for uid, value in found.items())
        if len(octets) < 3000:
            assert uid in found


def test_any_thread_may_ask(again: Callable[[], Preparation]) -> None:
    preparation = again()
    results: list[dict[int, Prepared]] = []

    def ask() -> None:
        results.extend(preparation.prepared(range(1, 13)) for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert all(result == results[0] for result in results)


def test_pieces_of_any_octets_can_be_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    index = Index(tmp_path_factory.mktemp("index"))

    @given(st.lists(st.sampled_from([b"Subject: ", b"From: ", b"\r\n", b"\xff", b"=?utf-16?B?2AA=?=", b"<a", b">"])))
    def keeps(words: list[bytes]) -> None:
        pieces: Pieces = prepare(b"".join(words))
        assert index.pieces.store(KEY, {1: pieces})
        assert index.pieces.prepared(KEY, [1]) == {1: pieces.prepared}
        assert index.pieces.sort_keys(KEY, [1]) == {1: pieces.keys}
        assert index.pieces.headers(KEY, [1]) == {1: pieces.header}

    keeps()
