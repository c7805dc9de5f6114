"""What happened to messages, in text files: whole lines by several writers, bounded, and never in the way of mail."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from mailserver.mail import Action, Address, DeliveryStatus, Reply
from mailserver.mail.trace import Arrival
from mailserver.queue import NO_HISTORY, Destination, History
from mailserver.queue import history as history_module

DAY = 86400.0
NOW = 1_700_000_000.25  # 2023-11-14T22:13:20.250Z
BOB = Address("bob", "example.net")
ARRIVAL = Arrival("client.example", "192.0.2.1", "ESMTPSA", "abc.1", "TLSv1.3 X", "alice@example.org")
TAKEN = Reply.of(250, "2.0.0", "Ok")


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(tmp_path: Path, clock: Clock) -> History:
    return History(tmp_path / "history", 14 * DAY, clock=clock)


def lines(tmp_path: Path, day: str = "2023-11-14") -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "history" / f"{day}.jsonl").read_text().splitlines() if line]


def test_what_is_noted_stands_in_the_file_of_its_day_once_it_is_flushed(history, tmp_path):
    status = DeliveryStatus(BOB, Action.DELAYED, Reply.of(450, "4.2.1", "Busy\nCome later"), "mx.example.net")
    history.attempted("q1", status, site="mx.example.net", next_attempt=NOW + 300)
    history.reported("q1", "q2", Address("alice", "example.org"), "delay")
    history.discarded("q3", BOB)
    history.removed("q4")
    assert not (tmp_path / "history").exists()
    history.flush()
    time = "2023-11-14T22:13:20.250Z"
    assert lines(tmp_path) == [
        {
            "time": time,
            "id": "q1",
            "event": "attempted",
            "recipient": "bob@example.net",
            "action": "delayed",
            "host": "mx.example.net",
            "reply": "450 4.2.1 Busy / 4.2.1 Come later",
            "site": "mx.example.net",
            "next": "2023-11-14T22:18:20.250Z",
        },
        {"time": time, "id": "q1", "event": "reported", "report": "q2", "to": "alice@example.org", "kind": "delay"},
        {"time": time, "id": "q3", "event": "discarded", "recipient": "bob@example.net"},
        {"time": time, "id": "q4", "event": "removed"},
    ]
    history.flush()
    assert len(lines(tmp_path)) == 4


def test_how_a_message_came_and_where_each_recipient_went(history, tmp_path):
    account, alias = Address("alice", "example.org"), Address("info", "example.org")
    to = [
        Destination(BOB, queue="q1"),
        Destination(alias, mailbox=account, reply=TAKEN, original=alias),
        Destination(Address("x", "example.org"), reply=Reply.of(552, "5.2.2", "Full")),
    ]
    history.accepted(ARRIVAL, None, 1234, to, TAKEN)
    history.accepted(ARRIVAL, account, 1, to[:1], Reply.of(451, "4.3.0", "Disk trouble"))
    history.flush()
    first, second = lines(tmp_path)
    assert first == {
        "time": "2023-11-14T22:13:20.250Z",
        "id": "abc.1",
        "event": "accepted",
        "sender": "<>",
        "size": 1234,
        "peer": "192.0.2.1",
        "hello": "client.example",
        "protocol": "ESMTPSA",
        "tls": "TLSv1.3 X",
        "login": "alice@example.org",
        "reply": "250 2.0.0 Ok",
        "recipients": [
            {"address": "bob@example.net", "queue": "q1"},
            {
                "address": "info@example.org",
                "original": "info@example.org",
                "mailbox": "alice@example.org",
                "reply": "250 2.0.0 Ok",
            },
            {"address": "x@example.org", "reply": "552 5.2.2 Full"},
        ],
    }
    assert (second["event"], second["sender"]) == ("refused", "alice@example.org")


def test_lines_are_bounded(history, tmp_path):
    history.accepted(ARRIVAL, None, 1, [Destination(BOB)] * 45, TAKEN)
    history.administered("held", [f"q{number}" for number in range(250)])
    history.attempted("q1", DeliveryStatus(BOB, Action.FAILED, Reply(550, "x" * 100_000)))
    history.flush()
    found = lines(tmp_path)
    assert [len(line["recipients"]) for line in found[:3]] == [20, 20, 5]
    assert [len(line["ids"]) for line in found[3:6]] == [100, 100, 50]
    assert found[3]["by"] == "administrator" and "via" not in found[3]
    assert len(found[6]["reply"]) == history_module.TEXT_LIMIT


def test_nothing_in_a_line_is_obeyed_by_a_terminal(history, tmp_path):
    history.note("x", "q1", text="a\nb\x1b[2J\x9b\u202e\udc80", address="é@example.net")
    history.flush()
    raw = (tmp_path / "history" / "2023-11-14.jsonl").read_bytes()
    assert raw.count(b"\n") == 1 and all(32 <= octet < 127 for octet in raw[:-1])
    assert lines(tmp_path)[0]["address"] == "é@example.net"


def test_a_new_day_has_a_new_file_and_old_ones_go(history, tmp_path, clock):
    directory = tmp_path / "history"
    directory.mkdir()
    for name in ("2023-10-31.jsonl", "2023-10-30.jsonl", "2023-13-01.jsonl", "notes.txt"):
        (directory / name).write_text("\n")
    clock.now = NOW - DAY * 0.5
    history.note("x", "q1")
    history.flush()
    assert (directory / "2023-10-31.jsonl").exists() and not (directory / "2023-10-30.jsonl").exists()
    clock.now = NOW + DAY
    history.flush()
    kept = {path.name for path in directory.iterdir()}
    assert kept == {"2023-11-14.jsonl", "2023-13-01.jsonl", "notes.txt"}
    history.note("x", "q1")
    history.flush()
    assert len(lines(tmp_path, "2023-11-15")) == 1


def test_trouble_is_told_once_a_minute_and_never_raised(history, tmp_path, caplog, monkeypatch):
    (tmp_path / "history").write_text("no directory")
    for _ in range(3):
        history.note("x", "q1")
        history.flush()
    history.note("x", "q1", what=object())
    assert [r.message.split(";")[0] for r in caplog.records if r.exc_info is None] == ["history: 1 lines are lost"]
    (tmp_path / "history").unlink()
    monkeypatch.setattr(history_module, "TOLD_EVERY", 0.0)
    history.note("x", "q1")
    history.flush()
    assert "history: 2 lines are lost" in caplog.records[-1].message
    assert len(lines(tmp_path)) == 1


def test_what_waits_to_be_written_is_bounded(history, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(history_module, "PENDING_LIMIT", 200)
    for _ in range(5):
        history.note("x", "q1")
    history.flush()
    assert len(lines(tmp_path)) == 3
    assert "2 lines are lost; they came faster" in caplog.text


def test_a_line_that_a_full_disk_cut_spoils_no_other(history, tmp_path, caplog, monkeypatch):
    write = os.write
    history.note("x", "q1")
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:20]))
    history.flush()
    assert "found no room" in caplog.text
    monkeypatch.setattr(os, "write", write)
    history.note("x", "q2")
    history.flush()
    *_, last = (tmp_path / "history" / "2023-11-14.jsonl").read_text().splitlines()
    assert json.loads(last)["id"] == "q2"


def test_nobody_else_may_read_it(history, tmp_path):
    history.note("x", "q1")
    history.flush()
    assert (tmp_path / "history").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "history" / "2023-11-14.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_makes_is_of_the_owner_of_the_queue(history, tmp_path):
    os.chown(tmp_path, 12345, 12346)
    history.note("x", "q1")
    history.flush()
    for path in (tmp_path / "history", tmp_path / "history" / "2023-11-14.jsonl"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


def test_times_that_no_calendar_has(history, tmp_path):
    status = DeliveryStatus(BOB, Action.DELAYED, TAKEN)
    for time in (float("inf"), float("nan"), 1e300):
        history.attempted("q1", status, next_attempt=time)
    history.flush()
    assert all("next" not in line for line in lines(tmp_path))


def test_threads_and_processes_share_a_file(history, tmp_path, clock):
    code = """
        import sys
        from pathlib import Path
        from mailserver.queue import History
        history = History(Path(sys.argv[1]), 1e9, clock=lambda: 1_700_000_000.25)
        for number in range(200):
            history.note("x", f"p{number}", text="y" * 400)
            if number % 5 == 0:
                history.flush()
        history.flush()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "history")]
    processes = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(2)]

    def work(name: str) -> None:
        for number in range(200):
            history.note("x", f"{name}{number}")
            history.flush()

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(300) for process in processes] == [0, 0]
    ids = [line["id"] for line in lines(tmp_path)]
    assert len(ids) == 800 and len(set(ids)) == 600


def test_no_history_notes_nothing(caplog):
    NO_HISTORY.note("x", "q1")
    NO_HISTORY.administered("held", ["q1"])
    NO_HISTORY.flush()
    assert NO_HISTORY._pending == [] and not caplog.records
    assert logging.getLogger("mailserver.queue.history")
