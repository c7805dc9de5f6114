"""Several processes over one Maildir, and processes that are killed."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mailserver.mail import Address, Content
from mailserver.store import Delivery, Mailbox, Store, Unavailable, maildir, scanning, watch
from mailserver.store.syncing import Directory

ALICE = Address("alice", "example.test")

DELIVER = """
    import sys
    from pathlib import Path
    from mailserver.mail import Address, Content
    from mailserver.store import Delivery, Store

    store = Store(Path(sys.argv[1]), hostname="mx.example.test")
    number = 0
    while True:
        jobs = []
        for _ in range(3):
            number += 1
            text = f"Message-ID: <{sys.argv[2]}-{number}>\\r\\n\\r\\nbody\\r\\n".encode()
            jobs.append((text, Delivery(Address("alice", "example.test"), b"", Content(text))))
        for (text, _), result in zip(jobs, store.deliver([job for _, job in jobs])):
            assert isinstance(result, Path), result
            sys.stdout.write(text.decode().split("\\r\\n")[0] + "\\n")
        sys.stdout.flush()
"""

GIVE = """
    import sys
    from pathlib import Path
    from mailserver.mail import Address, Content
    from mailserver.store import Delivery, Store

    account = Store(Path(sys.argv[1]), hostname="mx.example.test").account(Address("alice", "example.test"))
    inbox = account.open("INBOX")
    told = set()
    for number in range(int(sys.argv[3])):
        text = f"Subject: {sys.argv[2]} {number}\\r\\n\\r\\n".encode()
        uid = inbox.append(Content(text), frozenset({"k" + sys.argv[2]}))
        inbox.sync()
        inbox.update_flags([uid - 1, uid], "add", frozenset({"\\\\Seen"}))
        now = {message.uid for message in inbox.messages()}
        assert not told or all(new > max(told) for new in now - told), (sorted(now - told), max(told))
        told |= now
        print(uid, flush=True)
    inbox.close()
"""

RECENT = """
    import sys
    from pathlib import Path
    from mailserver.mail import Address
    from mailserver.store import Store, watch

    watch.GRAIN, watch.RECHECK = 10**18, 0.0
    account = Store(Path(sys.argv[1]), hostname="mx.example.test").account(Address("alice", "example.test"))
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        inbox = account.open("INBOX")  # as a session that selects, looks once more, and leaves
        for uid in inbox.recent.join():
            print(uid)
        inbox.sync()
        for uid in inbox.recent.take():
            print(uid)
        inbox.recent.leave()
        done = inbox.message_count == 120
        inbox.close()
        if done:
            break
    inbox = account.open("INBOX")
    for uid in inbox.recent.join():
        print(uid)
"""


def start(program: str, *arguments: object, stdin: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.slow
def test_a_message_is_recent_to_a_session_of_one_process_only(tmp_path):
    workers = [start(RECENT, tmp_path / "mail", stdin=subprocess.PIPE) for _ in range(3)]
    store = Store(tmp_path / "mail", hostname="mx.example.test")
    store.account(ALICE).open("INBOX").close()
    for worker in workers:
        assert worker.stdout is not None and worker.stdin is not None
        assert worker.stdout.readline() == "ready\n"
        worker.stdin.write("\n")
        worker.stdin.flush()
    for number in range(40):
        store.deliver([Delivery(ALICE, b"", Content(b"Subject: %d %d\r\n\r\n" % (number, n))) for n in range(3)])
    shown = []
    for worker in workers:
        output, _ = worker.communicate(timeout=300)
        assert worker.returncode == 0
        shown += [int(line) for line in output.split()]
    assert sorted(shown) == [message.uid for message in store.account(ALICE).open("INBOX").messages()]


@pytest.mark.slow
def test_processes_never_give_a_uid_twice(tmp_path):
    workers = [start(GIVE, tmp_path / "mail", name, 40) for name in ("a", "b", "c")]
    given = []
    for worker in workers:
        output, _ = worker.communicate(timeout=300)
        assert worker.returncode == 0
        mine = [int(line) for line in output.split()]
        assert mine == sorted(mine)
        given += mine
    assert sorted(given) == list(range(1, 121))
    inbox = Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE).open("INBOX")
    assert [message.uid for message in inbox.messages()] == list(range(1, 121))
    assert all("\\Seen" in message.flags for message in inbox.messages())
    by_keyword = [sum(f"k{name}" in message.flags for message in inbox.messages()) for name in ("a", "b", "c")]
    assert by_keyword == [40, 40, 40]


@pytest.mark.slow
def test_a_delivery_acknowledged_before_kill_9_is_there_and_whole(tmp_path):
    acknowledged = []
    for start_number in range(5):
        worker = start(DELIVER, tmp_path / "mail", start_number)
        assert worker.stdout is not None
        acknowledged += [worker.stdout.readline() for _ in range(1 + 5 * start_number)]
        worker.send_signal(signal.SIGKILL)
        acknowledged += [line for line in worker.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        worker.stdout.close()
        worker.wait(60)
    inbox = Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE).open("INBOX")
    found = {}
    for message in inbox.messages():
        text = inbox.read(message.uid)
        assert text.endswith(b"\r\n\r\nbody\r\n")
        assert len(text) == message.size
        found[text.decode().split("\r\n")[0]] = message.uid
    assert len(found) == len(inbox.messages())
    assert {line.strip() for line in acknowledged} <= set(found)


@pytest.mark.slow
def test_uids_stay_after_kill_9_with_and_without_the_index(tmp_path):
    worker = start(GIVE, tmp_path / "mail", "x", 10_000)
    assert worker.stdout is not None
    for _ in range(30):
        worker.stdout.readline()
    worker.send_signal(signal.SIGKILL)
    given = 30 + sum(line.endswith("\n") for line in worker.stdout)
    worker.stdout.close()
    worker.wait(60)
    account = Store(tmp_path / "mail", hostname="mx.example.test").account(ALICE)
    seen = []
    for remove in (False, True):
        if remove:
            for path in (tmp_path / "mail/example.test/alice").glob("mailserver.index*"):
                path.unlink()
        inbox = account.open("INBOX")
        seen.append([(message.uid, message.flags, inbox.read(message.uid)) for message in inbox.messages()])
        inbox.close()
    assert seen[0] == seen[1]
    assert len(seen[0]) >= given
    for uid, _flags, text in seen[0]:
        assert text == b"Subject: x %d\r\n\r\n" % (uid - 1)


# Two stores in one process know of each other only through the disk, as two processes do.


def deliver(store: Store, count: int) -> None:
    content = [Content(b"Subject: %d\r\n\r\n" % number) for number in range(count)]
    for result in store.deliver([Delivery(ALICE, b"", each) for each in content]):
        assert isinstance(result, Path)


def two_inboxes(root: Path) -> tuple[Store, Mailbox, Mailbox]:
    stores = [Store(root, hostname="mx.example.test") for _ in range(2)]
    one, other = (store.account(ALICE).open("INBOX") for store in stores)
    return stores[0], one, other


def test_a_refusal_while_uids_are_given_moves_none_that_others_gave(tmp_path, monkeypatch):
    store, one, other = two_inboxes(tmp_path)
    deliver(store, 2)
    other.sync()
    deliver(store, 3)
    rename = os.rename

    def refused(path: str, target: str, **options: int) -> None:
        if ",U=4:" in target:
            raise OSError(errno.EIO, "I/O error")
        rename(path, target, **options)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(Unavailable):
        one.sync()
    monkeypatch.undo()
    assert [message.uid for message in one.messages()] == [1, 2, 3]
    one.sync()
    other.sync()
    uids = [message.uid for message in one.messages()]
    assert uids[:3] == [1, 2, 3]
    assert len(uids) == 5
    assert [message.uid for message in other.messages()] == uids


def test_what_another_process_moves_to_cur_in_the_middle_of_a_look_is_seen(tmp_path, monkeypatch, hurry):
    """A message that is neither in the one nor in the other directory as each of them is read."""
    store, one, other = two_inboxes(tmp_path)
    look = maildir.regular_files
    for moment in ("before", "after"):
        deliver(store, 2)

        def meddled(path: str, moment: str = moment) -> list[str]:
            monkeypatch.setattr(maildir, "regular_files", look)
            found = look(path) if moment == "after" else []
            other.sync()
            return found or look(path)

        monkeypatch.setattr(maildir, "regular_files", meddled)
        expected = one.message_count + 2
        one.sync()
        assert maildir.regular_files is look
        assert one.message_count == expected, moment


@pytest.mark.parametrize("change", ["flags", "expunge"])
def test_new_mail_that_another_process_takes_in_during_a_change_of_ours_is_seen_at_once(tmp_path, monkeypatch, change):
    """The directory's time tells of both changes as if they were one."""
    store, one, other = two_inboxes(tmp_path)
    deliver(store, 2)
    for mailbox in (one, other):
        mailbox.sync()
    time.sleep(2 * watch.GRAIN / 1e9)
    one.sync()
    deliver(store, 1)
    sync = Directory.sync

    def meddled(directory: Directory) -> None:
        monkeypatch.setattr(Directory, "sync", sync)
        other.sync()
        sync(directory)

    monkeypatch.setattr(Directory, "sync", meddled)
    if change == "flags":
        one.update_flags([1], "add", frozenset({"\\Seen"}))
    else:
        one.expunge([2])
    assert Directory.sync is sync
    one.sync()
    assert [message.uid for message in one.messages()] == ([1, 2, 3] if change == "flags" else [1, 3])


FLAG = """
    import sys
    from pathlib import Path
    from mailserver.mail import Address
    from mailserver.store import Store

    root, own, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    inbox = Store(root, hostname="mx.example.test").account(Address("alice", "example.test")).open("INBOX")
    inbox.sync()
    uids = [message.uid for message in inbox.messages()]
    flags = frozenset({own, f"key-{own[1:]}", f"more-{own[1:]}"})
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(rounds):
        inbox.update_flags(uids, "remove" if number % 2 else "add", flags)
    inbox.update_flags(uids, "add", flags)
"""


@pytest.mark.slow
def test_flags_and_keywords_that_processes_change_at_once_are_all_kept(tmp_path):
    """Each changes its own on all messages. There are letters for four of the six keywords."""
    store = Store(tmp_path, hostname="mx.example.test")
    deliver(store, 30)
    keywords = tmp_path / "example.test/alice/dovecot-keywords"
    keywords.write_text("".join(f"{number} k{number}\n" for number in range(22)))
    store.account(ALICE).open("INBOX").sync()
    own = ["\\Seen", "\\Flagged", "\\Answered"]
    workers = [start(FLAG, tmp_path, flag, 15, stdin=subprocess.PIPE) for flag in own]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.wait(300) for worker in workers] == [0, 0, 0]
    expected = frozenset(own).union(f"{kind}-{flag[1:]}" for flag in own for kind in ("key", "more"))
    for inbox in (store.account(ALICE).open("INBOX"), Store(tmp_path, hostname="mx").account(ALICE).open("INBOX")):
        assert [message.flags for message in inbox.messages()] == [expected] * 30
        assert [message.uid for message in inbox.messages()] == list(range(1, 31))


@pytest.mark.parametrize("closes_first", [0, 1])
def test_an_index_row_that_a_slower_process_wrote_over_is_put_right(tmp_path, monkeypatch, closes_first):
    """It renames the file, and before it saves that another one finds it, goes on, and saves."""
    store, one, other = two_inboxes(tmp_path)
    deliver(store, 2)
    one.sync()
    other.sync()
    save = one._index.mailboxes.save

    def late(*arguments: object) -> object:
        monkeypatch.setattr(one._index.mailboxes, "save", save)
        other.sync()
        other.update_flags([1], "add", frozenset({"\\Flagged"}))
        other.expunge([2])
        return save(*arguments)

    monkeypatch.setattr(watch, "RECHECK", 0.0)
    monkeypatch.setattr(one._index.mailboxes, "save", late)
    one.update_flags([1, 2], "add", frozenset({"\\Seen"}))
    time.sleep(2 * watch.GRAIN / 1e9)
    for mailbox in (one, other) if closes_first == 0 else (other, one):
        mailbox.sync()
        mailbox.close()
    again = Store(tmp_path, hostname="mx").account(ALICE).open("INBOX")
    assert [(message.uid, message.flags) for message in again.messages()] == [(1, {"\\Seen", "\\Flagged"})]


def hiding(monkeypatch: pytest.MonkeyPatch, uid: int, looks: int) -> list[str]:
    """Another process renames the file of a message in each of so many looks, and readdir has neither name of it."""
    real, hidden = scanning.regular_files, list[str]()

    def regular_files(path: str) -> list[str]:
        found = real(path)
        (name,) = (each for each in found if f",U={uid}:" in each)
        if path.endswith("/cur") and len(hidden) < looks:
            time.sleep(0.02)  # the grain of modification times
            Path(path, name).rename(Path(path, name.removesuffix("F") if name.endswith("F") else name + "F"))
            hidden.append(name)
            found.remove(name)
        return found

    monkeypatch.setattr(scanning, "regular_files", regular_files)
    return hidden


@pytest.mark.parametrize("uid", [3, 4, 5])
@pytest.mark.parametrize("looks", range(1, 5))
def test_a_message_of_another_process_that_several_looks_miss_keeps_its_uid(tmp_path, monkeypatch, uid, looks):
    """readdir may miss a file each time that it is renamed; once its UID is passed it would get another one."""
    store, one, other = two_inboxes(tmp_path)
    deliver(store, 2)
    for mailbox in (one, other):
        mailbox.sync()
    deliver(store, 3)
    other.sync()
    before = {message.uid: message.size for message in other.messages()}
    hidden = hiding(monkeypatch, uid, looks)
    one.sync()
    assert len(hidden) == looks
    monkeypatch.undo()
    for mailbox in (one, other, one):
        mailbox.sync()
        assert {message.uid: message.size for message in mailbox.messages()} == before


@pytest.mark.parametrize("looks", range(1, 5))
def test_a_known_message_that_several_looks_miss_is_not_expunged(tmp_path, monkeypatch, looks):
    store, one, other = two_inboxes(tmp_path)
    deliver(store, 3)
    for mailbox in (one, other):
        mailbox.sync()
    modseq = one.highest_modseq
    other.update_flags([2], "add", frozenset({"\\Flagged"}))
    hidden = hiding(monkeypatch, 2, looks)
    one.sync()
    assert len(hidden) == looks
    assert [message.uid for message in one.messages()] == [1, 2, 3]
    assert one.changes(modseq).vanished == []


def test_a_quiet_directory_is_looked_at_twice(tmp_path, monkeypatch):
    """UIDs that another process gave to messages which are gone by now."""
    store, one, other = two_inboxes(tmp_path)
    deliver(store, 5)
    other.sync()
    other.expunge([2, 4])
    real, looks = scanning.regular_files, list[str]()
    monkeypatch.setattr(scanning, "regular_files", lambda path: looks.append(path) or real(path))
    one.sync()
    assert len(looks) <= 3, "one that finds them, and two while nobody else gives"
    assert [message.uid for message in one.messages()] == [1, 3, 5]


@pytest.mark.parametrize("known", [True, False])
def test_no_modseq_of_a_change_here_hides_what_another_process_changed_before(tmp_path, known):
    """A client that leaves with the greater MODSEQ, and goes on at the other process, would never hear of it."""
    store, one, other = two_inboxes(tmp_path)
    deliver(store, 3)
    for mailbox in (one, other):
        mailbox.sync()
    if known:  # the directories are trusted for good
        time.sleep(2 * watch.GRAIN / 1e9)
        for mailbox in (one, other):
            mailbox.sync()
    before = one.highest_modseq
    other.update_flags([1], "add", frozenset({"\\Flagged"}))
    other.expunge([3])
    (told,) = one.update_flags([2], "add", frozenset({"\\Seen"}))
    assert told.modseq > other.highest_modseq
    changes = one.changes(before)
    assert {message.uid for message in changes.changed} == {1, 2}
    assert changes.vanished == [3]
