"""Mail goes to an smtp-sink that refuses, hangs up or is slow: it waits, or is reported, or arrives, and that once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import postfix
from tests.support.clients import SAMPLES, sample, unix
from tests.support.postfix import SmtpSink
from tests.support.reports import reports_on
from tests.support.server import ALICE, RunningServer
from tests.support.sink import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(bool(postfix.missing("smtp-sink")), reason=postfix.missing("smtp-sink"))

# A server each, so that a test may wait for all at the same time: where they fail, and the domains they take mail for.
SMTP = {"MAIL": "mail.smtp.test", "RCPT": "rcpt.smtp.test", "DATA": "data.smtp.test", ".": "end.smtp.test"}
LMTP = {"LHLO": "lhlo.lmtp.test", "RCPT": "rcpt.lmtp.test", ".": "end.lmtp.test"}
LARGE = sample("large", (b"x" * 76 + b"\r\n") * 50_000)


class Case:
    """A sink, and an address whose mail goes there and to which no other test writes."""

    def __init__(self, server: RunningServer, sink: SmtpSink, address: str) -> None:
        self.server = server
        self.sink = sink
        self.address = address

    def submit(self, message: bytes = SAMPLES["dots"]) -> None:
        with self.server.submission() as client:
            client.sendmail(ALICE, [self.address], message)

    @property
    def outcomes(self) -> list[str]:
        """Of each attempt."""
        return re.findall(rf" to=<{re.escape(self.address)}> (delayed|failed|relayed) ", self.server.log())

    def delivered(self, message: bytes = SAMPLES["dots"], seconds: float = PATIENCE) -> None:
        """Waits until that is so, and sees to it that it came once, as it was sent, and that nobody was told of it."""
        wait_until(lambda: self.outcomes[-1:] == ["relayed"], seconds, what=f"delivery to {self.address}")
        (taken,) = self.sink.taken
        assert f"\nX-Rcpt-Args: <{self.address}>\n".encode() in taken
        assert taken.endswith(unix(message) + b"\n")
        assert self.outcomes.count("relayed") == 1
        assert reports_on(self.server.messages(ALICE), self.address) == []

    def failed(self) -> tuple[str, str]:
        """Waits until it is reported: the status and the answer of the sink."""
        wait_until(lambda: reports_on(self.server.messages(ALICE), self.address), what="a report")
        assert self.outcomes == ["failed"]
        (report,) = reports_on(self.server.messages(ALICE), self.address)
        assert report.recipient["Action"] == "failed"
        return report.recipient["Status"], report.recipient["Diagnostic-Code"]

    def delayed(self) -> None:
        wait_until(lambda: "delayed" in self.outcomes, what="an attempt that fails")
        assert set(self.outcomes) == {"delayed"}


@pytest.fixture(scope="module")
def sinks() -> Iterator[dict[str, SmtpSink]]:
    """By domain."""
    with ExitStack() as stack:
        yield {domain: stack.enter_context(SmtpSink()) for domain in (*SMTP.values(), *LMTP.values())}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sinks: dict[str, SmtpSink]) -> Iterator[RunningServer]:
    routes = [
        {"to": [domain], "via": "lmtp" if domain in LMTP.values() else "smarthost", "host": f"127.0.0.1:{sink.port}"}
        for domain, sink in sinks.items()
    ]
    relay = {"retry_first": "1 s", "retry_max": "1 s", "idle_connection": "1 s"}
    with RunningServer(tmp_path_factory.mktemp("server"), sections={"relay": relay, "route": routes}) as running:
        yield running
        program = str(Path(sys.executable).parent / "mailserver")
        queue = [program, "--config", str(running.config), "queue", "list", "--json"]

        def queued() -> object:
            return json.loads(subprocess.run(queue, capture_output=True, check=True, timeout=PATIENCE).stdout)

        wait_until(lambda: not queued(), what="an empty queue")


Cases = dict[str, Case]


@pytest.fixture
def cases(request: pytest.FixtureRequest, server: RunningServer, sinks: dict[str, SmtpSink]) -> Iterator[Cases]:
    """By stage; for SMTP unless the test is told otherwise. The addresses have the name of the test."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")[:60]
    domains = LMTP if "by_lmtp" in request.node.name else SMTP
    yield {stage: Case(server, sinks[domain], f"{name}@{domain}") for stage, domain in domains.items()}
    for sink in sinks.values():
        sink.stop()


@pytest.fixture
def case(cases: Cases) -> Case:
    """One of them."""
    return cases["RCPT"]


@pytest.mark.parametrize("fault", ["-r", "-q", "-Q"], ids=["refused", "closed", "421"])
def test_what_fails_for_now_is_waited_for(cases: Cases, fault: str) -> None:
    for stage, case in cases.items():
        case.sink.start(fault, stage)
        case.submit()
    for case in cases.values():
        case.delayed()
        case.sink.start()
    for case in cases.values():
        case.delivered()


def test_what_fails_for_good_is_reported(cases: Cases) -> None:
    for stage, case in cases.items():
        case.sink.start("-f", stage)
        case.submit()
    for case in cases.values():
        assert case.failed() == ("5.3.0", "smtp; 500 5.3.0 Error: command failed")


def test_a_server_that_takes_a_second_for_each_command_has_the_message(case: Case) -> None:
    slow = [option for stage in SMTP for option in ("-W", f"{stage}:1")]
    case.sink.start("-p", *slow)  # it would mix up what comes while it waits
    case.submit()
    case.delivered()


def test_a_server_that_reads_late_has_a_large_message(case: Case) -> None:
    case.sink.start("-H", "1", "-T", "4096")
    case.submit(LARGE)
    case.delivered(LARGE)


@pytest.mark.parametrize("message", [SAMPLES["usual"], LARGE], ids=["small", "large"])
def test_a_server_that_refuses_the_content_before_its_end(case: Case, message: bytes) -> None:
    case.sink.start("-A", "0")  # 550, and the connection ends
    case.submit(message)
    assert case.failed()[0].startswith("5.")


@pytest.mark.parametrize("options", ["-e", "-p", "-P", "-8 -N -E", "-f EHLO"])
def test_a_server_that_can_do_little_has_the_message(case: Case, options: str) -> None:
    case.sink.start(*options.split())
    case.submit()
    case.delivered()


@pytest.mark.parametrize("fault", ["-r", "-q", "-Q"], ids=["refused", "closed", "421"])
def test_what_fails_for_now_by_lmtp_is_waited_for(cases: Cases, fault: str) -> None:
    for stage, case in cases.items():
        case.sink.start("-L", fault, stage)
        case.submit()
    for case in cases.values():
        case.delayed()
        case.sink.start("-L")
    for case in cases.values():
        case.delivered()


def test_what_fails_for_good_by_lmtp_is_reported(cases: Cases) -> None:
    for stage, case in cases.items():
        case.sink.start("-L", "-f", stage)
        case.submit()
    for case in cases.values():
        assert case.failed()[0] == "5.3.0"


def test_many_messages_arrive_over_few_connections_and_each_once(case: Case) -> None:
    case.sink.start()
    with case.server.submission() as client:
        for number in range(20):
            client.sendmail(ALICE, [case.address], sample(f"number-{number}", b"x\r\n"))
    wait_until(lambda: case.outcomes == ["relayed"] * 20, what="delivery of all")
    told = [re.findall(rb"\nSubject: (.*)\n", message) for message in case.sink.taken]
    assert sorted(told) == sorted([b"number-%d" % number] for number in range(20))
