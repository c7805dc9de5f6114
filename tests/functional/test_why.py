"""`mailserver why` on running servers: one time line, from the connection to the report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dns import NameServer
from tests.support.server import ALICE, RunningServer
from tests.support.sink import SMTPSink, wait_until


def why(server: RunningServer, *words: str) -> str:
    program = str(Path(sys.executable).parent / "mailserver")
    done = subprocess.run(
        [program, "--config", str(server.config), "why", *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("running", [True, False])
def test_one_message_from_its_connection_to_its_report(tmp_path: Path, running: bool) -> None:
    answers = ["451 4.7.1 Greylisted, come back", "550 5.1.1 No such user here"]
    refusing = {"RCPT": lambda argument: answers.pop(0) if "gone" in argument else "250 2.1.5 Ok"}
    with SMTPSink(refusing) as sink, NameServer() as dns:
        dns.mail_domain("other.test")
        relay = {"resolver": [dns.address], "port": sink.port, "retry_first": "1 s", "retry_max": "1 s"}
        told = ""

        def complete() -> bool:
            nonlocal told
            told = why(server, "gone@other.test")
            return "No such user here" in told

        with RunningServer(tmp_path, sections={"relay": relay}) as server:
            with server.submission() as client:
                client.sendmail(ALICE, ["gone@other.test", "here@other.test"], "Subject: x\r\n\r\nx\r\n")
            wait_until(lambda: server.messages(ALICE), what="the report")
            if running:
                wait_until(complete, what="the whole story")
        assert complete()
    lines = told.splitlines()
    stages = ["127.0.0.1", "Greylisted, come back", "No such user here", "report"]
    positions = [next(n for n, line in enumerate(lines) if stage in line) for stage in stages]
    assert positions == sorted(positions)
    assert "here@other.test" in told
    assert f"{ALICE}" in told
    queue_id = next(word.strip(".,:()") for word in told.split() if len(word.strip(".,:()")) == 10 and word.isalnum())
    assert "No such user here" in why(server, queue_id)
