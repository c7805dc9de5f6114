"""POP3 on one large mailbox, beside Dovecot: messages a second, milliseconds.

    python -m benchmarks.pop3 [--messages N] [--rounds N] [--workers N ...] [--results DIR]

Both serve the same Maildir, written by Dovecot and linked, and get the same commands in turn, A B A B; the table shows
medians. Before anything is timed both have opened the mailbox once, and their answers are compared: unique-ids, sizes,
and the octets of the first messages.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from benchmarks import corpus
from benchmarks.client import Client
from benchmarks.peers import MAIL_OWNER, PASSWORD, Dovecot, Mailserver, Missing
from benchmarks.report import Figures, Report
from benchmarks.run import Benchmark, Option, installed, ours

Server = Mailserver | Dovecot
ACCOUNT = "main@bench.test"
COMPARED = 200  # messages
RETRIEVED = 5000
END = b"\r\n.\r\n"


class POP3Client:
    """Logged in. Gathers the octets of the answers and does not look into them."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 600)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1024 * 1024)
        self._until(b"\r\n")
        for command in (f"USER {ACCOUNT}", f"PASS {PASSWORD}"):
            self.line(command)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.line("QUIT")
        self.socket.close()

    def line(self, command: str) -> bytes:
        """The answer of one line. Raises RuntimeError unless it is positive."""
        return self._ask(command, b"\r\n")

    def lines(self, command: str) -> bytes:
        """The answer of several lines, its end included."""
        return self._ask(command, END)

    def pipeline(self, commands: list[str]) -> None:
        """All at once; returns when as many answers of several lines have come."""
        sender = threading.Thread(target=self.socket.sendall, args=("".join(f"{c}\r\n" for c in commands).encode(),))
        sender.start()
        missing, tail = len(commands), b""
        while missing:
            size = self._receive()
            seen = tail + memoryview(self._buffer)[:size]
            missing -= seen.count(END)
            tail = b"" if seen.endswith(END) else seen[-4:]
        sender.join()

    def _ask(self, command: str, end: bytes) -> bytes:
        self.socket.sendall(f"{command}\r\n".encode())
        answer = self._until(end)
        if not answer.startswith(b"+OK"):
            raise RuntimeError(f"{command!r} was answered {answer[:200]!r}")
        return answer

    def _until(self, end: bytes) -> bytes:
        pieces = bytearray()
        while not pieces.endswith(end):
            size = self._receive()
            pieces += memoryview(self._buffer)[:size]
        return bytes(pieces)

    def _receive(self) -> int:
        size = self.socket.recv_into(self._buffer)
        if not size:
            raise RuntimeError("the server hung up")
        return size


def figures(server: Server, messages: int) -> Figures:
    """One round on one server."""
    count = min(RETRIEVED, messages)
    retrievals = [f"RETR {number}" for number in range(1, count + 1)]
    begin = time.perf_counter()
    with POP3Client(server.pop3) as client:
        client.line("STAT")
        opened = time.perf_counter() - begin
        listings = {}
        for command in ("LIST", "UIDL"):
            begin = time.perf_counter()
            client.lines(command)
            listings[command] = time.perf_counter() - begin
        begin = time.perf_counter()
        client.pipeline(retrievals)
        pipelined = time.perf_counter() - begin
    with POP3Client(server.pop3) as client:
        begin = time.perf_counter()
        for command in retrievals:
            client.lines(command)
        in_step = time.perf_counter() - begin
    return {
        ("login and STAT", "ms"): opened * 1000,
        ("LIST", "ms"): listings["LIST"] * 1000,
        ("UIDL", "ms"): listings["UIDL"] * 1000,
        (f"{count} RETR, pipelined", "/s"): count / pipelined,
        (f"{count} RETR, one after another", "/s"): count / in_step,
    }


def answers(server: Server, messages: int) -> list[bytes]:
    """What is compared before anything is timed; status lines are the server's own words."""
    with POP3Client(server.pop3) as client:
        commands = ["UIDL", "LIST", *(f"RETR {number}" for number in range(1, min(COMPARED, messages) + 1))]
        return [client.lines(command).partition(b"\r\n")[2] for command in commands]


def dovecot(directory: Path) -> Dovecot:
    made = Dovecot(directory)
    if not made.pop3:
        raise Missing("Dovecot's POP3: apt-get install dovecot-pop3d")
    return made


def measure(report: Report, directory: Path, options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        servers: list[Server] = [*ours(directory, options.workers, (ACCOUNT,), indexing=False)]
        servers += installed(lambda: dovecot(directory / "dc"))
        first = servers[-1]  # Dovecot, where there is one: it gives the UIDs
        corpus.maildir(first.maildir(ACCOUNT), options.messages, MAIL_OWNER)
        stack.enter_context(first)
        opened = Client(first.imap, ACCOUNT, PASSWORD)
        opened.ask("SELECT INBOX")
        opened.close()
        for server in servers[:-1]:
            corpus.twin(first.maildir(ACCOUNT), server.maildir(ACCOUNT), MAIL_OWNER)
            stack.enter_context(server)
        if any(answers(server, options.messages) != answers(first, options.messages) for server in servers[:-1]):
            raise RuntimeError("the servers answer differently")
        for _ in range(options.rounds):
            for server in servers:
                report.add(server.name, figures(server, options.messages))


BENCHMARK = Benchmark("pop3", __doc__, measure, [Option("messages", 50_000, quick=500)], rounds=5, by_workers=True)

if __name__ == "__main__":
    BENCHMARK.main()
