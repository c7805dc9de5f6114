"""A disk that fails or is full: the sender keeps the message, and nothing half-written is left."""

from __future__ import annotations

import shutil
import smtplib
from collections.abc import Iterator

import pytest

from tests.support.server import ALICE, RunningServer
from tests.support.strace import injected

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("disk")) as running:
        running.forgiven = "wakeUp"  # the pipe that wakes the reactor is no disk, but is written to by the same call
        send(running, "before")
        yield running


def send(server: RunningServer, subject: str, *recipients: str) -> None:
    with server.smtp() as client:
        client.sendmail("x@example.net", recipients or [ALICE], f"Subject: {subject}\r\n\r\nhello\r\n".encode())


@pytest.mark.parametrize("fault", ["fsync:error=EIO", "rename:error=EIO", "openat:error=ENOSPC", "write:error=ENOSPC"])
def test_delivery_is_refused_for_now_and_leaves_no_trace(server: RunningServer, fault: str) -> None:
    assert server.process is not None
    before = server.messages(ALICE)
    with injected(server.process.pid, fault), pytest.raises(smtplib.SMTPDataError) as refused:
        send(server, "fails")
    assert 400 <= refused.value.smtp_code < 500
    assert server.messages(ALICE) == before
    assert list((server.maildir(ALICE) / "tmp").iterdir()) == []
    send(server, "after")
    assert len(server.messages(ALICE)) == len(before) + 1


@pytest.mark.parametrize("fault", ["fdatasync:error=EIO", "fsync:error=EIO", "pwrite64:error=ENOSPC"])
def test_submission_for_elsewhere_is_refused_for_now(server: RunningServer, fault: str) -> None:
    assert server.process is not None
    with server.submission() as client:
        with injected(server.process.pid, fault), pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail(ALICE, ["x@elsewhere.test"], b"Subject: fails\r\n\r\nhello\r\n" + b"x\r\n" * 40_000)
        assert 400 <= refused.value.smtp_code < 500
