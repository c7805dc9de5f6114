"""A small file system that fills up under the store: mail is refused for now, and what was acknowledged is whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.mail import Address, Content
from mailserver.store import Addition, Delivery, DeliveryError, Store, StoreError
from tests.support.storelog import named, text_of

ALICE = Address("alice", "example.test")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


class SmallDisk:
    """A file system of its own. `options` as those of tmpfs."""

    def __init__(self, place: Path, options: str) -> None:
        self.place = place
        self._mount(options)

    def grow(self, options: str) -> None:
        self._mount(f"remount,{options}")

    def _mount(self, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "small", str(self.place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture(params=["size=300k", "size=64m,nr_inodes=60"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    place = tmp_path / "small"
    place.mkdir()
    yield SmallDisk(place, request.param)
    subprocess.run(["umount", "--lazy", str(place)], check=False)


def fill(store: Store, acknowledged: set[str]) -> DeliveryError:
    """Delivers, some messages at a time, until one is refused."""
    for start in range(0, 10_000, 3):
        names = [f"d{start + number}" for number in range(3)]
        results = store.deliver([Delivery(ALICE, b"", Content(text_of(name))) for name in names])
        refused = [result for result in results if isinstance(result, DeliveryError)]
        acknowledged |= {name for name, result in zip(names, results, strict=True) if isinstance(result, Path)}
        if refused:
            return refused[0]
    raise AssertionError("the disk never fills up")


def _uids(store: Store) -> dict[str, int]:
    """By the names of the messages; one that is there in part has none."""
    mailbox = store.account(ALICE).open("INBOX")
    try:
        return {named(mailbox.read(message.uid)): message.uid for message in mailbox.messages()}
    finally:
        mailbox.close()


def test_a_full_disk_refuses_mail_for_now_and_keeps_what_it_took(disk: SmallDisk) -> None:
    store = Store(disk.place, hostname="mx.example.test")
    assert _uids(store) == {}  # the folder was used before
    acknowledged: set[str] = set()
    refusal = fill(store, acknowledged)
    assert str(refusal.reply).startswith("452 4.3.1")
    assert len(acknowledged) > 10
    assert list((disk.place / "example.test/alice/tmp").iterdir()) == []
    uids = _uids(store)
    assert uids.keys() == acknowledged  # also where the index does not fit
    disk.grow("size=64m,nr_inodes=100000")
    assert _uids(Store(disk.place, hostname="mx.example.test")) == uids
    assert isinstance(store.deliver([Delivery(ALICE, b"", Content(text_of("later")))])[0], Path)
    assert _uids(store) == uids | {"later": max(uids.values()) + 1}


def test_a_folder_first_opened_on_a_full_disk_waits_for_room(disk: SmallDisk) -> None:
    store = Store(disk.place, hostname="mx.example.test")
    acknowledged: set[str] = set()
    fill(store, acknowledged)
    with pytest.raises(StoreError):
        _uids(store)
    disk.grow("size=64m,nr_inodes=100000")
    assert _uids(store).keys() == acknowledged


def test_append_and_flags_on_a_full_disk(disk: SmallDisk) -> None:
    store = Store(disk.place, hostname="mx.example.test")
    account = store.account(ALICE)
    inbox = account.open("INBOX")
    kept = [inbox.append(Content(text_of(f"a{number}"))) for number in range(5)]
    with pytest.raises(StoreError):
        for number in range(1000):
            kept += inbox.append_many([Addition(Content(text_of(f"b{number}.{each}"))) for each in range(3)])
    assert [message.uid for message in inbox.messages()] == kept
    changed = inbox.update_flags(kept, "add", frozenset({"\\Seen"}))
    assert {message.flags for message in changed} == {frozenset({"\\Seen"})}
    inbox.expunge(kept[:3])
    inbox.close()
    again = Store(disk.place, hostname="mx.example.test").account(ALICE).open("INBOX")
    assert {message.uid: message.flags for message in again.messages()} == dict.fromkeys(
        kept[3:], frozenset({"\\Seen"})
    )
    assert all(not named(again.read(uid)).startswith("damaged") for uid in kept[3:])
