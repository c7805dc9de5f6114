"""The counts of all processes for Prometheus: GET /metrics, over HTTP, on an address of its own.

Promises   Whoever asks, and however often, costs little: one answer is made in a second, some connections are served at
           once, each for one request and for `DEADLINE` seconds. Nothing but GET and HEAD, no body, is read.
On failure ExporterUnavailable from the constructor, with the remedy. What cannot be added up is answered with 500.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from twisted.application import strports
from twisted.application.internet import StreamServerEndpointService
from twisted.internet import protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from mailserver import metrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

log = logging.getLogger(__name__)

CONNECTIONS = 16
DEADLINE = 10.0  # seconds for a connection, whatever is sent on it
FRESH = 1.0  # seconds that an answer serves everybody who asks

Collect = Callable[[], Iterable[metrics.Told]]
"""What each process has counted. Raises OSError."""


class ExporterUnavailable(ValueError):
    """Nothing can be exported; the text says why."""


class Exporter:
    """`seconds`: a monotonic clock."""

    def __init__(self, collect: Collect, *, seconds: Callable[[], float]) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise ExporterUnavailable(
                "metrics: prometheus-client is missing; install it with: pip install 'mailserver[metrics]'"
            ) from error
        self._prometheus = prometheus_client
        self._collect = collect
        self._seconds = seconds
        self._made = b""
        self._made_at: float | None = None

    @property
    def content_type(self) -> str:
        return str(self._prometheus.CONTENT_TYPE_LATEST)

    def text(self) -> bytes:
        """In the format of Prometheus. Raises OSError, ValueError."""
        now = self._seconds()
        if self._made_at is None or not self._made_at <= now < self._made_at + FRESH:
            self._made = self._prometheus.generate_latest(self)
            self._made_at = now
        return self._made

    def collect(self) -> Iterator[Family]:
        """What `prometheus_client` asks of a registry."""
        return families(metrics.merged(self._collect()))


def families(merged: Mapping[str, metrics.Rows]) -> Iterator[Family]:
    """Every metric that there is, also when nothing was counted yet."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    for metric in metrics.METRICS:
        rows = merged.get(metric.name, {})
        if not rows and not metric.labels and metric.kind == "counter":
            rows = {(): 0.0}
        if metric.kind == "histogram":
            family: Any = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, numbers in rows.items():
                assert isinstance(numbers, list), "merged gives rows of the metric's own form"
                *counts, total = numbers
                family.add_metric(labels, buckets=_buckets(counts), sum_value=total)
        else:
            made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = made(metric.name, metric.help, labels=metric.labels)
            for labels, value in rows.items():
                family.add_metric(labels, value)
        yield family


def _buckets(counts: Sequence[float]) -> list[tuple[str, float]]:
    bounds = (*map(str, metrics.SECONDS), "+Inf")
    return list(zip(bounds, accumulate(counts), strict=True))


def serve(reactor: Any, endpoint: str, exporter: Exporter) -> StreamServerEndpointService:
    """A Twisted service that binds when it is started, before privileges are dropped."""
    root = Resource()
    root.putChild(b"metrics", _Page(exporter))
    return strports.service(endpoint, _Limited(_Quiet(root, _Bodiless), reactor), reactor=reactor)


class _Page(Resource):
    def __init__(self, exporter: Exporter) -> None:
        super().__init__()
        self._exporter = exporter

    def render_GET(self, request: Request) -> bytes:
        try:
            text = self._exporter.text()
        except (OSError, ValueError) as error:
            log.error("metrics: cannot be told: %s", error)
            request.setResponseCode(500)
            return b""
        request.setHeader(b"content-type", self._exporter.content_type.encode())
        return text


class _Bodiless(Request):
    """One for each connection. Twisted would keep a body of any size in a file."""

    _refused = False

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)
        self._refused = length != 0
        if self._refused:
            transport: Any = self.channel.transport
            transport.abortConnection()

    def process(self) -> None:
        self.channel.persistent = False
        self.setHeader(b"connection", b"close")
        if not self._refused:
            super().process()


class _Quiet(Site):
    """Who asks for metrics is no news."""

    noisy = False

    def log(self, request: Any) -> None:
        pass


class _Connection(ProtocolWrapper):
    _deadline: Any = None

    def connectionMade(self) -> None:
        factory: Any = self.factory
        self._deadline = factory.reactor.callLater(DEADLINE, self.abortConnection)
        super().connectionMade()

    def connectionLost(self, reason: Any = protocol.connectionDone) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        super().connectionLost(reason)


class _Limited(WrappingFactory):
    noisy = False
    protocol = _Connection

    def __init__(self, site: Site, reactor: Any) -> None:
        super().__init__(site)
        self.reactor = reactor

    def buildProtocol(self, addr: Any) -> Any:
        """None: the connection is closed at once."""
        return super().buildProtocol(addr) if len(self.protocols) < CONNECTIONS else None
