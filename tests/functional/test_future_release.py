"""FUTURERELEASE over real sockets: a message waits in the queue for its time, through a kill of the server."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.server import ALICE, BOB, RunningServer
from tests.support.sink import wait_until


def test_a_message_comes_at_its_time_and_not_before(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "server") as server:
        with server.submission() as client:
            client.ehlo()
            assert client.has_extn("futurerelease")
            begun = time.time()
            client.sendmail(ALICE, [BOB], f"From: {ALICE}\r\n\r\nlater\r\n", mail_options=["HOLDFOR=6"])
            client.sendmail(ALICE, [BOB], f"From: {ALICE}\r\n\r\nnow\r\n")
        assert [message.splitlines()[-1] for message in server.messages(BOB)] == [b"now"]
        server.kill()
        server.start()
        wait_until(lambda: len(server.messages(BOB)) == 2, what="the message that was held")
        assert time.time() >= begun + 6
