"""SMTP into the Maildir, beside Postfix: messages a second, the clock stopped when all files lie there.

    python -m benchmarks.smtp [--messages N] [--rounds N] [--workers N ...] [--results DIR]

Each server gets the same work from smtp-source in turn, A B A B; the table shows the median and the ratio. Before
anything is timed one message is sent to each, of each work's size, and what lies in the Maildirs is compared.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import ACCOUNT, Missing, Peer, Postfix, program
from benchmarks.report import Report
from benchmarks.run import Benchmark, Option, installed, ours


@dataclass(frozen=True, slots=True)
class Work:
    name: str
    sessions: int
    size: int
    share: float  # of the messages asked for
    one_a_connection: bool = False


WORK = (
    Work("4 KB, 20 sessions", 20, 4096, 1.0),
    Work("4 KB, 1 session", 1, 4096, 0.2),
    Work("100 KB, 20 sessions", 20, 102_400, 0.2),
    Work("4 KB, one message a connection", 20, 4096, 0.3, one_a_connection=True),
)


def rate(peer: Peer, work: Work, messages: int) -> float:
    """Messages a second until all lie in the Maildir."""
    return send(peer, work, max(work.sessions, int(messages * work.share)))


def send(peer: Peer, work: Work, count: int) -> float:
    before = peer.messages()
    command = [source(), "-s", str(work.sessions), "-m", str(count), "-l", str(work.size)]
    command += ["-f", "a@x.test", "-t", ACCOUNT]
    if not work.one_a_connection:
        command.append("-d")  # send the next message over the same connection
    begin = time.monotonic()
    subprocess.run([*command, f"127.0.0.1:{peer.smtp}"], check=True, timeout=600)
    while peer.messages() < before + count:
        if time.monotonic() - begin > 600:
            raise RuntimeError(f"{peer.name} delivered {peer.messages() - before} of {count}")
        time.sleep(0.01)
    return count / (time.monotonic() - begin)


def source() -> str:
    found = program("smtp-source")
    if found is None:
        raise Missing("smtp-source: apt-get install postfix")
    return found


def delivered(peer: Peer, work: Work) -> bytes:
    """What the sender wrote, of a message that was delivered: each server puts fields of its own before it."""
    maildir = peer.maildir(ACCOUNT)
    there = _files(maildir)
    send(peer, Work(work.name, 1, work.size, 0.0, work.one_a_connection), 1)
    content = None
    while content is None:
        (file,) = [file for name, file in _files(maildir).items() if name not in there]
        with suppress(FileNotFoundError):  # the server has just given it another name
            content = file.read_bytes()
    header, _, body = content.partition(b"\n\n")
    subject = [line for line in header.splitlines() if line.startswith(b"Subject:")]
    return b"\n".join([*subject, body])


def _files(maildir: Path) -> dict[str, Path]:
    """The messages by that part of their names which stays when the server makes them ready for readers."""
    found = [file for part in ("new", "cur") for file in (maildir / part).glob("*")]
    return {re.split("[,:]", file.name)[0]: file for file in found}


def measure(report: Report, directory: Path, options: argparse.Namespace) -> None:
    source()
    with ExitStack() as stack:
        peers: list[Peer] = [*ours(directory, options.workers), *installed(lambda: Postfix(directory / "pf"))]
        for peer in peers:
            stack.enter_context(peer)
        for work in WORK:
            if len({delivered(peer, work) for peer in peers}) != 1:
                raise RuntimeError(f"{work.name}: the servers deliver different messages")
            for _ in range(options.rounds):
                for peer in peers:
                    report.add(peer.name, {(work.name, "/s"): rate(peer, work, options.messages)})


BENCHMARK = Benchmark("smtp", __doc__, measure, [Option("messages", 5000, quick=200)], by_workers=True)

if __name__ == "__main__":
    BENCHMARK.main()
