"""Folders of an account, their names, and subscriptions."""

import errno
import os
import stat
import time
from contextlib import contextmanager

import pytest

from mailserver.mail import Address, Content
from mailserver.store import (
    Folder,
    InvalidName,
    MailboxExists,
    MailboxHasChildren,
    NoSuchMailbox,
    Store,
    Unavailable,
    layout,
    uids,
    warm,
)

ALICE = Address("alice", "example.test")
TEXT = b"Subject: x\r\n\r\nbody\r\n"


def names(account):
    return [folder.name for folder in account.folders()]


def test_an_account_is_made_when_first_asked_for(store, tmp_path):
    account = store.account(Address("New.User", "example.test"))
    directory = tmp_path / "mail/example.test/new.user"
    assert {path.name for path in directory.iterdir()} >= {"new", "cur", "tmp"}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert account.folders() == [Folder("INBOX", True, False)]
    assert store.account(Address("NEW.user", "example.test")) is account


def test_folders_are_listed_with_their_parents(account, maildir):
    for name in ("Work/2024/May", "Archive", "INBOX/Lists", "Entwürfe"):
        account.create(name)
    assert account.folders() == [
        Folder("INBOX", True, True),
        Folder("Archive", True, False, frozenset({"\\Archive"})),
        Folder("Entwürfe", True, False),
        Folder("INBOX/Lists", True, False),
        Folder("Work", False, True),
        Folder("Work/2024", False, True),
        Folder("Work/2024/May", True, False),
    ]
    assert (maildir / ".Work.2024.May/maildirfolder").exists()
    assert (maildir / ".Entw&APw-rfe/cur").is_dir()
    assert stat.S_IMODE((maildir / ".Archive").stat().st_mode) == 0o700


def test_create_refuses_what_exists(account):
    account.create("Work/")
    for name in ("Work", "INBOX", "inbox"):
        with pytest.raises(MailboxExists):
            account.create(name)
    account.create("Work/Sub")
    account.create("work")


def test_a_parent_that_was_only_a_name_can_be_created(account):
    account.create("a/b")
    account.create("a")
    assert account.folders()[1] == Folder("a", True, True)


@pytest.mark.parametrize("name", ["../bob", "a/../../b", "..", "a.b", "a\0", "", "/", "a//b"])
def test_no_name_leads_out_of_the_account(account, maildir, name):
    before = sorted(maildir.parent.rglob("*"))
    for act in (account.create, account.open, account.delete, account.status, account.subscribe):
        with pytest.raises(InvalidName):
            act(name)
    with pytest.raises((InvalidName, NoSuchMailbox)):
        account.rename(name, "x")
    assert sorted(path for path in maildir.parent.rglob("*") if "lock" not in path.name) == before


def test_strange_directories_are_not_seen(account, maildir, tmp_path):
    (tmp_path / "elsewhere/cur").mkdir(parents=True)
    (maildir / ".Link").symlink_to(tmp_path / "elsewhere")
    (maildir / ".File").write_bytes(b"")
    (maildir / ".NoMaildir").mkdir()
    (maildir / ".a..b/cur").mkdir(parents=True)
    (maildir / ".bad&utf7/cur").mkdir(parents=True)
    (maildir / "plain/cur").mkdir(parents=True)
    (maildir / ".INBOX/cur").mkdir(parents=True)
    assert names(account) == ["INBOX"]
    for name in ("Link", "File", "NoMaildir"):
        with pytest.raises(NoSuchMailbox):
            account.open(name)
        with pytest.raises(MailboxExists):
            account.create(name)


def test_a_maildir_by_another_program_is_completed(account, maildir):
    (maildir / ".Other/cur").mkdir(parents=True)
    (maildir / ".Other/cur/1.x.host:2,S").write_bytes(b"Subject: x\n\n")
    other = account.open("Other")
    assert len(other.messages()) == 1
    assert (maildir / ".Other/new").is_dir()


def test_delete_removes_the_messages_and_leaves_those_below(account, maildir):
    account.create("Work")
    account.create("Work/2024")
    work = account.open("Work")
    work.append(Content(TEXT))
    account.delete("Work")
    assert account.folders()[1:] == [Folder("Work", False, True), Folder("Work/2024", True, False)]
    with pytest.raises(NoSuchMailbox):
        work.sync()
    work.close()
    with pytest.raises(MailboxHasChildren):
        account.delete("Work")
    with pytest.raises(NoSuchMailbox):
        account.delete("Nothing")
    with pytest.raises(InvalidName):
        account.delete("INBOX")
    assert not [path for path in maildir.iterdir() if "removed" in path.name]


def test_a_name_used_again_has_a_greater_uidvalidity(account):
    seen = []
    for _ in range(3):
        account.create("Work")
        work = account.open("Work")
        work.append(Content(TEXT))
        seen.append(work.uidvalidity)
        work.close()
        account.delete("Work")
    account.create("Other")
    account.rename("Other", "Work")
    seen.append(account.status("Work").uidvalidity)
    assert seen == sorted(set(seen))


def test_rename_takes_along_what_lies_below_and_open_mailboxes(account):
    for name in ("Work", "Work/2024", "Work/2024/May", "Workshop"):
        account.create(name)
    work, may = account.open("Work"), account.open("Work/2024/May")
    uid = may.append(Content(TEXT), frozenset({"$Key"}))
    validity = may.uidvalidity
    account.rename("Work", "Play/Games")
    assert names(account) == ["INBOX", "Play", "Play/Games", "Play/Games/2024", "Play/Games/2024/May", "Workshop"]
    assert (work.name, may.name) == ("Play/Games", "Play/Games/2024/May")
    assert may.read(uid) == TEXT
    assert may.update_flags([uid], "add", frozenset({"\\Seen"}))[0].flags == {"\\Seen", "$Key"}
    assert account.open("Play/Games/2024/May") is may
    may.close()
    may.close()
    again = account.open("Play/Games/2024/May")
    assert (again.uidvalidity, [message.uid for message in again.messages()]) == (validity, [uid])


def test_a_name_that_is_only_a_parent_can_be_renamed(account):
    account.create("a/b")
    account.rename("a", "c")
    assert names(account) == ["INBOX", "c", "c/b"]


def test_rename_refuses(account):
    for name in ("Work", "Work/Sub", "Play/Sub", "Other"):
        account.create(name)
    with pytest.raises(NoSuchMailbox):
        account.rename("Nothing", "New")
    for new in ("Other", "INBOX", "Work"):
        with pytest.raises(MailboxExists):
            account.rename("Work", new)
    with pytest.raises(MailboxExists):
        account.rename("Work", "Play")  # Play/Sub is in the way
    with pytest.raises(InvalidName):
        account.rename("Work", "Work/Below")
    assert names(account) == ["INBOX", "Other", "Play", "Play/Sub", "Work", "Work/Sub"]


def test_rename_of_inbox_moves_its_messages_and_leaves_it_there(account, post):
    post(3)
    account.create("INBOX/Sub")
    account.rename("INBOX", "Old")
    old, inbox = account.open("Old"), account.open("INBOX")
    assert len(old.messages()) == 3
    assert inbox.messages() == []
    assert "INBOX/Sub" in names(account)
    post()
    inbox.sync()
    assert [message.uid for message in inbox.messages()] == [4]


def test_a_folder_copied_by_hand_gets_a_uidvalidity_of_its_own(account, maildir):
    account.create("Work")
    work = account.open("Work")
    work.append(Content(TEXT))
    (maildir / ".Copy").mkdir()
    for part in ("new", "cur", "tmp"):
        (maildir / ".Copy" / part).mkdir()
    for path in [maildir / ".Work/.uidvalidity", *(maildir / ".Work/cur").iterdir()]:
        (maildir / ".Copy" / path.relative_to(maildir / ".Work")).write_bytes(path.read_bytes())
    copy = account.open("Copy")
    assert copy.uidvalidity != work.uidvalidity
    assert [message.uid for message in copy.messages()] == [1]
    assert copy.append(Content(TEXT)) > 1


def test_status_counts(account, post):
    post(3)
    inbox = account.open("INBOX")
    inbox.update_flags([1], "add", frozenset({"\\Seen"}))
    inbox.update_flags([2], "add", frozenset({"\\Deleted"}))
    status = account.status("INBOX")
    assert (status.messages, status.recent, status.unseen, status.deleted, status.uidnext) == (3, 3, 2, 1, 4)
    assert status.size == sum(len(inbox.read(uid)) for uid in (1, 2, 3))
    assert status.uidvalidity == inbox.uidvalidity
    with pytest.raises(NoSuchMailbox):
        account.status("Nothing")


def test_usage_sums_all_folders(hurry, account, post):
    post(2)
    post(1, folder="Work/2024")
    usage = account.usage()
    assert usage.messages == 3
    account.open("INBOX").expunge([1, 2])
    assert account.usage().messages == 1
    assert account.usage().octets < usage.octets


def test_subscriptions_outlive_their_mailboxes(account, store, maildir):
    account.create("Entwürfe/R&D")
    for name in ("Entwürfe/R&D", "inbox", "Nothing/Here", "Nothing/Here"):
        account.subscribe(name)
    assert account.subscriptions() == ["Entwürfe/R&D", "INBOX", "Nothing/Here"]
    account.unsubscribe("Nothing/Here")
    account.unsubscribe("Nothing/Here")
    account.delete("Entwürfe/R&D")
    assert account.subscriptions() == ["Entwürfe/R&D", "INBOX"]
    assert (maildir / "subscriptions").read_text() == "V\t2\n\nEntw&APw-rfe\tR&-D\nINBOX\n"


def test_subscriptions_of_other_programs_are_understood(account, maildir):
    (maildir / "subscriptions").write_text("INBOX\nWork.2024\nbad&\n..\n")
    assert account.subscriptions() == ["INBOX", "Work/2024"]
    (maildir / "subscriptions").write_text("V\t2\n\nWork\t2025\n")
    assert account.subscriptions() == ["Work/2025"]


def test_a_refused_disk_is_told_and_leaves_things_as_they_were(account, maildir, monkeypatch):
    account.create("Work")
    account.subscribe("Work")
    before = sorted(path.name for path in maildir.iterdir())

    def fsync(_fd):
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(Unavailable) as caught:
            account.create("Other")
        with pytest.raises(Unavailable):
            account.subscribe("Other")
        assert str(maildir) not in str(caught.value)
    assert sorted(path.name for path in maildir.iterdir()) == before
    assert account.subscriptions() == ["Work"]


def test_nothing_can_be_renamed_that_is_no_mailbox(account, maildir):
    (maildir / ".draft").write_bytes(b"no directory")
    with pytest.raises(NoSuchMailbox):
        account.rename("draft", "other")


def test_a_subscription_must_be_a_possible_name(account, maildir):
    with pytest.raises(InvalidName):
        account.subscribe("x" * 10_000)
    assert not (maildir / "subscriptions").exists()


def test_few_indexes_stay_open_that_nobody_uses(store, monkeypatch):
    monkeypatch.setattr(warm, "INDEXES", 2)
    accounts = [store.account(Address(name, "example.test")) for name in "abc"]
    for account in accounts:
        account.create("Work")
        account.status("Work")
        account.delete("Work")
    assert [account._index.file.connection is not None for account in accounts] == [False, True, True]
    accounts[0].status("INBOX")
    assert [account._index.file.connection is not None for account in accounts] == [True, False, True]


def test_what_a_crash_left_of_a_new_folder_is_swept_after_36_hours(tmp_path, account, maildir, monkeypatch):
    unfinished = maildir / "mailserver-made-1.M2P3Q4.mx"
    unfinished.mkdir()
    Store(tmp_path / "mail", hostname="mx").account(ALICE)
    assert unfinished.exists()
    now = time.time()
    monkeypatch.setattr(layout.time, "time", lambda: now + 37 * 3600)
    Store(tmp_path / "mail", hostname="mx").account(ALICE)
    assert not unfinished.exists()


def test_what_a_crash_left_of_a_removed_folder_is_swept(tmp_path, store, account, maildir):
    (maildir / "mailserver-removed-1/cur").mkdir(parents=True)
    Store(tmp_path / "mail", hostname="mx.example.test").account(Address("alice", "example.test"))
    assert not (maildir / "mailserver-removed-1").exists()


def test_a_new_folder_is_complete_before_it_is_seen(account, maildir, monkeypatch):
    seen = []
    real = os.rename

    def rename(source, target):
        seen.append(sorted(path.name for path in os.scandir(source)))
        assert uids.peek(source) is not None
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    account.create("Work")
    assert seen == [[".uidvalidity", "cur", "maildirfolder", "new", "tmp"]]


def test_a_folder_that_another_process_is_making_does_not_disturb_the_sweep(tmp_path, monkeypatch):
    scandir = os.scandir

    class Entry:
        """Its directory gets another name between listing and looking."""

        name, path = f"{layout.UNFINISHED}1.other", str(tmp_path / "gone")

        def stat(self, *, follow_symlinks):
            raise FileNotFoundError(2, "No such file or directory")

    @contextmanager
    def listing(path):
        with scandir(path) as entries:
            yield [Entry(), *entries] if path == str(tmp_path) else entries

    (tmp_path / f"{layout.LEFTOVER}2.other").mkdir()
    monkeypatch.setattr(os, "scandir", listing)
    layout.sweep(str(tmp_path))
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
