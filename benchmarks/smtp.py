"""SMTP into the Maildir, beside Postfix: messages a second, the clock stopped when all files lie there.

    python -m benchmarks.smtp [--messages N] [--rounds N] [--workers N] [--results DIR]

Each server gets the same work from smtp-source in turn, A B A B; the table shows the median and the ratio.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import ACCOUNT, Mailserver, Missing, Peer, Postfix
from benchmarks.report import RESULTS, Report


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
    count = max(work.sessions, int(messages * work.share))
    before = peer.messages()
    command = ["smtp-source", "-s", str(work.sessions), "-m", str(count), "-l", str(work.size)]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="processes of this server")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to keep them")
    options = parser.parse_args()
    if not shutil.which("smtp-source"):
        sys.exit("smtp-source is missing: apt-get install postfix")
    report = Report()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
        Path(directory).chmod(0o755)
        peers: list[Peer] = [stack.enter_context(Mailserver(Path(directory) / "ms", workers=options.workers))]
        try:
            peers.append(stack.enter_context(Postfix(Path(directory) / "pf")))
        except Missing as missing:
            print(f"left out: {missing}")
        for work in WORK:
            for _ in range(options.rounds):
                for peer in peers:
                    report.add(peer.name, {(work.name, "/s"): rate(peer, work, options.messages)})
    print(report.table())
    report.save(options.results, "smtp", messages=options.messages, workers=options.workers)


if __name__ == "__main__":
    main()
