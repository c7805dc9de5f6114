"""A mailbox: flags, expunges, appends, copies, and what other programs do meanwhile."""

import errno
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from mailserver.mail import Address, Content, Quota
from mailserver.store import (
    Addition,
    InvalidFlag,
    MessageGone,
    NoSuchMailbox,
    OverQuota,
    Store,
    StoreError,
    Unavailable,
    content,
    names,
    warm,
    watch,
)
from mailserver.store.index import Index, Mailboxes
from mailserver.store.syncing import Directory

ALICE = Address("alice", "example.test")


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mailbox that all have closed is read again when it is opened again."""
    monkeypatch.setattr(warm, "MAILBOXES", 0)


def later() -> float:
    """A minute from now."""
    return monotonic() + 60


monotonic = time.monotonic
SEEN = frozenset({"\\Seen"})
TEXT = b"Subject: x\r\n\r\nbody\r\n"


def uids(mailbox):
    return [message.uid for message in mailbox.messages()]


def flags(mailbox):
    return {message.uid: set(message.flags) for message in mailbox.messages()}


def in_cur(maildir: Path) -> list[Path]:
    return sorted((maildir / "cur").iterdir(), key=lambda path: names.uid_of(path.name))


def test_new_mail_gets_its_uid_and_moves_to_cur(inbox, post, maildir):
    post(2)
    inbox.sync()
    assert uids(inbox) == [1, 2]
    assert inbox.uidnext == 3
    assert not any((maildir / "new").iterdir())
    assert [path.name.partition(",U=")[2] for path in in_cur(maildir)] == ["1:2,", "2:2,"]
    assert inbox.read(1) == b"Return-Path: <>\r\nSubject: 1\r\n\r\nbody\r\n"
    assert b"".join(inbox.chunks(2)) == inbox.read(2)
    assert inbox.messages()[0].size == len(inbox.read(1))


def test_many_are_read_as_one_is(inbox, post, maildir):
    post(4)
    inbox.sync()
    known = inbox.messages()
    first, second, third, _ = in_cur(maildir)
    first.rename(first.with_name(f"{first.name}S"))  # another program sets a flag
    with second.open("ab") as file:
        file.write(b"more\n")  # its size is not what the name tells
    third.unlink()
    with inbox.reading() as read:
        for place in (0, 1, 3):
            assert read(known[place]) == inbox.read(place + 1)
        assert read(known[1]).endswith(b"body\r\nmore\r\n")
        with pytest.raises(MessageGone):
            read(known[2])


def test_flags_are_letters_of_the_file_name(inbox, post, maildir):
    post(2)
    inbox.sync()
    changed = inbox.update_flags([1], "add", frozenset({"\\Seen", "\\Flagged", "$Forwarded"}))
    assert [message.uid for message in changed] == [1]
    assert in_cur(maildir)[0].name.endswith(",U=1:2,FSa")
    inbox.update_flags([1], "remove", frozenset({"\\Flagged"}))
    inbox.update_flags([2], "set", frozenset({"\\Deleted"}))
    assert flags(inbox) == {1: {"\\Seen", "$Forwarded"}, 2: {"\\Deleted"}}
    inbox.update_flags([1, 2], "set", frozenset())
    assert flags(inbox) == {1: set(), 2: set()}


def test_each_change_has_a_greater_modseq_and_no_change_has_none(inbox, post):
    post(2)
    inbox.sync()
    before = inbox.highest_modseq
    inbox.update_flags([1], "add", SEEN)
    assert inbox.highest_modseq > before
    assert [message.uid for message in inbox.changes(before).changed] == [1]
    before = inbox.highest_modseq
    inbox.update_flags([1], "add", SEEN)
    assert inbox.highest_modseq == before
    assert inbox.changes(before) == type(inbox.changes(before))([], [], [], before)


def test_what_changed_since_is_left_alone_where_that_is_asked(inbox, post, maildir):
    post(3)
    inbox.sync()
    since = inbox.highest_modseq
    inbox.update_flags([2], "add", frozenset({"\\Flagged"}))
    file = next((maildir / "cur").glob("*,U=3:*"))
    file.rename(file.with_name(file.name + "F"))  # by another program, and not found yet
    assert [message.uid for message in inbox.update_flags([1, 2, 3, 4], "set", SEEN, since)] == [1]
    assert flags(inbox) == {1: {"\\Seen"}, 2: {"\\Flagged"}, 3: {"\\Flagged"}}


def test_vanished_and_remembers(inbox, post):
    post(3)
    inbox.sync()
    since = inbox.highest_modseq
    assert inbox.vanished(since) == set()
    inbox.expunge([1, 3])
    assert inbox.vanished(since) == {1, 3}
    assert inbox.vanished(inbox.highest_modseq) == set()
    assert inbox.vanished(1) is None, "before the mailbox was first seen"
    assert inbox.remembers(1)
    assert inbox.remembers(since)
    assert inbox.remembers(inbox.highest_modseq)
    assert not inbox.remembers(inbox.highest_modseq + 1)


def test_changes_tell_appeared_changed_and_vanished(inbox, post):
    post(3)
    inbox.sync()
    since = inbox.highest_modseq
    post()
    inbox.sync()
    inbox.update_flags([2], "add", SEEN)
    inbox.expunge([1])
    changes = inbox.changes(since)
    assert [message.uid for message in changes.appeared] == [4]
    assert [message.uid for message in changes.changed] == [2]
    assert changes.vanished == [1]
    assert changes.complete


def test_expunges_are_remembered_by_the_index(account, post):
    inbox = account.open("INBOX")
    post(3)
    inbox.sync()
    since = inbox.highest_modseq
    inbox.expunge([2])
    inbox.close()
    inbox = account.open("INBOX")
    changes = inbox.changes(since)
    assert (changes.vanished, changes.complete) == ([2], True)
    assert not inbox.changes(since - 10**12).complete


def test_expunge_removes_files_and_skips_what_is_gone(inbox, post, maildir):
    post(3)
    inbox.sync()
    assert inbox.expunge([1, 3, 99]) == [1, 3]
    assert uids(inbox) == [2]
    assert len(in_cur(maildir)) == 1
    with pytest.raises(MessageGone):
        inbox.read(1)
    with pytest.raises(MessageGone):
        inbox.chunks(3)


def test_expunge_while_others_set_flags_removes_all_and_tells_so(inbox, post, maildir):
    post(4)
    inbox.sync()
    since = inbox.highest_modseq
    third = in_cur(maildir)[2]
    third.rename(f"{third}F")
    assert inbox.expunge([1, 2, 3]) == [1, 2, 3]
    assert uids(inbox) == [4]
    assert inbox.changes(since).vanished == [1, 2, 3]
    assert len(in_cur(maildir)) == 1


def test_append_keeps_flags_and_date(inbox, maildir):
    uid = inbox.append(Content(TEXT), frozenset({"\\Seen", "$Todo"}), 1_000_000_000.0)
    [message] = inbox.messages()
    assert message.uid == uid == 1
    assert message.flags == {"\\Seen", "$Todo"}
    assert message.internal_date == 1_000_000_000.0
    assert in_cur(maildir)[0].stat().st_mtime == 1_000_000_000.0
    assert not any((maildir / "tmp").iterdir())
    assert inbox.read(uid) == TEXT


def test_append_many_is_all_or_none(inbox, maildir, monkeypatch):
    additions = [Addition(Content(TEXT)), Addition(Content(TEXT), frozenset({"bad flag"}))]
    with pytest.raises(InvalidFlag):
        inbox.append_many(additions)
    assert inbox.append_many([Addition(Content(TEXT)), Addition(Content(TEXT), SEEN)]) == [1, 2]
    assert flags(inbox) == {1: set(), 2: {"\\Seen"}}
    assert not any((maildir / "tmp").iterdir())


def test_an_appended_message_is_kept_to_the_octet(inbox):
    for text in (b"a\r\nb\nc", b"a\r\n\0\r\r\n", b"", b"x" * 3_000_000 + b"\r\n", b"\r\n\n\r\n"):
        assert inbox.read(inbox.append(Content(text))) == text


def test_copy_gives_new_uids_and_keeps_flags_and_date(account, inbox, post):
    post(3)
    inbox.sync()
    inbox.update_flags([1], "add", frozenset({"\\Answered", "$Label"}))
    account.create("Archive")
    archive = account.open("Archive")
    archive.append(Content(TEXT))
    assert inbox.copy([1, 3, 99], archive) == [(1, 2), (3, 3)]
    assert flags(archive) == {1: set(), 2: {"\\Answered", "$Label"}, 3: set()}
    assert archive.read(2) == inbox.read(1)
    assert archive.get([2])[0].internal_date == inbox.get([1])[0].internal_date
    inbox.expunge([1])
    assert archive.read(2).startswith(b"Return-Path")
    assert inbox.copy([2], inbox) == [(2, 4)]


def test_copy_goes_byte_by_byte_where_there_are_no_links(account, inbox, post, monkeypatch):
    post()
    inbox.sync()
    account.create("Archive")
    archive = account.open("Archive")

    def link(*_args, **_kwargs):
        raise OSError(errno.EXDEV, "no links")

    monkeypatch.setattr(os, "link", link)
    ((_, uid),) = inbox.copy([1], archive)
    assert archive.read(uid) == inbox.read(1)
    assert archive.messages()[0].internal_date == inbox.messages()[0].internal_date


def test_move_leaves_nothing_behind(account, inbox, post):
    post(2)
    inbox.sync()
    account.create("Archive")
    archive = account.open("Archive")
    assert inbox.move([2], archive) == [(2, 1)]
    assert (uids(inbox), uids(archive)) == ([1], [1])


def test_append_and_copy_keep_to_the_quota(account, inbox, post):
    post()
    inbox.sync()
    account.space.quota = Quota(60)
    with pytest.raises(OverQuota):
        inbox.append(Content(b"x" * 100))
    with pytest.raises(OverQuota):
        inbox.copy([1], inbox)
    assert uids(inbox) == [1]
    assert account.usage().messages == 1


def test_many_small_appends_cannot_pass_the_quota(account, inbox):
    account.space.quota = Quota(1000)
    with pytest.raises(OverQuota):
        for _ in range(100):
            inbox.append(Content(b"x" * 50))
    assert 900 <= account.usage().octets <= 1000


def test_recent_goes_to_one_session_only(account, inbox, post):
    post(2)
    inbox.sync()
    assert inbox.recent.peek() == {1, 2}
    assert account.status("INBOX").recent == 2
    assert inbox.recent.join() == {1, 2}
    post()
    inbox.sync()
    assert inbox.recent.peek() == {3}
    assert inbox.recent.take() == {3}
    assert inbox.recent.take() == set()
    inbox.recent.leave()
    inbox.close()
    assert account.open("INBOX").recent.peek() == set()


def test_recent_waits_for_a_session_that_selects(account, inbox, post):
    post()
    inbox.sync()
    assert inbox.recent.join() == {1}
    inbox.recent.leave()
    post()
    inbox.sync()
    assert inbox.recent.take() == set(), "nobody here waits: another process may have it"
    assert inbox.recent.peek() == {2}
    assert inbox.recent.join() == {2}


def test_recent_goes_to_one_of_two_processes(tmp_path, inbox, post, hurry):
    post(2)
    other = Store(tmp_path / "mail", hostname="other.example.test").account(ALICE).open("INBOX")
    inbox.sync()
    other.sync()
    assert inbox.recent.join() == {1, 2}
    assert other.recent.join() == set()
    post()
    other.sync()
    inbox.sync()
    assert (inbox.recent.take(), other.recent.take()) == (set(), {3})
    assert inbox.recent.peek() == set()
    other.close()


def test_flags_that_another_process_gave_are_taken_at_once(tmp_path, inbox, post, hurry):
    """Though this process has not heard of them yet."""
    post()
    inbox.sync()
    other = Store(tmp_path / "mail", hostname="other.example.test").account(ALICE).open("INBOX")
    other.update_flags([1], "add", frozenset({"\\Seen"}))
    [message] = inbox.update_flags([1], "remove", frozenset({"\\Seen"}))
    assert message.flags == frozenset()
    other.update_flags([1], "add", frozenset({"\\Seen"}))
    assert inbox.update_flags([1], "set", frozenset(), inbox.highest_modseq) == [], "it was modified since"
    other.sync()
    assert other.messages()[0].flags == {"\\Seen"}
    other.close()


def test_a_change_is_newer_than_what_another_process_told_before_it(tmp_path, inbox, post, hurry, monkeypatch):
    """So that a client which comes from there is told of it here."""
    post()
    inbox.sync()
    other = Store(tmp_path / "mail", hostname="other.example.test").account(ALICE).open("INBOX")
    told = []
    rename = Directory.rename

    def meanwhile(self: Directory, old: str, new: str) -> None:
        post()
        other.sync()
        told.append(other.highest_modseq)
        rename(self, old, new)

    monkeypatch.setattr(Directory, "rename", meanwhile)
    [message] = inbox.update_flags([1], "add", frozenset({"\\Seen"}))
    assert message.modseq > told[0]
    other.close()


def test_recent_without_an_index_goes_by_what_the_process_knows(account, inbox, post, monkeypatch):
    monkeypatch.setattr(Mailboxes, "tell", lambda *_: None)
    post(2)
    inbox.sync()
    assert inbox.recent.join() == {1, 2}
    assert inbox.recent.join() == set()


def test_one_object_is_shared_and_closed_by_each_user(account):
    one, other = account.open("INBOX"), account.open("inbox")
    assert one is other
    one.close()
    assert account.open("INBOX") is one
    one.close()
    other.close()
    assert account.open("INBOX") is not one


def test_subscribers_hear_of_delivery_flags_and_expunge(account, inbox, post):
    heard = []
    cancel = inbox.subscribe(lambda: heard.append(1))
    for act in (post, inbox.sync, lambda: inbox.update_flags([1], "add", SEEN), lambda: inbox.expunge([1])):
        before = len(heard)
        act()
        assert len(heard) > before
    before = len(heard)
    inbox.sync()
    assert len(heard) == before
    cancel()
    post()
    assert len(heard) == before


def test_prepared_pieces_are_made_once_and_kept(account, inbox, post, monkeypatch):
    post(2)
    inbox.sync()
    pieces = inbox.prepared([1, 2, 99])
    assert sorted(pieces) == [1, 2]
    assert b'"1"' in pieces[1].envelope
    assert pieces[1].bodystructure.lower().startswith(b'("text" "plain"')
    inbox.close()
    inbox = account.open("INBOX")
    monkeypatch.setattr(inbox, "read", None)
    assert inbox.prepared([1, 2]) == pieces


# The index is a cache


def remove_index(maildir: Path) -> None:
    found = list(maildir.glob("mailserver.index*"))
    assert found
    for path in found:
        path.unlink()


def test_without_the_index_uids_flags_and_uidvalidity_are_the_same(account, maildir, post):
    inbox = account.open("INBOX")
    post(4)
    inbox.sync()
    inbox.update_flags([1, 3], "add", frozenset({"\\Seen", "$Forwarded"}))
    inbox.expunge([2])
    before = [(m.uid, m.flags, m.internal_date, m.size) for m in inbox.messages()]
    validity, uidnext, modseq = inbox.uidvalidity, inbox.uidnext, inbox.highest_modseq
    inbox.close()
    remove_index(maildir)
    inbox = account.open("INBOX")
    assert [(m.uid, m.flags, m.internal_date, m.size) for m in inbox.messages()] == before
    assert (inbox.uidvalidity, inbox.uidnext) == (validity, uidnext)
    assert inbox.highest_modseq > modseq
    post()
    inbox.sync()
    assert uids(inbox) == [1, 3, 4, 5]


@pytest.mark.parametrize("damage", ["garbage", "truncated", "middle", "directory-less"])
def test_a_damaged_index_is_made_anew(account, maildir, post, damage):
    inbox = account.open("INBOX")
    post(50)
    inbox.sync()
    inbox.close()
    path = maildir / "mailserver.index"
    data = path.read_bytes()
    match damage:
        case "garbage":
            path.write_bytes(b"this is no database" * 1000)
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "middle":
            path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
        case "directory-less":
            path.write_bytes(b"")
    inbox = account.open("INBOX")
    inbox.update_flags([7], "add", SEEN)
    assert uids(inbox) == list(range(1, 51))
    inbox.close()
    inbox = account.open("INBOX")
    assert [uid for uid, found in flags(inbox).items() if found] == [7]


@pytest.mark.parametrize("table", ["mailboxes", "messages"])
def test_damage_to_one_table_of_the_index_moves_no_uid(account, maildir, post, table):
    inbox = account.open("INBOX")
    post(200)
    inbox.sync()
    before = [(m.uid, m.name) for m in inbox.messages()]
    inbox.close()
    path = maildir / "mailserver.index"
    with closing(sqlite3.connect(path)) as db:
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0] - 1
        size = db.execute("PRAGMA page_size").fetchone()[0]
    data = path.read_bytes()
    path.write_bytes(data[: page * size] + b"\xff" * size + data[(page + 1) * size :])
    inbox = account.open("INBOX")
    assert [(m.uid, m.name) for m in inbox.messages()] == before


@pytest.mark.parametrize("statement", ["base = 'x'", "base = CAST(x'ff' AS TEXT)", "date = 'x'", "size = -1"])
def test_damage_that_sqlite_does_not_see_moves_no_uid(account, maildir, post, statement):
    inbox = account.open("INBOX")
    post(3)
    inbox.sync()
    inbox.close()
    with closing(sqlite3.connect(maildir / "mailserver.index")) as db:
        db.execute(f"UPDATE messages SET {statement} WHERE uid = 2")
        db.commit()
    inbox = account.open("INBOX")
    assert [inbox.read(uid).split(b"\r\n")[1] for uid in uids(inbox)] == [b"Subject: 1", b"Subject: 2", b"Subject: 3"]
    assert uids(inbox) == [1, 2, 3]


@pytest.mark.parametrize("column", ["last", "modseq", "horizon", "told", "new_mtime", "turn", "sound", "directory"])
@pytest.mark.parametrize("value", ["'x'", "x'00'", "4294967295", "9223372036854775807", "1e300"])
def test_damage_to_what_is_known_of_a_mailbox_is_no_harm(account, maildir, post, column, value):
    inbox = account.open("INBOX")
    post(3)
    inbox.sync()
    inbox.expunge([2])
    inbox.close()
    with closing(sqlite3.connect(maildir / "mailserver.index")) as db:
        db.execute(f"UPDATE mailboxes SET {column} = {value}")
        db.commit()
    for new in (4, 5):
        other = Store(maildir.parents[1], hostname="mx.example.test").account(ALICE).open("INBOX")
        post(1)
        other.sync()
        assert uids(other)[:2] == [1, 3]
        assert len(uids(other)) == new - 1
        assert uids(other)[-1] < 10
        assert 0 < other.highest_modseq < 2**62
        other.update_flags([1], "add", SEEN)
        other.changes(1)
        other.recent.join()
        other.close()


def test_an_index_made_anew_by_another_process_gets_all_that_is_known(account, maildir, post, tmp_path):
    """Not only what changes from then on: files that it does not know of would lose their UIDs."""
    inbox = account.open("INBOX")
    post(2)
    inbox.sync()
    remove_index(maildir)
    other = Index(maildir)
    other.mailboxes.load(inbox.uidvalidity)
    account._index.close()  # as after an error
    inbox.update_flags([2], "add", SEEN)
    inbox.update_flags([2], "remove", SEEN)
    columns = other.mailboxes.load(inbox.uidvalidity).columns
    other.close()
    assert list(columns.uids) == [1, 2]


def test_an_older_uid_file_from_a_backup_gives_no_uid_again(account, maildir, post):
    inbox = account.open("INBOX")
    post()
    inbox.sync()
    backup = (maildir / ".uidvalidity").read_bytes()
    post(5)
    inbox.sync()
    inbox.expunge([5, 6])
    inbox.close()
    (maildir / ".uidvalidity").write_bytes(backup)
    post()
    inbox = account.open("INBOX")
    assert uids(inbox) == [1, 2, 3, 4, 7]


def test_an_index_that_is_deleted_while_in_use_harms_nothing(account, maildir, post):
    inbox = account.open("INBOX")
    post(2)
    inbox.sync()
    remove_index(maildir)
    inbox.update_flags([1], "add", SEEN)
    post()
    inbox.sync()
    inbox.close()
    inbox = account.open("INBOX")
    assert flags(inbox) == {1: {"\\Seen"}, 2: set(), 3: set()}


def test_a_full_disk_for_the_index_harms_nothing(account, inbox, post, maildir, monkeypatch):
    post()
    inbox.sync()
    inbox._index.file.connection.execute("PRAGMA max_page_count = 1")
    post(60)
    inbox.sync()
    inbox.update_flags(range(1, 62), "add", SEEN)
    assert len(uids(inbox)) == 61
    inbox.close()
    inbox = account.open("INBOX")
    assert set(map(tuple, flags(inbox).values())) == {("\\Seen",)}


def test_a_lost_uid_file_is_made_again_from_the_index(account, maildir, post):
    inbox = account.open("INBOX")
    post(3)
    inbox.sync()
    inbox.expunge([3])
    validity = inbox.uidvalidity
    (maildir / ".uidvalidity").unlink()
    post()
    inbox.sync()
    assert (uids(inbox), inbox.uidvalidity) == ([1, 2, 4], validity)
    inbox.close()
    (maildir / ".uidvalidity").unlink()
    inbox = account.open("INBOX")
    post()
    inbox.sync()
    assert (uids(inbox), inbox.uidvalidity) == ([1, 2, 4, 5], validity)


def test_without_uid_file_and_index_uidvalidity_changes_and_uids_stay(account, maildir, post):
    inbox = account.open("INBOX")
    post(3)
    inbox.sync()
    validity = inbox.uidvalidity
    inbox.close()
    (maildir / ".uidvalidity").unlink()
    remove_index(maildir)
    inbox = account.open("INBOX")
    assert uids(inbox) == [1, 2, 3]
    assert inbox.uidvalidity > validity
    assert inbox.uidnext > 3


# Other programs


def test_flags_that_others_set_are_found(hurry, inbox, post, maildir):
    post(2)
    inbox.sync()
    since = inbox.highest_modseq
    path = in_cur(maildir)[0]
    path.rename(f"{path}FS")
    inbox.sync()
    assert flags(inbox) == {1: {"\\Flagged", "\\Seen"}, 2: set()}
    assert [message.uid for message in inbox.changes(since).changed] == [1]


def test_files_that_others_remove_are_found(hurry, inbox, post, maildir):
    post(3)
    inbox.sync()
    since = inbox.highest_modseq
    in_cur(maildir)[1].unlink()
    inbox.sync()
    assert uids(inbox) == [1, 3]
    assert inbox.changes(since).vanished == [2]


def test_files_that_others_add_get_a_uid_and_say_their_sizes(hurry, inbox, maildir):
    (maildir / "cur/1234.x.other:2,SP").write_bytes(b"Subject: x\n\nby hand\n")
    (maildir / "new/hand made (ä)").write_bytes(b"Subject: y\n\n")
    (maildir / f"new/{'x' * 240}").write_bytes(b"Subject: z\n\n")
    inbox.sync()
    assert uids(inbox) == [1, 2, 3]
    [seen] = [message for message in inbox.messages() if message.flags]
    assert seen.flags == {"\\Seen"}
    assert inbox.read(seen.uid) == b"Subject: x\r\n\r\nby hand\r\n"
    assert seen.size == len(inbox.read(seen.uid))
    made = [path.name for path in in_cur(maildir)]
    assert all(",S=" in name and ",W=" in name and name.isascii() for name in made)
    assert sum(name.endswith(":2,PS") for name in made) == 1


def test_flags_that_change_nothing_leave_no_doubt_of_what_is_known(inbox, post, monkeypatch):
    post()
    inbox.sync()
    inbox.update_flags([1], "add", SEEN)
    time.sleep(2 * watch.GRAIN / 1e9)
    monkeypatch.setattr(watch.time, "monotonic", later)
    inbox.sync()
    known = inbox._maildir.cur.certain
    assert known is not None
    inbox.update_flags([1], "add", SEEN)
    assert inbox._maildir.cur.certain == known


@pytest.mark.parametrize("place", ["new/hand", "cur/hand:2,"])
def test_a_file_that_could_not_be_read_is_tried_again(inbox, maildir, monkeypatch, place):
    def refuse(path: str) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    (maildir / place).write_bytes(b"Subject: x\n\n")
    time.sleep(2 * watch.GRAIN / 1e9)  # until the directory's time can be trusted
    with monkeypatch.context() as patch:
        patch.setattr(content, "open_message", refuse)
        inbox.sync()
    assert uids(inbox) == []
    inbox.sync()
    assert uids(inbox) == [1]


@pytest.mark.parametrize(
    ("name", "flags_of_it"),
    [
        ("new/:2,S", {"\\Seen"}),
        ("cur/:2,FS", {"\\Flagged", "\\Seen"}),
        ("cur/,S=5:2,", set()),
        ("cur/1.x,X=7,S=17:2,R", {"\\Answered"}),
        ("cur/1.x,S=1,W=2,S=3:2,R", {"\\Answered"}),
        ("cur/1.x:2,SP", {"\\Seen"}),
        ("cur/1.x:2,SzqZ", {"\\Seen"}),
        ("cur/1.x:1,S", set()),
        ("cur/1.x:", set()),
        ("cur/1.x", set()),
        ("new/1.x,U=77:2,", set()),
        ("cur/1.x,U=0:2,D", {"\\Draft"}),
        ("cur/1.x,U=4294967296:2,", set()),
        ("cur/ü 1:2,F", {"\\Flagged"}),
        ("cur/" + "x" * 250, set()),
    ],
)
def test_names_of_other_programs_become_messages(hurry, inbox, post, maildir, name, flags_of_it):
    """Letters that mean nothing here stay in the name."""
    post()
    inbox.sync()
    (maildir / name).write_bytes(b"Subject: x\n\nbody\n")
    inbox.sync()
    assert flags(inbox) == {1: set(), 2: flags_of_it}
    assert inbox.read(2) == b"Subject: x\r\n\r\nbody\r\n"
    message = inbox.messages()[1]
    assert message.size == 20
    assert ",U=2" in message.name
    assert set(message.name.partition(":2,")[2]) >= set(name.partition(":2,")[2])
    assert (maildir / "cur" / message.name).exists()


def test_the_same_base_name_in_new_and_cur_is_two_messages(hurry, inbox, maildir):
    (maildir / "new/1.same").write_bytes(b"Subject: new\n\n")
    (maildir / "cur/1.same:2,S").write_bytes(b"Subject: cur\n\n")
    inbox.sync()
    assert {inbox.read(uid)[9:12] for uid in uids(inbox)} == {b"new", b"cur"}
    assert uids(inbox) == [1, 2]


def test_crlf_files_and_lf_files_are_the_same_on_the_wire(hurry, inbox, maildir):
    (maildir / "new/1.x").write_bytes(b"Subject: x\n\nbody\n")
    (maildir / "new/2.x").write_bytes(b"Subject: x\r\n\r\nbody\r\n")
    inbox.sync()
    assert inbox.read(1) == inbox.read(2)
    assert [message.size for message in inbox.messages()] == [20, 20]


def test_a_wrong_size_in_a_name_is_not_believed(hurry, inbox, maildir):
    (maildir / "new/1234.x.other,S=5,W=6").write_bytes(b"Subject: x\n\nlonger\n")
    inbox.sync()
    [message] = inbox.messages()
    assert message.size == len(inbox.read(message.uid)) == 22


def test_a_copy_by_hand_gets_a_uid_of_its_own(hurry, inbox, post, maildir):
    post(2)
    inbox.sync()
    path = in_cur(maildir)[0]
    Path(f"{path}S").write_bytes(path.read_bytes())
    path.with_name("9999.copy,U=2:2,").write_bytes(b"Subject: z\n\n")
    inbox.sync()
    assert uids(inbox) == [1, 2, 3, 4]
    assert inbox.read(1).startswith(b"Return-Path: <>\r\nSubject: 1")
    assert inbox.read(2).startswith(b"Return-Path: <>\r\nSubject: 2")
    assert len({message.name for message in inbox.messages()}) == 4


def test_a_uid_from_elsewhere_is_not_believed(hurry, account, inbox, post, maildir):
    post(2)
    inbox.sync()
    inbox.expunge([1])
    (maildir / "cur/111.elsewhere,U=1:2,S").write_bytes(b"Subject: old\n\n")
    (maildir / "cur/112.elsewhere,U=4000000000:2,").write_bytes(b"Subject: high\n\n")
    inbox.sync()
    assert uids(inbox) == [2, 3, 4]
    assert inbox.uidnext == 5


def test_a_file_moved_away_and_back_is_never_an_old_uid_again(hurry, inbox, post, maildir, tmp_path):
    post(2)
    inbox.sync()
    path = in_cur(maildir)[0]
    path.rename(tmp_path / "away")
    inbox.sync()
    (tmp_path / "away").rename(path)
    inbox.sync()
    assert uids(inbox) == [2, 3]


def test_what_others_rename_is_found_at_the_moment_of_need(inbox, post, maildir):
    post(4)
    inbox.sync()
    for path in in_cur(maildir):
        path.rename(f"{path}F")
    assert inbox.read(1).startswith(b"Return-Path")
    for path in in_cur(maildir):
        path.rename(f"{path}R")
    assert [set(message.flags) for message in inbox.update_flags([2], "add", SEEN)] == [
        {"\\Seen", "\\Flagged", "\\Answered"}
    ]
    for path in in_cur(maildir):
        path.rename(f"{path}T")
    assert inbox.expunge([3]) == [3]
    assert inbox.copy([4], inbox) == [(4, 5)]
    assert uids(inbox) == [1, 2, 4, 5]


def test_links_fifos_and_directories_are_no_messages(hurry, inbox, maildir, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    for part in ("new", "cur"):
        (maildir / part / "link").symlink_to(tmp_path / "secret")
        os.mkfifo(maildir / part / "fifo")
        (maildir / part / "directory").mkdir()
        (maildir / part / ".hidden").write_bytes(b"hidden")
    inbox.sync()
    assert inbox.messages() == []


def test_a_message_replaced_by_a_link_is_not_read(inbox, post, maildir, tmp_path):
    post()
    inbox.sync()
    (tmp_path / "secret").write_bytes(b"secret")
    [path] = in_cur(maildir)
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    with pytest.raises((MessageGone, Unavailable)):
        inbox.read(1)


def test_a_scan_that_misses_a_file_does_not_expunge_it(hurry, inbox, post, maildir, monkeypatch):
    """readdir may miss a file that is renamed meanwhile."""
    from mailserver.store import scanning as module

    post(5)
    inbox.sync()
    real, scans = module.regular_files, []

    def regular_files(path):
        found = real(path)
        if path.endswith("/cur"):
            scans.append(path)
            return [name for name in found if f",U={len(scans)}:" not in name]
        return found

    monkeypatch.setattr(module, "regular_files", regular_files)
    inbox.sync()
    assert len(scans) == 2
    assert uids(inbox) == [1, 2, 3, 4, 5]


def test_a_change_within_the_grain_of_the_clock_is_seen(inbox, post, maildir, monkeypatch):
    post()
    inbox.sync()
    [path] = in_cur(maildir)
    stamp = (maildir / "cur").stat().st_mtime_ns
    renamed = path.rename(f"{path}S")
    os.utime(maildir / "cur", ns=(stamp, stamp))
    assert renamed.exists()
    monkeypatch.setattr(watch.time, "monotonic", later)
    inbox.sync()
    assert flags(inbox) == {1: {"\\Seen"}}


def test_an_unchanged_mailbox_is_not_read_again(account, post, monkeypatch):
    from mailserver.store import scanning as module

    inbox = account.open("INBOX")
    post(2)
    inbox.sync()
    time.sleep(watch.GRAIN / 1e9 + 0.02)
    inbox.sync()
    monkeypatch.setattr(watch.time, "monotonic", later)
    inbox.sync()
    inbox.close()
    monkeypatch.setattr(module, "regular_files", None)
    inbox = account.open("INBOX")
    inbox.sync()
    assert uids(inbox) == [1, 2]


def test_keywords_that_others_add_are_found(hurry, inbox, post, maildir):
    post()
    inbox.sync()
    [path] = in_cur(maildir)
    path.rename(f"{path}Sb")
    inbox.sync()
    assert flags(inbox) == {1: {"\\Seen"}}
    (maildir / "dovecot-keywords").write_text("0 $One\n1 $Other\n")
    inbox.sync()
    assert flags(inbox) == {1: {"\\Seen", "$Other"}}


def test_a_keyword_whose_letter_was_taken_away_stays_with_its_messages(hurry, inbox, post, maildir):
    post()
    inbox.sync()
    inbox.update_flags([1], "add", frozenset({"$One"}))
    (maildir / "dovecot-keywords").unlink()
    inbox.sync()
    assert flags(inbox) == {1: {"$One"}}


def test_keywords_beyond_the_letters_survive_in_the_index(account, post):
    inbox = account.open("INBOX")
    post()
    inbox.sync()
    every = frozenset(f"key{number}" for number in range(30))
    inbox.update_flags([1], "set", every)
    inbox.close()
    inbox = account.open("INBOX")
    assert inbox.messages()[0].flags == every


def test_keywords_beyond_the_letters_are_refused_when_the_index_cannot_keep_them(inbox, post, maildir, monkeypatch):
    """They stand nowhere else, and OK means that it is on disk. All other flags need no index."""
    (maildir / "dovecot-keywords").write_text("".join(f"{number} k{number}\n" for number in range(26)))
    post(2)
    inbox.sync()
    inbox.update_flags([1], "add", frozenset({"early"}))
    monkeypatch.setattr(inbox._index.mailboxes, "save", lambda *_: None)
    with pytest.raises(Unavailable):
        inbox.update_flags([1, 2], "set", frozenset({"late", "k3"}))
    with pytest.raises(Unavailable):
        inbox.append(Content(TEXT), frozenset({"late"}))
    assert flags(inbox) == {1: {"early", "k3"}, 2: {"k3"}}
    assert len(list((maildir / "cur").iterdir())) == 2
    inbox.update_flags([2], "set", SEEN)
    monkeypatch.undo()
    inbox.update_flags([2], "add", frozenset({"late"}))
    again = Store(maildir.parents[1], hostname="mx").account(ALICE).open("INBOX")
    assert flags(again) == flags(inbox) == {1: {"early", "k3"}, 2: {"\\Seen", "late"}}


# The disk refuses


@pytest.mark.parametrize("name", ["fsync", "rename", "write"])
def test_append_that_fails_leaves_nothing(inbox, maildir, monkeypatch, name):
    inbox.append(Content(TEXT))
    for when in range(1, 5):
        calls = []
        real = getattr(os, name)
        before = uids(inbox)

        def call(*args, when=when, calls=calls, real=real, **options):
            calls.append(args)
            if len(calls) == when:
                raise OSError(errno.ENOSPC, "full")
            return real(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, call)
            try:
                inbox.append(Content(TEXT))
            except Unavailable as error:
                assert error.errno == errno.ENOSPC
                assert uids(inbox) == before
        assert not any((maildir / "tmp").iterdir())
        assert len(in_cur(maildir)) == len(uids(inbox))
    inbox.sync()
    assert len(in_cur(maildir)) == len(uids(inbox))


def test_flags_that_could_not_be_synced_are_an_error_and_memory_agrees_with_the_disk(inbox, post, maildir, monkeypatch):
    post(2)
    inbox.sync()

    def fsync(_fd):
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(Unavailable):
            inbox.update_flags([1], "add", SEEN)
        with pytest.raises(Unavailable):
            inbox.expunge([2])
    assert [path.name.partition(":2,")[2] for path in in_cur(maildir)] == ["S"]
    assert flags(inbox) == {1: {"\\Seen"}}
    inbox.sync()
    assert flags(inbox) == {1: {"\\Seen"}}


def test_copy_that_fails_half_way_is_undone(account, inbox, post, maildir, monkeypatch):
    post(4)
    inbox.sync()
    account.create("Archive")
    archive = account.open("Archive")
    real, calls = os.link, []

    def link(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise OSError(errno.EIO, "I/O error")
        real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", link)
        with pytest.raises(Unavailable):
            inbox.copy([1, 2, 3, 4], archive)
    assert archive.messages() == []
    assert not any((maildir / ".Archive/cur").iterdir())
    assert not any((maildir / ".Archive/tmp").iterdir())
    assert inbox.copy([1], archive)[0][1] > 3


def test_copy_begins_anew_at_once_where_a_file_is_not_there(account, inbox, post, maildir, monkeypatch):
    """Copies of the others would be made for nothing."""
    post(6)
    inbox.sync()
    account.create("Archive")
    archive = account.open("Archive")
    in_cur(maildir)[1].unlink()
    real, links = os.link, []

    def link(source, *args, **options):
        links.append(source)
        real(source, *args, **options)

    monkeypatch.setattr(os, "link", link)
    pairs = inbox.copy([1, 2, 3, 4, 5, 6], archive)
    assert [uid for uid, _ in pairs] == [1, 3, 4, 5, 6]
    assert uids(archive) == [uid for _, uid in pairs]
    assert len(list((maildir / ".Archive/cur").iterdir())) == 5
    assert len(links) == 2 + 5


def test_a_uid_taken_by_a_failed_append_is_not_given_again(inbox, monkeypatch):
    real = os.fsync
    taken = []

    def fsync(fd):
        if Path(f"/proc/self/fd/{fd}").readlink().name == "cur":
            taken.append(fd)
            raise OSError(errno.EIO, "I/O error")
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(Unavailable):
            inbox.append(Content(TEXT))
    assert taken
    assert inbox.append(Content(TEXT)) == 2


def test_a_mailbox_that_was_removed_by_hand_is_gone(account, post, tmp_path, maildir):
    account.create("Work")
    work = account.open("Work")
    (maildir / ".Work").rename(tmp_path / "elsewhere")
    for act in (work.sync, lambda: work.append(Content(TEXT))):
        with pytest.raises((NoSuchMailbox, Unavailable)):
            act()
    with pytest.raises(NoSuchMailbox):
        account.open("Work")


# Threads


def test_threads_may_do_everything_at_once(account, inbox, post):
    account.create("Other")
    other = account.open("Other")
    post(20)
    inbox.sync()
    errors = []

    def work(act):
        try:
            for _ in range(15):
                act()
        except StoreError as error:
            errors.append(error)

    acts = [
        lambda: post(1),
        inbox.sync,
        lambda: inbox.update_flags(uids(inbox)[:5], "add", SEEN),
        lambda: inbox.update_flags(uids(inbox)[:5], "set", frozenset({"$Key"})),
        lambda: inbox.copy(uids(inbox)[-2:], other),
        lambda: other.copy(uids(other)[-1:], inbox),
        lambda: inbox.expunge(uids(inbox)[3:4]),
        lambda: inbox.append(Content(TEXT)),
    ]
    threads = [threading.Thread(target=work, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    inbox.sync()
    found = uids(inbox)
    assert found == sorted(set(found))
    assert {message.uid for message in as_another_process_sees(account)} == set(found)


def as_another_process_sees(account):
    """What another process would see."""
    root = Path(account._path).parent.parent
    return Store(root, hostname="other").account(ALICE).open("INBOX").messages()
