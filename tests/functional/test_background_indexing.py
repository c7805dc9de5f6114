"""A server makes mail ready before anybody opens its mailbox, and does so whichever of its processes ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mailserver.store.lag import reading
from tests.support.maildirs import import_maildir
from tests.support.server import ALICE, BOB, RunningServer
from tests.support.sink import wait_until

MESSAGE = "Subject: hello\r\n\r\nx\r\n"
CAROL = "carol@example.test"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    made = RunningServer(tmp_path, workers=2, accounts={ALICE: [], BOB: [], CAROL: []})
    import_maildir(made.maildir(ALICE) / ".Old", 230)
    with made:
        wait_until(lambda: made.log().count("ready, as") == 2, what="two workers")
        yield made


def deliver(server: RunningServer, recipient: str) -> None:
    with server.smtp() as client:
        client.sendmail("x@example.net", [recipient], MESSAGE)


def ready(account: Path) -> dict[str, int]:
    """By folder, how many messages have their pieces and are packed; seen from outside."""
    if not (account / "mailserver.index").exists():
        return {}
    with reading(account) as db:
        if db is None:
            return {}
        query = """
            SELECT directory, (SELECT count(*) FROM packed JOIN prepared USING (key, uid) WHERE key = mailboxes.key)
            FROM mailboxes
        """
        return dict(db.execute(query).fetchall())


def status(server: RunningServer, *words: str) -> str:
    code = "from mailserver.cli import main; main()"
    command = [sys.executable, "-c", code, "--config", str(server.config), "status", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def indexing(server: RunningServer) -> Any:
    return json.loads(status(server, "--json"))["indexing"]


def leader(server: RunningServer) -> tuple[str, int]:
    """The name and pid of the process that sees to it."""
    wait_until(lambda: indexing(server)["process"] is not None, what="one that leads")
    told = json.loads(status(server, "--json"))
    name = told["indexing"]["process"]
    return name, next(each["pid"] for each in told["processes"] if each["name"] == name)


def indexers(server: RunningServer) -> list[int]:
    """All processes that index for this server, by their command lines."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"mailserver.store.indexer" in words and str(server.data / "mail").encode() in words:
                found.append(int(process.name))
    return found


@pytest.mark.slow
def test_mail_and_maildirs_that_nobody_opened_are_made_ready_whoever_is_killed(server: RunningServer) -> None:
    deliver(server, BOB)
    wait_until(lambda: ready(server.maildir(BOB)) == {"": 1}, what="what was delivered")
    wait_until(lambda: ready(server.maildir(ALICE)).get(".Old") == 230, what="what was there at the start")
    with server.imap(BOB) as client:
        client.select("INBOX")
        assert client.untagged_responses["RECENT"] == [b"1"], "to the first session"

    first, victim = leader(server)
    (process,) = indexers(server)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: indexing(server)["process"] not in (None, first), what="another that leads")
    wait_until(lambda: process not in indexers(server), what="the end of the process of the one that was killed")
    deliver(server, CAROL)
    wait_until(lambda: ready(server.maildir(CAROL)) == {"": 1}, what="what was delivered to the other")

    for process in indexers(server):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    wait_until(lambda: "indexing: its process ended" in server.log(), what="a word of it")
    (folder,) = [server.maildir(CAROL) / ".Work"]
    with server.imap(CAROL) as client:
        client.create("Work")
        client.append("Work", None, None, MESSAGE.encode())  # type: ignore[arg-type]
    (folder / ".uidvalidity").touch()
    wait_until(lambda: ready(server.maildir(CAROL)).get(".Work") == 1, what="by the process after that")
    assert "indexing: by worker" in status(server)
    server.stop()
    wait_until(lambda: indexers(server) == [], what="the end of its process")


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, sections={"indexing": {"background": False}})
    import_maildir(server.maildir(ALICE) / ".Old", 3)
    with server:
        deliver(server, BOB)
        time.sleep(8)
        assert indexers(server) == []
        assert ready(server.maildir(BOB)) == ready(server.maildir(ALICE)) == {}
        assert list((server.data / "indexing").iterdir()) == [], "nothing is noted"
        assert indexing(server) is None
        assert "it is turned off" in status(server)


def test_of_two_servers_on_the_same_mail_one_indexes(tmp_path: Path) -> None:
    one, other = RunningServer(tmp_path / "one"), RunningServer(tmp_path / "other")
    other.data = one.data
    other.write_configuration({})
    with one, other:
        deliver(one, BOB)
        deliver(other, ALICE)
        for address in (ALICE, BOB):
            wait_until(lambda to=address: ready(one.maildir(to)) == {"": 1}, what=address)
        (process,) = indexers(one)
        assert one.process is not None
        one.kill()
        wait_until(lambda: process not in indexers(one), what="its end")
        deliver(other, "bob@example.test")
        wait_until(lambda: "another process saw to it" in other.log(), what="the other")


def test_clients_are_served_meanwhile(tmp_path: Path) -> None:
    server = RunningServer(tmp_path)
    import_maildir(server.maildir(ALICE) / ".Old", 6000)
    with server, server.imap(BOB) as client, server.smtp() as smtp:
        client.select("INBOX")
        wait_until(lambda: ready(server.maildir(ALICE)).get(".Old", 0) > 0, what="the first of them")
        took = []
        while ready(server.maildir(ALICE)).get(".Old", 0) < 6000 and len(took) < 60:
            began = time.monotonic()
            client.noop()
            smtp.sendmail("x@example.net", [BOB], MESSAGE)
            took.append(time.monotonic() - began)
            time.sleep(0.02)
        assert len(took) > 5, "it went on meanwhile"
        assert sorted(took)[len(took) // 2] < 1.0, took
