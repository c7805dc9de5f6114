"""What Prometheus is told, and what it costs whoever asks too much."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mailserver import metrics
from mailserver.net import exporter as module
from mailserver.net.exporter import CONNECTIONS, DEADLINE, FRESH, Exporter, ExporterUnavailable
from tests.support.counted import counting


@pytest.fixture(autouse=True)
def nothing_counted() -> Iterator[None]:
    with counting():
        yield


class Asked:
    def __init__(self) -> None:
        self.times = 0
        self.told: list[metrics.Told] = []
        self.error: Exception | None = None

    def __call__(self) -> list[metrics.Told]:
        self.times += 1
        if self.error is not None:
            raise self.error
        return [metrics.told(), *self.told]


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class Site:
    """What is served, on a clock and transports of our own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked = Asked()
        exporter = Exporter(self.asked, seconds=self.clock.seconds)
        root = module.Resource()
        root.putChild(b"metrics", module._Page(exporter))
        self.factory = module._Limited(module._Quiet(root, module._Bodiless), self.clock)
        self.exporter = exporter

    def connect(self) -> tuple[Any, Transport]:
        connection = self.factory.buildProtocol(None)
        transport = Transport()
        if connection is not None:
            connection.makeConnection(transport)
        return connection, transport

    def ask(self, request: bytes) -> Transport:
        connection, transport = self.connect()
        connection.dataReceived(request)
        return transport


@pytest.fixture
def site() -> Site:
    return Site()


def get(path: str = "/metrics") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_each_metric_is_told_with_its_kind_and_the_sum_of_all_processes(site: Site) -> None:
    metrics.LOGINS.add("imap", "ok")
    metrics.SYNC_TIMES.observe(0.003)
    metrics.SYNC_TIMES.observe(60.0)
    site.asked.told = [metrics.told()]
    head, _, body = site.ask(get()).value().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and b"text/plain" in head
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert {name: family.type for name, family in families.items()} == {
        metric.name.removesuffix("_total"): metric.kind for metric in metrics.METRICS
    }
    (sample,) = families["mailserver_logins"].samples
    assert (sample.labels, sample.value) == ({"protocol": "imap", "result": "ok"}, 2.0)
    values = {(each.name.rpartition("_")[2], each.labels.get("le")): each.value for each in
              families["mailserver_sync_seconds"].samples}  # fmt: skip
    assert values["bucket", "0.0025"] == 0 and values["bucket", "0.005"] == 2
    assert values["bucket", "10.0"] == 2 and values["bucket", "+Inf"] == 4
    assert values["count", None] == 4 and values["sum", None] == pytest.approx(120.006)
    assert [each.value for each in families["mailserver_workers_ended"].samples] == [0.0], "told before there is one"


def test_however_often_somebody_asks_one_answer_is_made_in_a_second(site: Site) -> None:
    for _ in range(5):
        assert b"200 OK" in site.ask(get()).value()
    assert site.asked.times == 1
    site.clock.advance(FRESH)
    site.ask(get())
    assert site.asked.times == 2


def test_a_connection_is_for_one_request(site: Site) -> None:
    transport = site.ask(get() * 3)
    assert transport.value().count(b"HTTP/1.1 200") == 1 and b"Connection: close" in transport.value()
    assert transport.disconnecting


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (get("/"), b"404"),
        (get("/metrics/x"), b"404"),
        (b"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"501"),
        (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
def test_nothing_but_get(site: Site, request_: bytes, answer: bytes) -> None:
    value = site.ask(request_).value()
    assert value.split()[1] == answer
    assert b"mailserver_logins" not in value


@pytest.mark.parametrize("head", [b"Content-Length: 9999999999", b"Transfer-Encoding: chunked", b"Content-Length: 1"])
@pytest.mark.parametrize("method", [b"POST", b"GET"])
def test_a_body_is_not_read(site: Site, method: bytes, head: bytes) -> None:
    transport = site.ask(method + b" /metrics HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + b"x" * 1000)
    assert transport.aborted and b"200" not in transport.value()


def test_who_sends_slowly_has_no_more_time_than_others(site: Site) -> None:
    connection, transport = site.connect()
    for _ in range(int(DEADLINE) - 1):
        connection.dataReceived(b"G")
        site.clock.advance(1)
    assert not transport.aborted
    connection.dataReceived(b"G")
    site.clock.advance(1)
    assert transport.aborted


def test_connections_are_few(site: Site) -> None:
    served = [site.connect() for _ in range(CONNECTIONS)]
    assert all(connection is not None for connection, _ in served)
    assert site.connect()[0] is None
    served[0][0].connectionLost(module.protocol.connectionDone)
    assert site.connect()[0] is not None
    for connection, _ in served[1:]:
        connection.connectionLost(module.protocol.connectionDone)
    site.clock.advance(DEADLINE + 1)


@pytest.mark.parametrize("error", [OSError("no disk"), ValueError("of another form")])
def test_what_cannot_be_told_is_an_error_and_not_half_an_answer(site: Site, error: Exception) -> None:
    site.asked.error = error
    value = site.ask(get()).value()
    assert value.startswith(b"HTTP/1.1 500") and b"mailserver_" not in value
    site.asked.error = None
    assert site.ask(get()).value().startswith(b"HTTP/1.1 200"), "the next one is asked again"


def test_without_the_library_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ExporterUnavailable, match=r"pip install 'mailserver\[metrics\]'"):
        Exporter(list, seconds=lambda: 0.0)
