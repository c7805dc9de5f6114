"""Columns to sort by: as a sort of the texts themselves has it, whatever is added when, and left to the next start."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import Address, Content
from mailserver.message import casemapped, parents
from mailserver.store import ColumnName, Mailbox, SortName, Store, sorting
from mailserver.store.index import INDEX_FILE
from mailserver.store.index.pieces import PieceTables
from mailserver.store.sortcolumns import ABSENT, Column, Dates, Links, Texts

V = TypeVar("V")
Linked = tuple[str, str, int]

ALICE = Address("alice", "example.test")
UIDS = st.integers(1, 30)
NAMES = st.sampled_from(["", "<a@x>", "<b@x>", "<c@x>"])
TEXTS = st.lists(st.dictionaries(UIDS, st.text("abAB \u00e9\ud800\U0001f600", max_size=3)), max_size=4)
LINKED = st.tuples(NAMES, st.lists(NAMES.filter(bool), max_size=3).map(" ".join), st.integers(0, 1))
SUBJECTS = ("pear", "Apple", "", "apple", "Zoo")


def in_portions(added: list[dict[int, V]]) -> list[dict[int, V]]:
    """Each message once."""
    known: dict[int, V] = {}
    portions = []
    for more in added:
        portions.append({uid: value for uid, value in more.items() if uid not in known})
        known |= portions[-1]
    return portions


@given(TEXTS)
def test_texts_are_in_their_order(added: list[dict[int, str]]) -> None:
    column, texts = Texts(), dict[int, str]()
    for more in in_portions(added):
        before, known = column, dict(texts)
        column = column.added(more.items())
        assert list(before.uids) == sorted(known)
        texts |= {uid: casemapped(text) for uid, text in more.items()}
    assert list(column.uids) == sorted(texts)
    assert [column.uids[place] for place in column.order] == sorted(sorted(texts), key=texts.__getitem__)
    every = sorted(set(texts.values()))
    assert list(column.ranks) == [every.index(texts[uid]) for uid in column.uids]
    assert column.with_empty == ("" in every)
    assert_packed(column)


@given(st.lists(st.dictionaries(UIDS, st.none() | st.integers(-(2**40), 2**40)), max_size=4))
def test_dates_are_kept(added: list[dict[int, int | None]]) -> None:
    column, dates = Dates(), dict[int, int | None]()
    for more in in_portions(added):
        column = column.added(more.items())
        dates |= more
    seconds = [ABSENT if dates[uid] is None else dates[uid] for uid in sorted(dates)]
    assert (list(column.uids), list(column.seconds)) == (sorted(dates), seconds)
    assert_packed(column)


@given(st.lists(st.dictionaries(UIDS, LINKED), max_size=4), st.sets(UIDS))
def test_links_are_the_same_whatever_was_added_first(added: list[dict[int, Linked]], some: set[int]) -> None:
    column, rows = Links(), dict[int, Linked]()
    for more in in_portions(added):
        column = column.added([(uid, *values) for uid, values in more.items()])
        rows |= more
    assert column == Links().added([(uid, *rows[uid]) for uid in sorted(rows)])
    for places in (range(len(rows)), [place for place, uid in enumerate(sorted(rows)) if uid in some]):
        chosen = [rows[sorted(rows)[place]] for place in places]
        own = [hash(name) if name else 0 for name, _, _ in chosen]
        refers = [list(map(hash, names.split())) for _, names, _ in chosen]
        assert list(column.parents(places)) == parents(own, refers)
    assert_packed(column)


@given(
    st.dictionaries(UIDS, st.tuples(st.text("abAB", max_size=2), st.none() | st.integers(1, 9), LINKED)), st.sets(UIDS)
)
def test_a_column_without_some_is_as_if_they_had_never_been(
    rows: dict[int, tuple[str, int | None, Linked]], gone: set[int]
) -> None:
    places = [place for place, uid in enumerate(sorted(rows)) if uid not in gone]
    left = [uid for uid in sorted(rows) if uid not in gone]
    texts, dates, links = ({uid: row[at] for uid, row in rows.items()} for at in range(3))
    for column, values in (
        (Texts(), [(uid, text) for uid, text in texts.items()]),
        (Dates(), list(dates.items())),
        (Links(), [(uid, *each) for uid, each in links.items()]),
    ):
        kept = column.added(values).kept(places)
        assert kept == column.added([row for row in values if row[0] in left])
        assert list(kept.uids) == left


def assert_packed(column: Texts | Dates | Links) -> None:
    again = type(column).unpacked(column.packed())
    assert again == column
    assert again.packed() == column.packed()


COLUMNS: tuple[Column, ...] = (
    Texts().added([(1, "b"), (2, "a"), (3, "")]),
    Dates().added([(1, 5), (2, None)]),
    Links().added([(1, "<a@x>", "", 0), (2, "", "<a@x> <b@x>", 1)]),
)


@pytest.mark.parametrize("column", COLUMNS)
def test_what_is_damaged_or_of_another_kind_is_refused(column: Column) -> None:
    packed = column.packed()
    damaged = [packed[:size] for size in range(len(packed))]
    damaged += [packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :] for at in range(len(packed))]
    damaged += [packed + b"x", *(other.packed() for other in COLUMNS if other is not column)]
    for each in damaged:
        with pytest.raises(ValueError, match="column"):
            type(column).unpacked(each)


# by the mailbox


THREADING: tuple[ColumnName, ...] = ("subject", "sent", "links")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_MINIMUM", 1)


def add(mailbox: Mailbox, subjects: Sequence[str]) -> None:
    for subject in subjects:
        number = mailbox.message_count
        links = f"Message-ID: <{number}@x>\r\nIn-Reply-To: <{number - 2}@x>\r\n"
        header = (
            f"Subject: {subject}\r\nFrom: {number % 3}@x\r\n{links}Date: {number + 1} May 2024 00:00:00 +0000\r\n\r\n"
        )
        mailbox.append(Content(header.encode()))


def opened(root: Path) -> Mailbox:
    """By what stands for another process."""
    return Store(root, hostname="mail.example.test").account(ALICE).open("INBOX")


def all_of(mailbox: Mailbox) -> list[list[int]]:
    """What is sorted and threaded."""
    uids = mailbox.listing().uids
    names: tuple[SortName, ...] = ("subject", "sender", "sent", "cc", "size", "arrival")
    orders = [mailbox.sorting.order(name, uids, reverse=reverse) for name in names for reverse in (False, True)]
    threads = [each for some in (uids, uids[1:]) for each in mailbox.sorting.threadable(some, THREADING)]
    return [*orders, *map(list, threads)]


def without_columns(root: Path) -> list[list[int]]:
    with closing(sqlite3.connect(next(root.rglob(INDEX_FILE)))) as db, db:
        db.execute("DELETE FROM sorted")
    mailbox = opened(root)
    found = all_of(mailbox)
    mailbox.close()
    return found


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the UIDs whose rows are read from now on."""
    read: list[int] = []
    ask = PieceTables.sort_columns

    def counted(self: PieceTables, key: int, names: Sequence[str], uids: Sequence[int]) -> list[Sequence[object]]:
        read.extend(uids)
        return ask(self, key, names, uids)

    monkeypatch.setattr(PieceTables, "sort_columns", counted)
    return read


def test_the_next_start_finds_the_columns_and_reads_what_is_new(tmp_path: Path, rows: list[int]) -> None:
    mailbox = opened(tmp_path)
    add(mailbox, SUBJECTS * 2)
    before = all_of(mailbox)
    mailbox.close()
    rows.clear()
    mailbox = opened(tmp_path)
    assert all_of(mailbox) == before
    assert rows == []
    add(mailbox, ["banana", "Re: apple"])
    mailbox.expunge([1, 4])
    again = all_of(mailbox)
    assert set(rows) == {11, 12}
    mailbox.close()
    rows.clear()
    mailbox = opened(tmp_path)
    assert all_of(mailbox) == again
    assert rows == []
    mailbox.close()
    assert again == without_columns(tmp_path)


def test_columns_that_another_process_left_do_no_harm(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    add(first, SUBJECTS)
    second.sync()
    all_of(second)
    add(first, ("banana", "aardvark"))
    first.expunge([2])
    all_of(first)
    first.close()
    second.close()  # leaves less
    third = opened(tmp_path)
    found = all_of(third)
    third.close()
    assert found == without_columns(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:40] + bytes([data[40] ^ 255]) + data[41:],
        lambda _: b"",
        lambda _: "a text",
        lambda _: 5,
        lambda _: COLUMNS[1].packed(),
    ],
)
def test_damage_in_the_index_is_no_wrong_answer(tmp_path: Path, damage: Callable[[bytes], object]) -> None:
    mailbox = opened(tmp_path)
    add(mailbox, SUBJECTS)
    before = all_of(mailbox)
    mailbox.close()
    with closing(sqlite3.connect(next(tmp_path.rglob(INDEX_FILE)))) as db, db:
        for key, name, data in db.execute("SELECT key, name, data FROM sorted").fetchall():
            if name != "sent" or damage(data) != COLUMNS[1].packed():
                db.execute("UPDATE sorted SET data = ? WHERE key = ? AND name = ?", (damage(data), key, name))
    mailbox = opened(tmp_path)
    assert all_of(mailbox) == before
    mailbox.close()


def test_columns_go_with_the_mailbox_and_with_a_renewal(tmp_path: Path) -> None:
    def names() -> set[str]:
        with closing(sqlite3.connect(next(tmp_path.rglob(INDEX_FILE)))) as db:
            return {name for (name,) in db.execute("SELECT name FROM sorted")}

    account = Store(tmp_path, hostname="mail.example.test").account(ALICE)
    account.create("Other")
    mailbox = account.open("Other")
    add(mailbox, SUBJECTS)
    all_of(mailbox)
    mailbox.close()
    assert names() == {"subject", "sender", "cc", "sent", "links"}
    account.delete("Other")
    assert names() == set()
    inbox = account.open("INBOX")
    add(inbox, SUBJECTS)
    all_of(inbox)
    inbox.close()
    assert names()
    account._index.renew()
    assert names() == set()


def test_columns_of_a_mailbox_that_another_process_deleted_leave_nothing(tmp_path: Path) -> None:
    account, other = (Store(tmp_path, hostname="mail.example.test").account(ALICE) for _ in range(2))
    account.create("Other")
    mailbox = account.open("Other")
    add(mailbox, SUBJECTS)
    all_of(mailbox)
    other.delete("Other")
    mailbox.close()  # nobody has told it
    with closing(sqlite3.connect(next(tmp_path.rglob(INDEX_FILE)))) as db:
        assert db.execute("SELECT name FROM sorted").fetchall() == []


def test_small_columns_are_not_worth_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_MINIMUM", len(SUBJECTS) + 1)
    mailbox = opened(tmp_path)
    add(mailbox, SUBJECTS)
    all_of(mailbox)
    mailbox.close()
    with closing(sqlite3.connect(next(tmp_path.rglob(INDEX_FILE)))) as db:
        assert db.execute("SELECT count(*) FROM sorted").fetchone() == (0,)


def test_a_mailbox_that_became_small_leaves_no_large_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_MINIMUM", 4)
    mailbox = opened(tmp_path)
    add(mailbox, SUBJECTS)
    all_of(mailbox)
    mailbox.expunge([1, 2, 3, 5])
    mailbox.close()
    mailbox = opened(tmp_path)
    found = all_of(mailbox)
    mailbox.close()
    with closing(sqlite3.connect(next(tmp_path.rglob(INDEX_FILE)))) as db:
        (left,) = db.execute("SELECT data FROM sorted WHERE name = 'subject'").fetchone()
    assert Texts.unpacked(left).texts == b"APPLE\xff"
    assert found == without_columns(tmp_path)


def test_after_an_expunge_columns_have_what_is_left_and_no_more(tmp_path: Path) -> None:
    mailbox = opened(tmp_path)
    add(mailbox, SUBJECTS)
    all_of(mailbox)
    mailbox.expunge([2, 3])
    found = all_of(mailbox)
    left = array("I", [message.uid for message in mailbox.messages()])
    for name in THREADING:
        column, missing = mailbox.sorting._learned(name, left)
        assert (column.uids, missing) == (left, 0)
    mailbox.close()
    assert found == without_columns(tmp_path)
