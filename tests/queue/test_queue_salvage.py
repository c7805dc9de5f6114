"""A database with broken pages: what can be read goes on, what cannot is set aside, and nothing is dropped."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

import pytest

from mailserver.mail import Address, Content, Envelope, Recipient
from mailserver.queue import NewEntry, Queue, QueueError, State, salvage

NOW = 1_700_000_000.0
PAGE = 4096


def filled(
    directory: Path, count: int, *, body: bytes = b"Subject: x\r\n\r\n" + b"y" * 900 + b"\r\n"
) -> dict[str, bytes]:
    """The entries and their contents."""
    queue = Queue(directory)
    batch = [
        NewEntry(
            Envelope(None, (Recipient(Address(f"user{n}", "example.net")), Recipient(Address("b", "c.example")))),
            Content(b"%d " % n + body),
            b"Received: x\r\n",
            NOW,
        )
        for n in range(count)
    ]
    ids = queue.add(batch)
    queue.close()
    return {str(id): b"%d " % n + body for n, id in enumerate(ids)}


def break_page(path: Path, number: int, junk: bytes) -> None:
    with path.open("r+b") as file:
        file.seek((number - 1) * PAGE)
        file.write(junk * (PAGE // len(junk)))


def content(queue: Queue, id: str) -> bytes:
    return b"".join(queue.content(id).chunks())


@pytest.mark.parametrize("junk", [b"\0", b"junk"])
def test_whichever_page_breaks_nothing_is_dropped(tmp_path: Path, junk: bytes) -> None:
    original = tmp_path / "original"
    entries = filled(original, 300)
    octets = (original / "queue.db").read_bytes()
    with sqlite3.connect(original / "queue.db") as db:
        roots = {root for (root,) in db.execute("SELECT rootpage FROM sqlite_master")}
    db.close()
    salvaged = 0
    for page in (*range(2, 30), *range(30, len(octets) // PAGE + 1, 7)):
        directory = tmp_path / f"page-{page}"
        directory.mkdir()
        path = directory / "queue.db"
        path.write_bytes(octets)
        break_page(path, page, junk)
        queue = Queue(directory)
        kept = list(directory.glob("queue.db.damaged-*"))
        found = {entry.id: entry for entry in queue.list()}
        if kept:
            assert kept[0].read_bytes()[(page - 1) * PAGE : page * PAGE] == junk * (PAGE // len(junk))
            salvaged += 1
        assert found.keys() == entries.keys()
        intact = [id for id, entry in found.items() if entry.state is State.QUEUED]
        assert page in roots or len(intact) >= 200, "one page is not most of the queue"
        for id in intact:
            assert content(queue, id) == entries[id]
        assert queue.lead()
        assert {entry.id for entry in queue.due(NOW, horizon=1.0, limit=1000)} == set(intact)
        queue.close()
        assert salvage.faults(path) == []
    assert salvaged >= 10


def test_a_database_that_was_cut_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    original = tmp_path / "original"
    entries = filled(original, 100)
    octets = (original / "queue.db").read_bytes()
    most = 0
    for pages in range(10, len(octets) // PAGE, 5):
        directory = tmp_path / f"pages-{pages}"
        directory.mkdir()
        (directory / "queue.db").write_bytes(octets[: pages * PAGE])
        queue = Queue(directory)
        found = {entry.id: entry.state for entry in queue.list()}
        assert found.keys() <= entries.keys()
        intact = [id for id, state in found.items() if state is State.QUEUED]
        most = max(most, len(intact))
        assert all(content(queue, id) == entries[id] for id in intact)
        queue.close()
        assert [path.stat().st_size for path in directory.glob("queue.db.damaged-*")] == [pages * PAGE]
    assert most >= 50


def test_bodies_of_entries_that_may_have_been_lost_are_kept_as_long_as_the_damaged_database(tmp_path: Path) -> None:
    directory = tmp_path / "queue"
    entries = filled(directory, 20, body=b"x" * 70_000 + b"\r\n")
    path = directory / "queue.db"
    path.write_bytes(path.read_bytes()[:PAGE])
    for body in (directory / "bodies").iterdir():
        os.utime(body, (1, 1))
    queue = Queue(directory)
    assert len(queue.list()) < len(entries)
    assert queue.sweep() == 0
    assert {body.name for body in (directory / "bodies").iterdir()} == entries.keys()
    for kept in directory.glob("queue.db.damaged-*"):
        kept.unlink()
    assert queue.sweep() > 0
    queue.close()


def test_a_sound_queue_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path / "queue", 10)
    before = (tmp_path / "queue" / "queue.db").stat().st_ino
    Queue(tmp_path / "queue").close()
    assert (tmp_path / "queue" / "queue.db").stat().st_ino == before
    assert not list((tmp_path / "queue").glob("queue.db.damaged-*"))


def test_a_large_queue_is_checked_while_it_is_used_and_mended_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "queue"
    entries = filled(directory, 60)
    monkeypatch.setattr(salvage, "CHECKED_AT_START", 0)
    break_page(directory / "queue.db", 20, b"junk")
    queue = Queue(directory)
    assert queue.check()
    queue.close()
    assert not list(directory.glob("queue.db.damaged-*"))
    with caplog.at_level(logging.ERROR):
        queue = Queue(directory)
    assert "is damaged" in caplog.text and "kept as" in caplog.text
    assert queue.check() == []
    assert {entry.id for entry in queue.list()} == entries.keys()
    queue.close()
    Queue(directory).close()
    assert len(list(directory.glob("queue.db.damaged-*"))) == 1


def test_a_page_that_breaks_while_the_queue_is_open_costs_its_own_entries_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "queue"
    entries = filled(directory, 60)
    monkeypatch.setattr(salvage, "CHECKED_AT_START", 0)
    with sqlite3.connect(directory / "queue.db") as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'recipient'").fetchone()
    db.close()
    queue = Queue(directory)
    assert queue.lead()
    leaf = next(page for page in range(2, 200) if page != root and _is_recipient_leaf(directory / "queue.db", page))
    break_page(directory / "queue.db", leaf, b"\xff")
    found = {entry.id for entry in queue.due(NOW, horizon=1.0, limit=100)}
    assert 0 < len(found) < len(entries)
    assert "set aside" in caplog.text
    assert queue.due(NOW, horizon=1.0, limit=100) == []
    assert {entry.id for entry in queue.list()} == entries.keys()
    queue.close()


def _is_recipient_leaf(path: Path, page: int) -> bool:
    octets = path.read_bytes()[(page - 1) * PAGE : page * PAGE]
    return octets[:1] == b"\x0a" and octets.count(b"example.net") > 5 and b"Received" not in octets


def test_a_queue_that_another_process_uses_is_not_mended_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "queue"
    filled(directory, 60)
    queue = Queue(directory)
    with queue._database.reading() as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM entry").fetchone()
        break_page(directory / "queue.db", 20, b"junk")
        Queue(directory).close()
        db.execute("COMMIT")
    queue.close()
    assert not list(directory.glob("queue.db.damaged-*"))
    Queue(directory).close()
    assert len(list(directory.glob("queue.db.damaged-*"))) == 1, "by the next start"


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    filled(tmp_path / "queue", 3)
    break_page(tmp_path / "queue" / "queue.db", 1, b"junk")
    octets = (tmp_path / "queue" / "queue.db").read_bytes()
    with pytest.raises(QueueError, match="cannot be opened"):
        Queue(tmp_path / "queue")
    assert (tmp_path / "queue" / "queue.db").read_bytes() == octets
