"""What the program counts of itself: every metric that there is, in one table, and how those of processes are put together.

Counting is an addition in a dictionary, so that it may stand on every path; nobody waits for whoever reads. Once a second
each process writes what it has counted (`net.telling`), and whoever wants to know adds the processes up.

Promises   Names and labels are fixed here; no label has a value that strangers choose.
On failure `merged` raises ValueError for what `told` did not give.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Labels = tuple[str, ...]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of what times are sorted into."""


@dataclass(slots=True)
class Counter:
    """Only grows. `labels` are the names of what is told apart."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, float] = field(default_factory=dict)
    kind: Literal["counter"] = "counter"

    def add(self, *labels: str, amount: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + amount


@dataclass(slots=True)
class Gauge:
    """Goes up and down; that of all processes is the sum."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, float] = field(default_factory=dict)
    kind: Literal["gauge"] = "gauge"

    def add(self, *labels: str, amount: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + amount

    def put(self, value: float, *labels: str) -> None:
        self.values[labels] = value


@dataclass(slots=True)
class Times:
    """Seconds that something took: how many lie within each of `SECONDS` and beyond, and their sum."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, list[float]] = field(default_factory=dict)
    kind: Literal["histogram"] = "histogram"

    def observe(self, seconds: float, *labels: str) -> None:
        row = self.values.get(labels)
        if row is None:
            row = self.values[labels] = [0.0] * (len(SECONDS) + 2)
        row[bisect_left(SECONDS, seconds)] += 1
        row[-1] += seconds


Metric = Counter | Gauge | Times

CONNECTIONS = Counter("mailserver_connections_total", "Connections that were served.", ("service",))
CONNECTIONS_OPEN = Gauge("mailserver_connections_open", "Connections that are being served.", ("service",))
CONNECTIONS_REFUSED = Counter("mailserver_connections_refused_total", "Connections turned away.", ("service", "reason"))
HANDSHAKES = Counter("mailserver_tls_handshakes_total", "TLS handshakes that were completed.", ("service", "version"))
COMMANDS = Counter(
    "mailserver_commands_total", "Commands, by what they were answered.", ("protocol", "command", "result")
)
LOGINS = Counter("mailserver_logins_total", "Logins.", ("protocol", "result"))
MESSAGES = Counter("mailserver_messages_total", "Messages at the end of their data.", ("protocol", "result"))
DELIVERIES = Counter("mailserver_deliveries_total", "Copies for mailboxes of this server.", ("result",))
ATTEMPTS = Counter("mailserver_delivery_attempts_total", "Attempts at queued recipients.", ("result",))
QUEUE_ENTRIES = Gauge("mailserver_queue_entries", "Messages in the queue.", ("state",))
QUEUE_AGE = Gauge("mailserver_queue_oldest_seconds", "Age of the oldest message in the queue.", ("state",))
STORE_TIMES = Times("mailserver_store_seconds", "What the store took for durable writes.", ("work",))
QUEUE_TIMES = Times("mailserver_queue_seconds", "What commits of the queue took.", ("work",))
INDEX_TIMES = Times("mailserver_index_seconds", "What batches of indexing took.", ("work",))
INDEX_LAG = Gauge("mailserver_index_lag_messages", "Messages whose text is not packed for search.", ())

METRICS: Sequence[Metric] = (
    CONNECTIONS,
    CONNECTIONS_OPEN,
    CONNECTIONS_REFUSED,
    HANDSHAKES,
    COMMANDS,
    LOGINS,
    MESSAGES,
    DELIVERIES,
    ATTEMPTS,
    QUEUE_ENTRIES,
    QUEUE_AGE,
    STORE_TIMES,
    QUEUE_TIMES,
    INDEX_TIMES,
    INDEX_LAG,
)
_BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def told() -> dict[str, Any]:
    """What this process has counted, as JSON has it: rows of labels and what they have, by name."""
    return {
        metric.name: [[list(labels), value if not isinstance(value, list) else [*value]] for labels, value in rows]
        for metric in METRICS
        if (rows := list(metric.values.items()))
    }


Rows = dict[Labels, float | list[float]]


def merged(processes: Iterable[Mapping[str, Any]]) -> dict[str, Rows]:
    """The sums over processes, by the names of metrics. Names of another version are passed over. Raises ValueError."""
    sums: dict[str, Rows] = {}
    for process in processes:
        for name, rows in process.items():
            if name not in _BY_NAME:
                continue
            into = sums.setdefault(name, {})
            try:
                for labels, value in rows:
                    _add(into, tuple(map(str, labels)), value)
            except TypeError as error:
                raise ValueError(f"{name} is malformed") from error
    return sums


def _add(rows: Rows, labels: Labels, value: float | list[float]) -> None:
    before = rows.get(labels)
    if isinstance(value, list):
        known = before if isinstance(before, list) else [0.0] * len(value)
        rows[labels] = [one + other for one, other in zip(known, value, strict=True)]
    else:
        rows[labels] = value + (before if isinstance(before, float | int) else 0)


def described(name: str) -> Metric:
    """Raises KeyError."""
    return _BY_NAME[name]
