"""SIGTERM in the middle of work: what was stored was also acknowledged, so that no client sends it again."""

import smtplib
import threading
from pathlib import Path

from tests.support.server import ALICE, RunningServer
from tests.support.sink import PATIENCE


def test_at_a_stop_under_load_each_message_is_stored_and_acknowledged_or_neither(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    warm = threading.Semaphore(0)
    with RunningServer(tmp_path) as server:

        def send(number: int) -> None:
            client = server.smtp()
            try:
                for count in range(100_000):
                    name = f"{number}-{count}"
                    client.sendmail("x@example.net", [ALICE], f"Subject: {name}\r\n\r\nbody\r\n")
                    acknowledged.append(name)
                    warm.release()
            except (smtplib.SMTPException, OSError):
                pass

        clients = [threading.Thread(target=send, args=(number,)) for number in range(10)]
        for client in clients:
            client.start()
        for _ in range(100):
            assert warm.acquire(timeout=PATIENCE)
        server.stop()
        for client in clients:
            client.join(PATIENCE)
        stored = [message.split(b"Subject: ")[1].split()[0].decode() for message in server.messages(ALICE)]
    assert sorted(stored) == sorted(acknowledged)
