"""For power loss: the order of system calls between the octets of a message and its 250."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.server import ALICE, RunningServer
from tests.support.strace import Call, read_calls

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"
)

KEYWORDS = """
    import sys
    from pathlib import Path
    from mailserver.mail import Address, Content
    from mailserver.store import Store

    root = Path(sys.argv[1])
    inbox = Store(root, hostname="mx.example.test").account(Address("alice", "example.test")).open("INBOX")
    (root / "example.test/alice/dovecot-keywords").write_text("".join(f"{n} k{n}\\n" for n in range(26)))
    uid = inbox.append(Content(b"Subject: x\\r\\n\\r\\n"))
    for number in range(3):
        inbox.update_flags([uid], "add", frozenset({f"late{number}"}))
        print(f"acknowledged {number}", flush=True)
"""

CALLS = "trace=write,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,sendto,sendmsg,openat,close"
OK = '"250 2.0.0 Ok'


def record(directory: Path, work: Callable[[RunningServer], None]) -> list[Call]:
    """The system calls of a server while `work(server)` runs."""
    log = directory / "strace.log"
    server = RunningServer(directory, wrapper=["strace", "-D", "-f", "-y", "-s", "200", "-o", str(log), "-e", CALLS])
    with server:
        work(server)
    return read_calls(log)


def synced(calls: list[Call], path: str, after: int, before: int) -> Call | None:
    """The sync that covers `path`, begun after line `after` and over before line `before`."""
    for call in calls:
        if after < call.begin and call.end < before and call.result == 0:
            if call.name in ("fsync", "fdatasync") and call.arguments.endswith(f"<{path}>"):
                return call
            if call.name == "syncfs":
                return call
    return None


def check_deliveries(calls: list[Call], expected: int) -> None:
    """Each message: written, file synced, renamed into new/, directory synced, and only then acknowledged."""
    renames = [
        (call, *re.findall(r'"([^"]+)"', call.arguments))
        for call in calls
        if call.name.startswith(("rename", "link"))
        and re.search(r'/tmp/[^"]+", (?:AT_FDCWD[^,]*, )?"[^"]+/new/', call.arguments)
    ]
    assert len(renames) == expected
    replies = sorted(c.begin for c in calls if c.name in ("sendto", "sendmsg", "write") and OK in c.arguments)
    last = len(calls) and max(call.end for call in calls) + 1
    durable = []
    for rename, source, target in renames:
        written = max(c.end for c in calls if c.name == "write" and f"<{source}>" in c.arguments)
        assert synced(calls, source, written, rename.begin), f"{source} is renamed before it is synced"
        directory = synced(calls, str(Path(target).parent), rename.end, last)
        assert directory, f"{target} is in a directory that is not synced"
        durable.append(directory.end)
    for count, reply in enumerate(replies, 1):
        assert sum(end < reply for end in durable) >= count, "a 250 was sent before its message was durable"
    assert len(replies) == expected


def test_a_lone_message(tmp_path: Path) -> None:
    def work(server: RunningServer) -> None:
        with server.smtp() as client:
            client.sendmail("x@example.net", [ALICE], b"Subject: one\r\n\r\nhello\r\n")

    check_deliveries(record(tmp_path, work), 1)


def test_messages_that_come_together(tmp_path: Path) -> None:
    def work(server: RunningServer) -> None:
        def send() -> None:
            with server.smtp() as client:
                for _ in range(3):
                    client.sendmail("x@example.net", [ALICE], b"Subject: many\r\n\r\nhello\r\n")

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    calls = record(tmp_path, work)
    check_deliveries(calls, 24)


def test_a_message_for_elsewhere_is_in_the_queue_before_its_250(tmp_path: Path) -> None:
    """A small body lies in the database, whose log is synced; a large one in a file that is synced before."""

    def work(server: RunningServer) -> None:
        with server.submission() as client:
            client.sendmail(ALICE, ["x@elsewhere.test"], b"Subject: small\r\n\r\nhello\r\n")
            client.sendmail(ALICE, ["x@elsewhere.test"], b"Subject: large\r\n\r\n" + b"hello\r\n" * 50_000)

    calls = record(tmp_path, work)
    # Replies are encrypted here: the client's next command shows that one was sent. The order within a commit is told
    # by the write of the log that holds the row, and by the syncs after it.
    log = [c for c in calls if "/queue.db-wal>" in c.arguments]
    assert any(c.name in ("fsync", "fdatasync") for c in log)
    bodies = [c for c in calls if "/queue/bodies" in c.arguments]
    file_sync = next(c for c in bodies if c.name in ("fsync", "fdatasync") and not c.arguments.endswith("/bodies>"))
    directory_sync = next(
        c
        for c in bodies
        if c.name in ("fsync", "fdatasync") and c.arguments.endswith("/bodies>") and c.begin > file_sync.end
    )
    commit = next(c for c in log if c.name in ("fsync", "fdatasync") and c.begin > directory_sync.end)
    assert file_sync.end < directory_sync.begin < commit.begin


def test_keywords_that_only_the_index_has_are_synced_before_they_are_acknowledged(tmp_path: Path) -> None:
    log, root = tmp_path / "strace.log", tmp_path / "mail"
    strace = ["strace", "-f", "-y", "-s", "200", "-o", str(log), "-e", "trace=write,pwrite64,fsync,fdatasync"]
    command = [*strace, sys.executable, "-c", textwrap.dedent(KEYWORDS), str(root)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    calls = read_calls(log)
    index = f"{root}/example.test/alice/mailserver.index-wal"
    acknowledged = [call for call in calls if call.name == "write" and '"acknowledged ' in call.arguments]
    assert len(acknowledged) == 3
    since = 0
    for answer in acknowledged:
        here = [call for call in calls if since < call.begin < answer.begin and f"<{index}>" in call.arguments]
        written = [call for call in here if call.name == "pwrite64"]
        assert written
        assert synced(calls, index, written[-1].end, answer.begin)
        since = answer.end
