"""Mail for other servers, beside Postfix: taken and passed on; and a backlog of which a part goes to dead hosts.

    python -m benchmarks.relay [--messages N] [--backlog N] [--destinations N] [--dead N] [--rounds N]
                               [--backlog-rounds N] [--workers N ...] [--seconds S] [--connect-timeout S]
                               [--relay LINE ...] [--results DIR]

Both pass all on to smtp-sink, each to one of its own, which counts. They get the same work in turn, A B A B; the table
shows the median and the ratio. What has arrived is counted again when the queues are empty: each message came once.

Taken and passed on: the clock runs from the first message until the last one is at the sink.

Backlog: the messages of 1 to 4 KB lie in the queue when the clock starts; then delivery is started. Of the dead
destinations one half refuses connections and the other half does not answer them. The clock stops when the mail for all
others is at the sink, or after so many `--seconds`. This server looks its next hops up in the DNS; Postfix, which can
use no other DNS than the system's, finds them in a table.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.nexthops import ADDRESS, NameServer, SilentHosts, Sink
from benchmarks.peers import ACCOUNT, PASSWORD, Mailserver, Postfix, program
from benchmarks.report import Figures, Report
from benchmarks.run import Benchmark, Option, installed, ours
from benchmarks.sender import Mail, fill, message, send

Server = Mailserver | Postfix
PATIENCE = 600.0  # seconds
FILLERS = 50  # connections that fill Postfix's queue
SIZES = (1024, 2048, 3072, 4096)


@dataclass(frozen=True, slots=True)
class Work:
    name: str
    sessions: int
    share: float  # of the messages asked for


WORK = (Work("4 KB, 20 sessions", 20, 1.0), Work("4 KB, 1 session", 1, 0.2))


def passed_on(server: Server, sink: Sink, work: Work, messages: int) -> Figures:
    """Messages a second, from the first one's begin until all are at the sink."""
    count = max(work.sessions, int(messages * work.share))
    before = sink.count()
    mail = Mail(ACCOUNT, "someone@relay.test", message(ACCOUNT, 4096))
    password = PASSWORD if server.login else ""
    begin = send(server.submission, [mail] * count, sessions=work.sessions, login=server.login, password=password)
    taken = sink.reached(before + count, PATIENCE) - begin
    _wait_until_left(server, 0)
    _expect(sink.count() - before, count)
    return {(work.name, "/s"): count / taken}


def _wait_until_left(server: Server, count: int) -> None:
    """Until so many messages, and no others, are in the queue."""
    end = time.monotonic() + 60
    while (found := server.queued()) != count:
        if time.monotonic() > end:
            raise RuntimeError(f"{server.name} has {found} messages in its queue and not {count}")
        time.sleep(0.1)


def _expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"{found} messages have arrived instead of {wanted}")


@dataclass(frozen=True, slots=True)
class Backlog:
    """What lies in the queue: as many messages for each destination, in an order that chance gave."""

    messages: int
    destinations: int
    dead: int
    seconds: float
    connect_timeout: int
    relay: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.messages} queued for {self.destinations} domains, {self.dead} of them dead"

    @property
    def hosts(self) -> dict[str, str]:
        """By domain. At odd ones of the dead nobody listens, even ones are silent."""
        kinds = ["127.2" if number % 2 == 0 else "127.1" for number in range(self.dead)]
        dead = {self._domain(number): f"{kind}.{number // 250}.{number % 250 + 1}" for number, kind in enumerate(kinds)}
        return {self._domain(number): ADDRESS for number in range(self.destinations)} | dead

    @property
    def silent(self) -> list[str]:
        return [address for address in self.hosts.values() if address.startswith("127.2.")]

    @property
    def good(self) -> int:
        return sum(number % self.destinations >= self.dead for number in range(self.messages))

    def mails(self) -> list[Mail]:
        contents = [message(ACCOUNT, size) for size in SIZES]
        mails = [
            Mail(ACCOUNT, f"r{number}@{self._domain(number % self.destinations)}", contents[number % len(contents)])
            for number in range(self.messages)
        ]
        random.Random(1).shuffle(mails)
        return mails

    def _domain(self, number: int) -> str:
        return f"d{number:04}.test"

    # One round on one server

    def ours(self, directory: Path, workers: int) -> tuple[str, Figures]:
        """Filled before it is started; its start is part of the time."""
        with ExitStack() as stack:
            sink = stack.enter_context(Sink(directory))
            stack.enter_context(SilentHosts(self.silent, sink.port))
            dns = stack.enter_context(NameServer(self.hosts))
            settings = (
                f'resolver = ["127.0.0.1:{dns.port}"]',
                f"port = {sink.port}",
                f'connect_timeout = "{self.connect_timeout} s"',
                *self.relay,
            )
            server = Mailserver(directory / "ms", relay=settings, workers=workers)
            fill(server.queue, self.mails())
            return server.name, self._watched(sink, stack, server)

    def theirs(self, directory: Path) -> tuple[str, Figures]:
        """Filled by SMTP while all is on hold; what releases it is no part of the time."""
        with ExitStack() as stack:
            sink = stack.enter_context(Sink(directory))
            stack.enter_context(SilentHosts(self.silent, sink.port))
            table = directory / "transport"
            # Where a host takes mail a second one is named, which is not tried, so that each domain is a destination.
            table.write_text(
                "".join(
                    f"{domain} smtp:[{address}]:{sink.port}"
                    + (f",[127.3.{number // 250}.{number % 250 + 1}]:{sink.port}\n" if address == ADDRESS else "\n")
                    for number, (domain, address) in enumerate(self.hosts.items())
                )
            )
            settings = (
                f"transport_maps=texthash:{table}",
                f"smtp_connect_timeout={self.connect_timeout}s",
                "smtpd_client_restrictions=static:HOLD",
            )
            server = stack.enter_context(Postfix(directory / "pf", more=settings))
            send(server.submission, self.mails(), sessions=FILLERS)
            server.release()
            return server.name, self._watched(sink, stack, server)

    def _watched(self, sink: Sink, stack: ExitStack, server: Server) -> Figures:
        begin = time.monotonic()
        if isinstance(server, Postfix):
            server.flush()
        else:
            stack.enter_context(server)
        figures: dict[tuple[str, str], float] = {}
        work = f"{self.name}: mail for the others"
        try:
            for share, count in (("half of it is out", self.good // 2), ("all of it is out", self.good)):
                moment = sink.reached(count, begin + self.seconds - time.monotonic())
                figures[f"{work}, {share}", "s"] = moment - begin
        except TimeoutError:
            moment, arrived = time.monotonic(), sink.count()
            print(f"{server.name}: {arrived} of {self.good} messages are out after {self.seconds:.0f} s")
        else:
            arrived = self.good
            _wait_until_left(server, self.messages - self.good)
            _expect(sink.count(), self.good)
        figures[work, "/s"] = arrived / (moment - begin)
        return figures


def measure(report: Report, directory: Path, options: argparse.Namespace) -> None:
    _pass_on(report, directory, options)
    if options.backlog:
        _work_off(report, directory, options)


def _pass_on(report: Report, directory: Path, options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        sinks = [stack.enter_context(Sink(directory)) for _ in (*options.workers, Postfix)]
        servers: list[Server] = []
        for count, sink in zip(options.workers, sinks, strict=False):
            servers += ours(directory, [count], relay=[f'smarthost = "{ADDRESS}:{sink.port}"', *options.relay])
        relayhost = f"relayhost=[{ADDRESS}]:{sinks[-1].port}"
        servers += installed(lambda: Postfix(directory / "pf", more=[relayhost]))
        for server in servers:
            stack.enter_context(server)
        for work in WORK:
            for _ in range(options.rounds):
                for server, sink in zip(servers, sinks, strict=False):
                    report.add(server.name, passed_on(server, sink, work, options.messages))


def _work_off(report: Report, directory: Path, options: argparse.Namespace) -> None:
    work = Backlog(
        options.backlog,
        options.destinations,
        options.dead,
        options.seconds,
        options.connect_timeout,
        tuple(options.relay),
    )
    for number in range(options.backlog_rounds):
        for workers in options.workers:
            report.add(*work.ours(directory / f"ours{number}-{workers}", workers))
        if program("postfix") is not None and not os.geteuid():
            report.add(*work.theirs(directory / f"theirs{number}"))


BENCHMARK = Benchmark(
    "relay",
    __doc__,
    measure,
    [
        Option("messages", 5000, quick=200, help="to take and pass on"),
        Option("backlog", 20_000, quick=300, help="messages; 0: leave it out"),
        Option("destinations", 1000, quick=30),
        Option("dead", 300, quick=9, help="of the destinations"),
        Option("backlog-rounds", 1),
        Option("seconds", 1800.0, quick=60.0, help="longest time for one backlog"),
        Option("connect-timeout", 30, quick=1, help="seconds, for both"),
        Option("relay", (), help="further lines of this server's section"),
    ],
    by_workers=True,
)

if __name__ == "__main__":
    BENCHMARK.main()
