"""Plots of a benchmark's figures, as SVG: ratios beside the peer as bars, what grows as curves.

Needs      matplotlib (`pip install -e '.[bench]'`) to draw; what is drawn can be had without it.
Promises   The same figures make the same file, octet by octet, with one version of matplotlib.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Report, Row, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Bars = Mapping[str, list[tuple[str, float]]]
"""By server: each work with its ratio."""

Curves = Mapping[tuple[str, str], Mapping[str, list[tuple[int, float]]]]
"""By work and unit, by server: figures by size."""

COLUMNS = 3


def available() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def bars(report: Report) -> Bars:
    """Empty where there is no peer."""
    found = {}
    for server in report.ours:
        ratios = [(row.work, report.ratio(row, server)) for row in report.figures if row.size is None]
        found[server] = [(work, ratio) for work, ratio in ratios if ratio is not None]
    return {server: works for server, works in found.items() if works}


def curves(report: Report) -> Curves:
    """Empty where no size was varied. What is not above zero has no place on a logarithmic scale."""
    found: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = {}
    for work, unit in report.works if report.sizes else ():
        for server in report.servers:
            medians = [(size, report.median(Row(work, unit, size), server)) for size in report.sizes]
            points = [(size, median) for size, median in medians if median is not None and median > 0]
            if points:
                found.setdefault((work, unit), {})[server] = points
    return found


def draw(report: Report, directory: Path) -> Path | None:
    """The file, named as the benchmark is; None: there is nothing to draw, or nothing to draw with."""
    grown, compared = curves(report), bars(report)
    if not available() or not (grown or compared):
        return None
    import matplotlib as mpl

    file = directory / f"{report.name}.svg"
    with mpl.rc_context({"svg.hashsalt": report.name, "svg.fonttype": "none", "font.size": 9.0}):
        figure = _curves(grown) if grown else _bars(compared, report.peer or "")
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file


def _bars(compared: Bars, peer: str) -> Figure:
    """From top to bottom in the order in which it was measured."""
    from matplotlib.figure import Figure

    works = list(dict.fromkeys(work for pairs in compared.values() for work, _ in pairs))
    places = {work: len(works) - number for number, work in enumerate(works)}
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(works)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(compared)
    for number, (server, pairs) in enumerate(compared.items()):
        at = [places[work] + 0.4 - height * (number + 0.5) for work, _ in pairs]
        # Each bar begins at 1, where both are as good: to its right this server is better.
        axes.barh(at, [ratio - 1 for _, ratio in pairs], height, left=1, label=server, color=f"C{number}")
        for y, (_, ratio) in zip(at, pairs, strict=True):
            side = "left" if ratio >= 1 else "right"
            axes.annotate(f" {short(ratio)} ", (ratio, y), ha=side, va="center", fontsize=6)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.margins(x=0.12, y=0.01)
    axes.set_yticks(list(places.values()), list(places))
    axes.set_xlabel(f"how many times as good as {peer}; 1: the same", loc="right")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="best")
    return figure


def _curves(grown: Curves) -> Figure:
    """One small plot for each work, all with the same sizes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    sizes = sorted({size for by_server in grown.values() for points in by_server.values() for size, _ in points})
    servers = dict.fromkeys(server for by_server in grown.values() for server in by_server)
    colours = {server: f"C{number}" for number, server in enumerate(servers)}  # also where another one has no points
    lines = -(-len(grown) // COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 2.5 * lines), layout="constrained")
    for number, ((work, unit), by_server) in enumerate(grown.items(), 1):
        axes = figure.add_subplot(lines, COLUMNS, number)
        for server, points in by_server.items():
            axes.plot(
                [size for size, _ in points], [each for _, each in points], "o-", label=server, color=colours[server]
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_xticks(sizes, [_thousands(size) for size in sizes])
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(*_limits([each for points in by_server.values() for _, each in points]))
        axes.set_title(work, fontsize=8)
        axes.set_ylabel("a second" if unit == "/s" else unit)
        axes.grid(alpha=0.3)
        if number == 1 and len(by_server) > 1:
            axes.legend(fontsize=7)
    figure.supxlabel("messages", fontsize=8)
    return figure


def _limits(figures: list[float]) -> tuple[float, float]:
    """At least two powers of ten, so that what hardly changes looks like it."""
    low, high = min(figures), max(figures)
    room = max(1.5, 10 / (high / low) ** 0.5)
    return low / room, high * room


def _thousands(size: int) -> str:
    return f"{size // 1_000_000}M" if size % 1_000_000 == 0 else f"{size // 1000}k" if size % 1000 == 0 else str(size)
