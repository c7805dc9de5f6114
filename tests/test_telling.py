"""What processes tell of themselves, in files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver import metrics, telling
from mailserver.telling import AT_LEAST_EVERY, Telling, prepare, processes, take_over
from tests.support.counted import counting


@pytest.fixture(autouse=True)
def nothing_counted() -> Iterator[None]:
    with counting():
        yield


@pytest.fixture
def status(tmp_path: Path) -> Path:
    prepare(tmp_path / "status")
    return tmp_path / "status"


def test_what_is_told_can_be_read(status: Path) -> None:
    metrics.LOGINS.add("imap", "ok")
    Telling(status, "3", {"python": "3.x"}).tell()
    (process,) = processes(status)
    assert (process.name, process.pid, process.versions) == ("3", os.getpid(), {"python": "3.x"})
    assert process.alive and time.time() - 60 < process.started <= process.told <= time.time()
    assert metrics.merged([process.counted])["mailserver_logins_total"] == {("imap", "ok"): 1}
    assert (status / "3.json").stat().st_mode & 0o777 == 0o600


def test_only_news_are_told_and_now_and_then_that_there_are_none(status: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(telling.time, "monotonic", lambda: now)
    mine = Telling(status, "server", {})

    def tells() -> bool:
        (status / "server.json").unlink(missing_ok=True)
        mine.tell()
        return (status / "server.json").exists()

    assert tells() and not tells()
    metrics.QUEUE_TIMES.observe(1.0)
    assert tells() and not tells()
    now += AT_LEAST_EVERY
    assert tells() and not tells()


def test_workers_come_in_their_order_and_others_last(status: Path) -> None:
    for name in ("supervisor", "10", "9", "0"):
        Telling(status, name, {}).tell()
    assert [process.name for process in processes(status)] == ["0", "9", "10", "supervisor"]


def test_who_has_ended_is_known_even_when_another_has_its_number(status: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    Telling(status, "0", {}).tell()
    path = status / "0.json"
    data = json.loads(path.read_text())
    for change in ({"pid": ended.pid}, {"began": data["began"] + 1}, {"began": None}):
        path.write_text(json.dumps(data | change))
        (process,) = processes(status)
        assert not process.alive, change


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"name": "0"}', '{"name": "0", "pid": "x"}'])
def test_what_cannot_be_understood_is_left_out(status: Path, text: str) -> None:
    (status / "0.json").write_text(text)
    assert processes(status) == []
    take_over(status, "0")
    assert not (status / "0.json").exists()


def test_where_nothing_was_told(tmp_path: Path) -> None:
    assert processes(tmp_path / "nowhere") == []


def test_the_start_leaves_nothing_of_the_last_one(status: Path) -> None:
    Telling(status, "0", {}).tell()
    (status / "1.new").write_text("half of it")
    prepare(status)
    assert list(status.iterdir()) == []
    assert status.stat().st_mode & 0o777 == 0o700


def test_what_an_ended_process_had_counted_is_taken_over_once(status: Path) -> None:
    metrics.LOGINS.add("imap", "ok", amount=5)
    Telling(status, "0", {}).tell()
    metrics.LOGINS.values.clear()
    for _ in range(2):
        take_over(status, "0")
        assert metrics.LOGINS.values == {("imap", "ok"): 5}
    assert processes(status) == []
