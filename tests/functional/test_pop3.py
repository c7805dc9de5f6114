"""POP3 over real sockets: what IMAP sees of it, large messages in constant memory, floods, pauses, settings."""

from __future__ import annotations

import hashlib
import poplib
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ALICE, BOB, DOMAIN, PASSWORD, RunningServer

MIB = 2**20
CAROL = f"carol@{DOMAIN}"
LARGE = 100 * MIB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    accounts = dict.fromkeys((ALICE, BOB, CAROL), ())
    with RunningServer(tmp_path_factory.mktemp("server"), accounts=accounts) as running:
        yield running


@pytest.fixture(autouse=True)
def long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poplib, "_MAXLINE", 10_000)


def send(server: RunningServer, to: str, *subjects: str) -> None:
    with server.smtp() as client:
        for subject in subjects:
            client.sendmail("sender@example.net", [to], f"Subject: {subject}\r\n\r\n{subject}\r\n".encode())


def test_a_waiting_imap_session_is_told_of_what_quit_removes_and_of_what_was_retrieved(server: RunningServer) -> None:
    send(server, ALICE, "one", "two", "three")
    imap = server.imap(ALICE)
    imap.select("INBOX")
    imap.send(b"i IDLE\r\n")
    assert imap.readline().startswith(b"+ ")
    pop = server.pop3(ALICE)
    pop.retr(1)
    pop.dele(2)
    time.sleep(0.3)
    assert select.select([imap.sock], [], [], 0)[0] == [], "nothing happens before QUIT"
    pop.quit()
    told = set()
    while len(told) < 2:
        line = imap.readline()
        if line == b"* 2 EXPUNGE\r\n" or (line.startswith(b"* 1 FETCH") and rb"\Seen" in line):
            told.add(line)
    imap.sock.close()
    assert len(server.messages(ALICE)) == 2


def test_a_hundred_megabytes_go_out_in_constant_memory(server: RunningServer) -> None:
    line = b"." + b"x" * 75 + b"\r\n"
    server.pop3(CAROL).quit()  # makes the Maildir
    file = server.maildir(CAROL) / "tmp" / "large"
    with file.open("wb") as out:
        out.write(b"Subject: large\n\n")
        out.writelines([line.replace(b"\r\n", b"\n")] * (LARGE // len(line)))
    file.chmod(0o600)
    file.rename(server.maildir(CAROL) / "new" / "1000000000.large.test")
    expected = hashlib.sha256(b"Subject: large\r\n\r\n")
    for _ in range(LARGE // len(line)):
        expected.update(line)
    warmed = server.pop3(CAROL)
    warmed._shortcmd("TOP 1 10")
    warmed.close()
    with socket.create_connection(("127.0.0.1", server.ports.pop3), 60) as client:
        answers = client.makefile("rb")
        answers.readline()
        for command in (f"USER {CAROL}", f"PASS {PASSWORD}"):
            client.sendall(f"{command}\r\n".encode())
            assert answers.readline().startswith(b"+OK")
        before = peak(server)
        client.sendall(b"RETR 1\r\n")
        size = int(answers.readline().split()[1])
        got, octets = hashlib.sha256(), 0
        while (received := answers.readline()) != b".\r\n":
            received = received.removeprefix(b".")
            got.update(received)
            octets += len(received)
        client.sendall(b"QUIT\r\n")
        assert answers.readline().startswith(b"+OK")
    assert octets == size
    assert got.digest() == expected.digest()
    assert peak(server) - before < 4 * MIB


def test_what_was_retrieved_is_seen_also_when_the_server_stops_meanwhile(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "server") as server:
        send(server, ALICE, "one", "two")
        pop = server.pop3(ALICE)
        pop.retr(1)
        server.stop()
        (seen,) = (server.maildir(ALICE) / "cur").glob("*:2,S")
        assert b"Subject: one" in seen.read_bytes()


def test_who_hears_of_the_end_may_come_again_at_once(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "server", sections={"pop3": {"exclusive": True}}) as server:
        send(server, ALICE, *map(str, range(300)))
        for _ in range(2):
            pop = server.pop3(ALICE)
            for number in range(1, 301):
                pop.retr(number)
            pop._shortcmd("QUIT")
            again = server.pop3(ALICE)
            assert again.stat()[0] == 300
            again.quit()
            pop.close()
        assert len(list((server.maildir(ALICE) / "cur").glob("*:2,S"))) == 300


def peak(server: RunningServer) -> int:
    """Octets of memory that the server ever had."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def test_a_flood_of_guesses_is_slowed_down_and_ended(server: RunningServer) -> None:
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.ports.pop3), 60) as client:
        client.sendall(f"USER {BOB}\r\nPASS guess\r\n".encode() * 3 + b"XYZZY\r\n")
        answers = client.makefile("rb")
        lines = [answers.readline() for _ in range(8)]
    assert lines[2::2] == [b"-ERR [AUTH] authentication failed\r\n"] * 3
    assert lines[7] == b"-ERR unknown command\r\n"
    assert 7 < time.monotonic() - begin < 60, "1, 2 and 4 seconds, and some more"


def test_thousands_of_bad_commands_are_few_answers_and_an_end(server: RunningServer, tmp_path: Path) -> None:
    with RunningServer(tmp_path / "strict", sections={"limits": {"errors": 5}}) as strict:
        with socket.create_connection(("127.0.0.1", strict.ports.pop3), 30) as client:
            client.sendall(b"RETR 1\r\n" * 5000)
            answer = b""
            try:
                while data := client.recv(65536):
                    answer += data
            except ConnectionResetError:
                pass  # with input unread
        assert answer.count(b"-ERR ") <= 6
        pop = strict.pop3(BOB)
        assert pop.stat() == (0, 0)
        pop.quit()


def test_settings_reach_the_sessions(tmp_path: Path) -> None:
    settings = {"unique_id": "%v.%u", "mark_seen": False, "exclusive": True, "login_delay": "1 h"}
    with RunningServer(tmp_path / "server", sections={"pop3": settings}) as server:
        send(server, ALICE, "one")
        first = server.pop3(ALICE)
        assert first.capa()["LOGIN-DELAY"] == ["3600"]
        first.retr(1)
        validity, _, uid = first.uidl()[1][0].split()[1].partition(b".")
        assert int(validity) > 2**20 and uid == b"1"
        with pytest.raises(poplib.error_proto, match=r"-ERR \[IN-USE\]"):
            server.pop3(ALICE)
        first.quit()
        time.sleep(0.5)
        with pytest.raises(poplib.error_proto, match=r"-ERR \[LOGIN-DELAY\]"):
            server.pop3(ALICE)
        assert [file.name[-3:] for file in (server.maildir(ALICE) / "cur").iterdir()] == [":2,"]
