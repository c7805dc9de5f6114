"""The relay under faults: kill -9 while it delivers, remotes that hang, a database with a broken page."""

from __future__ import annotations

import os
import random
import re
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.ports import free_ports
from mailserver.queue import Queue
from tests.support.dns import NameServer
from tests.support.server import ALICE, PASSWORD, RunningServer
from tests.support.sink import HANG, PATIENCE, SMTPSink, wait_until

LONG = bool(os.environ.get("MAILSERVER_LONG"))
KILLS = 12 if LONG else 3
CLIENTS = 8
MARK = re.compile(rb"Subject: mark-(\S+)")
CONCURRENCY = 20


def submission(server: RunningServer) -> smtplib.SMTP:
    client = smtplib.SMTP("localhost", server.ports.submission, local_hostname="client.test", timeout=30)
    client.login(ALICE, PASSWORD)
    return client


def send_until_it_ends(server: RunningServer, name: str, acknowledged: set[str]) -> None:
    try:
        with submission(server) as client:
            for count in range(100_000):
                mark = f"{name}.{count}"
                body = "x" * 80 + "\r\n"
                content = f"Subject: mark-{mark}\r\n\r\n{body * (1 if count % 20 else 2000)}"
                client.sendmail(ALICE, [f"u{count % 7}@elsewhere.test"], content.encode())
                acknowledged.add(mark)
    except (OSError, smtplib.SMTPException):
        pass


@pytest.mark.slow
def test_kill_9_while_it_relays_loses_nothing_and_repeats_only_what_was_under_way(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    with SMTPSink() as sink:
        relay = {"smarthost": f"127.0.0.1:{sink.port}", "retry_first": "1 s", "retry_max": "1 s"}
        server = RunningServer(tmp_path, sections={"relay": {**relay, "concurrency_per_host": CONCURRENCY}})
        acknowledged: set[str] = set()
        for round in range(KILLS):
            server.start()
            clients = [
                threading.Thread(target=send_until_it_ends, args=(server, f"{round}.{n}", acknowledged))
                for n in range(CLIENTS)
            ]
            before = len(acknowledged)
            for client in clients:
                client.start()
            wait_until(lambda before=before: len(acknowledged) > before + CLIENTS, what="the load")
            time.sleep(chance.random())
            server.kill()
            for client in clients:
                client.join()
        server.start()
        wait_until(lambda: not waiting(server), 3 * PATIENCE, "the end of the queue")
        server.stop()
        marks = Counter(match[1].decode() for taken in list(sink.taken) if (match := MARK.search(taken.data)))
    assert acknowledged - marks.keys() == set(), "lost"
    assert len(marks.keys() - acknowledged) <= CLIENTS * KILLS, "durable, but its 250 could not be sent any more"
    repeated = {mark: count for mark, count in marks.items() if count > 1}
    print(f"{len(marks)} messages, {len(repeated)} of them came twice")  # noqa: T201
    # The answer to a message came to a process that was killed before the next commit: what ran at the same time, and
    # what waited for one commit with it.
    assert sum(marks.values()) - len(marks) <= 2 * CONCURRENCY * KILLS


def waiting(server: RunningServer) -> int:
    queue = Queue(server.data / "queue")
    try:
        return len(queue.list())
    finally:
        queue.close()


@pytest.fixture
def dns() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY"])
def test_a_remote_that_hangs_does_not_delay_the_mail_of_others(tmp_path: Path, dns: NameServer, stage: str) -> None:
    (port,) = free_ports(1)
    dns.mail_domain("hanging.test", "127.0.0.2")
    dns.mail_domain("good.test", "127.0.0.3")
    relay = {"resolver": [dns.address], "port": port, "retry_first": "1 s", "retry_max": "1 s"}
    with (
        SMTPSink({stage: HANG}, host="127.0.0.2", port=port) as hanging,
        SMTPSink(host="127.0.0.3", port=port) as good,
        RunningServer(tmp_path, sections={"relay": relay}) as server,
    ):
        with submission(server) as client:
            for n in range(30):
                client.sendmail(ALICE, [f"u{n}@hanging.test"], "Subject: x\r\n\r\nx\r\n")
                client.sendmail(ALICE, [f"u{n}@good.test"], "Subject: x\r\n\r\nx\r\n")
        assert len(good.wait(30)) == 30
        wait_until(lambda: hanging.connections, what="a connection to the one that hangs")
        assert hanging.connections <= 4, "not one for each message"


def test_a_broken_page_of_the_queue_costs_its_own_entries_alone(tmp_path: Path) -> None:
    with SMTPSink({"RCPT": "451 4.2.1 Later"}) as sink:
        relay = {"smarthost": f"127.0.0.1:{sink.port}", "retry_first": "1 s", "retry_max": "1 s"}
        server = RunningServer(tmp_path, sections={"relay": relay})
        server.start()
        with submission(server) as client:
            for n in range(100):
                content = f"Subject: mark-{n}\r\n\r\n" + ("x" * 78 + "\r\n") * 12
                client.sendmail(ALICE, [f"u{n}@elsewhere.test"], content)
        server.stop()
        sink.script.clear()
        database = server.data / "queue" / "queue.db"
        page = database.read_bytes().index(b"Subject: mark-50\r\n") // 4096
        with database.open("r+b") as file:
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
        server.start()
        sink.wait(90)
        wait_until(lambda: waiting(server) == 100 - len(sink.taken), what="what is left")
        server.stop()
        delivered = {int(match[1]) for taken in sink.taken if (match := MARK.search(taken.data))}
        assert 90 <= len(delivered) < 100
        assert 50 not in delivered
        assert list(database.parent.glob("queue.db.damaged-*"))
        assert "is set aside" in server.log()
