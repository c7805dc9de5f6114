"""What is told to those who watch an account, and what they find when they look."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailserver.mail import Address, Content
from mailserver.store import AccountStore, Addition, Store, notify
from mailserver.store.surroundings import Scene

ALICE = Address("alice", "example.test")
MESSAGE = b"Subject: x\r\n\r\n"


@pytest.fixture
def telling(silent: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernel tells."""
    monkeypatch.setattr(notify, "WATCHES", 1000)
    yield


@pytest.fixture
def heard(account: AccountStore) -> Iterator[list[str | None]]:
    names: list[str | None] = []
    end = account.surroundings.listen(names.append)
    yield names
    end()


def elsewhere(maildir: Path) -> AccountStore:
    """As another process has it."""
    return Store(maildir.parents[1], hostname="mx.example.test").account(ALICE)


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def add(account: AccountStore, name: str) -> None:
    mailbox = account.open(name)
    mailbox.append_many([Addition(Content(MESSAGE))])
    mailbox.close()


def test_what_this_process_does_is_told_at_once(
    silent: None, account: AccountStore, heard: list[str | None], post: Callable[[], object]
) -> None:
    post()
    assert heard == ["INBOX"], "a delivery, though the mailbox is not open"
    heard.clear()
    for act, name in [
        (lambda: account.create("a"), None),
        (lambda: add(account, "a"), "a"),
        (lambda: account.rename("a", "b"), None),
        (lambda: account.subscribe("b"), None),
        (lambda: account.set_metadata("b", {"/private/x": b"y"}), "b"),
        (lambda: account.set_metadata(None, {"/private/x": b"y"}), None),
        (lambda: account.delete("b"), None),
    ]:
        act()
        assert name in heard
        heard.clear()


def test_what_others_do_is_told_of_what_is_attended_to(
    telling: None, account: AccountStore, heard: list[str | None], maildir: Path
) -> None:
    account.create("a")
    account.create("b")
    end = account.surroundings.attend("a")
    again = account.surroundings.attend("a")
    time.sleep(0.05)
    heard.clear()
    other = elsewhere(maildir)
    add(other, "b")
    add(other, "a")
    eventually(lambda: "a" in heard)
    assert "b" not in heard
    end()
    heard.clear()
    other.set_metadata("a", {"/private/x": b"y"})
    eventually(lambda: "a" in heard)
    again()
    time.sleep(0.3)
    heard.clear()
    add(other, "a")
    other.create("c")
    eventually(lambda: None in heard)
    assert "a" not in heard
    assert not account.surroundings._attended


def test_another_folder_of_the_same_name_is_attended_to(
    telling: None, account: AccountStore, heard: list[str | None], maildir: Path
) -> None:
    other = elsewhere(maildir)
    other.create("a")
    first = account.surroundings.attend("a")
    other.rename("a", "b")
    other.create("a")
    second = account.surroundings.attend("a")
    first()
    time.sleep(0.05)
    heard.clear()
    add(other, "a")
    eventually(lambda: "a" in heard)
    second()


def test_the_scene_is_the_same_object_until_something_changes(account: AccountStore, maildir: Path) -> None:
    account.create("a/b")
    scene = account.scene()
    assert scene.keys.keys() == {"INBOX", "a/b"}
    add(account, "a/b")
    assert account.scene() is scene
    account.subscribe("x")
    assert account.scene().subscribed == {"x"}
    account.rename("a/b", "c")
    renamed = account.scene()
    assert renamed.keys["c"] == scene.keys["a/b"] is not None
    elsewhere(maildir).delete("c")
    assert account.scene() == Scene({"INBOX": None}, frozenset({"x"}))


def test_a_folder_that_others_make_bit_by_bit(account: AccountStore, maildir: Path) -> None:
    place = maildir / ".made"
    place.mkdir()
    assert "made" not in account.scene().keys
    for part in ("tmp", "new", "cur"):
        (place / part).mkdir()
    assert "made" in account.scene().keys


def test_stamps_differ_after_a_change(account: AccountStore) -> None:
    account.create("a")
    before = account.surroundings.stamps(["INBOX", "a", "gone"])
    add(account, "a")
    after = account.surroundings.stamps(["INBOX", "a", "gone"])
    assert {name for name in before if before[name] != after[name]} == {"a"}
    account.set_metadata("a", {"/private/x": b"y"})
    assert account.surroundings.stamps(["a"])["a"] != after["a"]
