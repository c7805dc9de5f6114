"""Attacks on a running server over real sockets: floods, slow and silent clients, injection, smuggling, relaying."""

from __future__ import annotations

import socket
import stat
import time
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.server import ALICE, BOB, PASSWORD, RunningServer
from tests.support.sink import PATIENCE, wait_until
from tests.support.wire import Wire, resident, together

MIB = 2**20
LOGIN_TIMEOUT = 5.0  # seconds; a machine that stops for some of them ends no honest conversation
PER_ADDRESS = 8
WRONG = "wr0ng-guess"
CONTENT_MARK = "cr0codile"
PLAIN = b64encode(f"\0{ALICE}\0{PASSWORD}".encode())
GREETINGS = {"smtp": b"220 ", "submission": b"220 ", "pop3": b"+OK ", "imap": b"* OK "}


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without patience."""
    names = ("login_timeout", "smtp_timeout", "pop3_timeout", "imap_timeout")
    limits = dict.fromkeys(names, f"{LOGIN_TIMEOUT:.0f} s")
    with RunningServer(tmp_path_factory.mktemp("hurried"), sections={"limits": limits}) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """No password in clear, and few connections from one address."""
    sections: dict[str, dict[str, Any]] = {
        "limits": {"connections_per_address": PER_ADDRESS},
        "auth": {"without_tls": "never"},
    }
    with RunningServer(tmp_path_factory.mktemp("server"), sections=sections) as running:
        yield running


# Slow and silent


def test_whoever_only_drips_is_cut_by_the_login_timeout(hurried: RunningServer) -> None:
    """Slowloris: there is always some input, and never a command."""

    def drip(service: str) -> None:
        began = time.monotonic()
        with Wire(hurried, service) as wire:
            if service.endswith("s"):
                wire.encrypt()
            wire.line()
            wire.socket.settimeout(0.3)
            while time.monotonic() - began < 10 * LOGIN_TIMEOUT:
                try:
                    wire.send(b"x")
                    if not wire.socket.recv(1000):
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            assert LOGIN_TIMEOUT * 0.9 < time.monotonic() - began < 4 * LOGIN_TIMEOUT, service

    services = ("submission", "submissions", "pop3", "pop3s", "imap", "imaps")
    together([partial(drip, service) for service in services])


def test_handshakes_that_do_not_come_to_an_end_are_cut(hurried: RunningServer) -> None:
    hello = bytes.fromhex("1603010200010001fc0303") + b"x" * 20  # the beginning of a ClientHello of 512 octets

    def silent(service: str, data: bytes) -> None:
        began = time.monotonic()
        with Wire(hurried, service) as wire:
            wire.send(data)
            assert wire.rest() == b""
            assert time.monotonic() - began > LOGIN_TIMEOUT * 0.9

    def garbage(service: str) -> None:
        with Wire(hurried, service) as wire:
            wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
            assert len(wire.rest()) < 16  # an alert, no page

    def silent_after_starttls(service: str, *commands: bytes) -> None:
        with Wire(hurried, service) as wire:
            wire.line()
            for command in commands:
                wire.ask(command)
            wire.rest()

    implicit = ("submissions", "pop3s", "imaps")
    together(
        [
            *(partial(silent, service, data) for service in implicit for data in (b"", hello)),
            *(partial(garbage, service) for service in implicit),
            partial(silent_after_starttls, "smtp", b"EHLO x\r\n", b"STARTTLS\r\n"),
            partial(silent_after_starttls, "pop3", b"STLS\r\n"),
            partial(silent_after_starttls, "imap", b"t STARTTLS\r\n"),
        ]
    )


def test_silence_is_ended_with_the_words_of_the_protocol(hurried: RunningServer) -> None:
    farewells = {"smtp": b"421 4.4.2 ", "submission": b"421 4.4.2 ", "pop3": b"", "imap": b"* BYE "}

    def silent(service: str, farewell: bytes) -> None:
        with Wire(hurried, service) as wire:
            assert wire.line().startswith(GREETINGS[service])
            said = wire.rest()
            assert said.startswith(farewell) and (farewell or not said)

    together([partial(silent, *pair) for pair in farewells.items()])


# Floods


def test_a_flood_from_one_address_is_refused_and_another_is_served_at_once(server: RunningServer) -> None:
    refusals = {"smtp": b"421 ", "submission": b"421 ", "pop3": b"-ERR [SYS/TEMP] ", "imap": b"* BYE [UNAVAILABLE] "}
    flood = [Wire(server, "imap", source="127.0.0.3") for _ in range(PER_ADDRESS)]
    try:
        assert all(wire.line().startswith(b"* OK ") for wire in flood)
        for _ in range(10):
            for service, refusal in refusals.items():
                with Wire(server, service, source="127.0.0.3") as wire:
                    assert wire.rest().startswith(refusal)
            for service in ("submissions", "pop3s", "imaps"):
                with Wire(server, service, source="127.0.0.3") as wire:
                    assert wire.rest() == b""
        began = time.monotonic()
        with Wire(server, "smtp", source="127.0.0.2") as wire:
            assert wire.line().startswith(b"220 ")
            assert wire.codes(b"EHLO x", b"QUIT") == [250, 221]
        assert time.monotonic() - began < 10
    finally:
        for wire in flood:
            wire.socket.close()

    def served() -> bool:
        with Wire(server, "imap", source="127.0.0.3") as wire:
            return wire.line().startswith(b"* OK ")

    wait_until(served, what="service after the flood")


# Memory


def logged_in(server: RunningServer, service: str, *, source: str = "127.0.0.1") -> Wire:
    wire = Wire(server, service, source=source).encrypt()
    wire.line()
    if service == "imaps":
        assert wire.ask(f"t LOGIN {ALICE} {PASSWORD}\r\n".encode()).startswith(b"t OK")
        assert wire.ask(b"t SELECT INBOX\r\n").startswith(b"t OK")
    else:
        assert wire.ask(b"AUTH PLAIN " + PLAIN + b"\r\n").startswith(b"+OK")
    return wire


def test_who_asks_for_much_and_reads_nothing_costs_no_memory(server: RunningServer) -> None:
    with Wire(server, "imaps").encrypt() as wire:  # makes the Maildir
        wire.line()
        wire.ask(f"t LOGIN {ALICE} {PASSWORD}\r\n".encode())
    new = server.maildir(ALICE) / "new"
    large = new.parent / "tmp" / "large"
    large.write_bytes(b"Subject: large\n\n" + (b"x" * 76 + b"\n") * (6 * MIB // 77))
    large.chmod(0o600)
    large.rename(new / "1000000000.large.test")
    asked = {"pop3s": b"RETR 1\r\n" * 50, "imaps": b"t FETCH 1 BODY.PEEK[]\r\n" * 50}
    with logged_in(server, "imaps") as wire:
        wire.send(b"t FETCH 1 (ENVELOPE BODY.PEEK[])\r\n")  # what is loaded once for good
        wire.socket.recv(1)
    before = resident(server)
    readers: list[Wire] = []
    try:
        for service, command in asked.items():
            for number in range(14):
                readers.append(logged_in(server, service, source=f"127.0.0.{10 + number % 4}"))
                readers[-1].send(command)
                readers[-1].socket.recv(1)
        assert resident(server) - before < 28 * 2 * MIB  # far less than one message for each
        with logged_in(server, "imaps") as wire:  # others are served meanwhile
            assert wire.ask(b"t NOOP\r\n").startswith(b"t OK")
            assert wire.ask(b"t STORE 1 +FLAGS (\\Deleted)\r\n").startswith(b"t OK")
            assert wire.ask(b"t EXPUNGE\r\n").startswith(b"t OK")
    finally:
        for wire in readers:
            wire.socket.close()


@pytest.mark.parametrize(
    ("service", "command"), [("smtp", b"HELP\r\n"), ("pop3", b"CAPA\r\n"), ("imap", b"t CAPABILITY\r\n")]
)
def test_who_sends_commands_and_never_reads_is_not_read_either(
    server: RunningServer, service: str, command: bytes
) -> None:
    before = resident(server)
    with Wire(server, service) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert wire.push(command * (32 * MIB // len(command)), 2) < 16 * MIB
        assert resident(server) - before < 16 * MIB


def test_output_that_nobody_reads_is_not_made(hurried: RunningServer) -> None:
    """Of all that is asked for little is made ahead, and the connection ends at the idle timeout."""
    message = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" * (2 * MIB)
    commands = b"".join(b"f%d FETCH 1:* BODY.PEEK[]\r\n" % number for number in range(1000))
    with Wire(hurried, "imaps") as wire:
        wire.encrypt()
        wire.line()
        assert wire.ask(f"a LOGIN {ALICE} {PASSWORD}\r\n".encode()).startswith(b"a OK")
        assert wire.ask(b"b APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message)).startswith(b"b OK")
        wire.send(b"c SELECT INBOX\r\n")
        while not wire.line().startswith(b"c OK"):
            pass
        before, cut = resident(hurried), hurried.log().count("timed out")
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(commands)
        for _ in range(5):
            time.sleep(0.2)
            assert resident(hurried) - before < 16 * MIB
        with Wire(hurried, "imap") as other:
            assert other.line().startswith(b"* OK"), "others are served"
        wait_until(lambda: hurried.log().count("timed out") > cut)
        assert len(wire.rest()) < 8 * MIB


def test_commands_in_flight_wait_until_they_are_read(server: RunningServer) -> None:
    """They are answered one by one, in order; none is refused for coming early."""
    with Wire(server, "imap") as wire:
        wire.line()
        count = 20_000
        wire.send(b"".join(b"n%d NOOP\r\n" % number for number in range(count)))
        for number in range(count):
            assert wire.line() == b"n%d OK Done\r\n" % number


@pytest.mark.parametrize(
    ("service", "beginning"),
    [
        ("smtp", b""),
        ("smtp", b"EHLO "),
        ("submission", b"AUTH PLAIN "),
        ("pop3", b"USER "),
        ("imap", b"t LOGIN "),
        ("imap", b't LOGIN "'),
        ("imap", b"t LOGIN {4000+}\r\n" + b"x" * 4000 + b" "),
    ],
)
def test_an_endless_line_is_not_kept(server: RunningServer, service: str, beginning: bytes) -> None:
    before = resident(server)
    with Wire(server, service) as wire:
        assert wire.line().startswith(GREETINGS[service])
        wire.push(beginning + b"A" * (32 * MIB), 5)
        assert resident(server) - before < 8 * MIB
    with Wire(server, service) as wire:
        assert wire.line().startswith(GREETINGS[service])


def test_literal_bombs_end_the_connection(server: RunningServer) -> None:
    for literal in (b"{4294967295+}", b"{99999999999999999999+}"):
        with Wire(server, "imap") as wire:
            wire.line()
            wire.send(b"t LOGIN " + literal + b"\r\n")
            assert wire.rest().startswith(b"* BYE ")


# Injection before STARTTLS: CVE-2011-0411


@pytest.mark.parametrize(
    ("service", "command", "injected", "probe", "answer"),
    [
        ("pop3", b"STLS\r\n", f"USER {BOB}\r\n".encode(), b"PASS x\r\n", b"-ERR give USER first"),
        ("imap", b"t STARTTLS\r\n", b"evil NOOP\r\nevil LOGIN {3}\r\n", b"t NOOP\r\n", b"t OK"),
    ],
)
def test_what_is_injected_before_tls_is_forgotten(
    server: RunningServer, service: str, command: bytes, injected: bytes, probe: bytes, answer: bytes
) -> None:
    with Wire(server, service) as wire:
        wire.line()
        assert wire.ask(command + injected)[:4] in (b"+OK ", b"t OK")
        wire.encrypt()
        wire.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        wire.socket.settimeout(PATIENCE)
        assert wire.ask(probe).startswith(answer)


# Passwords


def test_no_password_is_taken_in_clear(server: RunningServer) -> None:
    with Wire(server, "submission") as wire:
        wire.line()
        wire.send(b"EHLO x\r\n")
        offered = b""
        while not offered.startswith(b"250 "):
            offered = wire.line()
            assert b"AUTH" not in offered
        assert wire.ask(b"AUTH PLAIN " + PLAIN + b"\r\n").startswith(b"538 5.7.11 ")
        assert wire.codes(b"MAIL FROM:<alice@example.test>") == [530]
    with Wire(server, "pop3") as wire:
        wire.line()
        for command in (b"USER " + ALICE.encode(), b"PASS " + PASSWORD.encode(), b"AUTH PLAIN " + PLAIN, b"STAT"):
            assert wire.ask(command + b"\r\n").startswith(b"-ERR ")
    with Wire(server, "imap") as wire:
        assert b"LOGINDISABLED" in wire.line()
        assert wire.ask(f"t LOGIN {ALICE} {PASSWORD}\r\n".encode()).startswith(b"t NO ")
        assert wire.ask(b"t AUTHENTICATE PLAIN " + PLAIN + b"\r\n").startswith(b"t NO ")
        assert wire.ask(b"t SELECT INBOX\r\n").startswith(b"t BAD ")


def test_port_25_knows_no_login(server: RunningServer) -> None:
    with Wire(server, "smtp") as wire:
        wire.line()
        assert wire.codes(b"EHLO x", b"STARTTLS") == [250, 220]
        wire.encrypt()
        assert wire.codes(b"EHLO x", b"AUTH PLAIN " + PLAIN) == [250, 502]


# What is left behind


def test_neither_passwords_nor_contents_are_in_the_log(server: RunningServer) -> None:
    with Wire(server, "imaps", source="127.0.0.21").encrypt() as wire:
        wire.line()
        assert wire.ask(f"t LOGIN {ALICE} {WRONG}\r\n".encode()).startswith(b"t NO")
        assert wire.ask(f"t LOGIN {ALICE} {PASSWORD} {WRONG}\r\n".encode()).startswith(b"t BAD")
        assert wire.ask(f"t AUTHENTICATE PLAIN {WRONG}\r\n".encode()).startswith(b"t BAD")
    with Wire(server, "pop3s", source="127.0.0.22").encrypt() as wire:
        wire.line()
        wire.ask(f"USER {ALICE}\r\n".encode())
        assert wire.ask(f"PASS {WRONG}\r\n".encode()).startswith(b"-ERR")
    with Wire(server, "smtp") as wire:
        wire.line()
        wire.codes(b"EHLO x", b"MAIL FROM:<jo@x.test>", b"RCPT TO:<bob@example.test>", b"DATA")
        assert wire.codes(f"Subject: {CONTENT_MARK}\r\n\r\n{CONTENT_MARK}\r\n.".encode()) == [250]
    wait_until(lambda: "login refused" in server.log(), what="a line of the log")
    log = server.log()
    for secret in (PASSWORD, WRONG, CONTENT_MARK, PLAIN.decode(), b64encode(PASSWORD.encode()).decode()):
        assert secret not in log


def test_log_lines_cannot_be_forged(server: RunningServer) -> None:
    with Wire(server, "imaps", source="127.0.0.23").encrypt() as wire:
        wire.line()
        forged = b"x\r\n2026-01-01 forged=line"
        assert wire.ask(b"t LOGIN {%d+}\r\n%b {1+}\r\nx\r\n" % (len(forged), forged)).startswith(b"t NO")
        wire.ask(b't ID ("name" {%d+}\r\n%b)\r\n' % (len(forged), forged))
    wait_until(lambda: "forged" in server.log(), what="the log of the login")
    assert not [
        line
        for line in server.log().splitlines()
        if "forged" in line and "message=" not in line and "session=" not in line
    ]


def test_everything_is_private_and_nothing_is_left_half_done(server: RunningServer) -> None:
    with server.smtp() as client:
        client.sendmail("jo@x.test", [BOB], "Subject: x\r\n\r\nx\r\n")

    def wrong() -> list[str]:
        """What of it is not as it should be; the server goes on meanwhile."""
        found, entries = [], list(server.data.rglob("*"))
        assert any(path.parent.name in ("new", "cur") for path in entries)
        for path in entries:
            try:
                mode = stat.S_IMODE(path.lstat().st_mode)
            except FileNotFoundError:
                continue
            if mode != (0o700 if path.is_dir() else 0o600) or path.parent.name in ("tmp", "spool"):
                found.append(f"{path}: {mode:o}")
        return found

    try:
        wait_until(lambda: not wrong(), what="order")
    except AssertionError:
        assert wrong() == []
        raise
