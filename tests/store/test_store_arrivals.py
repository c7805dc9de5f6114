"""Where mail arrived: told by many, read by one, and not lost before it is done."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from mailserver.store import arrivals
from mailserver.store.arrivals import Arrivals, Place, Reader

INBOX, WORK = Place("example.org/alice", ""), Place("example.org/alice", ".Work.2024")


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time is told."""
    monkeypatch.setattr(arrivals, "AGAIN", -1.0)


def test_what_is_told_is_read_once_by_each_reader_until_it_is_done(tmp_path: Path) -> None:
    told, reader = Arrivals(tmp_path), Reader(tmp_path)
    assert (reader.waiting, reader.read()) == (False, [])
    for place in (INBOX, WORK, INBOX):
        told.note(*place)
    assert reader.waiting
    assert reader.read() == [INBOX, WORK]
    assert reader.read() == []
    told.note(*WORK)
    assert reader.read() == [WORK]
    assert Reader(tmp_path).read() == [INBOX, WORK], "nothing of it was done"
    assert reader.settle([WORK]) == []
    assert (reader.waiting, reader.read()) == (True, [])
    assert Reader(tmp_path).read() == [WORK]
    assert reader.settle([]) == []
    assert (reader.waiting, Reader(tmp_path).read()) == (False, [])
    assert list(tmp_path.iterdir()) == []


def test_what_is_told_while_the_rest_is_settled_is_not_lost(tmp_path: Path) -> None:
    told, reader = Arrivals(tmp_path), Reader(tmp_path)
    told.note(*INBOX)
    reader.read()
    told.note(*WORK)
    assert reader.settle([]) == [WORK]
    assert Reader(tmp_path).read() == [WORK], "also when this process ends now"


def test_a_reader_that_was_killed_while_it_settled_loses_nothing(tmp_path: Path) -> None:
    told = Arrivals(tmp_path)
    told.note(*INBOX)
    (tmp_path / arrivals.ARRIVED).rename(tmp_path / arrivals.PASSED)
    told.note(*WORK)
    assert Reader(tmp_path).read() == [INBOX, WORK]


def test_zeros_that_a_power_cut_left_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / arrivals.ARRIVED).write_bytes(bytes(100) + b"example.org/carol\t\n")
    Arrivals(tmp_path).note(*WORK)
    assert Reader(tmp_path).read() == [WORK]


def test_a_line_counts_when_it_is_whole_and_a_file_that_was_removed_begins_anew(tmp_path: Path) -> None:
    told, reader = Arrivals(tmp_path), Reader(tmp_path)
    told.note(*INBOX)
    path = tmp_path / arrivals.ARRIVED
    with path.open("ab") as file:
        file.write(b"example.org/al")
        file.flush()
        assert reader.read() == [INBOX]
        file.write(b"ice\t.Work.2024\n")
        file.flush()
    assert reader.read() == [WORK]
    path.unlink()
    told.note(*WORK)
    assert reader.read() == [WORK]
    path.write_bytes(b"nonsense\n\n")
    assert reader.read() == []


def test_a_folder_is_told_of_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "AGAIN", 1000.0)
    monkeypatch.setattr(arrivals, "REMEMBERED", 2)
    told = Arrivals(tmp_path)
    for _ in range(3):
        told.note(*INBOX)
        told.note(*WORK)
    assert (tmp_path / arrivals.ARRIVED).read_bytes().count(b"\n") == 2
    for number in range(10):
        told.note("example.org/alice", f".{number}")
    assert len(told._noted) <= 2


def test_the_file_is_bounded_and_a_full_disk_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(arrivals, "LARGEST", 100)
    told = Arrivals(tmp_path)
    for _ in range(100):
        told.note(*INBOX)
    assert (tmp_path / arrivals.ARRIVED).stat().st_size < 150
    nowhere = Arrivals(tmp_path / "missing")
    with caplog.at_level(logging.WARNING):
        nowhere.note(*INBOX)
        nowhere.note(*WORK)
    assert len(caplog.records) == 1


def test_many_tell_at_once(tmp_path: Path) -> None:
    reader = Reader(tmp_path)

    def tell(number: int) -> None:
        told = Arrivals(tmp_path)
        for n in range(200):
            told.note("example.org/alice", f".{number}.{n}")

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    found: list[Place] = []
    while any(thread.is_alive() for thread in threads):
        found += reader.read()
    found += reader.read()
    assert sorted(found) == sorted(Place("example.org/alice", f".{a}.{b}") for a in range(4) for b in range(200))
