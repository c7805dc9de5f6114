"""Figures of one benchmark: kept as JSON, shown as a Markdown table with medians and ratios.

Promises   What is saved and loaded again makes the same table. A ratio is above 1 where this server is better than the
           peer, whatever the unit. Servers whose name begins with `OURS` are this project's; there may be several.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

RESULTS = Path(__file__).parent / "results"

OURS = "mailserver"

RATES = ("/s",)
"""Units of which more is better; of all others less is."""

Figures = Mapping[tuple[str, str], float]
"""Of one round on one server, by work and unit."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured. `size`: how many messages lay there, where that is varied."""

    work: str
    unit: str
    size: int | None = None


@dataclass(slots=True)
class Report:
    """Every round's figure by row and server, in the order in which they came.

    `about`: when and where it was, with which versions and options.
    """

    name: str
    title: str
    about: Mapping[str, Any] = field(default_factory=dict)
    figures: dict[Row, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, server: str, figures: Figures, size: int | None = None) -> None:
        for (work, unit), figure in figures.items():
            self.figures.setdefault(Row(work, unit, size), {}).setdefault(server, []).append(figure)

    @property
    def servers(self) -> list[str]:
        return list(dict.fromkeys(server for by_server in self.figures.values() for server in by_server))

    @property
    def ours(self) -> list[str]:
        return [server for server in self.servers if server.startswith(OURS)]

    @property
    def peer(self) -> str | None:
        """The one beside which ours is measured."""
        others = [server for server in self.servers if not server.startswith(OURS)]
        return others[0] if len(others) == 1 else None

    @property
    def sizes(self) -> list[int]:
        return sorted({row.size for row in self.figures if row.size is not None})

    @property
    def works(self) -> list[tuple[str, str]]:
        """With their units, each once."""
        return list(dict.fromkeys((row.work, row.unit) for row in self.figures))

    def median(self, row: Row, server: str) -> float | None:
        figures = self.figures.get(row, {}).get(server)
        return statistics.median(figures) if figures else None

    def ratio(self, row: Row, server: str) -> float | None:
        """How many times as good as the peer one of ours is."""
        ours, theirs = self.median(row, server), self.median(row, self.peer) if self.peer else None
        if not ours or not theirs or ours < 0 or theirs < 0:
            return None
        return ours / theirs if row.unit in RATES else theirs / ours

    def table(self) -> str:
        rows = self._by_size() if self.sizes else self._by_server()
        rows.insert(1, ["---"] * len(rows[0]))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def _by_server(self) -> list[list[str]]:
        ratios = self.ours if self.peer else []
        rows = [["work", "unit", *self.servers, *map(_ratio, ratios)]]
        for row in self.figures:
            medians = (self.median(row, server) for server in self.servers)
            rows.append([row.work, row.unit, *map(short, medians), *(short(self.ratio(row, each)) for each in ratios)])
        return rows

    def _by_size(self) -> list[list[str]]:
        """A column for each size, and a row for each server and ratio."""
        ratios = self.ours if self.peer else []
        rows = [["work", "unit", "server", *(f"{size:,}" for size in self.sizes)]]
        for work, unit in self.works:
            at = [Row(work, unit, size) for size in self.sizes]
            rows += [[work, unit, each, *(short(self.median(row, each)) for row in at)] for each in self.servers]
            rows += [[work, "", _ratio(each), *(short(self.ratio(row, each)) for row in at)] for each in ratios]
        return rows

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        works = [{**asdict(row), "figures": by_server} for row, by_server in self.figures.items()]
        kept = {"name": self.name, "title": self.title, **self.about, "works": works}
        (directory / f"{self.name}.json").write_text(json.dumps(kept, indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> Self:
        """Raises ValueError when it is not of this form."""
        try:
            kept = json.loads(file.read_text())
            works = {Row(each["work"], each["unit"], each["size"]): each["figures"] for each in kept.pop("works")}
            return cls(kept.pop("name"), kept.pop("title"), kept, works)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file} is not a benchmark's result") from error


def _ratio(server: str) -> str:
    """The heading of what one of ours is beside the peer."""
    return server.replace(OURS, "ratio", 1)


def short(figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.2f}"
