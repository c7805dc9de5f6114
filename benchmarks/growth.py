"""IMAP as a mailbox grows, beside Dovecot: milliseconds and megabytes for 1,000 to 500,000 messages.

    python -m benchmarks.growth [--messages N] [--rounds N] [--results DIR]

A mailbox of 1,000 messages, one of ten times as many and so on up to `--messages`; each of about 1 KB. Both servers
have the same messages, linked, under the same UIDs, and get the same commands in turn, A B A B, each server being
started anew for each round. Before anything is timed the answers of both are compared in their meaning, by which both
make their indexes. What a client does again and again is done several times in a round, and the median counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import corpus
from benchmarks.client import Answers, Client, compare_answers, exists, fetched, searched
from benchmarks.peers import MAIL_OWNER, PASSWORD, Dovecot, Mailserver
from benchmarks.report import Figures, Report
from benchmarks.run import Benchmark, Option, installed, ours, sizes

Server = Mailserver | Dovecot

SMALLEST = 1000
NEWEST = 100  # messages, as many as a program shows at first
REPEATED = 5
COMPARED = 5000  # messages
MARK = "quarterly figures"
MARKED = 500
"""One message in so many has the mark in its subject."""

_DATES = [f"{day:02} Jun 2026 {hour:02}:30:00 +0200" for day in range(1, 29) for hour in range(24)]
_TEXT = b"The meeting is at ten, in the small room; please bring the figures of last week.\n" * 8


def message(number: int) -> bytes:
    """With LF line ends; cheap to make."""
    subject = f"Notes of meeting {number} about plan {number % 97}" if number % MARKED else f"{MARK}, {number}"
    person = f"sender{number % 331}@example.org"
    header = (
        f"Return-Path: <{person}>\nFrom: Sender {number % 331} <{person}>\nTo: u@bench.test\nSubject: {subject}\n"
        f"Date: {_DATES[number % len(_DATES)]}\nMessage-ID: <{number}@example.org>\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=us-ascii\n\n"
    )
    return header.encode() + _TEXT


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One of a server, of so many messages."""

    server: Server
    messages: int

    @property
    def account(self) -> str:
        return f"size{self.messages}@bench.test"

    @property
    def maildir(self) -> Path:
        return self.server.maildir(self.account)

    @property
    def envelopes(self) -> str:
        return f"FETCH {max(1, self.messages - NEWEST + 1)}:{self.messages} ENVELOPE"

    def answers(self) -> Answers:
        """UIDs and flags of all, for which searches are enough, and more of some."""
        client = self.client()
        if (found := exists(client.ask("SELECT INBOX"))) != self.messages:
            raise RuntimeError(f"{self.server.name} has {found} messages of {self.messages}")
        keys = ("ALL", "SEEN", "FLAGGED", "ANSWERED", f'SUBJECT "{MARK}"')
        commands = (f"FETCH 1:{min(COMPARED, self.messages)} (UID FLAGS RFC822.SIZE)", self.envelopes)
        found_in = {key: searched(client.ask(f"UID SEARCH {key}")) for key in keys}
        said = {command: fetched(client.ask(command)) for command in commands}
        client.close()
        return {**found_in, **said}

    def figures(self) -> Figures:
        """One round, from the server's start on."""
        self.server.stop()
        self.server.start()
        client = self.client()
        figures = {
            "SELECT, after a restart": client.milliseconds("SELECT INBOX"),
            "FETCH 1:* FLAGS, after a restart": client.milliseconds("FETCH 1:* FLAGS", messages=self.messages),
            "SELECT, again": _median(lambda: client.milliseconds("SELECT INBOX")),
            "FETCH 1:* FLAGS, again": _median(lambda: client.milliseconds("FETCH 1:* FLAGS", messages=self.messages)),
            f"FETCH ENVELOPE of the newest {NEWEST}": _median(lambda: client.milliseconds(self.envelopes)),
            "UID SEARCH SUBJECT": _median(lambda: client.milliseconds(f'UID SEARCH SUBJECT "{MARK}"')),
            "STORE of one message": _median(lambda: self._store(client)),
            "APPEND of one message": self._append(client),
        }
        memory = self.server.memory()
        client.close()
        return {(work, "ms"): figure for work, figure in figures.items()} | {
            ("memory of the server", "MB"): memory / 1e6
        }

    def _store(self, client: Client) -> float:
        """Of a flag that is set, and then not any more."""
        return median(client.milliseconds(f"STORE {self.messages} {sign}FLAGS (\\Answered)") for sign in "+-")

    def _append(self, client: Client) -> float:
        """What was appended is gone afterwards."""
        octets = message(1).replace(b"\n", b"\r\n")
        command = b"APPEND INBOX (\\Seen) {%d+}\r\n%b" % (len(octets), octets)
        taken = _median(lambda: client.milliseconds(command))
        client.ask(f"STORE {self.messages + 1}:* +FLAGS.SILENT (\\Deleted)")
        client.ask("EXPUNGE")
        if (found := exists(client.ask("SELECT INBOX"))) != self.messages:
            raise RuntimeError(f"{self.server.name} has {found} messages of {self.messages}")
        return taken

    def client(self) -> Client:
        return Client(self.server.imap, self.account, PASSWORD)


def _median(work: Callable[[], float]) -> float:
    return median(work() for _ in range(REPEATED))


def prepare(servers: list[Server], counts: list[int]) -> None:
    """The messages are written once, for the largest mailbox; all others are links to them."""
    first = servers[-1]  # Dovecot, where there is one: it gives the UIDs
    *smaller, largest = [Mailbox(first, count) for count in counts]
    corpus.maildir(largest.maildir, largest.messages, MAIL_OWNER, message)
    for mailbox in smaller:
        corpus.part_of(largest.maildir, mailbox.maildir, mailbox.messages, MAIL_OWNER)
    for mailbox in (*smaller, largest):
        client = mailbox.client()
        client.ask("SELECT INBOX")
        client.close()
        for server in servers[:-1]:
            corpus.twin(mailbox.maildir, Mailbox(server, mailbox.messages).maildir, MAIL_OWNER)


def measure(report: Report, directory: Path, options: argparse.Namespace) -> None:
    counts = sizes(options.messages, SMALLEST)
    with ExitStack() as stack:
        servers: list[Server] = [
            *ours(directory, [1], tuple(f"size{count}@bench.test" for count in counts), indexing=False)
        ]
        servers += installed(lambda: Dovecot(directory / "dv"))
        for server in servers:
            stack.enter_context(server)
        prepare(servers, counts)
        for count in counts:
            mailboxes = [Mailbox(server, count) for server in servers]
            first, *others = (mailbox.answers() for mailbox in mailboxes)
            for other in others:
                compare_answers(first, other)
            for _ in range(options.rounds):
                for mailbox in mailboxes:
                    report.add(mailbox.server.name, mailbox.figures(), count)
            print(f"{count} messages: done", file=sys.stderr)


BENCHMARK = Benchmark(
    "growth", __doc__, measure, [Option("messages", 500_000, quick=2000, help="in the largest mailbox")]
)

if __name__ == "__main__":
    BENCHMARK.main()
