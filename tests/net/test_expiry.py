"""Certificates that expire, as the log tells them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailserver.config.model import TLS, ServerName
from mailserver.net.expiry import DAY, ExpiryWatch
from mailserver.net.tls import CertificateStore
from tests.support.fakes import FakeClock
from tests.support.tls import write_certificate

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def certificate(directory: Path, name: str, *, lives: timedelta, left: timedelta) -> tuple[Path, Path]:
    end = NOW + left
    return write_certificate(directory, name, not_before=end - lives, not_after=end)


def watch(tls: TLS, *, tells: bool = True) -> FakeClock:
    """One that has started, by its clock."""
    clock = FakeClock(epoch=NOW.timestamp())
    ExpiryWatch(CertificateStore(tls, clock.monotonic), clock, tells=tells).start()
    return clock


def one(directory: Path, *, lives: float = 90, left: float) -> TLS:
    files = certificate(directory, "a.example", lives=timedelta(days=lives), left=timedelta(days=left))
    return TLS(certificate=files[0], private_key=files[1])


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage().partition("a.example.crt ")[2]) for record in caplog.records]


@pytest.mark.parametrize(
    ("lives", "left", "expected"),
    [
        (90, 21.01, []),
        (90, 20.9, [("WARNING", "expires on 2026-07-22 09:36 UTC, in 20 d 21 h; renew it")]),
        (90, 0.1, [("WARNING", "expires on 2026-07-01 14:24 UTC, in 0 d 2 h; renew it")]),
        (90, -0.1, [("ERROR", "expired on 2026-07-01; renew it")]),
        (90, -300, [("ERROR", "expired on 2025-09-04; renew it")]),
        (3650, 21.01, []),
        (6, 2.1, []),
        (6, 1.9, [("WARNING", "expires on 2026-07-03 09:36 UTC, in 1 d 21 h; renew it")]),
    ],
)
def test_at_the_start(
    lives: float, left: float, expected: list[tuple[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch(one(tmp_path, lives=lives, left=left))
    assert told(caplog) == expected


def test_one_that_is_not_valid_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch(one(tmp_path, lives=90, left=91))
    assert [level for level, _ in told(caplog)] == ["ERROR"]
    assert "is not valid before 2026-07-02 12:00 UTC" in caplog.text


def test_once_a_day_until_it_is_renewed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = watch(one(tmp_path, left=23.5))
    assert told(caplog) == []
    clock.advance(2 * DAY)
    assert told(caplog) == []
    clock.advance(DAY)
    assert [level for level, _ in told(caplog)] == ["WARNING"]
    clock.advance(DAY - 1)
    assert len(told(caplog)) == 1
    clock.advance(1)
    assert len(told(caplog)) == 2
    clock.advance(20 * DAY)
    assert [level for level, _ in told(caplog)] == ["WARNING"] * 21 + ["ERROR"]
    caplog.clear()
    one(tmp_path, left=100)
    clock.advance(3 * DAY)
    assert [level for level, _ in told(caplog)] == ["INFO"], "that it was read, although no client came"


def test_a_renewal_that_came_to_nothing_is_told_each_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = one(tmp_path, left=80)
    clock = watch(tls)
    tls.certificate.write_text("nothing")
    clock.advance(DAY)
    assert caplog.text.count("stays in use") == 1
    clock.advance(2 * DAY)
    assert caplog.text.count("stays in use") == 3
    one(tmp_path, left=80)
    clock.advance(DAY)
    caplog.clear()
    clock.advance(DAY)
    assert told(caplog) == []


def test_each_file_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = one(tmp_path, left=5)
    other = certificate(tmp_path, "b.example", lives=timedelta(days=90), left=timedelta(days=-1))
    sections = (
        ServerName(names=("a.example",), certificate=tls.certificate, private_key=tls.private_key),
        ServerName(names=("b.example",), certificate=other[0], private_key=other[1]),
    )
    watch(tls.model_copy(update={"sni": sections}))
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]


def test_of_several_processes_one_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch(one(tmp_path, left=5), tells=False)
    assert told(caplog) == []
