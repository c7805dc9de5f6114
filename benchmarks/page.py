"""The results as one Markdown page, with plots: README.md beside the JSON files from which it is made."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.report import Report

PAGE = "README.md"
HEAD = """\
# Results of the benchmarks

Medians of all rounds, each server in turn, on loopback. A ratio above 1: this server is better. The figures of each
round are in the JSON files; `python -m benchmarks report` makes this page and the plots from them again.
"""
WITHOUT_PLOTS = "There are no plots, since matplotlib is missing: `pip install -e '.[bench]'`.\n"


def write(directory: Path, order: list[str]) -> Path:
    """`order`: names of benchmarks as they shall come; others follow. Raises ValueError for what is no result."""
    reports = [Report.load(file) for file in sorted(directory.glob("*.json"))]
    places = {name: number for number, name in enumerate(order)}
    reports.sort(key=lambda report: places.get(report.name, len(places)))
    machines = list(dict.fromkeys(_machine(report) for report in reports))
    parts = [HEAD, *([] if plots.available() else [WITHOUT_PLOTS])]
    if len(machines) == 1:
        parts.append(f"{machines[0]}\n")
    for report in reports:
        about = _about(report) + (f" {_machine(report)}" if len(machines) > 1 else "")
        parts.append(f"## {report.title}\n\n{about}\n\n{report.table()}\n")
        if (plot := plots.draw(report, directory)) is not None:
            parts.append(f"![{report.name}]({plot.name})\n")
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / PAGE
    page.write_text("\n".join(parts))
    return page


def _about(report: Report) -> str:
    date = str(report.about.get("date", ""))[:16].replace("T", " ")
    versions = ", ".join(
        f"{name} {version}"
        for name, version in report.about.get("versions", {}).items()
        if name in ("mailserver", report.peer)
    )
    return f"`{_command(report.name, report.about.get('options', {}))}`, {date} UTC; {versions}."


def _command(name: str, options: Mapping[str, Any]) -> str:
    """What makes the same again."""
    words = ["python", "-m", f"benchmarks.{name}"]
    for option, value in options.items():
        if value is True:
            words.append(f"--{option.replace('_', '-')}")
        elif value is not None and value is not False and value not in ("", [], ()):
            words += [f"--{option.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def _machine(report: Report) -> str:
    machine = report.about.get("machine", {})
    return (
        f"The machine: {machine.get('processors')} processors ({machine.get('processor')}), "
        f"{machine.get('memory_gb')} GB, {machine.get('file_system')}, {machine.get('system')}, "
        f"Python {machine.get('python')}."
    )
