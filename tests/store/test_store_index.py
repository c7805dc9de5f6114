"""The index's file: its versions, its snapshots, what two processes write, and damage."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.mail import Address
from mailserver.store import Store
from mailserver.store import maildir as maildir_module
from mailserver.store.columns import Change, Row, State
from mailserver.store.contents import Contents
from mailserver.store.digest import prepare
from mailserver.store.index import INDEX_FILE, VERSION, Header, Index, Packed, mailboxes
from tests.support.oldindex import SCHEMA_2

ALICE = Address("alice", "example.test")
KEY = 1_764_000_000
SEEN = frozenset({"\\Seen"})


def version_2(directory: Path, count: int) -> None:
    """A file as the version before wrote it."""
    with closing(sqlite3.connect(directory / INDEX_FILE)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(SCHEMA_2 + "PRAGMA application_id = 77;")
        db.execute("INSERT INTO mailboxes VALUES (?, '', ?, 5000, 100, 2, 7, 8)", (KEY, count))
        rows = (
            (KEY, uid, f"1.x,U={uid}{':2,S' if uid % 2 else ''}", "late" if uid == 3 else "", uid, uid, uid + 0.5, uid)
            for uid in range(1, count + 1)
        )
        db.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.execute("INSERT INTO vanished VALUES (?, 900, 300)", (KEY,))
        db.execute("INSERT INTO prepared VALUES (?, 1, x'01', x'02', x'03')", (KEY,))
        db.execute("INSERT INTO packed VALUES (?, 1, 55, 10, 20, 30, 1, 2)", (KEY,))
        db.commit()


def assert_migrated(directory: Path, count: int) -> None:
    index = Index(directory)
    loaded = index.mailboxes.load(KEY)
    assert loaded.header == Header(KEY, "", count, 5000, 100, 2, 7, 8)
    assert rows_of(index) == [
        Row(uid, f"1.x,U={uid}", State(":2,S" if uid % 2 else "", "late" * (uid == 3)), uid, uid + 0.5, uid, uid)
        for uid in range(1, count + 1)
    ]
    assert index.generation == 77
    assert index.mailboxes.vanished(KEY, 299) == [900]
    assert index.packed.find(KEY, 55, [1]) == [Packed(1, 10, 20, 30, 1, 2)]
    assert index.pieces.prepared(KEY, [1]) == {}
    index.close()


def rows_of(index: Index, key: int = KEY) -> list[Row]:
    contents = Contents()
    contents.load(index.mailboxes.load(key).columns, 1, lambda state: frozenset())
    return contents.rows()


def header(modseq: int, last: int = 100, horizon: int = 0) -> Header:
    return Header(KEY, "", last, modseq, horizon, 0, None, None)


def row(uid: int, modseq: int = 1, info: str = ":2,", words: str = "") -> Row:
    return Row(uid, f"1.x,U={uid}", State(info, words), modseq, 1.5, 10, 1)


def saved(index: Index, change: Change, modseq: int, *, begin: bool = False) -> None:
    index.mailboxes.turn(KEY)  # opens the file
    assert index.mailboxes.save(header(modseq), change, None if begin else index.generation) is not None


# Versions


def test_a_file_of_version_2_is_migrated(tmp_path):
    version_2(tmp_path, 5)
    assert_migrated(tmp_path, 5)
    assert_migrated(tmp_path, 5)


@pytest.mark.parametrize(("version", "younger"), [(3, ("identities", "sorted")), (4, ("sorted",)), (5, ())])
def test_a_file_of_a_later_version_is_migrated_and_keeps_what_it_has(tmp_path, version, younger):
    index = Index(tmp_path)
    saved(index, Change(added=[row(1)]), 5000, begin=True)
    message = b"Subject: x\r\n\r\n"
    index.pieces.store(KEY, {1: prepare(message)})
    index.close()
    with closing(sqlite3.connect(tmp_path / INDEX_FILE)) as db:
        db.executescript(
            "ALTER TABLE mailboxes DROP COLUMN sound;" + "".join(f"DROP TABLE {each};" for each in younger)
        )
        db.execute(f"PRAGMA user_version = {version}")
    index = Index(tmp_path)
    assert rows_of(index) == [row(1)]
    assert index.pieces.identities(KEY, [1]) == ({} if version == 3 else {1: prepare(message).identity})
    assert index.pieces.headers(KEY, [1]) == {1: prepare(message).header}
    index.pieces.store(KEY, {1: prepare(message)})
    assert index.pieces.identities(KEY, [1]) == {1: prepare(message).identity}
    assert index.sorted.load(KEY, "subject") is None
    assert index.sorted.store(KEY, "subject", b"x")
    assert index.sorted.load(KEY, "subject") == b"x"


@pytest.mark.parametrize("version", [1, VERSION + 1])
def test_a_file_of_a_version_that_is_not_known_is_made_anew(tmp_path, version):
    version_2(tmp_path, 5)
    with closing(sqlite3.connect(tmp_path / INDEX_FILE)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    index = Index(tmp_path)
    assert index.mailboxes.load(KEY).header is None
    assert index.generation != 77


MIGRATE = """
    import os, signal, sys
    from pathlib import Path
    from mailserver.store.index import Index, file

    statements = file._MIGRATIONS[2]
    stop = int(sys.argv[2])
    killer = "INSERT INTO messages SELECT kill(), 0, '', 0.0, 0, 0"
    file._MIGRATIONS[2] = (*statements[:stop], killer, *statements[stop:])
    prepare = file.IndexFile._prepare

    def armed(self, db):
        db.create_function("kill", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
        prepare(self, db)

    file.IndexFile._prepare = armed
    if stop < 7:  # there is no table of ours yet to insert into
        file._MIGRATIONS[2] = (*statements[:stop], "SELECT kill()", *statements[stop:])
    Index(Path(sys.argv[1])).mailboxes.load(1)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("stop", [2, 9, 15])
def test_a_migration_killed_in_the_middle_loses_nothing(tmp_path, stop):
    version_2(tmp_path, 500)
    process = start(MIGRATE, tmp_path, stop)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(tmp_path / INDEX_FILE)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("SELECT count(*), max(name) FROM messages").fetchone() == (500, "1.x,U=9:2,S")
    assert_migrated(tmp_path, 500)


def test_two_processes_may_migrate_at_once(tmp_path):
    version_2(tmp_path, 2000)
    load = "import sys; from pathlib import Path; from mailserver.store.index import Index\n"
    load += f"sys.stdin.read(); print(len(Index(Path(sys.argv[1])).mailboxes.load({KEY}).columns))"
    processes = [start(load, tmp_path) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate(timeout=30)[0] for process in processes] == ["2000\n"] * 3


# Snapshots


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_snapshot_with_what_is_younger_says_the_same_as_the_rows(tmp_path_factory, data):
    """Two processes' worth of indexes over one file; what each knows may be old, and comes late."""
    directory = tmp_path_factory.mktemp("index")
    sides = [Index(directory), Index(directory)]
    saved(sides[0], Change(added=[row(uid) for uid in (2, 4, 6)]), 1, begin=True)
    states = st.builds(State, st.sampled_from([":2,", ":2,S", ":2,F"]), st.sampled_from(["", "late"]))
    last = 6
    for _ in range(data.draw(st.integers(1, 8))):
        index = data.draw(st.sampled_from(sides))
        uids = data.draw(st.sets(st.integers(1, last), min_size=1, max_size=4))
        modseq = data.draw(st.integers(1, 50))
        match data.draw(st.sampled_from(["add", "add late", "flag", "words", "expunge", "all", "snapshot"])):
            case "add":
                last += 2
                saved(
                    index, Change(added=[row(last, modseq, ":2,S", data.draw(st.sampled_from(["", "late"])))]), modseq
                )
            case "add late":
                saved(index, Change(added=[row(min(uids), modseq)]), modseq)
            case "flag":
                known = {each.uid for each in rows_of(index)} & uids
                info = data.draw(states).info
                saved(index, Change(flagged=[(uid, info, modseq) for uid in known]), modseq)
            case "words":
                known = {each.uid for each in rows_of(index)} & uids
                flagged = [(uid, ":2,", modseq) for uid in known]
                saved(index, Change(flagged=flagged, words=dict.fromkeys(known, ("", "more"))), modseq)
            case "expunge":
                saved(index, Change(vanished=sorted(uids)), modseq)
            case "all":
                saved(index, Change(added=rows_of(index)), modseq, begin=True)
            case "snapshot":
                assert index.mailboxes.snapshot(KEY)
        with_snapshot = rows_of(index)
        with closing(sqlite3.connect(directory / INDEX_FILE)) as db:
            packed = db.execute("SELECT * FROM snapshots").fetchall()
            db.execute("DELETE FROM snapshots")
            db.commit()
            assert rows_of(index) == with_snapshot
            db.executemany("INSERT INTO snapshots VALUES (?, ?, ?)", packed)
            db.commit()
    for index in sides:
        index.close()


def test_a_snapshot_is_used_and_one_that_does_not_fit_is_not(tmp_path):
    index = Index(tmp_path)
    saved(index, Change(added=[row(uid) for uid in range(1, 50)]), 1, begin=True)
    assert index.mailboxes.load(KEY).late == 49
    assert index.mailboxes.snapshot(KEY)
    assert index.mailboxes.load(KEY).late == 0
    saved(index, Change(flagged=[(3, ":2,F", 9)], vanished=[7]), 9)
    assert index.mailboxes.load(KEY).late == 2
    expected = rows_of(index)
    with closing(sqlite3.connect(tmp_path / INDEX_FILE)) as db:
        (good,) = db.execute("SELECT data FROM snapshots").fetchone()
        damaged = [b"", good[:100], good[:-1], good[:300] + b"?" + good[301:], bytes(len(good)), "text", None]
        statements = [("UPDATE OR IGNORE snapshots SET data = ?", (each,)) for each in damaged]
        statements += [("DELETE FROM vanished", ()), ("UPDATE snapshots SET turn = turn + 1", ())]
        for statement, values in statements:
            db.execute("UPDATE snapshots SET data = ?", (good,))
            db.execute(statement, values)
            db.commit()
            assert rows_of(index) == expected
    assert index.mailboxes.load(KEY).late == 48


def test_a_mailbox_of_many_messages_leaves_a_snapshot(tmp_path, store, account, post, monkeypatch):
    monkeypatch.setattr(maildir_module, "_SNAPSHOT_MINIMUM", 10)
    post(40)
    inbox = account.open("INBOX")
    key = inbox.key
    inbox.close()
    index = account._index
    assert index.mailboxes.load(key).late == 0
    inbox = account.open("INBOX")
    inbox.update_flags([1, 2], "add", SEEN)
    inbox.close()
    assert index.mailboxes.load(key).late == 2
    inbox = account.open("INBOX")
    inbox.update_flags([3], "add", SEEN)
    inbox.close()
    assert index.mailboxes.load(key).late == 0
    index.close()
    other = Store(tmp_path / "mail", hostname="mx").account(ALICE).open("INBOX")
    assert [m.uid for m in other.messages() if m.flags] == [1, 2, 3]
    assert len(other.messages()) == 40


# Expunges


def test_old_expunges_are_forgotten_and_the_horizon_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(mailboxes, "EXPUNGES", 10)
    index = Index(tmp_path)
    saved(index, Change(added=[row(uid) for uid in range(1, 6)]), 1, begin=True)
    for modseq in range(2, 102):
        saved(index, Change(vanished=[100 + modseq]), modseq)
        horizon = index.mailboxes.load(KEY).header.horizon
        assert index.mailboxes.vanished(KEY, horizon) == list(range(101 + horizon, 101 + modseq)) or horizon == 0
        assert horizon == 0 or modseq - horizon >= 10
        if horizon:
            assert index.mailboxes.vanished(KEY, horizon - 1) is None
    with closing(sqlite3.connect(tmp_path / INDEX_FILE)) as db:
        assert db.execute("SELECT count(*) <= 20 FROM vanished").fetchone() == (1,)


def test_a_client_from_before_the_horizon_is_told_to_compare(account, post, monkeypatch):
    monkeypatch.setattr(mailboxes, "EXPUNGES", 3)
    post(30)
    inbox = account.open("INBOX")
    since = inbox.highest_modseq
    for uid in range(1, 21):
        inbox.expunge([uid])
    recent = inbox.highest_modseq
    inbox.expunge([21])
    monkeypatch.setattr(inbox._contents._vanished, "_start", recent + 10**9)  # as after a start
    changes = inbox.changes(since)
    assert not changes.complete
    changes = inbox.changes(recent)
    assert (changes.vanished, changes.complete) == ([21], True)


def test_expunges_are_not_said_to_be_known_when_the_index_cannot_tell(account, post, monkeypatch):
    post(3)
    inbox = account.open("INBOX")
    since = inbox.highest_modseq
    inbox.expunge([2])
    inbox.close()
    inbox._contents._vanished._start = inbox.highest_modseq
    monkeypatch.setattr(type(inbox._index.file), "run", lambda self, work, default: default)
    assert not inbox.changes(since).complete


# Several processes


def test_keywords_without_a_letter_are_merged(tmp_path):
    one, other = Index(tmp_path), Index(tmp_path)
    saved(one, Change(added=[row(1), row(2, words="old")]), 1, begin=True)
    saved(one, Change(words={1: ("", "a")}), 2)
    saved(other, Change(words={1: ("", "b"), 2: ("old", "new")}), 3)
    saved(one, Change(flagged=[(1, ":2,S", 4)]), 4)
    assert one.mailboxes.words(KEY)[1] == {1: "a b", 2: "new"}
    saved(other, Change(words={1: ("b", ""), 2: ("new", "")}), 5)
    assert one.mailboxes.words(KEY)[1] == {1: "a"}
    saved(other, Change(added=[row(1, words="c"), row(2)]), 6, begin=True)
    assert one.mailboxes.words(KEY)[1] == {1: "a c"}


KEYWORDS = """
    import sys
    from pathlib import Path
    from mailserver.mail import Address
    from mailserver.store import Store

    inbox = Store(Path(sys.argv[1]), hostname="mx").account(Address("alice", "example.test")).open("INBOX")
    for line in sys.stdin:
        action, uid, *keywords = line.split()
        if action == "show":
            inbox.sync()
            print(*sorted(*[message.flags for message in inbox.get([int(uid)])]), flush=True)
        else:
            inbox.update_flags([int(uid)], action, frozenset(keywords))
            print("done", flush=True)
"""


def ask(process: subprocess.Popen[str], line: str) -> list[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().split()


def test_keywords_without_a_letter_are_seen_by_other_processes_and_none_is_lost(tmp_path, inbox, post):
    post(2)
    inbox.sync()
    letters = frozenset(f"key{number}" for number in range(26))
    inbox.update_flags([2], "set", letters)
    inbox.close()
    one, other = start(KEYWORDS, tmp_path / "mail"), start(KEYWORDS, tmp_path / "mail")
    assert ask(one, "show 1") == ask(other, "show 1") == []
    ask(one, "add 1 late1")
    assert ask(other, "show 1") == ["late1"]
    ask(other, "add 1 late2")
    ask(one, "add 1 late3")  # without a look at what the other did
    assert ask(one, "show 1") == ask(other, "show 1") == ["late1", "late2", "late3"]
    ask(other, "remove 1 late1")
    ask(one, "add 1 \\Seen")
    assert ask(one, "show 1") == ask(other, "show 1") == ["\\Seen", "late2", "late3"]
    for path in (tmp_path / "mail/example.test/alice").glob("mailserver.index*"):
        path.unlink()
    ask(other, "add 1 late4")
    ask(one, "add 2 late5")
    assert ask(one, "show 1") == ask(other, "show 1") == ["\\Seen", "late2", "late3", "late4"]
    one.kill()
    other.communicate(timeout=60)
    one.communicate(timeout=60)
    inbox = Store(tmp_path / "mail", hostname="mx").account(ALICE).open("INBOX")
    assert [set(m.flags) for m in inbox.messages()] == [
        {"\\Seen", "late2", "late3", "late4"},
        letters | {"late5"},
    ]


HOLD = """
    import sys
    from pathlib import Path
    from mailserver.store.columns import Change, Row, State
    from mailserver.store.index import Header, Index

    index = Index(Path(sys.argv[1]))
    index.mailboxes.turn(1)
    rows = [Row(uid, f"1.x,U={uid}", State(":2,"), 1, 1.5, 10, 1) for uid in range(1, 2001)]
    assert index.mailboxes.save(Header(1, "", 2000, 1, 0, 0, None, None), Change(added=rows), None)
    print("ready", flush=True)
    sys.stdin.readline()
    sys.argv[2] == "close" and index.close()
    print("closed", flush=True)
    sys.stdin.readline()
"""


def test_closing_a_file_that_was_deleted_harms_not_the_new_one(tmp_path):
    """SQLite removes the log of a file by its name when the last one closes it."""
    old = start(HOLD, tmp_path, "close")
    assert old.stdout is not None
    assert old.stdout.readline() == "ready\n"
    for path in tmp_path.glob("mailserver.index*"):
        path.unlink()
    new = start(HOLD, tmp_path, "hold")
    assert new.stdout is not None
    assert new.stdout.readline() == "ready\n"
    log = tmp_path / "mailserver.index-wal"
    assert log.stat().st_size > 100_000
    assert ask(old, "") == ["closed"]
    assert log.stat().st_size > 100_000
    new.kill()
    for process in (old, new):
        process.communicate(timeout=60)
    index = Index(tmp_path)
    assert len(index.mailboxes.load(1).columns) == 2000
    with closing(sqlite3.connect(tmp_path / INDEX_FILE)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_an_index_put_in_place_of_another_is_noticed(tmp_path):
    one, other = Index(tmp_path), Index(tmp_path)
    saved(one, Change(added=[row(1)]), 1, begin=True)
    before = one.generation
    for path in tmp_path.glob("mailserver.index*"):
        path.unlink()
    saved(other, Change(added=[row(1), row(2)]), 1, begin=True)
    assert [each.uid for each in rows_of(one)] == [1, 2]
    assert one.generation == other.generation != before
    assert one.mailboxes.save(header(5), Change(added=[row(3)]), before) is None


SNAPSHOTS = """
    import sys
    from pathlib import Path
    from mailserver.mail import Address
    from mailserver.store import Store, maildir, warm

    maildir._SNAPSHOT_MINIMUM, maildir._SNAPSHOT_SHARE, warm.MAILBOXES = 1, 10**9, 0
    account = Store(Path(sys.argv[1]), hostname="mx").account(Address("alice", "example.test"))
    seen = frozenset({"\\\\Seen"})
    number = 0
    while True:
        number += 1
        inbox = account.open("INBOX")
        inbox.update_flags([number % 300 + 1], "remove" if number // 300 % 2 else "add", seen)
        print(number, flush=True)
        inbox.close()
"""


@pytest.mark.slow
def test_snapshots_stay_right_through_kill_9_and_two_writers(tmp_path, store, post):
    post(300)
    maildir = tmp_path / "mail/example.test/alice"
    for start_number in range(4):
        workers = [start(SNAPSHOTS, tmp_path / "mail") for _ in range(2)]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        time.sleep(0.05 + 0.07 * start_number)
        for worker in workers:
            worker.kill()
            worker.communicate(timeout=60)
        inbox = Store(tmp_path / "mail", hostname="mx").account(ALICE).open("INBOX")
        found = {m.uid: m.name for m in inbox.messages()}
        assert sorted(found.values()) == sorted(path.name for path in (maildir / "cur").iterdir())
        assert list(found) == list(range(1, 301))
        assert all(("\\Seen" in m.flags) == m.name.endswith(":2,S") for m in inbox.messages())
        index = Index(maildir)
        with_snapshot = rows_of(index, inbox.key)
        with closing(sqlite3.connect(maildir / INDEX_FILE)) as db:
            db.execute("DELETE FROM snapshots")
            db.commit()
        assert rows_of(index, inbox.key) == with_snapshot
        index.close()
        inbox.close()
