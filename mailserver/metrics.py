"""What the program counts of itself: every metric that there is, in one table, and how processes are added up.

Counting is an addition in a dictionary, so that it may stand on every path; nobody waits for whoever reads. Once a
second each process writes what it has counted (`telling`), and whoever wants to know adds the processes up.

Promises   Names and labels are fixed here; no label has a value that strangers choose.
           Counters and gauges are of one thread, the reactor's; times may be observed in any.
On failure `merged` and `take_over` raise ValueError for what `told` did not give.
"""

from __future__ import annotations

import operator
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """Goes up and down. `over`: what that of all processes is made of those of each."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, float] = field(default_factory=dict)
    kind: Literal["gauge"] = "gauge"
    over: Callable[[float, float], float] = operator.add

    def add(self, *labels: str, amount: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + amount

    def put(self, value: float, *labels: str) -> None:
        self.values[labels] = value

    def forget(self) -> None:
        """This process does not know it, and another one may."""
        self.values.clear()


@dataclass(slots=True)
class Times:
    """Seconds that something took: how many lie within each of `SECONDS` and beyond, and their sum."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, list[float]] = field(default_factory=dict)
    kind: Literal["histogram"] = "histogram"

    def observe(self, seconds: float, *labels: str) -> None:
        with _TIMES:
            row = self.values.get(labels)
            if row is None:
                row = self.values[labels] = [0.0] * _TIMES_ROW
            row[bisect_left(SECONDS, seconds)] += 1
            row[-1] += seconds


_TIMES = threading.Lock()
_TIMES_ROW = len(SECONDS) + 2

Metric = Counter | Gauge | Times

PROCESSES = Gauge("mailserver_processes", "Processes that serve, by the version of the program.", ("version",))
WORKERS_ENDED = Counter("mailserver_workers_ended_total", "Workers that ended without being told to.")
CONNECTIONS = Counter("mailserver_connections_total", "Connections that were served.", ("protocol",))
CONNECTIONS_OPEN = Gauge("mailserver_connections_open", "Connections that are being served.", ("protocol",))
CONNECTIONS_REFUSED = Counter(
    "mailserver_connections_refused_total", "Connections turned away.", ("protocol", "reason")
)
HANDSHAKES = Counter(
    "mailserver_tls_handshakes_total", "TLS handshakes, by version, or `failed`.", ("protocol", "version")
)
CERTIFICATES_END = Gauge(
    "mailserver_certificates_end_seconds", "When the first of the certificates expires, in Unix time.", over=min
)
COMMANDS = Counter(
    "mailserver_commands_total", "Commands, by what they were answered.", ("protocol", "command", "result")
)
LOGINS = Counter(
    "mailserver_logins_total", "Logins: ok, refused, banned, crowded, or failed for now.", ("protocol", "result")
)
MESSAGES = Counter("mailserver_messages_total", "Messages at the end of their data.", ("protocol", "result"))
DELIVERIES = Counter("mailserver_deliveries_total", "Copies for mailboxes of this server.", ("result",))
ATTEMPTS = Counter("mailserver_delivery_attempts_total", "Attempts at queued recipients.", ("result",))
REPORTS = Counter("mailserver_reports_total", "Reports to senders on queued messages.", ("kind",))
QUEUE_ENTRIES = Gauge("mailserver_queue_entries", "Messages in the queue.", ("state",))
QUEUE_AGE = Gauge("mailserver_queue_oldest_seconds", "Age of the oldest message in the queue.", ("state",), over=max)
STORE_TIMES = Times("mailserver_store_seconds", "What the store took to make batches durable.", ("work",))
SYNC_TIMES = Times("mailserver_sync_seconds", "What the disk took to sync the files of a batch, or a directory.")
QUEUE_TIMES = Times("mailserver_queue_commit_seconds", "What durable commits of the queue took.")
INDEX_TIMES = Times("mailserver_index_seconds", "What batches of indexing took.", ("work",))
INDEX_LAG = Gauge("mailserver_index_lag_messages", "Messages whose text is not packed for search yet.")
INDEXING = Gauge("mailserver_indexing", "Processes that see to the indexing in the background: one, where that is on.")
INDEXING_WAITING = Gauge(
    "mailserver_indexing_waiting",
    "What waits for the indexing in the background, as far as it is known: mailboxes, and messages of the one that is "
    "at work.",
    ("what",),
)
INDEXING_ROUND = Gauge("mailserver_indexing_round", "1 while the indexing looks through all accounts.")

METRICS: Sequence[Metric] = (
    PROCESSES,
    WORKERS_ENDED,
    CONNECTIONS,
    CONNECTIONS_OPEN,
    CONNECTIONS_REFUSED,
    HANDSHAKES,
    CERTIFICATES_END,
    COMMANDS,
    LOGINS,
    MESSAGES,
    DELIVERIES,
    ATTEMPTS,
    REPORTS,
    QUEUE_ENTRIES,
    QUEUE_AGE,
    STORE_TIMES,
    SYNC_TIMES,
    QUEUE_TIMES,
    INDEX_TIMES,
    INDEX_LAG,
    INDEXING,
    INDEXING_WAITING,
    INDEXING_ROUND,
)
_BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}

Value = float | list[float]
Rows = dict[Labels, Value]
Told = Mapping[str, Sequence[tuple[Sequence[str], Value]]]
"""Rows of labels and what they have, by name, as JSON has them."""


def told() -> Told:
    """What this process has counted."""
    with _TIMES:
        return {metric.name: _rows(metric) for metric in METRICS if metric.values}


def hand_over() -> Told:
    """As `told`, for another process to `take_over`: this one begins anew."""
    with _TIMES:
        counted = {metric.name: _rows(metric) for metric in METRICS if metric.values}
        for metric in METRICS:
            metric.values.clear()
    return counted


def _rows(metric: Metric) -> list[tuple[Labels, Value]]:
    if isinstance(metric, Times):
        return [(labels, [*numbers]) for labels, numbers in list(metric.values.items())]
    return list(metric.values.items())


def merged(processes: Iterable[Told]) -> dict[str, Rows]:
    """That of all processes, by the names of metrics. Names of another version are passed over. Raises ValueError."""
    sums: dict[str, Rows] = {}
    for process in processes:
        for name, rows in process.items():
            if name in _BY_NAME:
                into = sums.setdefault(name, {})
                for labels, value in _sound(_BY_NAME[name], rows):
                    into[labels] = _together(_BY_NAME[name], into[labels], value) if labels in into else value
    return sums


def take_over(process: Told) -> None:
    """What a process has counted that has ended counts as this one's own: sums never go back. Raises ValueError."""
    for name, rows in merged([process]).items():
        metric = _BY_NAME[name]
        if not isinstance(metric, Gauge):
            values: dict[Labels, Any] = metric.values
            with _TIMES:
                for labels, value in rows.items():
                    values[labels] = _together(metric, values[labels], value) if labels in values else value


def _sound(metric: Metric, rows: Any) -> Iterable[tuple[Labels, Value]]:
    numbers = _TIMES_ROW if isinstance(metric, Times) else None
    try:
        for labels, value in rows:
            key = tuple(map(str, labels))
            if len(key) != len(metric.labels) or (numbers is not None and len(value) != numbers):
                raise ValueError(f"{metric.name} is of another form")
            yield key, float(value) if numbers is None else [float(number) for number in value]
    except TypeError as error:
        raise ValueError(f"{metric.name} is of another form") from error


def _together(metric: Metric, one: Value, other: Value) -> Value:
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    assert not isinstance(one, list) and not isinstance(other, list), "_sound gives one kind for a metric"
    return metric.over(one, other) if isinstance(metric, Gauge) else one + other


def described(name: str) -> Metric:
    """Raises KeyError."""
    return _BY_NAME[name]
