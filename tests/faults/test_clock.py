"""A wall clock that jumps neither stops the server's timers nor fires them all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ALICE, PASSWORD, RunningServer
from tests.support.sink import SMTPSink, wait_until

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
DAY, YEAR = 86_400, 365 * 86_400

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed: apt-get install faketime")


class Clock:
    """The wall clock of one server; its monotonic clock is left alone."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.shift(0)
        # No thread of the process that indexes could sleep: clock_nanosleep(2) to a moment fails under libfaketime.
        self.sections = {"indexing": {"background": False}}
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def shift(self, seconds: int) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(f"{seconds:+d}\n")
        temporary.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def sink() -> Iterator[SMTPSink]:
    with SMTPSink() as sink:
        yield sink


@pytest.mark.parametrize("jump", [-DAY, YEAR], ids=["a day back", "a year ahead"])
def test_idle_clients_are_closed_when_they_should_be(tmp_path: Path, clock: Clock, jump: int) -> None:
    limits = {"smtp_timeout": "3 s"}
    server = RunningServer(tmp_path, sections=clock.sections | {"limits": limits}, environment=clock.environment)
    with server, server.smtp() as client:
        begin = time.monotonic()
        client.ehlo()
        clock.shift(jump)
        assert client.sock is not None
        assert client.sock.recv(1000).startswith(b"421 4.4.2")
        assert 2 < time.monotonic() - begin < 30


@pytest.mark.parametrize("jump", [-DAY, YEAR], ids=["a day back", "a year ahead"])
def test_queued_mail_is_retried_not_returned(tmp_path: Path, clock: Clock, sink: SMTPSink, jump: int) -> None:
    sink.script["MAIL"] = ["451 4.3.0 Not now"]
    relay = {"smarthost": f"127.0.0.1:{sink.port}", "retry_first": "2 s", "retry_max": "4 s", "lifetime": "5 min"}
    with RunningServer(tmp_path, sections=clock.sections | {"relay": relay}, environment=clock.environment) as server:
        with server.submission() as client:
            client.sendmail(ALICE, ["x@elsewhere.test"], b"Subject: hello\r\n\r\nhello\r\n")
        wait_until(lambda: "delayed" in server.log(), what="the first attempt")
        clock.shift(jump)
        (message,) = sink.wait(1)
        assert b"Subject: hello" in message.data
        assert server.messages(ALICE) == []


def test_mail_is_read_after_the_clock_went_back(tmp_path: Path, clock: Clock) -> None:
    with RunningServer(tmp_path, sections=clock.sections, environment=clock.environment) as server:
        for jump in (YEAR, 0, -YEAR):
            clock.shift(jump)
            with server.smtp() as client:
                client.sendmail("x@example.net", [ALICE], f"Subject: {jump}\r\n\r\nhello\r\n".encode())
            with server.imap() as client:
                client.select("INBOX")
                client.store("1:*", "+FLAGS", "(\\Seen)")
        with server.imap() as client:
            _, (count,) = client.select("INBOX")
            assert count == b"3"
            _, fetched = client.fetch("1:*", "(UID FLAGS)")
            uids = [int(line.split(b"UID ")[1].split()[0]) for line in fetched]  # type: ignore[union-attr, arg-type]
            assert uids == sorted(set(uids))
        assert PASSWORD not in server.log()
