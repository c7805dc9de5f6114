"""Figures of one run: kept as JSON, shown as a Markdown table with medians."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

RATES = ("/s",)
"""Units of which more is better; of all others less is."""


class Report:
    """Figures by work, unit and server, in the order in which they came."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str], dict[str, list[float]]] = {}

    def add(self, server: str, figures: Mapping[tuple[str, str], float]) -> None:
        """`figures`: of one round, by work and unit."""
        for key, figure in figures.items():
            self._figures.setdefault(key, {}).setdefault(server, []).append(figure)

    def table(self) -> str:
        """The ratio, of two servers, is above 1 when the first one is better."""
        servers = list(dict.fromkeys(server for by_server in self._figures.values() for server in by_server))
        rows = [["work", "unit", *servers, *(["ratio"] if len(servers) == 2 else [])]]
        rows.append(["---"] * len(rows[0]))
        for (work, unit), by_server in self._figures.items():
            medians = [statistics.median(by_server[server]) if server in by_server else None for server in servers]
            row = [work, unit, *("" if median is None else _short(median) for median in medians)]
            if len(servers) == 2:
                row.append(_ratio(*medians, more_is_better=unit in RATES))
            rows.append(row)
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def save(self, directory: Path, name: str, **about: object) -> None:
        """Every round's figure, what the run was, and where."""
        directory.mkdir(parents=True, exist_ok=True)
        figures = [
            {"work": work, "unit": unit, "figures": by_server} for (work, unit), by_server in self._figures.items()
        ]
        machine = {"system": platform.platform(), "processors": os.cpu_count(), "python": platform.python_version()}
        (directory / f"{name}.json").write_text(json.dumps({**about, **machine, "works": figures}, indent=1))


def _short(figure: float) -> str:
    return f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.2f}"


def _ratio(ours: float | None, theirs: float | None, *, more_is_better: bool) -> str:
    if not ours or not theirs:
        return ""
    return f"{ours / theirs if more_is_better else theirs / ours:.2f}"
