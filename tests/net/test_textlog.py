"""The log as text: octet by octet what Twisted's own observer writes."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, Logger, LogPublisher, textFileLogObserver
from twisted.python.failure import Failure

from mailserver.net import logs
from mailserver.net.textlog import TextObserver


class Both:
    """The same events for both observers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ours, self.theirs = io.StringIO(), io.StringIO()
        self.publisher = LogPublisher(TextObserver(self.ours), textFileLogObserver(self.theirs))
        monkeypatch.setattr(logs, "_logger", lambda name: Logger(name, observer=self.publisher))
        self.log = logging.Logger("mailserver.test")
        self.log.addHandler(logs.TwistedHandler())

    def line(self) -> str:
        assert self.ours.getvalue() == self.theirs.getvalue()
        return self.ours.getvalue()


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    return Both(monkeypatch)


def test_a_record_of_the_program(both: Both) -> None:
    both.log.info("message=%s to=<%s> %s reply=%r", "a1.1", "u@x.test", "delivered", "250 {braces} %s")
    assert both.line().endswith(
        " [mailserver.test#info] message=a1.1 to=<u@x.test> delivered reply='250 {braces} %s'\n"
    )


@pytest.mark.parametrize(("level", "name"), [(30, "warn"), (40, "error"), (50, "critical"), (10, "debug")])
def test_each_level(both: Both, level: int, name: str) -> None:
    both.log.log(level, "text")
    assert f"[mailserver.test#{name}] text\n" in both.line()


def test_a_line_end_in_a_value_makes_no_second_line(both: Both) -> None:
    both.log.info("peer=%s", "a\r\n2026-01-31T08:00:00+0000 [forged#info] b")
    assert both.line().count("\n") == 1 and r"a\r\n2026" in both.line()


def test_tracebacks(both: Both) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        both.log.exception("it failed")
        both.log.critical("session=%s failed: %s", "s1", Failure().getTraceback())
    assert "ValueError: why" in both.line() and "\n\t" in both.line()


def test_what_others_log(both: Both) -> None:
    Logger("twisted.some", observer=both.publisher).info("{what} began\nagain", what="it")
    Logger("twisted.some", observer=both.publisher).failure("oh", Failure(ValueError("why")))
    events: list[LogEvent] = [{"log_format": None}, {"log_format": "no time"}, {"log_system": "-", "log_format": "x"}]
    for event in events:
        both.publisher(event)
    assert "[twisted.some#info] it began\n\tagain\n" in both.line()


def test_what_a_worker_handed_up(both: Both) -> None:
    logs.take_up(b"warn mailserver.net.tls a {certificate}\rends soon")
    assert both.line().endswith(" [mailserver.net.tls#warn] a {certificate}\n\tends soon\n")


def test_the_time_is_that_of_the_event(both: Both) -> None:
    for second in (0.0, 1.9, 1769846400.999, 1785488400.0):
        record = logging.LogRecord("mailserver.test", logging.INFO, "", 0, "at %s", (second,), None)
        record.created = second
        both.log.handle(record)
    assert len(both.line().splitlines()) == 4
