"""Mailboxes that stay in memory after their last user: what they see then, and how they go."""

import gc
import time
import weakref
from pathlib import Path

import pytest

from mailserver.mail import Address
from mailserver.store import NoSuchMailbox, Store, warm
from mailserver.store.index import INDEX_FILE, Mailboxes

ALICE, BOB = Address("alice", "example.test"), Address("bob", "example.test")
SEEN = frozenset({"\\Seen"})


def uids(mailbox):
    return [message.uid for message in mailbox.messages()]


def used(account, name="INBOX"):
    """The mailbox, opened and closed."""
    mailbox = account.open(name)
    mailbox.close()
    return mailbox


@pytest.fixture
def elsewhere(maildir: Path):
    """Alice's account as another process sees it."""
    return Store(maildir.parents[1], hostname="other.example.test").account(ALICE)


def test_a_mailbox_used_again_is_not_read_again(account, post, monkeypatch):
    post(3)
    kept = used(account)
    monkeypatch.setattr(Mailboxes, "load", None)
    again = account.open("INBOX")
    assert again is kept
    assert uids(again) == [1, 2, 3]


def test_only_the_index_stays_open_for_a_warm_mailbox(account, post, maildir):
    post()
    used(account)
    links = [link for link in map(_target, Path("/proc/self/fd").iterdir()) if str(maildir) in link]
    assert {Path(link).name for link in links} <= {f"{INDEX_FILE}{suffix}" for suffix in ("", "-wal", "-shm")}


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return ""


def test_a_warm_mailbox_sees_what_others_did_meanwhile(account, post, maildir, elsewhere, hurry):
    post(4)
    kept = used(account)
    other = elsewhere.open("INBOX")
    other.update_flags([2], "add", SEEN)
    other.expunge([3])
    other.close()
    post()
    (maildir / "cur/by-hand:2,F").write_bytes(b"Subject: x\n\nbody\n")
    again = account.open("INBOX")
    assert again is kept
    assert {message.uid: set(message.flags) for message in again.messages()} == {
        1: set(),
        2: {"\\Seen"},
        4: set(),
        5: {"\\Flagged"},
        6: set(),
    }


def test_a_folder_deleted_while_warm_is_gone_and_its_name_is_free(account, post):
    account.create("Work")
    post(2, folder="Work")
    kept = used(account, "Work")
    account.delete("Work")
    with pytest.raises(NoSuchMailbox):
        account.open("Work")
    account.create("Work")
    again = account.open("Work")
    assert again is not kept
    assert again.messages() == []
    assert again.uidvalidity > kept.uidvalidity


def test_a_folder_renamed_while_warm_is_found_under_its_new_name(account, post):
    account.create("Work")
    post(2, folder="Work")
    kept = used(account, "Work")
    account.rename("Work", "Play")
    with pytest.raises(NoSuchMailbox):
        account.open("Work")
    again = account.open("Play")
    assert (again.name, uids(again), again.uidvalidity) == ("Play", [1, 2], kept.uidvalidity)
    assert again.read(1).endswith(b"body\r\n")


@pytest.mark.parametrize("change", ["delete", "rename"])
def test_another_process_may_put_another_folder_in_its_place(account, post, elsewhere, change):
    account.create("Work")
    post(2, folder="Work")
    kept = used(account, "Work")
    if change == "delete":
        elsewhere.delete("Work")
    else:
        elsewhere.rename("Work", "Play")
    with pytest.raises(NoSuchMailbox):
        account.open("Work")
    elsewhere.create("Work")
    again = account.open("Work")
    assert again is not kept
    assert again.messages() == []
    assert again.uidvalidity > kept.uidvalidity


def test_an_account_removed_while_warm_begins_anew(store, account, post, maildir):
    post(2)
    kept = used(account)
    maildir.rename(maildir.with_name("removed"))
    again = store.account(ALICE).open("INBOX")
    assert again.messages() == []
    assert again is not kept


def test_a_warm_mailbox_goes_after_its_time(account, post, monkeypatch):
    post()
    account.create("Work")
    kept = used(account)
    used(account, "Work")
    assert used(account) is kept
    monkeypatch.setattr(warm, "LIFETIME", 0.0)
    time.sleep(0.001)
    used(account, "Work")
    assert account.open("INBOX") is not kept


def test_those_used_last_stay_within_the_number_of_mailboxes(account, monkeypatch):
    monkeypatch.setattr(warm, "MAILBOXES", 2)
    for name in ("A", "B", "C"):
        account.create(name)
    kept = {name: used(account, name) for name in ("A", "B", "A", "C")}
    assert account.open("A") is kept["A"]
    assert account.open("C") is kept["C"]
    assert account.open("B") is not kept["B"]


def test_those_used_last_stay_within_the_number_of_messages_of_all_accounts(store, account, post, monkeypatch):
    monkeypatch.setattr(warm, "MESSAGES", 5)
    account.create("Work")
    post(3)
    post(2, folder="Work")
    kept = used(account), used(account, "Work")
    assert (account.open("INBOX"), account.open("Work")) == kept
    for mailbox in kept:
        mailbox.close()
    inbox = store.account(BOB).open("INBOX")
    inbox.copy([], inbox)
    kept[1].copy([1], inbox)
    inbox.close()
    assert store.account(BOB).open("INBOX") is inbox
    assert account.open("Work") is kept[1]
    assert account.open("INBOX") is not kept[0]


def test_what_is_let_go_takes_no_memory(account, monkeypatch):
    monkeypatch.setattr(warm, "MAILBOXES", 1)
    account.create("Work")
    gone = weakref.ref(used(account))
    assert gone() is not None
    used(account, "Work")
    gc.collect()
    assert gone() is None


def test_a_mailbox_in_use_is_never_let_go(account, post, monkeypatch):
    monkeypatch.setattr(warm, "MAILBOXES", 0)
    post()
    one = account.open("INBOX")
    used(account)
    used(account)
    assert account.open("INBOX") is one


def test_leftovers_in_tmp_are_swept_now_and_then_though_the_mailbox_is_warm(account, maildir, monkeypatch):
    used(account)
    (maildir / "tmp/left").touch()
    monkeypatch.setattr("mailserver.store.writing.TMP_LIFETIME", -10)
    used(account)
    assert any((maildir / "tmp").iterdir())
    monkeypatch.setattr("mailserver.store.account.SWEEP_INTERVAL", 0.0)
    used(account)
    assert not any((maildir / "tmp").iterdir())
