"""Guessing passwords over all protocols, and what comes of it: on a running server, over restarts, in two processes."""

from __future__ import annotations

import json
import re
import smtplib
import socket
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from click.testing import CliRunner

from benchmarks.ports import free_ports
from mailserver.cli import main
from tests.support.scram import ScramClient
from tests.support.server import ALICE, BOB, PASSWORD, RunningServer
from tests.support.sink import PATIENCE, wait_until
from tests.support.wire import Wire

REFUSALS = {"smtp": b"421 ", "submission": b"421 ", "pop3": b"-ERR [SYS/TEMP] ", "imap": b"* BYE [UNAVAILABLE] "}
GREETINGS = {"smtp": b"220 ", "submission": b"220 ", "pop3": b"+OK ", "imap": b"* OK "}
FAILURES = 6
ABUSE: dict[str, Any] = {"exempt_loopback": False, "failures": FAILURES, "failures_per_account": 100}


def command(server: RunningServer, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["--config", str(server.config), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def banned(server: RunningServer) -> list[str]:
    return [each["network"] for each in json.loads(command(server, "ban", "list", "--json"))]


def greeting(server: RunningServer, service: str, source: str) -> bytes:
    with Wire(server, service, source=source) as wire:
        return wire.line()


def is_refused(server: RunningServer, source: str, service: str = "imap") -> bool:
    return greeting(server, service, source).startswith(REFUSALS[service])


def login(server: RunningServer, source: str, *, user: str = ALICE, password: str = PASSWORD) -> bytes:
    """The answer of IMAP."""
    with Wire(server, "imap", source=source) as wire:
        assert wire.line().startswith(b"* OK ")
        return wire.ask(f't LOGIN "{user}" "{password}"\r\n'.encode())


# Guesses: each is sent, and its answer, which waits, is left alone.


def by_imap_login(wire: Wire, password: str) -> None:
    wire.send(f't LOGIN "{ALICE}" "{password}"\r\n'.encode())


def by_imap_plain(wire: Wire, password: str) -> None:
    wire.send(b"t AUTHENTICATE PLAIN " + b64encode(f"\0{ALICE}\0{password}".encode()) + b"\r\n")


def by_imap_scram(wire: Wire, password: str) -> None:
    client = ScramClient(ALICE, password)
    wire.send(b"t AUTHENTICATE SCRAM-SHA-256 " + b64encode(client.first) + b"\r\n")
    wire.send(b64encode(client.final(b64decode(wire.line().removeprefix(b"+ ")))) + b"\r\n")


def by_pop3(wire: Wire, password: str) -> None:
    wire.send(f"USER {ALICE}\r\nPASS {password}\r\n".encode())


def by_smtp_plain(wire: Wire, password: str) -> None:
    wire.ask(b"EHLO x\r\n")
    wire.send(b"AUTH PLAIN " + b64encode(f"\0{ALICE}\0{password}".encode()) + b"\r\n")


def by_smtp_login(wire: Wire, password: str) -> None:
    wire.ask(b"EHLO x\r\n")
    for word in (b"AUTH LOGIN", b64encode(ALICE.encode())):
        assert wire.ask(word + b"\r\n").startswith(b"334 ")
    wire.send(b64encode(password.encode()) + b"\r\n")


WAYS: list[tuple[str, Callable[[Wire, str], None]]] = [
    ("imap", by_imap_scram),
    ("imap", by_imap_login),
    ("imap", by_imap_plain),
    ("pop3", by_pop3),
    ("submission", by_smtp_plain),
    ("submission", by_smtp_login),
]


def guess(server: RunningServer, source: str, ways: list[tuple[str, Callable[[Wire, str], None]]]) -> None:
    """One different password each; returns when all were counted."""
    refused = f"peer={source} login refused"
    before = server.log().count(refused)
    with ExitStack() as stack:
        for n, (service, way) in enumerate(ways):
            wire = stack.enter_context(Wire(server, service, source=source))
            assert wire.line().startswith(GREETINGS[service])
            way(wire, f"guess{n}")
            wait_until(lambda n=n: server.log().count(refused) == before + n + 1, what=f"guess {n}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("server")
    with RunningServer(directory, sections={"abuse": ABUSE}, scram=True) as running:
        yield running


def test_guesses_over_all_protocols_count_together_and_ban_on_all(server: RunningServer) -> None:
    attacker, owner = "127.0.0.21", "127.0.0.22"
    assert len(WAYS) == FAILURES
    guess(server, attacker, WAYS[:-1])
    assert not any(is_refused(server, attacker, service) for service in REFUSALS)
    guess(server, attacker, WAYS[-1:])
    wait_until(lambda: is_refused(server, attacker), what="the ban")
    for service, refusal in REFUSALS.items():
        told = greeting(server, service, attacker)
        assert re.fullmatch(
            re.escape(refusal) + rb"\S+ too many failed logins from your address, try again in 10 min\r\n", told
        )
    for service in ("submissions", "pop3s", "imaps"):
        with Wire(server, service, source=attacker) as wire:
            assert wire.rest() == b"", "it is closed before TLS begins"
    assert login(server, owner).startswith(b"t OK ")
    assert attacker in banned(server)
    told_of = rf"banned network={attacker} account='all' for=10 min .*: 6 failed logins"
    wait_until(lambda: re.search(told_of, server.log()), what="a line of the log")


def test_a_client_that_was_connected_before_the_ban_logs_in_no_more(server: RunningServer) -> None:
    with Wire(server, "imap", source="127.0.0.31") as before:
        before.line()
        guess(server, "127.0.0.31", [WAYS[1]] * FAILURES)
        wait_until(lambda: is_refused(server, "127.0.0.31"), what="the ban")
        told = before.ask(f't LOGIN "{ALICE}" "{PASSWORD}"\r\n'.encode())
        assert told == b"t NO [UNAVAILABLE] too many failed logins from your address, try again in 10 min\r\n"


def test_the_owner_gets_in_from_where_somebody_else_is_banned(server: RunningServer) -> None:
    shared = "127.0.0.41"
    assert login(server, shared, user=BOB).startswith(b"t OK ")
    guess(server, shared, [WAYS[1]] * FAILURES)
    wait_until(lambda: shared in banned(server), what="the ban")
    assert login(server, shared, user=BOB).startswith(b"t OK ")
    assert login(server, shared).startswith(b"t NO [UNAVAILABLE] too many failed logins")


def test_bans_by_hand_and_their_end_are_taken_over_at_once(server: RunningServer) -> None:
    command(server, "ban", "add", "127.0.0.48/29", "--for", "1h", "--reason", "a test")
    wait_until(lambda: is_refused(server, "127.0.0.51", "pop3"), what="the ban")
    assert greeting(server, "smtp", "127.0.0.52").endswith(b" your address is banned, try again in 60 min\r\n")
    assert not is_refused(server, "127.0.0.47")
    command(server, "ban", "remove", "127.0.0.48/29")
    wait_until(lambda: not is_refused(server, "127.0.0.51", "pop3"), what="the end of the ban")
    by_hand = "banned network=127.0.0.48/29 for=60 min by hand: 'a test'"
    wait_until(lambda: by_hand in server.log(), what="a line of the log")


def test_bans_survive_a_restart_and_a_crash(tmp_path: Path) -> None:
    attacker, by_hand, owner = "127.0.0.61", "127.0.0.62", "127.0.0.63"
    server = RunningServer(tmp_path, sections={"abuse": ABUSE | {"failures": 2}})
    with server:
        assert login(server, owner).startswith(b"t OK ")
        guess(server, attacker, [WAYS[1], WAYS[3]])
        guess(server, owner, [WAYS[1]] * 4)
        wait_until(lambda: is_refused(server, attacker), what="the ban")
        server.kill()
        command(server, "ban", "add", by_hand)
        server.start()
        assert is_refused(server, attacker, "smtp") and is_refused(server, by_hand)
        assert login(server, owner).startswith(b"t OK ")
    command(server, "ban", "remove", attacker)
    with server:
        assert not is_refused(server, attacker) and is_refused(server, by_hand)


def test_two_processes_ban_together(tmp_path: Path) -> None:
    attacker = "127.0.0.71"
    with RunningServer(tmp_path, workers=2, sections={"abuse": ABUSE | {"connection_rate": 0}}) as server:
        wait_until(lambda: server.log().count("ready, as") == 2, what="two workers")
        guess(server, attacker, [WAYS[1]] * FAILURES)  # the system spreads them over both
        wait_until(lambda: attacker in banned(server), what="the ban")
        wait_until(lambda: all(is_refused(server, attacker) for _ in range(20)), what="the ban by both")
        assert not any(is_refused(server, "127.0.0.72") for _ in range(20))
        command(server, "ban", "remove", attacker)
        wait_until(lambda: not any(is_refused(server, attacker) for _ in range(20)), what="the end of it in both")


def test_behind_a_load_balancer_its_client_is_banned_and_not_the_balancer(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"abuse": ABUSE | {"failures": 2}, "proxies": {"networks": ["127.0.0.1"]}}
    server = RunningServer(tmp_path, sections=sections)
    (port,) = free_ports(1)
    configuration = tomlkit.parse(server.config.read_text())
    endpoint = f"tcp:{port}:interface=127.0.0.1"
    configuration["listener"].append({"protocol": "imap", "endpoint": endpoint, "proxy": True})  # type: ignore[union-attr]
    server.config.write_text(tomlkit.dumps(configuration))

    def connect(client: str) -> tuple[socket.socket, bytes]:
        connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
        connection.sendall(f"PROXY TCP4 {client} 198.51.100.1 5555 143\r\n".encode())
        return connection, connection.recv(1000)

    with server:
        for n in range(2):
            connection, greeted = connect("192.0.2.77")
            assert greeted.startswith(b"* OK ")
            connection.sendall(b"t STARTTLS\r\n")
            assert connection.recv(1000).startswith(b"t OK ")
            with server.tls_context().wrap_socket(connection, server_hostname="localhost") as encrypted:
                encrypted.sendall(f't LOGIN "{ALICE}" "guess{n}"\r\n'.encode())
                assert encrypted.recv(1000).startswith(b"t NO [AUTHENTICATIONFAILED]")
        for client, refused in (("192.0.2.77", True), ("192.0.2.78", False)):
            connection, greeted = connect(client)
            assert greeted.startswith(b"* BYE [UNAVAILABLE] ") == refused
            connection.close()
        assert banned(server) == ["192.0.2.77"]
        with Wire(server, "smtp") as wire:
            wire.ask(b"")
            assert wire.codes(b"EHLO filter", b"XCLIENT ADDR=192.0.2.78", b"EHLO filter") == [250, 220, 250]
            assert wire.codes(b"XCLIENT ADDR=192.0.2.77") == [421]
            assert wire.rest() == b""


def test_rates_are_told(tmp_path: Path) -> None:
    rules = {"exempt_loopback": False, "connection_rate": 12, "message_rate": 2, "account_message_rate": 1}
    with RunningServer(tmp_path, sections={"abuse": rules}) as server:
        with Wire(server, "smtp", source="127.0.0.81") as wire:
            wire.line()
            transaction = (b"RSET", b"MAIL FROM:<x@example.net>", f"RCPT TO:<{ALICE}>".encode())
            assert wire.codes(b"EHLO x", *transaction, *transaction) == [250] * 7
            wire.codes(b"RSET")
            told = wire.ask(b"MAIL FROM:<x@example.net>\r\n")
            assert re.match(rb"450 4\.7\.1 Your address sends too many messages a minute, try again in \d+ s", told)
        source = ("127.0.0.82", 0)
        with smtplib.SMTP("127.0.0.1", server.ports.submission, timeout=PATIENCE, source_address=source) as user:
            user.login(ALICE, PASSWORD)
            user.sendmail(ALICE, [BOB], b"Subject: x\r\n\r\nx\r\n")
            code, text = user.mail(ALICE)
            assert code == 450 and text.startswith(b"4.7.1 Your account sends too many messages a minute, try again in")
        greetings = [greeting(server, "pop3", "127.0.0.83") for _ in range(14)]
        assert [each.startswith(b"+OK ") for each in greetings] == [True] * 12 + [False] * 2
        assert re.fullmatch(
            rb"-ERR \[SYS/TEMP\] \S+ too many connections from your address in a minute, try again in \d+ s\r\n",
            greetings[-1],
        )
        assert greeting(server, "pop3", "127.0.0.84").startswith(b"+OK ")


def test_the_messages_of_a_day_are_counted_over_a_restart(tmp_path: Path) -> None:
    server = RunningServer(tmp_path)
    accounts = tomlkit.parse((tmp_path / "accounts.toml").read_text())
    accounts["account"][ALICE] |= {"messages_per_day": 2, "recipients": 3}  # type: ignore[index, operator]
    (tmp_path / "accounts.toml").write_text(tomlkit.dumps(accounts))

    def send(user: str) -> tuple[int, bytes]:
        with server.submission(user) as client:
            try:
                client.sendmail(user, [BOB], b"Subject: x\r\n\r\nx\r\n")
            except smtplib.SMTPSenderRefused as refused:
                return refused.smtp_code, bytes(refused.smtp_error)
        return 250, b""

    with server:
        with server.submission() as client:
            client.mail(ALICE)
            answers = [client.rcpt(f"u{n}@example.net")[0] for n in range(4)]
            assert answers == [250, 250, 250, 452]
        assert [send(ALICE)[0] for _ in range(2)] == [250, 250]
        told = send(ALICE)
        assert told[0] == 450 and re.search(rb"as many messages as it may in a day \(2\), try again in \d+ h", told[1])
    with server:
        assert send(ALICE)[0] == 450
        assert [send(BOB)[0] for _ in range(3)] == [250] * 3
