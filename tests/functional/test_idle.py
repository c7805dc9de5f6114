"""A client that idles, or has used NOTIFY, hears at once of what another program does in the Maildir."""

from __future__ import annotations

import operator
import statistics
import sys
import time
from pathlib import Path

import pytest

from tests.support.server import ALICE, RunningServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify(7)")


def test_idle_hears_of_another_program_within_a_second(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server, server.imap() as client:
        client.select("INBOX")
        client.send(b"i IDLE\r\n")
        assert client.readline() == b"+ idling\r\n"
        time.sleep(0.3)  # the look at the beginning of IDLE is over
        maildir = server.maildir(ALICE)
        (maildir / "tmp/file").write_bytes(b"Subject: x\n\nbody\n")
        began = time.monotonic()
        (maildir / "tmp/file").rename(maildir / "new/1700000000.M1P1Q1.elsewhere")
        assert client.readline() == b"* 1 EXISTS\r\n"
        told = [time.monotonic()]
        assert client.readline() == b"* 1 RECENT\r\n"
        (path,) = (maildir / "cur").iterdir()
        path.rename(path.with_name(path.name + "F"))
        assert client.readline() == b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Recent))\r\n"
        told.append(time.monotonic())
        path.with_name(path.name + "F").unlink()
        assert client.readline() == b"* 1 EXPUNGE\r\n"
        told.append(time.monotonic())
        assert statistics.median(map(operator.sub, told, [began, *told])) < 1
        assert client.readline() == b"* 0 RECENT\r\n"
        client.send(b"DONE\r\n")
        assert client.readline().startswith(b"i OK")


def test_notify_hears_of_this_process_and_of_another_program(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server, server.imap() as client, server.imap() as other:
        client.create("misc")
        client.select("INBOX")
        wanted = b"(MessageNew MessageExpunge)"
        client.send(b"n NOTIFY SET (selected %b) (personal (MailboxName MessageNew MessageExpunge))\r\n" % wanted)
        assert client.readline().startswith(b"n OK")
        delays = []
        for number in range(1, 11):
            began = time.monotonic()
            other.append("misc", None, None, b"Subject: x\r\n\r\n")  # type: ignore[arg-type]
            assert client.readline() == b'* STATUS "misc" (UIDNEXT %d MESSAGES %d)\r\n' % (number + 1, number)
            delays.append(time.monotonic() - began)
        assert sorted(delays)[5] < 2
        began = time.monotonic()
        maildir = server.maildir(ALICE)
        (maildir / "tmp/file").write_bytes(b"Subject: x\n\nbody\n")
        (maildir / "tmp/file").rename(maildir / ".misc/new/1700000000.M1P1Q1.elsewhere")
        assert client.readline() == b'* STATUS "misc" (UIDNEXT 12 MESSAGES 11)\r\n'
        (maildir / "tmp/other").write_bytes(b"Subject: x\n\nbody\n")
        (maildir / "tmp/other").rename(maildir / "new/1700000000.M1P1Q2.elsewhere")
        assert client.readline() == b"* 1 EXISTS\r\n"
        assert client.readline() == b"* 1 RECENT\r\n"
        for part in ("", "tmp", "new", "cur"):
            (maildir / ".misc.below" / part).mkdir()
        assert client.readline().startswith(b'* LIST (\\HasNoChildren) "/" "misc/below"')
        assert client.readline().startswith(b'* LIST (\\HasChildren) "/" "misc"')
        assert time.monotonic() - began < 9, "sooner than by looking every five seconds, of which it would take two"
