"""`workers = 2`: two processes serve the same ports, and one is started again when it ends."""

from __future__ import annotations

import imaplib
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tomlkit

from tests.functional.test_process import refuses
from tests.support.server import ALICE, PASSWORD, STOP_TIMEOUT, RunningServer
from tests.support.sink import PATIENCE, SMTPSink, wait_until
from tests.support.stopping import freeze

MESSAGE = "Subject: hello\r\n\r\nx\r\n"


@pytest.fixture
def sink() -> Iterator[SMTPSink]:
    with SMTPSink() as sink:
        yield sink


@pytest.fixture
def server(tmp_path: Path, sink: SMTPSink) -> Iterator[RunningServer]:
    relay = {"smarthost": f"127.0.0.1:{sink.port}", "retry_first": "1 s", "retry_max": "1 s"}
    with RunningServer(tmp_path, workers=2, sections={"relay": relay}) as server:
        wait_until(lambda: server.log().count("ready, as") == 2, what="two workers")
        yield server


def workers(server: RunningServer) -> list[int]:
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children]


def runs(pid: int) -> bool:
    """Also one that nobody has asked how it ended does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def connections(pid: int, port: int) -> int:
    """Established connections of a process at one of its ports."""
    sockets = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    ours = [line for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"]
    return sum(f"socket:[{line[9]}]" in sockets for line in ours)


def before(client: imaplib.IMAP4, beginning: bytes) -> list[bytes]:
    """What it is told before a line that begins so."""
    lines = []
    while not (line := client.readline()).startswith(beginning):
        assert line, f"closed before {beginning!r}"
        lines.append(line)
    return lines


def submit(server: RunningServer, recipient: str) -> None:
    with smtplib.SMTP("localhost", server.ports.submission, local_hostname="client.test", timeout=30) as client:
        client.login(ALICE, PASSWORD)
        client.sendmail(ALICE, [recipient], MESSAGE)


def test_both_serve_and_idle_in_one_hears_of_a_delivery_by_the_other(server: RunningServer) -> None:
    clients = [server.imap() for _ in range(12)]
    while not all(connections(pid, server.ports.imap) for pid in workers(server)):
        clients.append(server.imap())
        assert len(clients) < 40, "the system spreads them"
    for client in clients:
        client.select("INBOX")
    took, told = [], []
    for number in (1, 2, 3):  # a machine that stops for a moment does so in one of them
        for client in clients:
            client.send(b"i IDLE\r\n")
            before(client, b"+ idling")
        time.sleep(0.3)
        began = time.monotonic()
        with server.smtp() as sender:
            sender.sendmail("x@example.net", [ALICE], MESSAGE)
        for client in clients:
            before(client, b"* %d EXISTS" % number)
        took.append(time.monotonic() - began)
        for client in clients:
            client.send(b"DONE\r\n")
            rest = before(client, b"i OK")
            told += rest if number == 1 else []
    assert min(took) < 4, "sooner than by looking every five seconds"
    assert told.count(b"* 1 RECENT\r\n") == 1, "for one session of all processes"
    for client in clients:
        client.shutdown()


def test_idle_in_one_hears_within_20_ms_of_a_delivery_by_the_other(server: RunningServer) -> None:
    """From the reply to the sender on. Where the machine is busy with other things, the best third tells."""
    with server.imap() as idling, ExitStack() as stack:
        idling.select("INBOX")
        idling.send(b"i IDLE\r\n")
        assert idling.readline() == b"+ idling\r\n"
        (other,) = (pid for pid in workers(server) if not connections(pid, server.ports.imap))
        senders = (stack.enter_context(server.smtp()) for _ in range(30))
        sender = next(sender for sender in senders if connections(other, server.ports.smtp))
        delays: list[float] = []
        while len(delays) < 90 and (not delays or sorted(delays)[len(delays) // 3] >= 0.02):
            for _ in range(30):
                sender.sendmail("x@example.net", [ALICE], MESSAGE)
                began = time.monotonic()
                while not idling.readline().endswith(b"EXISTS\r\n"):
                    pass  # what is RECENT
                delays.append(time.monotonic() - began)
        assert sorted(delays)[len(delays) // 3] < 0.02, delays
        assert sorted(delays)[len(delays) // 2] < 1, "not by looking every five seconds"
        idling.send(b"DONE\r\n")
        while not idling.readline().startswith(b"i OK"):
            pass


def test_one_delivers_what_both_take(server: RunningServer, sink: SMTPSink) -> None:
    for n in range(20):
        submit(server, f"u{n}@elsewhere.test")
    taken = sink.wait(20)
    assert len({message.recipients[0] for message in taken}) == len(taken) == 20
    wait_until(lambda: "another process delivers this queue" in server.log(), what="a line of the log")
    assert server.log().count("another process delivers this queue") == 1


def test_new_mail_in_the_one_wakes_the_other_at_once(server: RunningServer, sink: SMTPSink) -> None:
    delays = []
    for n in range(12):
        submit(server, f"u{n}@elsewhere.test")
        began = time.monotonic()
        sink.wait(n + 1)
        delays.append(time.monotonic() - began)
    assert sorted(delays)[len(delays) * 3 // 4] < 0.75, f"not once a second: {delays}"


def test_one_that_is_killed_is_started_again_while_the_other_serves(server: RunningServer, sink: SMTPSink) -> None:
    for round in range(2):
        first, *others = workers(server)
        victim = first if round == 0 else others[-1]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda gone=victim: gone not in workers(server), what="its end")
        for n in range(6):
            submit(server, f"u{round}.{n}@elsewhere.test")  # also where its socket waits for the new one
        wait_until(lambda gone=victim: len(workers(server)) == 2 and gone not in workers(server), what="a new worker")
        sink.wait(6 * (round + 1))
    assert len({message.recipients[0] for message in sink.taken}) == 12
    log = server.log()
    assert log.count("started again in") == 2
    assert re.search(r"worker=\d ended: .*signal 9; started again in 1 s", log)


def test_one_that_is_started_again_has_the_configuration_of_the_start(server: RunningServer) -> None:
    """The file may have been edited since: the sockets that the new one serves would be those of other listeners."""
    edited = tomlkit.parse(server.config.read_text()).unwrap()
    edited["listener"].reverse()
    for text in (tomlkit.dumps(edited), "hostname = \n"):
        server.config.write_text(text)
        (victim, *_) = workers(server)
        began = server.log().count("ready, as")
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda before=began: server.log().count("ready, as") > before, 20, "the next one")
        for _ in range(12):
            with socket.create_connection(("127.0.0.1", server.ports.imap), 10) as client:
                assert client.recv(4) == b"* OK"
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    told = "mailserver.toml was changed: that is taken over when the server is started again"
    wait_until(lambda: server.log().count(told) == 2, 20, "a word of it by both")


def test_one_that_hangs_is_replaced_and_one_that_was_stopped_with_all_is_not(tmp_path: Path) -> None:
    with RunningServer(tmp_path, workers=2, sections={"worker_timeout": "10 s"}) as server:
        assert server.process is not None
        wait_until(lambda: server.log().count("ready, as") == 2, 20, "two workers")
        first = workers(server)
        everybody = [server.process.pid, *first]
        for pid in everybody:
            freeze(pid, True)
        time.sleep(13)
        for pid in everybody:
            freeze(pid, False)
        time.sleep(2)
        assert "no sign of life" not in server.log()
        victim, other = first
        freeze(victim, True)
        wait_until(lambda: victim not in workers(server) and len(workers(server)) == 2, 40, "another one in its place")
        assert other in workers(server)
        wait_until(lambda: server.log().count("ready, as") == 3, 20, "that it serves")
        for _ in range(12):
            with server.smtp() as client:
                assert client.noop()[0] == 250
        log = server.log()
        assert re.search(rf"worker=0 pid={victim} has given no sign of life for [5-9] s; after 10 s it is killed", log)
        assert log.count(" is killed: no sign of life for") == 1
        assert re.search(r"worker=0 ended: .*signal 9; started again in 1 s", log)


def test_control_c_at_a_terminal_is_for_the_first_process(tmp_path: Path) -> None:
    """All processes of the group get it. A second one changes nothing."""
    with RunningServer(tmp_path, workers=2) as server:
        assert server.process is not None
        wait_until(lambda: server.log().count("ready, as") == 2, 20, "two workers")
        client = server.smtp()  # its message holds up the stop
        client.ehlo()
        client.mail("x@example.net")
        client.rcpt(ALICE)
        client.docmd("DATA")
        os.killpg(server.process.pid, signal.SIGINT)
        wait_until(lambda: refuses(server.ports.smtp), what="a port that refuses")
        os.killpg(server.process.pid, signal.SIGINT)
        time.sleep(0.3)
        client.send(MESSAGE.encode() + b".\r\n")
        assert client.getreply()[0] == 250
        client.close()
        assert server.process.wait(30) in (0, -signal.SIGINT)
        server.process = None
        assert "Traceback" not in server.log() and "started again" not in server.log()


def test_all_end_together(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, workers=2).start()
    pids = workers(server)
    assert len(pids) == 2
    server.stop()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list((server.data / "queue" / "bells").iterdir()) == []


def test_when_the_first_process_is_killed_the_workers_end(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, workers=2).start()
    pids = workers(server)
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    server.process = None
    wait_until(lambda: not any(map(runs, pids)), what="the end of the workers")
    with RunningServer(tmp_path / "again", workers=2) as again, again.smtp() as client:
        assert client.noop()[0] == 250


def test_the_log_of_all_is_one_file(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, workers=2, sections={"limits": {"errors": 1}})
    log = tmp_path / "twistd.log"
    twistd = Path(sys.executable).parent / "twistd"
    command = [twistd, "-n", "--pidfile=", f"--logfile={log}", "mailserver", "--allow-root", "--config", server.config]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            wait_until(lambda: log.exists() and log.read_text().count("ready, as") == 2, what="two workers")
        finally:
            process.terminate()
        assert process.wait(STOP_TIMEOUT) in (0, -signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.read() == b""
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ \[(-|[\w.]+#\w+)\] ", line) for line in lines)
    assert any("[mailserver.server#info] ready, as" in line for line in lines)


def test_a_limit_for_an_address_counts_the_connections_to_all_workers(tmp_path: Path) -> None:
    limits = {"connections_per_address": 6}
    with RunningServer(tmp_path, workers=2, sections={"limits": limits}) as server:
        wait_until(lambda: server.log().count("ready, as") == 2, what="two workers")
        greetings = []
        with ExitStack() as stack:
            for _ in range(16):
                connection = stack.enter_context(
                    socket.create_connection(
                        ("127.0.0.1", server.ports.smtp), PATIENCE, source_address=("127.0.0.9", 0)
                    )
                )
                greetings.append(connection.recv(100)[:3])
        assert greetings.count(b"220") in (6, 7), "where two are admitted at the same moment"
        assert greetings.count(b"421") == 16 - greetings.count(b"220")


def test_a_certificate_that_cannot_serve_is_told_at_the_start(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, workers=2)
    (tmp_path / "key.pem").write_text("no key")
    twistd = Path(sys.executable).parent / "twistd"
    command = [twistd, "-n", "--pidfile=", "mailserver", "--allow-root", "--config", server.config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "key.pem" in done.stderr
