"""What the kernel tells of directories, and how a mailbox hears of it."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.mail import Address
from mailserver.store import Store, notify
from mailserver.store.notify import Notifier

ALICE = Address("alice", "example.test")


@pytest.fixture(autouse=True)
def telling(silent, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(notify, "WATCHES", 100)
    yield
    eventually(lambda: not descriptors())


@pytest.fixture
def notifier() -> Notifier:
    return Notifier()


def descriptors() -> list[str]:
    return [link for link in map(_target, Path("/proc/self/fd").iterdir()) if link == "anon_inode:inotify"]


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return ""


def eventually(condition, timeout=60.0):
    end = time.monotonic() + timeout
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


@pytest.mark.parametrize("change", ["create", "delete", "rename away", "rename here", "link"])
def test_a_change_in_a_directory_is_told_soon(tmp_path, notifier, change):
    directory, other = tmp_path / "new", tmp_path / "tmp"
    directory.mkdir()
    other.mkdir()
    (directory / "old").touch()
    (other / "old").touch()
    heard = threading.Event()
    cancel = notifier.watch([str(directory)], heard.set)
    match change:
        case "create":
            (directory / "file").touch()
        case "delete":
            (directory / "old").unlink()
        case "rename away":
            (directory / "old").rename(other / "file")
        case "rename here":
            (other / "old").rename(directory / "file")
        case "link":
            os.link(other / "old", directory / "file")
    assert heard.wait(60)
    cancel()


def test_many_changes_are_told_together_and_the_last_one_too(tmp_path, notifier):
    seen, began = [], time.monotonic()
    cancel = notifier.watch([str(tmp_path)], lambda: seen.append(len(list(tmp_path.iterdir()))))
    for number in range(1000):
        (tmp_path / str(number)).touch()
    eventually(lambda: seen and seen[-1] == 1000)
    assert len(seen) <= 2 + (time.monotonic() - began) / notify.PAUSE
    cancel()


def test_nothing_is_told_after_the_end_and_the_descriptor_is_closed(tmp_path, notifier):
    heard = []
    cancels = [notifier.watch([str(tmp_path)], lambda: heard.append(1)) for _ in range(3)]
    assert len(descriptors()) == 1
    for cancel in cancels:
        cancel()
        cancel()
    eventually(lambda: not descriptors())
    (tmp_path / "file").touch()
    time.sleep(0.05)
    assert heard == []
    again = threading.Event()
    cancel = notifier.watch([str(tmp_path)], again.set)
    (tmp_path / "other").touch()
    assert again.wait(60)
    cancel()
    eventually(lambda: not descriptors())


def test_one_who_fails_does_not_keep_others_from_hearing(tmp_path, notifier, caplog):
    def fail() -> None:
        raise ValueError("oops")

    heard = threading.Event()
    cancels = [notifier.watch([str(tmp_path)], callback) for callback in (fail, heard.set)]
    (tmp_path / "file").touch()
    assert heard.wait(60)
    assert "a callback failed" in caplog.text
    for cancel in cancels:
        cancel()


def test_a_directory_that_is_removed_ends_its_watch(tmp_path, notifier):
    directory = tmp_path / "cur"
    directory.mkdir()
    heard = threading.Event()
    cancel = notifier.watch([str(directory)], heard.set)
    directory.rmdir()
    assert heard.wait(60)
    eventually(lambda: not descriptors())
    cancel()


@pytest.mark.parametrize("call", ["inotify_init1", "inotify_add_watch"])
def test_without_inotify_nothing_is_told_and_nothing_fails(tmp_path, notifier, monkeypatch, caplog, call):
    class Refusing:
        def __getattr__(self, name):
            if name != call:
                return getattr(notify.ctypes.CDLL(None, use_errno=True), name)

            def refuse(*_args):
                notify.ctypes.set_errno(errno.ENOSPC)
                return -1

            return refuse

    monkeypatch.setattr(notify, "_libc", Refusing())
    cancel = notifier.watch([str(tmp_path), str(tmp_path)], lambda: None)
    assert not descriptors()
    assert caplog.text.count("store=notify") == 1
    cancel()


def test_only_so_many_directories_are_watched(tmp_path, notifier, monkeypatch):
    monkeypatch.setattr(notify, "WATCHES", 1)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    heard = []
    cancels = [notifier.watch([str(tmp_path / name)], lambda name=name: heard.append(name)) for name in ("one", "two")]
    (tmp_path / "two/file").touch()
    (tmp_path / "one/file").touch()
    eventually(lambda: heard == ["one"])
    for cancel in cancels:
        cancel()


def test_subscribers_of_a_mailbox_hear_of_another_program_until_they_leave(inbox, maildir):
    heard = threading.Event()
    cancel = inbox.subscribe(heard.set)
    other = inbox.subscribe(lambda: None)
    (maildir / "tmp/file").write_bytes(b"Subject: x\n\n")
    (maildir / "tmp/file").rename(maildir / "new/file")
    assert heard.wait(60)
    inbox.sync()
    assert [message.uid for message in inbox.messages()] == [1]
    cancel()
    other()
    eventually(lambda: not descriptors())


def test_subscribers_hear_of_another_process(store, account, inbox, post, maildir):
    post()
    inbox.sync()
    heard = threading.Event()
    cancel = inbox.subscribe(heard.set)
    time.sleep(0.05)
    heard.clear()
    elsewhere = Store(maildir.parents[1], hostname="mx.example.test").account(ALICE)
    elsewhere.open("INBOX").update_flags([1], "add", frozenset({"\\Seen"}))
    assert heard.wait(60)
    cancel()
