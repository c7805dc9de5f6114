"""Maildirs that Dovecot or Courier wrote: the same UIDVALIDITY, UIDs, flags, keywords and subscriptions."""

import errno
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.mail import Address, Content
from mailserver.store import Delivery, Store, StoreError, adoption, foreign, uids

ALICE = Address("alice", "example.test")
V3 = "3 V1700000000 N100 G0123456789abcdef0123456789abcdef"


class Home:
    """An account's directory before anything of ours is in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "example.test/alice"
        self.folder("")

    def folder(self, name: str) -> Path:
        for part in ("cur", "new", "tmp"):
            (self.path / name / part).mkdir(parents=True)
        if name:
            (self.path / name / "maildirfolder").touch()
        return self.path / name

    def put(self, *files: str, folder: str = "") -> None:
        for number, file in enumerate(files, 1):
            path = self.path / folder / file
            path.write_bytes(b"Subject: %s\n\nbody\n" % path.name.partition(":")[0].encode())
            os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))

    def write(self, name: str, *lines: str) -> None:
        (self.path / name).parent.mkdir(exist_ok=True)
        (self.path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8", "surrogateescape")

    def open(self, name: str = "INBOX"):
        return self.account().open(name)

    def account(self):
        return Store(self.root, hostname="mx.example.test").account(ALICE)

    def deliver(self) -> None:
        job = Delivery(ALICE, b"", Content(b"Subject: later\r\n\r\nbody\r\n"))
        assert isinstance(Store(self.root, hostname="mx.example.test").deliver([job])[0], Path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "mail")


def found(mailbox) -> dict[int, str]:
    """UID -> subject, which is the base name that the file had first."""
    return {
        m.uid: mailbox.read(m.uid).split(b"\r\n")[0].removeprefix(b"Subject: ").decode() for m in mailbox.messages()
    }


def flags(mailbox) -> dict[int, set[str]]:
    return {message.uid: set(message.flags) for message in mailbox.messages()}


def listing(home: Home) -> list[str]:
    return sorted(entry.name for part in ("cur", "new") for entry in (home.path / part).iterdir())


# The lists


def test_dovecot_third_version(home):
    home.put("cur/1.a.host:2,S", "cur/2.b.host,S=26,W=29:2,", "new/3.c.host", "cur/4.d.host:2,FRab")
    home.write(
        "dovecot-uidlist",
        V3,
        "7 :1.a.host",
        "9 W29 :2.b.host,S=26,W=29",
        "10 P0001-f Gabc S26 W29 :3.c.host",
        "42 O5 :4.d.host",
    )
    home.write("dovecot-keywords", "0 $Forwarded", "1 Work")
    inbox = home.open()
    assert inbox.uidvalidity == 1700000000
    assert inbox.uidnext == 100
    assert {uid: name.partition(",")[0] for uid, name in found(inbox).items()} == {
        7: "1.a.host",
        9: "2.b.host",
        10: "3.c.host",
        42: "4.d.host",
    }
    assert flags(inbox) == {7: {"\\Seen"}, 9: set(), 10: set(), 42: {"\\Flagged", "\\Answered", "$Forwarded", "Work"}}
    assert [message.internal_date for message in inbox.messages()] == [1_600_000_001 + i for i in range(4)]
    assert inbox.recent.peek() == set()
    assert all(len(inbox.read(message.uid)) == message.size for message in inbox.messages())


@pytest.mark.parametrize("file", ["dovecot-uidlist", "courierimapuiddb"])
def test_dovecot_first_version_and_courier(home, file):
    home.put("cur/1.a.host:2,S", "cur/2.b with space.host:2,", "new/3.c.host")
    home.write(file, "1 1234567 51", "5 1.a.host", "6 2.b with space.host", "50 3.c.host")
    inbox = home.open()
    assert (inbox.uidvalidity, inbox.uidnext) == (1234567, 51)
    assert found(inbox) == {5: "1.a.host", 6: "2.b with space.host", 50: "3.c.host"}


def test_what_the_list_does_not_know_goes_above_its_last(home):
    home.put("cur/1.a:2,", "cur/2.b:2,S", "new/3.c", "cur/0.older,U=3:2,")
    home.write("dovecot-uidlist", V3, "7 :1.a")
    inbox = home.open()
    assert found(inbox) == {7: "1.a", 100: "0.older,U=3", 101: "2.b", 102: "3.c"}
    assert inbox.recent.peek() == {100, 101, 102}


def test_lines_appended_after_the_header_count_for_the_next_uid(home):
    home.put("new/1.a", "new/2.b")
    home.write("dovecot-uidlist", "3 V5 N3", "120 :1.a")
    assert found(home.open()) == {120: "1.a", 121: "2.b"}


def test_malformed_lines_are_passed_over(home):
    home.put("cur/1.a:2,", "cur/2.b:2,", "cur/3.c:2,")
    lines = [
        "",
        "x :1.a",
        "0 :1.a",
        "-4 :1.a",
        "9",
        "9 ",
        "9 :",
        "9 1.a",
        ":1.a",
        "8 W :2.b",
        "99999999999999999999999 :3.c",
    ]
    home.write("dovecot-uidlist", V3, *lines, "12 \udcff\udcfe :3.c", "13 :\udcff\0")
    assert found(home.open()) == {8: "2.b", 12: "3.c", 100: "1.a"}


def test_one_uid_twice_and_one_file_twice(home):
    home.put("cur/1.a:2,", "cur/2.b:2,")
    home.write("dovecot-uidlist", V3, "7 :1.a", "7 :2.b", "8 :1.a")
    assert found(home.open()) == {8: "1.a", 100: "2.b"}


def test_two_files_of_one_name_are_two_messages(home):
    home.put("cur/1.a:2,", "cur/1.a:2,S", "new/1.a")
    home.write("dovecot-uidlist", V3, "7 :1.a")
    assert sorted(found(home.open())) == [7, 100, 101]


def test_listed_files_that_are_gone_leave_their_uid_unused(home):
    home.put("cur/2.b:2,")
    home.write("dovecot-uidlist", V3, "7 :1.a", "8 :2.b", "99 :3.c")
    inbox = home.open()
    assert found(inbox) == {8: "2.b"}
    assert inbox.uidnext == 100


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        "2 V5 N6",
        "3 N100",
        "3 V0 N1",
        "3 V4294967296 N1",
        "3 V5 N4294967295",
        "1 5",
        "1 0 3",
        "1 99999999999999999999999 3",
        "4 V5 N3",
    ],
)
def test_a_list_that_cannot_be_followed_is_refused_as_a_whole(home, header):
    home.put("cur/1.a:2,S")
    home.write("dovecot-uidlist", header, "77 :1.a", "77 1.a")
    inbox = home.open()
    assert found(inbox) == {1: "1.a"}
    assert inbox.uidvalidity >= 1_700_000_000


def test_huge_uids_are_refused(home):
    home.put("cur/1.a:2,", "cur/2.b:2,")
    home.write("dovecot-uidlist", V3, "4294967295 :1.a", "8 :2.b")
    assert found(home.open()) == {8: "2.b", 100: "1.a"}


def test_what_is_no_regular_file_is_no_list(home, tmp_path):
    (tmp_path / "elsewhere").write_text(f"{V3}\n7 :1.a\n")
    (home.path / "dovecot-uidlist").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(home.path / "courierimapuiddb")
    home.put("cur/1.a:2,")
    assert found(home.open()) == {1: "1.a"}


def test_a_list_that_may_not_be_read_is_not_passed_over(home, monkeypatch):
    home.put("cur/1.a:2,")
    home.write("dovecot-uidlist", V3, "7 :1.a")
    real = os.open

    def refuse(path, *args, **kwargs):
        if str(path).endswith("dovecot-uidlist"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(StoreError):
            home.open()
    assert found(home.open()) == {7: "1.a"}


def test_a_message_that_may_not_be_read_does_not_lose_its_uid(home, monkeypatch):
    home.put("cur/1.a:2,", "cur/2.b:2,")
    home.write("dovecot-uidlist", V3, "7 :1.a", "8 :2.b")
    real, access = os.open, os.access

    def refuse(path, *args, **kwargs):
        if str(path).endswith("1.a:2,"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        patch.setattr(os, "access", lambda path, mode: not str(path).endswith("1.a:2,") and access(path, mode))
        with pytest.raises(StoreError):
            home.open()
    assert found(home.open()) == {7: "1.a", 8: "2.b"}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_no_message_loses_its_uid_for_want_of_descriptors(home, monkeypatch, number):
    home.put("cur/1.a:2,", "cur/2.b:2,")
    home.write("dovecot-uidlist", V3, "7 :1.a", "8 :2.b")
    real = os.open

    def refuse(path, *args, **kwargs):
        if str(path).endswith("1.a:2,"):
            raise OSError(number, os.strerror(number))
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(StoreError):
            home.open()
    assert found(home.open()) == {7: "1.a", 8: "2.b"}


def test_names_that_cannot_be_kept(home):
    long = "1." + "x" * 200
    home.put(f"cur/{long}:2,S", "cur/2.f\u00f6\u00f6:2,", "cur/3.c,U=1:2,", "cur/3.c,U=5:2,")
    home.write("dovecot-uidlist", V3, f"7 :{long}", "8 :2.f\u00f6\u00f6", "5 :3.c,U=1", "1 :3.c,U=5")
    inbox = home.open()
    assert sorted(found(inbox)) == [1, 5, 7, 8]
    assert found(inbox)[5] == "3.c,U=1"
    assert found(inbox)[1] == "3.c,U=5"
    assert flags(inbox)[7] == {"\\Seen"}
    assert all(name.isascii() and len(name) < 200 for name in listing(home))


# Once, and whole


def reopened(home: Home) -> tuple[int, dict, list, list]:
    """UIDVALIDITY, the messages with a UID from the list, the other ones in order, and the flags of all.

    A crash may leave UIDs unused that were never given: of the other ones only the order counts.
    """
    inbox = home.open()
    messages = found(inbox)
    listed = {uid: name for uid, name in messages.items() if uid < 20}
    return inbox.uidvalidity, listed, list(messages.values())[len(listed) :], list(flags(inbox).values())


def courier_home(root: Path) -> Home:
    home = Home(root)
    home.put(
        "cur/1.a:2,S",
        "cur/2.b:2,",
        "new/3.c",
        "cur/2.b:2,F",
        "cur/4.f\u00f6:2,R",
        "cur/5.e:2,",
        "new/6.f",
        "cur/7.g,U=2:2,",
    )
    home.write("courierimapuiddb", "1 999 20", "3 1.a", "4 2.b", "5 3.c", "9 4.f\u00f6", "10 7.g,U=2", "2 8.h")
    keywords = [f"k{number:02}" for number in range(30)]
    home.write(
        "courierimapkeywords/:list", *keywords, "", "1.a:0 1 29", "2.b:2", "3.c:28 29 77", "7.g,U=2:5", "5.e:6 x"
    )
    home.write("courierimapkeywords/4.f\u00f6", "k07", "k29")
    return home


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_crash_at_any_rename_changes_nothing(tmp_path, monkeypatch, how):
    """Each rename, those of the adoption and those after it, in turn is the last thing that happens."""
    whole = reopened(courier_home(tmp_path / "whole"))
    assert whole == (
        999,
        {3: "1.a", 4: "2.b", 5: "3.c", 9: "4.f\u00f6", 10: "7.g,U=2"},
        ["2.b", "5.e", "6.f"],
        [
            {"\\Seen", "k00", "k01", "k29"},
            {"k02"},
            {"k28", "k29"},
            {"\\Answered", "k07", "k29"},
            {"k05"},
            {"\\Flagged"},
            set(),
            set(),
        ],
    )
    real = os.rename
    crashes = 0
    for last in range(100):
        home = courier_home(tmp_path / f"cut-{last}")
        count = 0

        def rename(path, target, last=last, **options):
            nonlocal count
            count += 1
            if count <= last or (count == last + 1 and how == "after"):
                real(path, target, **options)
            if count > last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", rename)
            try:
                home.open()
            except KeyboardInterrupt:
                crashes += 1
        assert reopened(home) == whole, last
        if count <= last:
            break
    assert crashes >= 8


def test_a_crash_before_our_own_file_is_synced_changes_nothing(tmp_path, monkeypatch):
    home = courier_home(tmp_path / "mail")

    def crash(_self, _upto):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(uids.Grants, "_reserve", crash)
        with pytest.raises(KeyboardInterrupt):
            home.open()
    assert reopened(home) == reopened(courier_home(tmp_path / "whole"))


def test_the_renames_are_on_disk_before_the_folder_is_ours(home, monkeypatch):
    home.put("cur/1.a:2,", "new/2.b")
    home.write("dovecot-uidlist", V3, "7 :1.a", "8 :2.b")
    happened = []
    rename, sync, reserve = os.rename, adoption.sync_directory, uids.Grants._reserve
    monkeypatch.setattr(os, "rename", lambda *paths, **more: happened.append("rename") or rename(*paths, **more))
    monkeypatch.setattr(adoption, "sync_directory", lambda path: happened.append(Path(path).name) or sync(path))
    monkeypatch.setattr(uids.Grants, "_reserve", lambda self, upto: happened.append("ours") or reserve(self, upto))
    home.open()
    assert happened == ["rename", "rename", "cur", "new", "ours"]


def test_the_key_of_a_folder_outlives_a_new_start_and_isync(home, monkeypatch):
    home.put("cur/1.a:2,")
    home.write("courierimapuiddb", "1 555 9", "4 1.a")
    home.open().close()
    key = uids.key(home.path)
    assert key > 2**32
    for start in ("", "another-start"):
        monkeypatch.setattr(uids, "_boot", lambda start=start: start)
        inbox = home.open()
        inbox.append(Content(b"Subject: x\r\n\r\n"))
        inbox.close()
        assert (uids.key(home.path), uids.peek(home.path)[0]) == (key, 555)
    before = found(home.open())
    (home.path / ".uidvalidity").write_text("555\n5000\n")  # isync knows two lines
    inbox = home.open()
    assert (inbox.uidvalidity, inbox.uidnext, found(inbox)) == (555, 5001, before)


def test_adoption_happens_once(home):
    """What Dovecot writes into its list later, on the same directory, changes nothing."""
    home.put("cur/1.a:2,", "cur/2.b:2,")
    home.write("dovecot-uidlist", V3, "7 :1.a", "8 :2.b")
    home.open().close()
    names = listing(home)
    home.write("dovecot-uidlist", "3 V5 N900", *(f"{800 + number} :{name[:-3]}" for number, name in enumerate(names)))
    home.put("cur/9.new:2,")
    for lost in ((), ("mailserver.index",), (".uidvalidity",)):
        for file in lost:
            (home.path / file).unlink()
        inbox = home.open()
        assert inbox.uidvalidity == 1700000000
        assert list(found(inbox).values()) == ["1.a", "2.b", "9.new"]
        assert list(found(inbox))[:2] == [7, 8]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_names_that_differ_in_foreign_uids_are_not_mixed_up(home, monkeypatch, renames):
    home.put(*(f"cur/{name}:2,S" for name in SWAPPED))
    home.write("dovecot-uidlist", V3, f"2 :{SWAPPED[0]}", f"1 :{SWAPPED[1]}")
    real, reserve = os.rename, uids.Grants._reserve
    count = 0

    def step():
        nonlocal count
        count += 1
        if count > renames:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *paths, **options: step() or real(*paths, **options))
        patch.setattr(uids.Grants, "_reserve", lambda self, upto: step() or reserve(self, upto))
        with pytest.raises(KeyboardInterrupt):
            home.open()
    assert found(home.open()) == {1: SWAPPED[1], 2: SWAPPED[0]}


def test_with_nothing_left_but_the_files_and_a_stale_list_uids_stay(home):
    home.put("cur/1.a:2,", "cur/2.b:2,")
    home.write("dovecot-uidlist", V3, "7 :1.a", "8 :2.b")
    home.deliver()
    inbox = home.open()
    inbox.update_flags([7], "add", frozenset({"\\Seen"}))
    before = found(inbox), flags(inbox), inbox.uidvalidity
    inbox.close()
    for file in home.path.glob("mailserver.index*"):
        file.unlink()
    (home.path / ".uidvalidity").unlink()
    inbox = home.open()
    assert (found(inbox), flags(inbox), inbox.uidvalidity) == before


def test_what_the_other_server_left_stays_as_it_is(home):
    home.put("cur/1.a:2,")
    kept = {
        "dovecot-uidlist": f"{V3}\n7 :1.a\n",
        "dovecot-acl": "user=bob lr\n",
        "dovecot.index": "binary",
        "maildirsize": "1000S\n26 1\n",
        "courierimapacl": "owner aceilrstwx\n",
    }
    for name, text in kept.items():
        (home.path / name).write_text(text)
    home.open().update_flags([7], "add", frozenset({"\\Seen"}))
    assert {name: (home.path / name).read_text() for name in kept} == kept


def test_a_mailbox_that_was_adopted_works_on(home):
    home.put("cur/1.a:2,", "cur/2.b:2,")
    home.write("dovecot-uidlist", V3, "7 :1.a", "8 :2.b")
    inbox = home.open()
    modseq = inbox.highest_modseq
    assert inbox.append(Content(b"Subject: x\r\n\r\n")) == 100
    assert inbox.expunge([8]) == [8]
    assert inbox.prepared([7]).keys() == {7}
    inbox.close()
    inbox = home.open()
    assert found(inbox) == {7: "1.a", 100: "x"}
    changes = inbox.changes(modseq)
    assert ([message.uid for message in changes.appeared], changes.vanished, changes.complete) == ([100], [8], True)


def test_folders_with_the_same_uidvalidity_keep_it(home):
    """Courier gives the second in which it sees a folder first, so several folders have the same."""
    for folder in (".Sent", ".Trash"):
        home.folder(folder)
        home.put("cur/1.a:2,S", "cur/2.b:2,", folder=folder)
        home.write(f"{folder}/courierimapuiddb", "1 555 9", "4 1.a" if folder == ".Sent" else "6 2.b")
    home.put("cur/1.a:2,")
    home.write("courierimapuiddb", "1 555 3", "2 1.a")
    expected = {"INBOX": {2: "1.a"}, "Sent": {4: "1.a", 9: "2.b"}, "Trash": {6: "2.b", 9: "1.a"}}
    for _ in range(3):
        account = home.account()
        for name, messages in expected.items():
            mailbox = account.open(name)
            assert (mailbox.uidvalidity, found(mailbox)) == (555, messages)
            mailbox.prepared(messages)
            mailbox.close()
    account.rename("Sent", "Sent Mail")
    account.delete("Trash")
    mailbox = account.open("Sent Mail")
    assert (mailbox.uidvalidity, found(mailbox)) == (555, expected["Sent"])
    shutil.copytree(home.path / ".Sent Mail", home.path / ".Copy")
    assert account.open("Copy").uidvalidity != 555


def test_a_foreign_uidvalidity_is_never_given_again(home):
    home.folder(".Box")
    home.write(".Box/dovecot-uidlist", "3 V4000000000 N2")
    account = home.account()
    account.create("Other")
    account.open("Box").close()
    account.delete("Box")
    account.create("Box")
    assert account.open("Box").uidvalidity == 4000000001


# Keywords and subscriptions


def test_couriers_keywords(home):
    home.put("cur/1.a:2,S", "cur/2.b:2,", "cur/3.c:2,", "cur/4.d:2,")
    home.write("courierimapuiddb", "1 999 20", "1 1.a", "2 2.b", "3 3.c", "4 4.d")
    home.write(
        "courierimapkeywords/:list",
        "$Forwarded",
        "bad{keyword",
        "Work",
        "\\Seen",
        "",
        "1.a:0 2",
        "2.b:0 1 3",
        "3.c:2",
        "junk",
    )
    home.write("courierimapkeywords/.5.3.c", "Old")
    home.write("courierimapkeywords/.12.3.c", "Home")
    home.write("courierimapkeywords/.12.4.d", "Old")
    home.write("courierimapkeywords/4.d", "New")
    inbox = home.open()
    assert flags(inbox) == {1: {"\\Seen", "$Forwarded", "Work"}, 2: {"$Forwarded"}, 3: {"Home"}, 4: {"New"}}
    assert all(name.rpartition(":2,")[2] for name in listing(home)), "each keyword has its letter"


def test_subscriptions_of_courier_until_there_are_own(home):
    home.write("courierimapsubscribed", "INBOX", "INBOX.Sent", "INBOX.Work.&APw-ber", "shared.x", "", "INBOX.&bad")
    account = home.account()
    assert account.subscriptions() == ["INBOX", "Sent", "Work/\u00fcber"]
    account.unsubscribe("Sent")
    assert account.subscriptions() == ["INBOX", "Work/\u00fcber"]
    assert (home.path / "subscriptions").read_text() == "V\t2\n\nINBOX\nWork\t&APw-ber\n"
    account.unsubscribe("INBOX")
    account.unsubscribe("Work/\u00fcber")
    assert home.account().subscriptions() == []


@pytest.mark.parametrize("text", ["INBOX\nSent\nWork.&APw-ber\n&bad\n", "V\t2\n\nINBOX\nSent\nWork\t&APw-ber\n&bad\n"])
def test_subscriptions_of_dovecot(home, text):
    (home.path / "subscriptions").write_text(text)
    home.write("courierimapsubscribed", "INBOX.Stale")
    assert home.account().subscriptions() == ["INBOX", "Sent", "Work/\u00fcber"]


# Any list, any directory

SWAPPED = ("9.s,S=33,W=36,U=1", "9.s,S=33,W=36,U=2")  # true sizes: nothing but the UID would change

NAMES = st.sampled_from(
    ["1.a", "2.b", "3.c,S=5", "4.d,U=3", "5.e,S=99,W=99,U=1", "6.\u00fc", "7." + "x" * 190, *SWAPPED]
)
FILES = st.sets(st.tuples(st.sampled_from(["cur", "new"]), NAMES, st.sampled_from(["", "S", "FSz"])), max_size=9)
LINES = st.lists(st.tuples(st.integers(0, 12) | st.sampled_from([2**32 - 1, 2**40]), NAMES), max_size=9)


@settings(max_examples=60, deadline=None)
@given(FILES, LINES, st.integers(0, 20), st.integers(0, 12))
def test_no_message_is_lost_and_each_listed_one_has_its_uid(tmp_path_factory, files, lines, following, cut):
    """Also when the first open ends at some rename, or the second."""
    home = Home(tmp_path_factory.mktemp("any") / "mail")
    home.put(*{f"{part}/{name}" + (f":2,{letters}" if part == "cur" else "") for part, name, letters in files})
    there = len(listing(home))
    home.write("dovecot-uidlist", f"3 V77 N{following}", *(f"{uid} :{name}" for uid, name in lines))
    listed = foreign.uid_list(home.path)
    assert listed is not None
    budget = cut
    real = os.rename

    def rename(path, target, **options):
        nonlocal budget
        if budget == 0:
            raise KeyboardInterrupt
        budget -= 1
        return real(path, target, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        try:
            home.open()
        except KeyboardInterrupt:
            pass
    inbox = home.open()
    messages = found(inbox)
    assert len(messages) == there
    present = set(messages.values())
    assert all(messages.get(uid) == name for name, uid in listed.uids.items() if name in present)
    assert all(uid > listed.last for uid in messages if uid not in listed.uids.values())
    assert inbox.uidvalidity == 77
    inbox.close()
    again = home.open()
    assert found(again) == messages


def test_ten_thousand_messages_are_adopted_at_once(home):
    """Names as Dovecot gives them, with both sizes."""
    names = [f"{1_600_000_000 + n}.M{n}P1.host,S=26,W=29" for n in range(10_000)]
    for name in names:
        (home.path / "cur" / f"{name}:2,S").write_bytes(b"Subject: x\n\nbody of it\n...")
    home.write("dovecot-uidlist", "3 V77 N20001", *(f"{2 * n + 1} :{name}" for n, name in enumerate(names)))
    began = time.process_time()
    inbox = home.open()
    assert time.process_time() - began < 15
    assert [message.uid for message in inbox.messages()] == list(range(1, 20_001, 2))
