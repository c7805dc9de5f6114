"""Quotas: `maildirsize` as Maildir++ has it, limits by octets and by messages, at delivery, APPEND and COPY."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.mail import UNLIMITED, Address, Content, Quota
from mailserver.store import AccountStore, Addition, Delivery, DeliveryError, Mailbox, OverQuota, Store, Usage, quota
from mailserver.store.quota import LENGTH, Space

ALICE = Address("alice", "example.test")
BODY = b"Subject: hello\r\n\r\nHello.\r\n"
STORED = len(BODY) - BODY.count(b"\r")


def book(maildir: Path) -> list[str]:
    """The lines of the file."""
    return (maildir / "maildirsize").read_text().splitlines()


def summed(maildir: Path) -> Usage:
    numbers = [int(number) for line in book(maildir)[1:] for number in line.split()]
    return Usage(sum(numbers[1::2]), sum(numbers[::2]))


def deliver(store: Store, limits: Quota = UNLIMITED, *, count: int = 1, folder: str = "INBOX") -> list[str]:
    """The enhanced code of each result."""
    jobs = [Delivery(ALICE, b"", Content(BODY), folder, limits) for _ in range(count)]
    results = store.deliver(jobs)
    return [str(each.reply.status) if isinstance(each, DeliveryError) else "2" for each in results]


@pytest.fixture
def limited(account: AccountStore) -> AccountStore:
    account.space.quota = Quota(10_000, 50)
    return account


@pytest.mark.parametrize(
    ("limits", "first_line"),
    [(Quota(1000), "1000S"), (Quota(messages=5), "5C"), (Quota(1000, 5), "1000S,5C")],
)
def test_the_file_is_as_maildirplusplus_has_it(store: Store, maildir: Path, limits: Quota, first_line: str) -> None:
    assert deliver(store, limits) == ["2"]
    assert deliver(store, limits, count=2) == ["2", "2"]
    assert book(maildir) == [first_line, "0 0", f"{STORED} 1", f"{2 * STORED} 2"]
    assert (maildir / "maildirsize").stat().st_mode & 0o777 == 0o600


def test_an_account_without_limits_has_no_file(store: Store, account: AccountStore, maildir: Path) -> None:
    deliver(store)
    account.open("INBOX").append(Content(BODY))
    assert not (maildir / "maildirsize").exists()


def test_messages_are_limited_by_their_number(store: Store) -> None:
    assert deliver(store, Quota(messages=3), count=5) == ["2", "2", "2", "4.2.2", "4.2.2"]
    assert deliver(store, Quota(messages=3)) == ["4.2.2"]
    assert deliver(store, Quota(messages=0)) == ["5.2.2"]


def test_both_limits_hold_together(store: Store) -> None:
    assert deliver(store, Quota(2 * len(BODY), 100), count=3) == ["2", "2", "4.2.2"]
    assert deliver(store, Quota(100 * len(BODY), 3), count=2) == ["2", "4.2.2"]


def test_everything_that_changes_an_account_is_noted(store: Store, limited: AccountStore, maildir: Path) -> None:
    deliver(store, limited.space.quota, count=3)
    inbox = limited.open("INBOX")
    inbox.append(Content(BODY))
    limited.create("Work")
    work = limited.open("Work")
    inbox.copy([1, 2], work)
    assert summed(maildir) == limited.usage() == Usage(6, 6 * STORED)
    inbox.move([3, 4], work)
    assert summed(maildir) == limited.usage() == Usage(6, 6 * STORED)
    inbox.expunge([1])
    assert summed(maildir) == limited.usage() == Usage(5, 5 * STORED)
    inbox.close()
    work.close()
    limited.delete("Work")
    assert summed(maildir) == limited.usage() == Usage(1, STORED)


def test_a_full_account_can_be_put_in_order(store: Store, account: AccountStore) -> None:
    deliver(store, count=3)
    account.create("Work")
    inbox, work = account.open("INBOX"), account.open("Work")
    account.space.quota = Quota(messages=3)
    with pytest.raises(OverQuota):
        inbox.copy([1], work)
    with pytest.raises(OverQuota):
        inbox.append(Content(BODY))
    assert inbox.move([1], work) == [(1, 1)]
    inbox.expunge([2])
    inbox.append(Content(BODY))
    with pytest.raises(OverQuota):
        inbox.append(Content(BODY))


def test_append_many_takes_room_for_all_or_none(limited: AccountStore, maildir: Path) -> None:
    inbox = limited.open("INBOX")
    limited.space.quota = Quota(messages=2)
    additions = [Addition(Content(BODY))] * 3
    with pytest.raises(OverQuota):
        inbox.append_many(additions)
    assert len(inbox.append_many(additions[:2])) == 2
    assert list((maildir / "tmp").iterdir()) == []


def test_room_that_was_taken_for_nothing_is_given_back(
    limited: AccountStore, maildir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = limited.open("INBOX")
    inbox.append(Content(BODY))
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(5, "I/O error")))
    with pytest.raises(Exception, match="not available"):
        inbox.append(Content(BODY))
    monkeypatch.undo()
    assert summed(maildir) == limited.usage() == Usage(1, STORED)


def test_what_the_file_says_is_believed_while_there_is_room(store: Store, maildir: Path) -> None:
    """Counting is for when it says that there is none: that is what makes it cheap."""
    deliver(store, Quota(messages=10))
    (maildir / "maildirsize").write_text("10C\n0 0\n100 8\n")
    assert deliver(store, Quota(messages=10), count=2) == ["2", "2"]
    assert book(maildir) == ["10C", "0 0", "100 8", f"{2 * STORED} 2"]
    assert deliver(store, Quota(messages=10)) == ["2"]
    assert book(maildir) == ["10C", f"{3 * STORED} 3", f"{STORED} 1"]


def test_room_that_another_program_made_is_found(hurry: None, store: Store, maildir: Path) -> None:
    assert deliver(store, Quota(messages=2), count=3) == ["2", "2", "4.2.2"]
    next((maildir / "new").iterdir()).unlink()
    assert deliver(store, Quota(messages=2)) == ["2"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10C",
        "10C\n",
        "10C\n5 five\n",
        "10C,10C,nonsense\n0 0\n",
        "10C\n-999 -9\n",
        "11C\n0 0\n",
        "10C\n" + "1 1\n-1 -1\n" * 600,
        "10C\n0 0\n1 1",
        "\0" * 100,
    ],
)
def test_a_file_that_cannot_be_used_is_made_anew(store: Store, maildir: Path, text: str) -> None:
    deliver(store, count=9)
    (maildir / "maildirsize").write_text(text)
    assert deliver(store, Quota(messages=10), count=2) == ["2", "4.2.2"]
    assert book(maildir)[0] == "10C"
    assert summed(maildir) == Usage(10, 10 * STORED)


def test_the_file_of_another_server_is_kept_up_to_date(store: Store, account: AccountStore, maildir: Path) -> None:
    (maildir / "maildirsize").write_text("5000000S\n100 2\n")
    deliver(store)
    account.open("INBOX").expunge([1])
    assert book(maildir) == ["5000000S", "100 2", f"{STORED} 1", f"-{STORED} -1"]


def test_the_file_does_not_grow_without_end(account: AccountStore, maildir: Path) -> None:
    space = account.space
    space.quota = Quota(10**9, 10**6)
    for _ in range(1000):
        assert space.take(Usage(1, 1000))
    assert (maildir / "maildirsize").stat().st_size < LENGTH + 100
    (maildir / "maildirsize").write_text("7S\n0 0\n")
    space.quota = UNLIMITED
    for _ in range(1000):
        space.add(Usage(1, 1000))
    assert (maildir / "maildirsize").stat().st_size < LENGTH + 100


def test_a_link_in_its_place_is_not_followed(
    store: Store, account: AccountStore, maildir: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("5000000S\n0 0\n")
    (maildir / "maildirsize").symlink_to(outside)
    deliver(store)
    assert outside.read_text() == "5000000S\n0 0\n"
    assert deliver(store, Quota(messages=1)) == ["4.2.2"]
    assert not (maildir / "maildirsize").is_symlink()


def test_a_disk_that_refuses_the_file_refuses_no_mail(
    store: Store, maildir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "create", lambda path: (_ for _ in ()).throw(OSError(28, "no space")))
    assert deliver(store, Quota(messages=2), count=3) == ["2", "2", "4.2.2"]
    assert not (maildir / "maildirsize").exists()


def test_two_processes_share_it(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "mail", hostname="mx.example.test")
    for number in range(6):
        assert deliver((store, other)[number % 2], Quota(messages=6)) == ["2"]
    assert deliver(store, Quota(messages=6)) == deliver(other, Quota(messages=6)) == ["4.2.2"]


@pytest.mark.parametrize("made_by", ["delivery", "hand"])
def test_files_without_sizes_in_their_names_are_counted(
    hurry: None, store: Store, account: AccountStore, maildir: Path, made_by: str
) -> None:
    if made_by == "hand":
        (maildir / "new/1.x").write_bytes(b"x" * 500)
    else:
        deliver(store)
    assert account.usage() == (Usage(1, 500) if made_by == "hand" else Usage(1, STORED))


LINES = st.lists(st.tuples(st.integers(-(10**6), 10**6), st.integers(-100, 100)), min_size=1, max_size=20)


@given(LINES, st.integers(1, 10**6), st.integers(1, 100))
@settings(max_examples=200)
def test_any_file_means_its_sum(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, int]], octets: int, messages: int
) -> None:
    account = tmp_path_factory.mktemp("account")
    for part in ("cur", "new", "tmp"):
        (account / part).mkdir()
    (account / "maildirsize").write_text(
        f"{octets}S,{messages}C\n" + "".join(f"{size} {count}\n" for size, count in lines)
    )
    total = Usage(sum(count for _, count in lines), sum(size for size, _ in lines))
    counted: list[bool] = []
    space = Space(str(account))

    def count(self: Space) -> Usage:
        counted.append(True)
        return Usage(0, 0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Space, "_count", count)
        assert space.has_room(Usage(1, 1), Quota(octets, messages))
    believed = 0 <= total.octets < octets and 0 <= total.messages < messages
    assert bool(counted) is not believed
    if counted:
        assert re.fullmatch(r"\d+S,\d+C\n0 0\n", (account / "maildirsize").read_text())


def test_a_mailbox_keeps_to_it_through_any_user(store: Store, limited: AccountStore, inbox: Mailbox) -> None:
    limited.space.quota = Quota(messages=1)
    assert deliver(store, limited.space.quota) == ["2"]
    with pytest.raises(OverQuota):
        inbox.append(Content(BODY))
    inbox.sync()
    inbox.expunge([1])
    assert deliver(store, limited.space.quota) == ["2"]


# Work that goes on while it is counted


def test_messages_on_their_way_are_counted(limited: AccountStore) -> None:
    """Those that are appended together, where the second does not fit by the book and all is counted."""
    limited.space.quota = Quota(3 * STORED)
    inbox = limited.open("INBOX")
    results = inbox.append_each([[Addition(Content(BODY))]] * 20)
    assert [isinstance(result, list) for result in results] == [True] * 3 + [False] * 17
    assert limited.usage() == Usage(3, 3 * STORED)


def test_a_folder_in_the_place_of_another_is_counted(
    store: Store, limited: AccountStore, maildir: Path, hurry: None
) -> None:
    for name in ("A", "C"):
        limited.create(name)
        deliver(store, limited.space.quota, folder=name)
    assert limited.usage() == Usage(2, 2 * STORED)
    limited.rename("A", "A2")
    limited.rename("C", "A")
    deliver(store, limited.space.quota, folder="A")
    assert limited.usage() == Usage(3, 3 * STORED)


@pytest.mark.parametrize("how", ["expunge", "delete"])
def test_what_is_removed_while_all_is_counted_is_not_taken_off_twice(
    store: Store, limited: AccountStore, maildir: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited.create("Work")
    deliver(store, limited.space.quota, count=5, folder="Work")
    deliver(store, limited.space.quota)
    work = limited.open("Work")
    removed = Space.removed

    def counted_before(self: Space, less: Usage, counts: int) -> None:
        assert not self.has_room(Usage(10**6, 1), limited.space.quota)  # which counts what is left
        removed(self, less, counts)

    monkeypatch.setattr(Space, "removed", counted_before)
    if how == "expunge":
        work.expunge(range(1, 6))
    else:
        work.close()
        limited.delete("Work")
    monkeypatch.undo()
    deliver(store, limited.space.quota)
    assert summed(maildir) == limited.usage() == Usage(2, 2 * STORED)


def test_a_fifo_in_its_place_stalls_nobody(store: Store, account: AccountStore, maildir: Path) -> None:
    os.mkfifo(maildir / "maildirsize")
    assert deliver(store) == ["2"]
    assert deliver(store, Quota(messages=3), count=3) == ["2", "2", "4.2.2"]
