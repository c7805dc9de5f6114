"""What all benchmarks share: their options, the servers side by side, and how figures are shown and kept.

    python -m benchmarks.NAME [--rounds N] [--quick] [--results DIR] [--directory DIR] [its own options]

Promises   Each benchmark prints its table and saves it as NAME.json with the machine, the date, the versions and
           the options. Where all that it measures is missing it says what to install and ends with EX_UNAVAILABLE.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import machine
from benchmarks.peers import Mailserver, Missing, Peer
from benchmarks.report import RESULTS, Report

P = TypeVar("P", bound=Peer)


@dataclass(frozen=True, slots=True)
class Option:
    """One of a benchmark's own. `quick`: its default in the short form; None: the same."""

    name: str
    default: Any
    quick: Any = None
    help: str = ""
    choices: Sequence[str] | None = None

    def declare(self, parser: argparse.ArgumentParser) -> None:
        listed = isinstance(self.default, tuple)
        kind = type(self.default[0] if self.default else "") if listed else type(self.default)
        more: dict[str, Any] = {"nargs": "*"} if listed else {}
        parser.add_argument(
            f"--{self.name}", type=kind, default=self.default, help=self.help, choices=self.choices, **more
        )


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`measure` adds figures to a report, in a directory of its own. `by_workers`: it measures this server once with
    each number of `--workers`.
    """

    name: str
    about: str | None
    measure: Callable[[Report, Path, argparse.Namespace], None]
    options: Sequence[Option] = ()
    rounds: int = 3
    by_workers: bool = False

    @property
    def title(self) -> str:
        return (self.about or "").partition("\n")[0].rstrip(".")

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(description=self.about, formatter_class=argparse.RawDescriptionHelpFormatter)
        shared(parser, by_workers=self.by_workers)
        for option in self.options:
            option.declare(parser)
        short = {option.name.replace("-", "_"): option.quick for option in self.options if option.quick is not None}
        quick = parser.parse_args(arguments).quick
        parser.set_defaults(rounds=1 if quick else self.rounds, **(short if quick else {}))
        return parser.parse_args(arguments)

    def main(self, arguments: Sequence[str] | None = None) -> None:
        options = self.parse(arguments)
        stop_on_sigterm()
        kept = {name: value for name, value in vars(options).items() if name not in ("results", "directory")}
        try:
            with directory(options.directory) as there:
                report = Report(self.name, self.title, {**machine.about(there), "options": kept})
                self.measure(report, there, options)
        except Missing as missing:
            print(missing, file=sys.stderr)
            sys.exit(os.EX_UNAVAILABLE)
        print(report.table())
        report.save(options.results)


def shared(parser: argparse.ArgumentParser, *, by_workers: bool) -> None:
    """The options that have the same meaning everywhere."""
    parser.add_argument("--rounds", type=int, help="how often each server does the work; the median counts")
    parser.add_argument("--quick", action="store_true", help="the short form: one round of little work")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to keep them")
    parser.add_argument("--directory", type=Path, help="work here, and leave it as it is then")
    if by_workers:
        text = "processes of this server; each number is measured beside the others"
        parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help=text)


def stop_on_sigterm() -> None:
    """So that servers are stopped, and directories removed, as on SIGINT."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def directory(wanted: Path | None) -> Iterator[Path]:
    """To work in: the wanted one, made and kept, or one that is removed at the end."""
    if wanted is not None:
        try:
            wanted.mkdir(parents=True)
        except FileExistsError:
            sys.exit(f"{wanted} is there already; name a directory that is not, or remove it")
        wanted.chmod(0o755)
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def sizes(largest: int, smallest: int) -> list[int]:
    """From the smallest one on, each ten times as large as the one before, and the largest."""
    found = []
    while smallest < largest:
        found.append(smallest)
        smallest *= 10
    return [*found, largest]


def ours(root: Path, workers: Sequence[int], *more: Any, **options: Any) -> list[Mailserver]:
    """This server with each number of processes, in directories of their own."""
    return [Mailserver(root / f"ms{count}", *more, workers=count, **options) for count in workers]


def installed(make: Callable[[], P]) -> list[P]:
    """The peer; none where its program is missing, which is told."""
    try:
        return [make()]
    except Missing as missing:
        print(f"left out: {missing}", file=sys.stderr)
        return []
