"""The log as JSON: one object a line, whose members are what the text has as key=value."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from mailserver.net import logs
from mailserver.net.jsonlog import BEGINNING, JSONObserver


class Log:
    """What `log` writes through the handler of the server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **always: object) -> None:
        self.out = io.StringIO()
        self.publisher = LogPublisher(JSONObserver(self.out, always))
        monkeypatch.setattr(logs, "_logger", lambda name: Logger(name, observer=self.publisher))
        self.log = logging.Logger("mailserver.test")
        self.log.addHandler(logs.TwistedHandler())

    def line(self) -> dict[str, Any]:
        (line,) = self.out.getvalue().splitlines()
        assert line.encode().startswith(BEGINNING) and line.isascii()
        found: dict[str, Any] = json.loads(line)
        self.out.truncate(0)
        self.out.seek(0)
        return found


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    return Log(monkeypatch)


def test_keys_become_members_and_the_rest_is_the_event(log: Log) -> None:
    log.log.info("queue=%s from=<%s> to=<%s> %s host=%s reply=%r size=%d", "q1", "a@b", "c@d", "relayed", "h", "250", 7)
    line = log.line()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "mailserver.test",
        "event": "relayed",
        "queue": "q1",
        "from": "a@b",
        "to": "c@d",
        "host": "h",
        "reply": "250",
        "size": 7,
    }


@pytest.mark.parametrize(
    ("text", "values", "members"),
    [
        ("ready, as %s", ("host",), {"event": "ready, as host"}),
        ("reading again", (), {"event": "reading again"}),
        ("session=%s closed by %s", ("s", "us"), {"event": "closed by us", "session": "s"}),
        ("session=%s peer=%s", ("s", "p"), {"event": "session=s peer=p", "session": "s", "peer": "p"}),
        ("worker=%d ended: %s; again in %.0f s", (1, "x", 2.0), {"event": "ended: x; again in 2 s", "worker": 1}),
        ("store=quota error=%r", (OSError(5, "bad"),), {"store": "quota", "error": "[Errno 5] bad"}),
        ("session=%s to=%s next=%s to=%s", ("s", "a", "n", "b"), {"session": "s", "to": "a", "next": "n"}),
        ("100%% of session=%s", ("s",), {"event": "100% of", "session": "s"}),
        ("event=%s time=%s", ("e", "t"), {"event": "event=e time=t"}),
    ],
)
def test_texts(log: Log, text: str, values: tuple[object, ...], members: dict[str, object]) -> None:
    log.log.warning(text, *values)
    line = log.line()
    assert line["level"] == "warn"
    assert {key: line.get(key) for key in members} == members


HOSTILE = 'x" , "session": "forged"\n{"time": "forged session=forged %s %(a)s \u2028\ud800'


@pytest.mark.parametrize("text", ["session=%s user=%r refused", "session=%s refused: %s"])
def test_a_value_makes_neither_a_line_nor_a_member(log: Log, text: str) -> None:
    log.log.info(text, "s1", HOSTILE)
    line = log.line()
    assert line["session"] == "s1"
    assert set(line) <= {"time", "level", "logger", "event", "session", "user"}
    assert HOSTILE in (line.get("user"), line["event"].removeprefix("refused: "))


def test_a_text_without_values_is_not_taken_apart(log: Log) -> None:
    log.log.info("session=forged 50%")
    assert log.line()["event"] == "session=forged 50%"


def test_a_form_that_is_not_understood_is_written_as_text(log: Log) -> None:
    log.log.info("session=%s moved by %+d", "s1", 5)
    line = log.line()
    assert line["event"] == "session=s1 moved by +5" and "session" not in line


def test_an_exception_has_its_traceback(log: Log) -> None:
    try:
        raise RuntimeError("oops")
    except RuntimeError:
        log.log.exception("queue=%s failed", "q1")
    line = log.line()
    assert (line["event"], line["queue"], line["level"]) == ("failed", "q1", "error")
    assert line["traceback"].endswith("RuntimeError: oops")


def test_what_twisted_says_is_an_event_too(log: Log) -> None:
    Logger("twisted.x", observer=log.publisher).info("started {what}", what="it\nall")
    assert (line := log.line())["event"] == "started it\nall" and line["logger"] == "twisted.x"
    Logger("twisted.x", observer=log.publisher).debug("no news")
    assert log.out.getvalue() == ""
    Logger("twisted.x", observer=log.publisher).failure("while serving", Failure(RuntimeError("oops")))
    line = log.line()
    assert (line["event"], line["level"]) == ("while serving", "critical") and "oops" in line["traceback"]


def test_every_line_of_a_worker_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch, worker=1)
    log.log.info("session=%s opened", "s")
    assert log.line()["worker"] == 1


def test_lines_of_workers_pass_unchanged_and_their_other_words_become_events(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Log(monkeypatch, worker=1)
    worker.log.info("session=%s opened", "s")
    said = worker.out.getvalue().rstrip("\n")
    first = Log(monkeypatch)
    logs.take_up(said.encode())
    assert first.out.getvalue() == f"{said}\n"
    first.out.truncate(0)
    first.out.seek(0)
    logs.take_up(b"Fatal Python error: \xff")
    assert (line := first.line())["logger"] == "worker" and line["event"].startswith("Fatal Python error")


def test_legacy_events(log: Log) -> None:
    publisher = legacy.LogPublisher(publishPublisher=log.publisher)
    publisher.msg("hello", "world")
    assert log.line()["event"] == "hello world"
