"""IMAP on one large mailbox, beside Dovecot: milliseconds, messages a second, octets of memory.

    python -m benchmarks.imap [--messages N] [--rounds N] [--workers N ...] [--results DIR] [--only WORK ...]

Both serve the same Maildir, written by Dovecot and linked, and get the same commands in turn, A B A B; the table shows
medians. Before anything is timed the answers of both are compared in their meaning. "First open" is of a Maildir that
has Dovecot's UIDs and names but no index of either; "disk cold" is that with the kernel's caches dropped, where root
may do so; "of Postfix's Maildir" is one without UIDs and without sizes in the names.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import corpus
from benchmarks.client import Answers, Client, Value, compare_answers, exists, fetched, searched, threads
from benchmarks.corpus import COMMON, NOWHERE, RARE
from benchmarks.peers import MAIL_OWNER, PASSWORD, Dovecot, Mailserver
from benchmarks.report import Figures, Report
from benchmarks.run import Benchmark, Option, installed, ours

Server = Mailserver | Dovecot

MAIN = "main@bench.test"
WRITER = "writer@bench.test"
ORIGINAL = "original@bench.test"
STRUCTURE = "(ENVELOPE BODYSTRUCTURE RFC822.SIZE)"
HEADERS = "(BODY.PEEK[HEADER.FIELDS (DATE FROM TO CC SUBJECT MESSAGE-ID REFERENCES CONTENT-TYPE)])"
SEARCHES = {
    "SEARCH SUBJECT, common": f"SUBJECT {COMMON}",
    "SEARCH SUBJECT, nowhere": f"SUBJECT {NOWHERE}",
    "SEARCH TEXT, rare": f"TEXT {RARE}",
    "SEARCH TEXT, common": f"TEXT {COMMON}",
    "SEARCH TEXT, nowhere": f"TEXT {NOWHERE}",
}
ORDERS = ("SORT (SUBJECT)", "SORT (DATE)", "SORT (FROM)", "THREAD REFERENCES", "THREAD REFS", "THREAD ORDEREDSUBJECT")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
COMPARED = 2000  # messages


@dataclass(frozen=True, slots=True)
class Bench:
    """One round's work on one server. Each method gives figures by work and unit."""

    server: Server
    messages: int
    round: int

    def first_open(self) -> Figures:
        return self._first_open(f"first{self.round}@bench.test", "first open")

    def first_open_cold(self) -> Figures:
        os.sync()
        DROP_CACHES.write_text("3\n")
        return self._first_open(f"cold{self.round}@bench.test", "first open, disk cold")

    def first_open_bare(self) -> Figures:
        return self._first_open(f"bare{self.round}@bench.test", "first open, of Postfix's Maildir")

    def _first_open(self, account: str, title: str) -> Figures:
        client = self._client(account)
        selected = client.milliseconds("SELECT INBOX")
        structures = client.milliseconds(f"FETCH 1:* {STRUCTURE}", messages=self.messages)
        found = client.milliseconds(f"SEARCH TEXT {NOWHERE}")
        client.close()
        return {
            (f"{title}: SELECT", "ms"): selected,
            (f"{title}: FETCH 1:* {STRUCTURE}", "ms"): structures,
            (f"{title}: these two together", "ms"): selected + structures,
            (f"{title}: then SEARCH TEXT, nowhere", "ms"): found,
        }

    def after_restart(self) -> Figures:
        self.server.stop()
        self.server.start()
        client = self._client(MAIN)
        selected = client.milliseconds("SELECT INBOX")
        flags = client.milliseconds("FETCH 1:* FLAGS", messages=self.messages)
        client.close()
        return {
            ("after a restart: SELECT", "ms"): selected,
            ("after a restart: FETCH 1:* FLAGS", "ms"): flags,
        }

    def reading(self) -> Figures:
        client = self._client(MAIN)
        bodies = min(5000, self.messages)
        figures = {("SELECT, again", "ms"): client.milliseconds("SELECT INBOX")}
        for command, count in (
            ("FETCH 1:* FLAGS", self.messages),
            ("UID FETCH 1:* (UID FLAGS)", self.messages),
            (f"FETCH 1:* {STRUCTURE}", self.messages),
            (f"FETCH 1:* {HEADERS}", self.messages),
            (f"FETCH 1:{bodies} BODY.PEEK[]", bodies),
        ):
            name = command.replace(HEADERS, "(8 header fields)").replace("FETCH 1:* (E", "FETCH 1:* again (E")
            figures[name, "ms"] = client.milliseconds(command, messages=count)
        client.close()
        return figures

    def searching(self) -> Figures:
        client = self._client(MAIN, select=True)
        figures = {(name, "ms"): client.milliseconds(f"UID SEARCH {key}") for name, key in SEARCHES.items()}
        client.close()
        return figures

    def ordering(self) -> Figures:
        """Asked for the first time after a start, and again by another client."""
        self.server.stop()
        self.server.start()
        figures = {}
        for when in ("first after a restart", "again"):
            client = self._client(MAIN, select=True)
            for order in ORDERS:
                figures[f"{order}, {when}", "ms"] = client.milliseconds(f"UID {order} UTF-8 ALL", found=self.messages)
            client.close()
        return figures

    def flags(self) -> Figures:
        client = self._client(MAIN, select=True)
        count = min(10_000, self.messages)
        figures = {
            (f"STORE 1:{count} {sign}FLAGS.SILENT", "ms"): client.milliseconds(
                f"STORE 1:{count} {sign}FLAGS.SILENT (\\Answered)"
            )
            for sign in "+-"
        }
        client.close()
        return figures

    def append(self) -> Figures:
        alone, together = min(500, self.messages), min(1000, self.messages) // 20
        return {
            ("APPEND, 1 connection", "/s"): self._append(1, alone),
            ("APPEND, 20 connections", "/s"): self._append(20, together),
        }

    def _append(self, connections: int, each: int) -> float:
        owner = self._client(WRITER)
        owner.ask("CREATE Appended")
        message = corpus.message(1).replace(b"\n", b"\r\n")
        command = b"APPEND Appended (\\Seen) {%d+}\r\n%b" % (len(message), message)

        def work(client: Client) -> None:
            for _ in range(each):
                client.ask(command)

        clients = [self._client(WRITER) for _ in range(connections)]
        threads = [threading.Thread(target=work, args=(client,)) for client in clients]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.perf_counter() - begin
        if (found := exists(owner.ask("EXAMINE Appended"))) != connections * each:
            raise RuntimeError(f"{found} of {connections * each} messages were appended")
        owner.ask("UNSELECT")
        owner.ask("DELETE Appended")
        for client in (owner, *clients):
            client.close()
        return connections * each / taken

    def copying(self) -> Figures:
        client = self._client(MAIN, select=True)
        count = min(1000, self.messages)
        client.ask("CREATE Copied")
        copied = client.milliseconds(f"COPY 1:{count} Copied")
        if (found := exists(client.ask("SELECT Copied"))) != count:
            raise RuntimeError(f"{found} of {count} messages were copied")
        client.ask("STORE 1:* +FLAGS.SILENT (\\Deleted)")
        expunged = client.milliseconds("EXPUNGE")
        if found := exists(client.ask("SELECT Copied")):
            raise RuntimeError(f"{found} messages are left")
        client.ask("UNSELECT")
        client.ask("DELETE Copied")
        client.close()
        return {(f"COPY {count}", "ms"): copied, (f"EXPUNGE {count}", "ms"): expunged}

    def memory(self) -> Figures:
        self.server.stop()
        self.server.start()
        client = self._client(WRITER, select=True)  # what any mailbox takes
        client.close()
        client = self._client(MAIN)
        before = self.server.memory()
        client.ask("SELECT INBOX")
        client.ask("FETCH 1:* (UID FLAGS)")
        opened = self.server.memory()
        client.ask(f"FETCH 1:* {STRUCTURE}")
        used = self.server.memory()
        client.close()
        return {
            ("memory of an open mailbox, a message (PSS)", "octets"): (opened - before) / self.messages,
            (f"the same after FETCH 1:* {STRUCTURE}", "octets"): (used - before) / self.messages,
            ("memory of the server then (PSS)", "MB"): used / 1e6,
        }

    def idle(self) -> Figures:
        client = self._client(WRITER, select=True)
        client.socket.sendall(b"idle IDLE\r\n")
        while not client.line().startswith(b"+"):
            pass
        waits = [self._notice(client, number) for number in range(min(10, max(3, self.messages // 1000)))]
        client.socket.sendall(b"DONE\r\n")
        while b"idle OK" not in client.line():
            pass
        client.close()
        return {("IDLE tells of a file put into new/", "ms"): median(waits)}

    def _notice(self, client: Client, number: int) -> float:
        maildir = self.server.maildir(WRITER)
        name = f"{int(time.time())}.M{self.round}{number:02}P2.bench"
        (maildir / "tmp" / name).write_bytes(corpus.message(number))
        os.chown(maildir / "tmp" / name, MAIL_OWNER, MAIL_OWNER)
        time.sleep(0.2)
        begin = time.perf_counter()
        (maildir / "tmp" / name).rename(maildir / "new" / name)
        while b"EXISTS" not in client.line():
            pass
        return (time.perf_counter() - begin) * 1000

    def _client(self, account: str, *, select: bool = False) -> Client:
        client = Client(self.server.imap, account, PASSWORD)
        if select:
            client.ask("SELECT INBOX")
        return client


WORKS: tuple[Callable[[Bench], Figures], ...] = (
    Bench.first_open,
    Bench.first_open_cold,
    Bench.first_open_bare,
    Bench.after_restart,
    Bench.reading,
    Bench.searching,
    Bench.ordering,
    Bench.flags,
    Bench.copying,
    Bench.append,
    Bench.idle,
    Bench.memory,
)


def answers(server: Server, messages: int) -> Answers:
    """What the server says of the main mailbox."""
    client = Client(server.imap, MAIN, PASSWORD)
    if (found := exists(client.ask("SELECT INBOX"))) != messages:
        raise RuntimeError(f"{server.name} has {found} messages of {messages}")
    few = min(COMPARED, messages)
    commands = (
        "FETCH 1:* (UID FLAGS RFC822.SIZE)",
        f"FETCH 1:{few} (ENVELOPE BODYSTRUCTURE INTERNALDATE)",
        f"FETCH 1:{few} {HEADERS}",
        f"FETCH 1:{few} BODY.PEEK[]",
    )
    found_in = {key: searched(client.ask(f"UID SEARCH {key}")) for key in SEARCHES.values()}
    said = {command: fetched(client.ask(command)) for command in commands}
    in_order = {order: _in_order(order, client.ask(f"UID {order} UTF-8 ALL")) for order in ORDERS}
    for items in (STRUCTURE, HEADERS):  # of all, so that both know them when they are asked again
        client.ask(f"FETCH 1:* {items}")
    client.close()
    return {**found_in, **said, **in_order}


def _in_order(order: str, answer: bytes) -> list[int] | list[Value]:
    """Threads by REFS that are as old come in an order that each server may choose."""
    if order.startswith("SORT"):
        return searched(answer)
    return sorted(threads(answer), key=repr) if order == "THREAD REFS" else threads(answer)


def prepare(servers: list[Server], messages: int, opened: list[str]) -> None:
    """One Maildir for each account of each server, all of the same messages and UIDs."""
    first = servers[-1].maildir(ORIGINAL)  # Dovecot's, where there is one: it gives the UIDs
    corpus.maildir(first, messages, MAIL_OWNER)
    client = Client(servers[-1].imap, ORIGINAL, PASSWORD)
    client.ask("SELECT INBOX")
    client.close()
    for server in servers:
        for account in (MAIN, *opened):
            corpus.twin(first, server.maildir(account), MAIL_OWNER, bare=account.startswith("bare"))
        corpus.maildir(server.maildir(WRITER), 1, MAIL_OWNER)


def accounts(works: list[Callable[[Bench], Figures]], rounds: int) -> list[str]:
    """Those that are opened for the first time while it is timed."""
    kinds = {Bench.first_open: "first", Bench.first_open_cold: "cold", Bench.first_open_bare: "bare"}
    return [f"{kinds[work]}{number}@bench.test" for work in works if work in kinds for number in range(rounds)]


def measure(report: Report, directory: Path, options: argparse.Namespace) -> None:
    works = [work for work in WORKS if not options.only or work.__name__ in options.only]
    if Bench.first_open_cold in works and not os.access(DROP_CACHES, os.W_OK):
        works.remove(Bench.first_open_cold)
        print("left out: first open, disk cold: only root may drop the kernel's caches", file=sys.stderr)
    opened = accounts(works, options.rounds)
    with ExitStack() as stack:
        servers: list[Server] = [*ours(directory, options.workers, (MAIN, WRITER, ORIGINAL, *opened), indexing=False)]
        servers += installed(lambda: Dovecot(directory / "dv"))
        for server in servers:
            stack.enter_context(server)
        prepare(servers, options.messages, opened)
        first, *others = (answers(server, options.messages) for server in servers)
        for other in others:
            compare_answers(first, other)
        for work in works:
            for number in range(options.rounds):
                for server in servers:
                    report.add(server.name, work(Bench(server, options.messages, number)))
            print(f"{work.__name__}: done", file=sys.stderr)


BENCHMARK = Benchmark(
    "imap",
    __doc__,
    measure,
    [
        Option("messages", 50_000, quick=1000),
        Option("only", (), help="these works", choices=[work.__name__ for work in WORKS]),
    ],
    by_workers=True,
)

if __name__ == "__main__":
    BENCHMARK.main()
