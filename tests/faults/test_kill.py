"""kill -9 under load: afterwards every message that was answered with 250 is in a mailbox or in the queue."""

from __future__ import annotations

import os
import random
import re
import smtplib
import threading
import time
from pathlib import Path

import pytest

from mailserver.queue import Queue
from tests.support.server import ALICE, PASSWORD, RunningServer
from tests.support.sink import wait_until

ROUNDS = 15 if os.environ.get("MAILSERVER_LONG") else 2
CONNECTIONS = 20
MARK = re.compile(rb"Subject: mark-(\S+)")


class Load:
    """Twenty clients that send until the server is gone; `acknowledged` holds the marks of what got its 250."""

    def __init__(self, server: RunningServer, round: int) -> None:
        self.acknowledged: set[bytes] = set()
        self._server = server
        self._round = round
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CONNECTIONS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        """Every fourth client submits mail for elsewhere, which goes into the queue; the others mail to alice."""
        try:
            with self._client(number) as client:
                for count in range(100_000):
                    mark = f"{self._round}.{number}.{count}"
                    size = 200 if count % 10 else 200_000
                    recipient = "x@elsewhere.test" if number % 4 == 0 else ALICE
                    content = f"Subject: mark-{mark}\r\n\r\n" + "x" * 70 + "\r\n" + ("y" * 98 + "\r\n") * (size // 100)
                    client.sendmail(ALICE, [recipient], content.encode())
                    self.acknowledged.add(mark.encode())
        except (OSError, smtplib.SMTPException):
            pass

    def _client(self, number: int) -> smtplib.SMTP:
        if number % 4:
            return self._server.smtp()
        client = smtplib.SMTP("localhost", self._server.ports.submission, local_hostname="client.test", timeout=30)
        client.login(ALICE, PASSWORD)
        return client


def marks_in_queue(server: RunningServer) -> list[bytes]:
    queue = Queue(server.data / "queue")
    try:
        return [match[1] for entry in queue.list() if (match := MARK.search(queue.content(entry.id).head(1000)))]
    finally:
        queue.close()


def marks_in_mailbox(server: RunningServer) -> list[bytes]:
    return [match[1] for message in server.messages(ALICE) if (match := MARK.search(message))]


@pytest.mark.slow
def test_every_acknowledged_message_is_there_after_kill_9(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    relay = {"smarthost": "127.0.0.1:1", "retry_first": "1 h", "retry_max": "1 h"}  # refuses at once
    server = RunningServer(tmp_path, sections={"relay": relay, "limits": {"connections_per_address": 100}})
    acknowledged: set[bytes] = set()
    for round in range(ROUNDS):
        server.start()
        with Load(server, round) as load:
            wait_until(lambda sent=load.acknowledged: len(sent) > CONNECTIONS, what="the load")
            time.sleep(chance.random())
            server.kill()
        acknowledged |= load.acknowledged
    server.start()
    server.stop()
    found = marks_in_mailbox(server) + marks_in_queue(server)
    assert acknowledged - set(found) == set()
    # What was durable when its 250 could not be sent any more may be there without: at most one a client and round.
    assert len(set(found) - acknowledged) <= CONNECTIONS * ROUNDS
    assert len(found) == len(set(found)), "nothing was sent twice, so nothing may be there twice"
    assert all(re.search(rb"\n(x{70})\n", m) and m.endswith(b"\n") for m in server.messages(ALICE)), (
        "a part of a message"
    )
