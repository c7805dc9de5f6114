"""The store and the message scanner alone, without a network: milliseconds, messages a second, octets of memory.

    python -m benchmarks.store [--messages N] [--rounds N] [--results DIR] [--only WORK ...]

Each work runs in a process of its own; the table shows medians.
"""

from __future__ import annotations

import argparse
import email
import email.policy
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import corpus
from benchmarks.corpus import COMMON, NOWHERE, RARE
from benchmarks.peers import proportional_set_size
from benchmarks.report import OURS, Figures, Report
from benchmarks.run import Benchmark, Option
from mailserver.mail import Address, Content
from mailserver.message import Phrase, parse, searchable
from mailserver.store import Addition, Delivery, Mailbox, Store
from mailserver.store.digest import prepare

DOMAIN = "bench.test"
MAIN = "main"
BATCHES = (1, 20)
SAMPLE = 1000  # messages for the scanner
SOURCE = "source"


@dataclass(slots=True)
class Watch:
    """Figures by work and unit, in the order in which they are taken."""

    figures: dict[tuple[str, str], float] = field(default_factory=dict)

    @contextmanager
    def milliseconds(self, work: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.figures[work, "ms"] = (time.perf_counter() - begin) * 1000

    @contextmanager
    def rate(self, work: str, count: int) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.figures[work, "/s"] = count / (time.perf_counter() - begin)

    @contextmanager
    def microseconds_each(self, work: str, count: int) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.figures[work, "us"] = (time.perf_counter() - begin) / count * 1e6


@dataclass(frozen=True, slots=True)
class Bench:
    """One round. Its methods give figures by work and unit; each runs in a new process."""

    root: Path
    messages: int
    round: int

    def first_use(self) -> Figures:
        """Of a Maildir that another program made."""
        watch = Watch()
        with watch.milliseconds("open a foreign Maildir, no sizes in its names"):
            self._open(f"bare{self.round}").close()
        with watch.milliseconds("open a foreign Maildir"):
            mailbox = self._open(f"first{self.round}")
        uids = mailbox.listing().uids
        with watch.rate("prepare pieces of FETCH", len(uids)):
            prepared = mailbox.prepared(uids)
        _expect(len(prepared), self.messages)
        with watch.rate("pack and search text", len(uids)):
            _expect(len(mailbox.search_text(uids, Phrase(NOWHERE)).uids), 0)
        mailbox.close()
        return watch.figures

    def memory(self) -> Figures:
        store = Store(self.root, hostname="mx.bench.test")
        store.account(Address("writer", DOMAIN)).open("INBOX").close()  # what any mailbox takes
        before = proportional_set_size(os.getpid())
        mailbox = store.account(Address(MAIN, DOMAIN)).open("INBOX")
        listed = mailbox.listing()
        _expect(len(listed.uids), self.messages)
        taken = proportional_set_size(os.getpid()) - before
        mailbox.close()
        return {("memory of an open mailbox, a message (PSS)", "octets"): taken / self.messages}

    def again(self) -> Figures:
        watch = Watch()
        with watch.milliseconds("open in a new process"):
            mailbox = self._open(MAIN)
        with watch.milliseconds("listing"):
            uids = mailbox.listing().uids
        _expect(len(uids), self.messages)
        mailbox.close()
        with watch.milliseconds("sync, when nothing changed"):
            mailbox.sync()
        with watch.milliseconds("prepared pieces, from the index"):
            _expect(len(mailbox.prepared(uids)), self.messages)
        read = uids[:5000]
        with watch.milliseconds(f"read {len(read)} messages"):
            for uid in read:
                mailbox.read(uid)
        phrases = (
            ("a text nowhere", Phrase(NOWHERE), 0),
            ("a rare text", Phrase(RARE), 3),
            ("a common subject", Phrase(COMMON, body=False, field="subject"), None),
        )
        mailbox.search_text(uids, Phrase(NOWHERE))
        for name, phrase, hits in phrases:
            with watch.milliseconds(f"search {name}"):
                found = mailbox.search_text(uids, phrase).uids
            if hits is not None:
                _expect(len(found), hits)
        changed = uids[:10_000]
        flags = frozenset(("\\Answered",))
        for action in ("add", "remove"):
            with watch.milliseconds(f"{action} a flag, {len(changed)} messages"):
                _expect(len(mailbox.update_flags(changed, action, flags)), len(changed))
        return watch.figures

    def writing(self) -> Figures:
        watch = Watch()
        store = Store(self.root, hostname="mx.bench.test")
        account = store.account(Address("writer", DOMAIN))
        content = Content(corpus.message(1).replace(b"\n", b"\r\n"))
        job = Delivery(Address("writer", DOMAIN), b"", content)
        count = min(1000, self.messages) // 20 * 20
        for batch in BATCHES:
            with watch.rate(f"deliver, {batch} at once", count):
                for _ in range(count // batch):
                    _expect(sum(isinstance(done, Path) for done in store.deliver([job] * batch)), batch)
        account.create("Written")
        mailbox = account.open("Written")
        for batch in BATCHES:
            with watch.rate(f"append, {batch} at once", count):
                for _ in range(count // batch):
                    mailbox.append_many([Addition(content)] * batch)
        account.create("Copied")
        target = account.open("Copied")
        uids = mailbox.listing().uids[:count]
        with watch.milliseconds(f"copy {count} messages"):
            _expect(len(mailbox.copy(uids, target)), count)
        with watch.milliseconds(f"expunge {count} messages"):
            _expect(len(mailbox.expunge(uids)), count)
        for opened in (mailbox, target):
            opened.close()
            account.delete(opened.name)
        return watch.figures

    def scanner(self) -> Figures:
        watch = Watch()
        all_kinds = [corpus.message(number).replace(b"\n", b"\r\n") for number in range(SAMPLE)]
        multipart = [message for message in all_kinds if b"Content-Type: multipart/" in message]
        works: tuple[tuple[str, Callable[[bytes], object]], ...] = (
            ("parse", parse),
            ("parse and prepare pieces", prepare),
            ("text to search in", searchable),
            ("the standard library's parser (compat32)", email.message_from_bytes),
        )
        for kind, messages in (("multipart of 4 KB", multipart), ("mixed messages of 4 KB", all_kinds)):
            for name, function in works:
                with watch.microseconds_each(f"{kind}: {name}", len(messages)):
                    for message in messages:
                        function(message)
        return watch.figures

    def _open(self, account: str) -> Mailbox:
        return Store(self.root, hostname="mx.bench.test").account(Address(account, DOMAIN)).open("INBOX")


def _expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"{found} instead of {wanted}")


WORKS: tuple[Callable[[Bench], Figures], ...] = (
    Bench.first_use,
    Bench.again,
    Bench.memory,
    Bench.writing,
    Bench.scanner,
)


def measure(report: Report, root: Path, options: argparse.Namespace) -> None:
    corpus.maildir(root / DOMAIN / SOURCE, options.messages, os.geteuid())
    corpus.twin(root / DOMAIN / SOURCE, root / DOMAIN / MAIN, os.geteuid())
    for number in range(options.rounds):
        corpus.twin(root / DOMAIN / SOURCE, root / DOMAIN / f"first{number}", os.geteuid())
        corpus.twin(root / DOMAIN / SOURCE, root / DOMAIN / f"bare{number}", os.geteuid(), bare=True)
    corpus.maildir(root / DOMAIN / "writer", 5, os.geteuid())
    _in_new_process(Bench.again, Bench(root, options.messages, 0))  # so that the index is there
    for work in (work for work in WORKS if not options.only or work.__name__ in options.only):
        for number in range(options.rounds):
            report.add(OURS, _in_new_process(work, Bench(root, options.messages, number)))


def _in_new_process(work: Callable[[Bench], Figures], bench: Bench) -> dict[tuple[str, str], float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(pool.submit(work, bench).result())


BENCHMARK = Benchmark(
    "store",
    __doc__,
    measure,
    [
        Option("messages", 50_000, quick=500),
        Option("only", (), help="these works", choices=[work.__name__ for work in WORKS]),
    ],
)

if __name__ == "__main__":
    BENCHMARK.main()
