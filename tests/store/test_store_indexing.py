"""Mail is made ready before anybody opens its mailbox, and nobody notices but by how fast it is then."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailserver.mail import Address, Content
from mailserver.message import Phrase
from mailserver.store import Addition, Delivery, Mailbox, Store, arrivals, indexing, outstanding, watch
from mailserver.store.arrivals import Arrivals, Place, Reader
from mailserver.store.index import PieceTables
from mailserver.store.indexing import Indexer
from mailserver.store.lag import reading
from mailserver.store.outstanding import outstanding as outstanding_in
from tests.support.maildirs import import_maildir

ALICE, BOB = Address("alice", "example.test"), Address("bob", "example.test")
HOST = "mx.example.test"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "AGAIN", -1.0)
    for name in ("SOON", "LATER"):
        monkeypatch.setattr(indexing, name, 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest.fixture
def store(root: Path, tmp_path: Path) -> Store:
    return Store(root, hostname=HOST, arrivals=Arrivals(tmp_path))


class Background:
    """An indexer that never rests."""

    def __init__(self, directory: Path) -> None:
        self.rests: list[float] = []
        self.ends_after: float = float("inf")
        reader = Reader(directory)
        self.indexer = Indexer(directory / "mail", reader, HOST, rest=self.rests.append, wanted=self._wanted)

    def _wanted(self) -> bool:
        return len(self.rests) < self.ends_after

    def run(self, *, round: bool = False) -> None:
        if round:
            self.indexer.begin_round()
        while self._wanted() and self.indexer.step():
            pass


@pytest.fixture
def background(tmp_path: Path) -> Background:
    return Background(tmp_path)


def deliver(store: Store, to: Address = ALICE, folder: str = "INBOX", count: int = 1) -> None:
    contents = [Content(b"Subject: %d\r\n\r\nbody\r\n" % number) for number in range(count)]
    for result in store.deliver([Delivery(to, b"", content, folder) for content in contents]):
        assert isinstance(result, Path), result


def ready(account: Path) -> dict[str, tuple[int, int, int]]:
    """By folder: how many messages the index knows, has pieces of, and knows to be packed."""
    with reading(account) as db:
        if db is None:
            return {}
        counted = ", ".join(
            f"(SELECT count(*) FROM {table} WHERE {table}.key = mailboxes.key)"
            for table in ("messages", "prepared", "packed")
        )
        return {row[0]: row[1:] for row in db.execute(f"SELECT directory, {counted} FROM mailboxes")}


def test_what_arrived_in_folders_that_nobody_has_opened_is_made_ready(
    store: Store, root: Path, background: Background
) -> None:
    deliver(store, count=3)
    deliver(store, BOB, "Work", count=2)
    background.run()
    assert ready(root / "example.test/alice") == {"": (3, 3, 3)}
    assert ready(root / "example.test/bob") == {".Work": (2, 2, 2)}
    assert not Reader(root.parent).waiting, "nothing is to be done again"
    assert len(list((root / "example.test/alice/cur").iterdir())) == 3


def test_what_is_appended_and_copied_is_made_ready(store: Store, root: Path, background: Background) -> None:
    account = store.account(ALICE)
    for name in ("Sent", "Kept"):
        account.create(name)
    sent, kept = account.open("Sent"), account.open("Kept")
    uid = sent.append(Content(b"Subject: a\r\n\r\nb\r\n"))
    assert sent.replace(uid, Addition(Content(b"Subject: c\r\n\r\nd\r\n")), sent) == 2
    sent.copy([2], kept)
    background.run()
    assert ready(root / "example.test/alice") == {".Sent": (1, 1, 1), ".Kept": (1, 1, 1)}


def test_the_first_session_is_told_that_it_is_recent_and_sees_no_difference(
    store: Store, background: Background
) -> None:
    deliver(store, count=3)
    background.run()
    account = store.account(ALICE)
    assert account.status("INBOX").recent == 3
    inbox = account.open("INBOX")
    assert [message.uid for message in inbox.messages()] == [1, 2, 3]
    assert inbox.recent.join() == {1, 2, 3}
    assert inbox.prepared([1, 2, 3], ready=True).keys() == {1, 2, 3}, "without reading a message"
    deliver(store)
    background.run()
    inbox.sync()
    assert inbox.recent.take() == {4}, "to the session that waits"
    assert inbox.search_text([1, 2, 3, 4], Phrase("body")).uids == {1, 2, 3, 4}


def test_a_round_finds_what_others_put_there(
    root: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (outstanding, indexing):
        monkeypatch.setattr(module, "QUIET", 0.0)  # an account's directory is that of its INBOX, and has just changed
    import_maildir(root / "example.test/alice")
    import_maildir(root / "example.test/alice/.Work", 150)
    import_maildir(root / "example.org/bob", 2)
    background.run(round=True)
    assert background.indexer.state.rounds == 1
    assert ready(root / "example.test/alice") == {"": (3, 3, 3), ".Work": (150, 150, 150)}
    assert ready(root / "example.org/bob") == {"": (2, 2, 2)}


def test_a_round_opens_nothing_where_all_is_done(
    root: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_maildir(root / "example.test/alice")
    import_maildir(root / "example.test/empty", 0)
    background.run(round=True)
    monkeypatch.setattr(watch, "GRAIN", 0)  # else what has just changed is not trusted
    monkeypatch.setattr(watch, "COARSE_GRAIN", 0)
    background.run(round=True)
    assert outstanding_in(root / "example.test/alice") == {}
    assert outstanding_in(root / "example.test/empty") == {}
    assert not (root / "example.test/empty/mailserver.index").exists()
    monkeypatch.setattr(Mailbox, "prepare", lambda *_: pytest.fail("opened"))
    background.run(round=True)
    assert background.indexer.state.rounds == 3


def test_what_is_perhaps_being_copied_here_waits(
    root: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_maildir(root / "example.test/alice")
    os.utime(root / "example.test/alice/cur")
    assert outstanding_in(root / "example.test/alice") == {"": True}
    background.indexer.begin_round()
    for _ in range(5):
        background.indexer.step()
    assert not (root / "example.test/alice/.uidvalidity").exists()
    assert background.indexer.state.mailboxes == 1
    monkeypatch.setattr(outstanding, "QUIET", 0.0)
    monkeypatch.setattr(indexing, "QUIET", 0.0)
    fresh = Background(root.parent)
    fresh.run(round=True)
    assert ready(root / "example.test/alice") == {"": (3, 3, 3)}


def test_an_account_that_was_copied_here_is_looked_at_once_for_all_its_folders(
    root: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = root / "example.test/alice"
    for folder in ("", *(f".Work{number}" for number in range(20))):
        import_maildir(account / folder, 1)
        os.utime(account / folder / "cur")
    looks: list[Path] = []

    def looking(there: Path) -> dict[str, bool]:
        looks.append(there)
        return outstanding_in(there)

    monkeypatch.setattr(indexing, "outstanding", looking)
    monkeypatch.setattr(indexing, "QUIET", 0.5)
    background.indexer.begin_round()
    background.indexer.step()
    assert background.indexer.step() and not ready(account), "somebody may be at it"
    monkeypatch.setattr(outstanding, "QUIET", 0.0)
    background.run()
    assert len(ready(account)) == 21
    assert set(looks) == {account} and len(looks) < 5, "not for each folder; a slow machine looks once more"


def test_mail_that_needed_not_be_told_of_is_found(
    store: Store, root: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "SOON", 0.5)
    deliver(store)
    background.indexer.step()  # heard of it
    time.sleep(0.4)
    deliver(store)
    background.indexer.step()
    while not ready(root / "example.test/alice"):
        background.indexer.step()
    monkeypatch.setattr(arrivals, "AGAIN", 3600.0)  # as if it came just behind the other
    deliver(store)
    background.run()
    assert ready(root / "example.test/alice") == {"": (3, 3, 3)}
    monkeypatch.setattr(Mailbox, "prepare", lambda *_: pytest.fail("opened once more"))
    background.run()


def test_its_process_ends_in_good_order_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    code = "from mailserver.store import indexer; indexer.LINGER = 0.1; indexer.main()"
    command = [sys.executable, "-c", code, "--mail", str(tmp_path), "--arrivals", str(tmp_path), "--hostname", HOST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b"round\n")
        process.stdin.flush()  # and stays open
        assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_one_that_fails_does_not_hold_up_the_others_and_is_told_once(
    store: Store,
    root: Path,
    background: Background,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    deliver(store, ALICE, "Broken")
    deliver(store, ALICE, "Links")
    deliver(store, BOB, count=2)
    real = Mailbox.prepare

    def prepare(mailbox: Mailbox, limit: int) -> int:
        if mailbox.name == "Broken":
            raise OSError(5, "Input/output error")
        return real(mailbox, limit)

    monkeypatch.setattr(Mailbox, "prepare", prepare)
    folder = root / "example.test/alice/.Links"
    shutil.rmtree(folder / "cur")
    (folder / "cur").symlink_to(root)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            for _ in range(10):
                background.indexer.step()
            deliver(store, ALICE, "Broken")
    assert ready(root / "example.test/bob") == {"": (2, 2, 2)}
    assert [record.getMessage() for record in caplog.records if "Broken" in record.getMessage()] == [
        "indexing: account='example.test/alice' folder='.Broken' is tried again later: OSError(5, 'Input/output error')"
    ]
    monkeypatch.setattr(Mailbox, "prepare", real)
    again = Background(root.parent)
    again.run()
    assert ready(root / "example.test/alice")[".Broken"] == (4, 4, 4), "whoever comes next finds it"


def test_a_disk_that_refuses_is_tried_again_later(
    store: Store,
    root: Path,
    background: Background,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    deliver(store, count=150)
    deliver(store, BOB)
    full = PieceTables.store
    monkeypatch.setattr(PieceTables, "store", lambda *_: False)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            background.indexer.step()
    assert [record.getMessage().count("does not take what was made") for record in caplog.records] == [1, 1]
    assert len(background.indexer._backlog) == 2
    monkeypatch.setattr(PieceTables, "store", full)
    Background(root.parent).run()
    assert ready(root / "example.test/alice") == {"": (150, 150, 150)}
    assert ready(root / "example.test/bob") == {"": (1, 1, 1)}


def test_an_account_that_was_removed_is_not_made_again(store: Store, root: Path, background: Background) -> None:
    deliver(store)
    deliver(store, BOB)
    shutil.rmtree(root / "example.test/alice")
    background.run(round=True)
    assert [each.name for each in (root / "example.test").iterdir()] == ["bob"]
    assert ready(root / "example.test/bob") == {"": (1, 1, 1)}


def test_whoever_comes_next_goes_on_where_it_was_broken_off(
    store: Store, root: Path, tmp_path: Path, background: Background
) -> None:
    deliver(store, count=450)
    background.ends_after = 3
    background.run()
    known, prepared, packed = ready(root / "example.test/alice")[""]
    assert known == 450 and 0 < prepared < 450 and packed == 0
    made: list[int] = []
    again = Background(tmp_path)
    real = Mailbox._made

    def counting(mailbox: Mailbox, digest, uids):  # type: ignore[no-untyped-def]
        chosen = list(uids)
        made.extend(chosen if digest.name == "pieces" else ())
        return real(mailbox, digest, chosen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mailbox, "_made", counting)
        again.run()
    assert ready(root / "example.test/alice") == {"": (450, 450, 450)}
    assert max(made, default=0) <= 450 - prepared, "the newest were made first, and none of them again"


def test_what_is_at_work_is_there_for_whoever_comes_next_though_the_file_was_replaced(
    store: Store, root: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "REPLACED", -1)
    monkeypatch.setattr(indexing, "TURN", 0.0)
    deliver(store, ALICE, count=250)
    background.indexer._rest = lambda _seconds: deliver(store, BOB)
    background.indexer.step()
    assert 0 < ready(root / "example.test/alice")[""][1] < 250
    assert Place("example.test/alice", "") in Reader(root.parent).read()


def test_a_large_mailbox_keeps_no_other_waiting(
    store: Store, root: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "TURN", 0.0)
    deliver(store, ALICE, count=600)
    deliver(store, BOB)
    while ready(root / "example.test/bob") != {"": (1, 1, 1)}:
        assert background.indexer.step()
    assert ready(root / "example.test/alice")[""][2] < 600
    background.run()
    assert ready(root / "example.test/alice") == {"": (600, 600, 600)}


def test_where_a_session_is_at_it_the_mailbox_is_left_to_it(
    store: Store, root: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(store, count=500)
    session = store.account(ALICE).open("INBOX")
    portions = 0

    def rest(seconds: float) -> None:
        nonlocal portions
        portions += 1
        if portions > 1:  # behind the opening
            session.prepare(150)

    background.indexer._rest = rest
    background.indexer.step()
    assert len(background.indexer._backlog) == 1, "for later"
    known, prepared, packed = ready(root / "example.test/alice")[""]
    assert known == 500 and 200 < prepared < 500 and packed == 0


def test_it_rests_as_long_as_it_works_and_longer_where_it_is_held_up(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    rested: Callable[[float, float], float] = lambda wall, used: _rest(background, monkeypatch, wall, used)  # noqa: E731
    assert rested(0.02, 0.02) == pytest.approx(0.02)
    assert rested(0.04, 0.02) == pytest.approx(0.08)
    assert rested(1.0, 0.01) == indexing.REST


def test_while_mail_arrives_it_rests_longer(
    tmp_path: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    Arrivals(tmp_path).note("example.test/alice", "")
    assert _rest(background, monkeypatch, 0.02, 0.02) == indexing.AMID_MAIL
    os.utime(tmp_path / arrivals.ARRIVED, (1, 1))
    assert _rest(background, monkeypatch, 0.02, 0.02) == pytest.approx(0.02)


def _rest(background: Background, monkeypatch: pytest.MonkeyPatch, wall: float, used: float) -> float:
    with monkeypatch.context() as patch:
        patch.setattr(indexing.time, "monotonic", lambda: 100.0 + wall)
        patch.setattr(indexing.time, "process_time", lambda: 5.0 + used)
        background.indexer._rest_after(100.0, 5.0)
    return background.rests[-1]
