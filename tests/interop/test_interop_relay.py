"""Mail goes out to a server that nobody here wrote the engine of, octet for octet, in clear and encrypted."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import LARGE, SAMPLES, without_trace
from tests.support.dns import NameServer
from tests.support.server import ALICE, RunningServer
from tests.support.sink import SMTPSink, wait_until

REMOTE = "someone@elsewhere.test"


@pytest.fixture(scope="module")
def sink() -> Iterator[SMTPSink]:
    with SMTPSink() as listening:
        yield listening


@pytest.fixture(scope="module")
def relaying(tmp_path_factory: pytest.TempPathFactory, sink: SMTPSink) -> Iterator[RunningServer]:
    with NameServer() as dns:
        dns.mail_domain("elsewhere.test")
        relay = {
            "resolver": [dns.address],
            "port": sink.port,
            "retry_first": "1 s",
            "retry_max": "1 s",
            "idle_connection": "1 s",
        }
        with RunningServer(tmp_path_factory.mktemp("relaying"), sections={"relay": relay}) as server:
            yield server


def relayed(server: RunningServer, sink: SMTPSink, message: bytes) -> bytes:
    before = len(sink.taken)
    with server.submission() as client:
        client.sendmail(ALICE, [REMOTE], message)
    arrived = sink.wait(before + 1)[-1]
    assert (arrived.sender, arrived.recipients) == (ALICE, [REMOTE])
    return without_trace(arrived.data)


@pytest.mark.parametrize("name", SAMPLES)
def test_messages_arrive_as_they_were_sent(relaying: RunningServer, sink: SMTPSink, name: str) -> None:
    assert relayed(relaying, sink, SAMPLES[name]) == SAMPLES[name]


def test_ten_megabytes_arrive_as_they_were_sent(relaying: RunningServer, sink: SMTPSink) -> None:
    assert relayed(relaying, sink, LARGE) == LARGE


def test_starttls_is_used_where_it_is_offered(relaying: RunningServer, sink: SMTPSink) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    directory: Path = relaying.directory
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    sink.tls = context
    wait_until(lambda: not sink.open, what="the end of what is in clear")
    assert relayed(relaying, sink, SAMPLES["dots"]) == SAMPLES["dots"]
    assert sink.taken[-1].tls
    sink.tls = None
