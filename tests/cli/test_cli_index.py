"""`mailserver index`: what it finds, what it leaves alone, and that clients keep all they know across a rebuild."""

from __future__ import annotations

import gc
import itertools
import json
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mailserver.cli.main import main
from mailserver.mail import Address, Content
from mailserver.message import Phrase
from mailserver.store import AccountStore, Mailbox, Store, checking, watch
from mailserver.store.checking import check
from mailserver.store.index import INDEX_FILE
from mailserver.store.searchfile import SEARCH_FILE
from tests.support.configs import ACCOUNTS, write_configuration
from tests.support.server import ALICE, BOB, RunningServer

USER = Address("alice", "example.test")
MESSAGE = b"Subject: number %d\r\nFrom: a@example.test\r\n\r\nneedle\r\n"


class Host:
    """A server that was configured, with mail on disk, and need not run."""

    def __init__(self, config: Path, mail: Path) -> None:
        self.config = config
        self.mail = mail
        self.path = mail / "example.test/alice"
        self.index = self.path / INDEX_FILE

    @cached_property
    def account(self) -> AccountStore:
        return self.fresh()

    def fresh(self) -> AccountStore:
        """As another process has it."""
        return Store(self.mail, hostname="mx.example.test").account(USER)

    def fill(self, count: int = 5) -> Mailbox:
        """Messages, some flags, everything packed and prepared, and known to the index for certain."""
        inbox = self.account.open("INBOX")
        uids = [inbox.append(Content(MESSAGE % number)) for number in range(count)]
        inbox.update_flags(uids[:2], "add", frozenset({r"\Seen"}))
        while inbox.prepare(100) or inbox.pack(100):
            pass
        inbox.close()
        self.settle()
        return inbox

    def settle(self) -> None:
        """A later process looks, when the times of the directories are certain."""
        for folder in self.account.folders():
            directory = self.path / (folder.name if folder.name != "INBOX" else "")
            for part in ("new", "cur"):
                os.utime(directory / part, (time.time() - 100, time.time() - 100))
        self.fresh().open("INBOX").close()
        self.rest()

    def rest(self) -> None:
        """Nobody has the index open."""
        gc.collect()
        self.account._index.close()

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["--config", str(self.config), "index", *arguments])

    def good(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def bad(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 1, result.output
        return result.output

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.index)) as db, db:
            db.execute(statement)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    accounts = ACCOUNTS.replace("example.org", "example.test")
    (tmp_path / "data/mail").mkdir(parents=True)
    return Host(write_configuration(tmp_path, accounts=accounts), tmp_path / "data/mail")


def state(inbox: Mailbox) -> tuple[int, list[tuple[int, frozenset[str], int]]]:
    return inbox.uidvalidity, [(each.uid, each.flags, each.size) for each in inbox.messages()]


# Check


def test_an_index_that_is_right(host: Host) -> None:
    host.fill()
    before = host.index.read_bytes()
    output = host.good("check")
    assert output.startswith(f"{ALICE}: 5 messages in 1 mailbox, index ")
    assert output.endswith(", all search text packed; ok\n")
    assert host.index.read_bytes() == before
    assert host.good("check", ALICE) == output


def test_an_account_without_index_or_mail(host: Host) -> None:
    host.account.create("Work")
    assert "note: there is no index yet" in host.good("check", ALICE)
    assert host.good("check", BOB) == f"{BOB}: no mail yet\n"


def test_an_unknown_account_is_refused(host: Host) -> None:
    assert "there is no account nobody@example.test" in host.bad("check", "nobody@example.test")
    assert "there is no account nobody@example.test" in host.bad("rebuild", "nobody@example.test")


def test_new_mail_is_no_fault(host: Host) -> None:
    host.fill()
    (host.path / "new/1.x.host").write_bytes(b"Subject: new\n\n")
    assert f"{ALICE} INBOX: note: 1 in new/ not looked at yet" in host.good("check")


def test_a_folder_that_nobody_opened_is_no_fault(host: Host) -> None:
    host.fill()
    for part in ("cur", "new", "tmp"):
        (host.path / ".Work" / part).mkdir(parents=True)
    assert f"{ALICE} Work: note: not looked at yet" in host.good("check")


def test_what_others_did_since_is_no_fault(host: Host) -> None:
    host.fill()
    first, second, third = sorted((host.path / "cur").iterdir())[:3]
    first.rename(first.with_name(first.name + "T"))
    second.unlink()
    third.rename(third.with_name("other.host:2,"))
    output = host.good("check")
    assert "1 message with other flags in the index: not looked at yet (UID " in output
    assert "1 message without a UID: not looked at yet" in output
    assert "2 messages in the index without a file: not looked at yet" in output


Damage = Callable[[Host], None]


def without_row(host: Host) -> None:
    host.sql("DELETE FROM messages WHERE uid = 2")
    host.sql("DELETE FROM flags WHERE uid = 2")


def without_file(host: Host) -> None:
    host.sql("INSERT INTO messages SELECT key, 99, 'x,U=99', date, size, born FROM messages WHERE uid = 1")
    host.sql("INSERT INTO flags SELECT key, 99, info, modseq, turn FROM flags WHERE uid = 1")


def double(host: Host) -> None:
    (host.path / "cur/9.second.host,U=1:2,").write_bytes(b"Subject: x\n\n")


def unpackable(host: Host) -> None:
    path = host.path / SEARCH_FILE
    octets = path.read_bytes()
    path.write_bytes(octets.replace(b"NEEDLE", b"NOODLE"))


DAMAGES: list[tuple[str, Damage]] = [
    ("missing in the index", without_row),
    ("in the index without a file", without_file),
    ("under another name in the index", lambda host: host.sql("UPDATE messages SET base = 'other,U=1' WHERE uid = 1")),
    ("with other flags in the index", lambda host: host.sql("UPDATE flags SET info = ':2,T' WHERE uid = 1")),
    ("of another size in the index than the file's name tells", lambda host: host.sql("UPDATE messages SET size = 1")),
    ("of another size in the index than the file has", lambda host: host.sql("UPDATE messages SET size = 1")),
    ("with prepared pieces that do not fit", lambda host: host.sql("UPDATE prepared SET preview = 'other'")),
    ("with prepared pieces that do not fit", lambda host: host.sql("UPDATE sorting SET subject = 'other'")),
    ("with prepared pieces that do not fit", lambda host: host.sql("UPDATE headers SET header = x'413a0d0a0d0a'")),
    ("rows that were never written", lambda host: host.sql("UPDATE messages SET base = 'none' WHERE uid = 1")),
    ("with a UID that another file has, too", double),
    ("with damaged search text", unpackable),
    ("of version 77", lambda host: host.sql("PRAGMA user_version = 77")),
    ("cannot be read", lambda host: host.index.write_bytes(b"garbage" * 1000)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "damage"), DAMAGES)
def test_a_fault_is_found_and_a_rebuild_mends_it(host: Host, text: str, damage: Damage) -> None:
    host.fill()
    known = state(host.fresh().open("INBOX"))
    host.sql("DELETE FROM snapshots")
    damage(host)
    output = host.bad("check")
    assert text in output
    assert f"`mailserver index rebuild {ALICE}` makes its index anew" in output
    host.run("rebuild", ALICE)
    host.settle()
    assert "; ok\n" in host.good("check")
    again = state(host.fresh().open("INBOX"))
    assert again[0] == known[0]
    assert set(known[1]) <= set(again[1])


def test_the_lag_of_the_search_text_is_told(host: Host) -> None:
    inbox = host.account.open("INBOX")
    for number in range(3):
        inbox.append(Content(MESSAGE % number))
    inbox.pack(1)
    inbox.close()
    host.sql("UPDATE messages SET born = born - 90000000")
    host.sql("DELETE FROM snapshots")
    assert "2 not packed for search, for up to 9" in host.good("check")
    (data,) = json.loads(host.good("check", "--json"))
    assert data["ok"]
    assert (data["unpacked"], data["messages"]) == (2, 3)
    assert 90 <= data["waiting"] < 120


def test_a_check_is_right_while_others_work(host: Host) -> None:
    host.fill()
    busy = threading.Event()
    account = host.fresh()

    def work() -> None:
        inbox = account.open("INBOX")
        for number in itertools.count():
            if busy.is_set():
                return
            uid = inbox.append(Content(MESSAGE % number))
            inbox.update_flags([uid, uid - 1], "set", frozenset({r"\Seen"} if number % 2 else {r"\Flagged"}))
            inbox.pack(2)
            inbox.expunge([uid - 3])

    worker = threading.Thread(target=work)
    worker.start()
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            report = check(host.path)
            assert not report.wrong, report.findings
            assert report.messages
    finally:
        busy.set()
        worker.join()


def test_what_is_packed_while_a_check_begins_is_no_damage(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search file was opened before its first text was written, the index copied after."""
    inbox = host.account.open("INBOX")
    for number in range(3):
        inbox.append(Content(MESSAGE % number + b"a longer text " * 50 * number))
    copy = checking._copy
    inbox.pack(1)

    def late(*arguments: Any) -> bool:
        while inbox.pack(1):
            pass
        return copy(*arguments)

    monkeypatch.setattr(checking, "_copy", late)
    report = check(host.path)
    assert not report.wrong, report.findings
    assert (report.messages, report.unpacked) == (3, 0)
    inbox.close()


# Rebuild


def test_a_rebuild_wants_names_or_all(host: Host) -> None:
    assert host.run("rebuild").exit_code == 2
    assert host.run("rebuild", "--all", ALICE).exit_code == 2


def test_a_rebuild_fills_index_and_search_text(host: Host) -> None:
    host.fill()
    host.account.create("Work")
    known = state(host.fresh().open("INBOX"))
    text = (host.path / SEARCH_FILE).read_bytes()
    assert host.good("rebuild", "--all") == f"{ALICE}: 5 messages in 2 mailboxes indexed\n"
    assert (host.path / SEARCH_FILE).read_bytes() != text
    inbox = host.fresh().open("INBOX")
    assert state(inbox) == known
    assert inbox.prepare(0) == 0
    assert inbox.pack(0) == 0
    assert len(inbox.search_text(range(100), Phrase("needle")).uids) == 5


def many_keywords(host: Host) -> dict[int, frozenset[str]]:
    """More than there are letters."""
    inbox = host.fill()
    inbox = host.account.open("INBOX")
    for number in range(30):
        inbox.update_flags([1 + number % 3], "add", frozenset({f"word{number}"}))
    inbox.close()
    return {each.uid: each.flags for each in inbox.messages()}


def test_keywords_beyond_the_letters_stay(host: Host) -> None:
    flags = many_keywords(host)
    host.good("rebuild", ALICE)
    assert {each.uid: each.flags for each in host.fresh().open("INBOX").messages()} == flags
    assert {each.uid: each.flags for each in host.account.open("INBOX").messages()} == flags


def test_keywords_that_cannot_be_read_are_told(host: Host) -> None:
    many_keywords(host)
    host.account.open("INBOX").close()
    host.rest()
    host.index.write_bytes(b"garbage" * 1000)
    assert f"{ALICE}: keywords beyond the 26" in host.bad("rebuild", ALICE)
    assert "; ok\n" in host.good("check")


def test_a_mailbox_that_is_open_meanwhile_writes_what_it_knows(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GRAIN", 10**18)
    host.fill()
    inbox = host.account.open("INBOX")
    known = state(inbox)
    host.good("rebuild", ALICE)
    inbox.update_flags([3], "add", frozenset({r"\Flagged"}))
    added = inbox.append(Content(MESSAGE % 9))
    inbox.expunge([1])
    inbox.close()
    other = host.fresh().open("INBOX")
    assert [each.uid for each in other.messages()] == [2, 3, 4, 5, added]
    assert other.get([3])[0].flags == {r"\Flagged"}
    assert other.uidvalidity == known[0]
    assert state(other) == state(inbox)


def test_clients_of_a_running_server_keep_uids_and_flags(tmp_path: Path) -> None:
    server = RunningServer(tmp_path / "server")
    host = Host(server.config, server.data / "mail")
    with server:
        client = server.imap()
        for number in range(4):
            client.append("INBOX", r"(\Flagged)", None, MESSAGE % number)  # type: ignore[arg-type]
        client.select("INBOX")
        before = client.fetch("1:*", "(UID FLAGS ENVELOPE)")
        host.good("check")
        assert f"{ALICE}: 4 messages in 1 mailbox indexed" in host.good("rebuild", ALICE)
        assert client.fetch("1:*", "(UID FLAGS ENVELOPE)") == before
        client.store("2", "+FLAGS", r"(\Deleted)")
        client.expunge()
        client.append("INBOX", None, None, MESSAGE % 9)  # type: ignore[arg-type]
        assert client.search(None, "TEXT", "needle")[1] == [b"1 2 3 4"]
        host.good("check")
        other = server.imap()
        other.select("INBOX")
        recent = (
            line.replace(rb" \Recent", b"").replace(rb"\Recent", b"") for line in client.fetch("1:*", "(UID FLAGS)")[1]
        )  # type: ignore[union-attr]
        assert list(recent) == other.fetch("1:*", "(UID FLAGS)")[1]
        assert [line.split()[2] for line in other.fetch("1:*", "(UID)")[1]] == [b"1)", b"3)", b"4)", b"5)"]  # type: ignore[union-attr]
        other.logout()
        client.logout()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root works for others")
def test_what_root_makes_belongs_to_the_owner_of_the_mail(tmp_path_factory: pytest.TempPathFactory) -> None:
    with tempfile.TemporaryDirectory() as place:  # where others may go
        Path(place).chmod(0o755)
        accounts = ACCOUNTS.replace("example.org", "example.test")
        (Path(place) / "data/mail").mkdir(parents=True)
        host = Host(write_configuration(Path(place), accounts=accounts), Path(place) / "data/mail")
        host.fill()
        for path in [*host.mail.rglob("*"), host.mail]:
            os.chown(path, 12345, 12346)
        for path in host.path.glob("mailserver.index*"):
            path.unlink()
        assert "5 messages in 1 mailbox indexed" in host.good("rebuild", ALICE)
        host.good("check", ALICE)
        assert os.geteuid() == 0
        assert {(path.stat().st_uid, path.stat().st_gid) for path in host.mail.rglob("*")} == {(12345, 12346)}
