"""Attacks on SMTP, over real sockets: each has its name here, and must fail."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.clients import unix, without_trace
from tests.support.server import ALICE, BOB, PASSWORD, RunningServer
from tests.support.wire import Wire, resident, together

MIB = 2**20
TIMEOUT = 5.0  # seconds; a machine that stops for some of them ends no honest conversation
NEVER = 12 * TIMEOUT
MESSAGE_SIZE = 256 * 1024
SMALL = "small@example.test"
PLAIN = b64encode(f"\0{ALICE}\0{PASSWORD}".encode())
SERVICES = ("smtp", "submission")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    sections = {"auth": {"without_tls": "never"}, "limits": {"message_size": f"{MESSAGE_SIZE} B", "recipients": 20}}
    with RunningServer(tmp_path_factory.mktemp("server"), sections=sections) as running:
        yield running


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without patience."""
    limits = {"login_timeout": f"{TIMEOUT:.0f} s", "smtp_timeout": f"{TIMEOUT:.0f} s"}
    with RunningServer(tmp_path_factory.mktemp("hurried"), sections={"limits": limits}) as running:
        yield running


def greeted(server: RunningServer, service: str = "smtp") -> Wire:
    wire = Wire(server, service)
    if service == "submissions":
        wire.encrypt()
    assert wire.line().startswith(b"220 ")
    assert wire.codes(b"EHLO x") == [250]
    return wire


def queue(server: RunningServer) -> list[object]:
    program = Path(sys.executable).parent / "mailserver"
    command: list[str | Path] = [program, "--config", server.config, "queue", "list", "--json"]
    return list(json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout))


# Smuggling: CVE-2023-51764, 51765, 51766; CVE-2024-27305

FALSE_ENDS = (
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n\n.\n\n",
    b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n..\r\n", b"\r\n. \r\n", b"\n..\n", b"\r\0\n.\r\0\n",
)  # fmt: skip


@pytest.mark.parametrize("false_end", FALSE_ENDS, ids=repr)
def test_smuggling(server: RunningServer, false_end: bytes) -> None:
    before = server.messages(BOB)
    smuggled = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<%b>\r\nDATA\r\nSubject: fake\r\n\r\nfake\r\n" % BOB.encode()
    body = b"Subject: first\r\n\r\nreal" + false_end + smuggled
    with greeted(server) as wire:
        assert wire.codes(b"MAIL FROM:<jo@x.test>", b"RCPT TO:<%b>" % BOB.encode(), b"DATA") == [250, 250, 354]
        (end,) = wire.codes(body + b".")
        assert wire.codes(b"NOOP", b"QUIT") == [250, 221]
        assert wire.rest() == b""
    unclean = b"\0" in body or b"\r" in body.replace(b"\r\n", b"")
    assert end == (554 if unclean else 250)
    arrived = [message for message in server.messages(BOB) if message not in before]
    expected = unix(body.replace(b"\r\n.", b"\r\n"))
    assert [without_trace(message) for message in arrived] == ([] if unclean else [expected])


def test_smuggling_by_bdat(server: RunningServer) -> None:
    """What stands in a chunk is content, and where its length is not known nothing more is read."""
    commands = b"\r\n.\r\nMAIL FROM:<evil@x.test>\r\nRCPT TO:<%b>\r\nDATA\r\nfake\r\n.\r\n" % BOB.encode()
    before = len(server.messages(BOB))
    for announced in (b"0x10", b"-1", b"1e3", b"99999999999999999999999", b" 10", b"10 LAST LAST"):
        with greeted(server) as wire:
            assert wire.codes(b"MAIL FROM:<jo@x.test>", b"RCPT TO:<%b>" % BOB.encode()) == [250, 250]
            wire.send(b"BDAT " + announced + b"\r\n" + commands)
            assert len(wire.rest().splitlines()) == 1
    assert len(server.messages(BOB)) == before
    with greeted(server) as wire:
        assert wire.codes(b"MAIL FROM:<jo@x.test>", b"RCPT TO:<%b>" % BOB.encode()) == [250, 250]
        assert wire.codes(b"BDAT %d LAST\r\n%b" % (len(commands), commands[:-2])) == [250]
        assert wire.codes(b"QUIT") == [221]
    assert len(server.messages(BOB)) == before + 1


# STARTTLS injection: CVE-2011-0411


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("injected", [b"EHLO evil\r\nMAIL FROM:<evil@x.test>\r\n", b"NOOP", b"\r\n"], ids=repr)
def test_starttls_injection(server: RunningServer, service: str, injected: bytes) -> None:
    with greeted(server, service) as wire:
        wire.send(b"STARTTLS\r\n" + injected)
        assert wire.rest().startswith(b"554 5.5.1 ")


@pytest.mark.parametrize("service", SERVICES)
def test_starttls_injection_that_comes_late(server: RunningServer, service: str) -> None:
    """Between the answer and the handshake: octets that are no TLS end it."""
    with greeted(server, service) as wire:
        assert wire.codes(b"STARTTLS") == [220]
        wire.send(b"EHLO evil\r\nMAIL FROM:<evil@x.test>\r\n")
        assert b"250" not in wire.rest()


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_said_in_clear_counts_under_tls(server: RunningServer, service: str) -> None:
    with greeted(server, service) as wire:
        wire.codes(b"MAIL FROM:<evil@x.test>", b"RSET")
        assert wire.codes(b"STARTTLS") == [220]
        wire.encrypt()
        assert wire.codes(b"MAIL FROM:<jo@x.test>", b"RCPT TO:<%b>" % BOB.encode()) == [503, 503]


# AUTH abuse


def test_auth_abuse_before_tls(server: RunningServer) -> None:
    with greeted(server, "submission") as wire:
        assert wire.codes(b"AUTH PLAIN " + PLAIN, b"AUTH LOGIN", b"AUTH PLAIN") == [538, 538, 538]
        assert wire.codes(b"MAIL FROM:<alice@example.test>") == [530]


def test_auth_abuse_by_huge_lines(server: RunningServer) -> None:
    before = resident(server)
    with greeted(server, "submissions") as wire:
        assert wire.codes(b"AUTH PLAIN " + b"A" * 20_000) == [500]
        assert wire.codes(b"AUTH PLAIN", b"A" * 20_000) == [334, 500]
        assert wire.codes(b"NOOP", b"AUTH PLAIN " + PLAIN) == [250, 235], "an exchange that failed is over"
    with greeted(server, "submissions") as wire:
        wire.codes(b"AUTH PLAIN")
        wire.push(b"A" * 32 * MIB, 5)
        assert resident(server) - before < 8 * MIB


def test_auth_abuse_by_exchanges_that_are_cancelled(server: RunningServer) -> None:
    with Wire(server, "submissions", source="127.0.0.31").encrypt() as wire:
        assert wire.line().startswith(b"220 ") and wire.codes(b"EHLO x") == [250]
        assert wire.codes(b"AUTH PLAIN", b"*", b"AUTH LOGIN", b"*") == [334, 501, 334, 501]
        assert wire.codes(b"AUTH LOGIN", b"", b"*") == [334, 334, 501]
        assert wire.codes(b"MAIL FROM:<alice@example.test>") == [530]


def test_auth_abuse_by_unknown_and_malformed_exchanges(server: RunningServer) -> None:
    with Wire(server, "submissions", source="127.0.0.32").encrypt() as wire:
        assert wire.line().startswith(b"220 ") and wire.codes(b"EHLO x") == [250]
        assert wire.codes(b"AUTH NTLM", b"AUTH CRAM-MD5", b"AUTH", b"AUTH \xff", b"AUTH PLAIN ====") == [
            504, 504, 501, 500, 501,
        ]  # fmt: skip
        assert wire.codes(b"AUTH PLAIN " + b64encode(b"no separators")) == [501]
        assert wire.codes(b"AUTH PLAIN " + PLAIN, b"AUTH PLAIN " + PLAIN) == [235, 503], "a second login"
        answers = wire.codes(*[b"AUTH NTLM"] * 4)
        assert answers[-1] in (503, 421)


def test_auth_abuse_on_port_25(server: RunningServer) -> None:
    with greeted(server) as wire:
        assert wire.codes(b"STARTTLS") == [220]
        wire.encrypt()
        assert wire.codes(b"EHLO x", b"AUTH PLAIN " + PLAIN) == [250, 502]


def test_auth_abuse_by_wrong_passwords(server: RunningServer) -> None:
    wrong = b64encode(f"\0{ALICE}\0wr0ng".encode())
    with Wire(server, "submissions", source="127.0.0.33").encrypt() as wire:
        wire.line()
        assert wire.codes(b"EHLO x", b"AUTH PLAIN " + wrong, b"MAIL FROM:<alice@example.test>") == [250, 535, 530]
        assert wire.codes(b"RCPT TO:<x@elsewhere.test>", b"DATA") == [503, 503]
        began = time.monotonic()
        assert wire.codes(b"AUTH PLAIN " + wrong) == [535]
        assert time.monotonic() - began > 0.5, "guesses are slowed"
    assert queue(server) == []


# Command floods


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("command", [b"NOOP", b"RSET", b"VRFY x", b"HELP", b"FOO", b"EHLO", b"\xff", b"RCPT TO:<x>"])
def test_command_flood(server: RunningServer, service: str, command: bytes) -> None:
    with greeted(server, service) as wire:
        wire.push((command + b"\r\n") * 2000, 5)
        *_, last = wire.rest().splitlines() or [b""]
        assert last.startswith(b"421 4.7.0 "), last
    with greeted(server, service) as wire:
        assert wire.codes(b"NOOP") == [250], "others are served"


def test_command_flood_of_a_client_that_does_not_read(server: RunningServer) -> None:
    before = resident(server)
    with Wire(server, "smtp") as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert wire.push(b"EHLO x\r\n" * (4 * MIB), 2) < 16 * MIB
        assert resident(server) - before < 16 * MIB


def test_rcpt_flood(server: RunningServer) -> None:
    with greeted(server) as wire:
        assert wire.codes(b"MAIL FROM:<jo@x.test>") == [250]
        wire.push(b"RCPT TO:<%b>\r\n" % BOB.encode() * 500, 5)
        answers = [int(line[:3]) for line in wire.rest().splitlines()]
        assert answers[:20] == [250] * 20 and set(answers[20:-1]) == {452} and answers[-1] == 421
        assert len(answers) < 60


def test_rcpt_flood_by_guessed_names(server: RunningServer) -> None:
    with greeted(server) as wire:
        began = time.monotonic()
        assert wire.codes(b"MAIL FROM:<jo@x.test>") == [250]
        names = [b"RCPT TO:<nobody%d@example.test>" % number for number in range(13)]
        assert wire.codes(*names) == [550] * 13
        assert time.monotonic() - began > 2.5, "guesses are slowed"


# Slowloris


def drip(wire: Wire, octets: bytes) -> float:
    """An octet every 0.3 s until the server hangs up; how long it took."""
    began = time.monotonic()
    wire.socket.settimeout(0.3)
    while time.monotonic() - began < NEVER:
        try:
            wire.send(octets)
            if not wire.socket.recv(1000):
                break
            time.sleep(0.3)
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


def test_slowloris(hurried: RunningServer) -> None:
    def on_a_command(service: str) -> None:
        with greeted(hurried, service) as wire:
            assert drip(wire, b"x") < 3 * TIMEOUT, "a command that never ends is silence"

    def on_whole_commands() -> None:
        with greeted(hurried) as wire:
            assert TIMEOUT < drip(wire, b"NOOP\r\n") < 6 * TIMEOUT

    def on_data(begin: bytes) -> None:
        with greeted(hurried) as wire:
            assert wire.codes(b"MAIL FROM:<jo@x.test>", b"RCPT TO:<%b>" % BOB.encode()) == [250, 250]
            wire.send(begin + b"\r\n")
            assert TIMEOUT < drip(wire, b"x\r\n") < 6 * TIMEOUT

    def on_auth() -> None:
        with greeted(hurried, "submissions") as wire:
            assert wire.codes(b"AUTH PLAIN") == [334]
            assert drip(wire, b"A") < 3 * TIMEOUT

    commands = [partial(on_a_command, service) for service in (*SERVICES, "submissions")]
    data = [partial(on_data, begin) for begin in (b"DATA", b"BDAT 200000")]
    together([*commands, on_whole_commands, *data, on_auth])
    assert hurried.messages(BOB) == []


def test_slowloris_on_tls_handshakes(hurried: RunningServer) -> None:
    hello = bytes.fromhex("1603010200010001fc0303")  # the beginning of a ClientHello of 512 octets

    def implicit() -> None:
        with Wire(hurried, "submissions") as wire:
            wire.send(hello)
            assert drip(wire, b"\0") < 3 * TIMEOUT

    def after_starttls(service: str) -> None:
        with greeted(hurried, service) as wire:
            assert wire.codes(b"STARTTLS") == [220]
            wire.send(hello)
            assert drip(wire, b"\0") < 3 * TIMEOUT

    together([implicit, *(partial(after_starttls, service) for service in SERVICES)])


def test_slowloris_does_not_hurt_others(hurried: RunningServer) -> None:
    wires = [Wire(hurried, "smtp", source=f"127.0.0.{40 + number // 40}") for number in range(200)]
    try:
        for wire in wires:
            wire.send(b"E")
        began = time.monotonic()
        with greeted(hurried) as honest:
            assert honest.codes(b"QUIT") == [221]
        assert time.monotonic() - began < 3 * TIMEOUT
    finally:
        for wire in wires:
            wire.socket.close()


# SIZE lies


def test_size_lies(server: RunningServer) -> None:
    """The true size counts, whatever was said."""
    before = len(server.messages(BOB))
    with greeted(server) as wire:
        assert wire.codes(b"MAIL FROM:<jo@x.test> SIZE=%d" % (MESSAGE_SIZE + 1)) == [552]
        assert wire.codes(b"MAIL FROM:<jo@x.test> SIZE=%d" % 10**19) == [552]
        assert wire.codes(b"MAIL FROM:<jo@x.test> SIZE=-1", b"MAIL FROM:<jo@x.test> SIZE=") == [501, 501]
        for chunked in (False, True):
            assert wire.codes(b"MAIL FROM:<jo@x.test> SIZE=1", b"RCPT TO:<%b>" % BOB.encode()) == [250, 250]
            content = b"Subject: x\r\n\r\n" + (b"y" * 998 + b"\r\n") * (MESSAGE_SIZE // 1000 + 1)
            if chunked:
                assert wire.codes(b"BDAT %d LAST\r\n%b" % (len(content), content[:-2])) == [552]
            else:
                assert wire.codes(b"DATA", content + b".") == [354, 552]
        assert wire.codes(b"MAIL FROM:<jo@x.test> SIZE=1", b"RCPT TO:<%b>" % BOB.encode()) == [250, 250]
        assert wire.codes(b"DATA", b"Subject: x\r\n\r\nlonger than one octet\r\n.", b"QUIT") == [354, 250, 221]
    assert len(server.messages(BOB)) == before + 1


def test_size_lies_fill_no_mailbox(tmp_path: Path) -> None:
    server = RunningServer(tmp_path / "server", accounts={ALICE: [], SMALL: []})
    accounts = server.directory / "accounts.toml"
    header = f'[account."{SMALL}"]'
    text = accounts.read_text(encoding="utf-8")
    assert header in text
    accounts.write_text(text.replace(header, f'{header}\nquota = "20 KiB"'), encoding="utf-8")
    content = b"Subject: x\r\n\r\n" + (b"y" * 998 + b"\r\n") * 30
    with server, greeted(server) as wire:
        to = b"RCPT TO:<%b>" % SMALL.encode()
        assert wire.codes(b"MAIL FROM:<jo@x.test> SIZE=30000", to, b"RSET") == [250, 552, 250]
        assert wire.codes(b"MAIL FROM:<jo@x.test> SIZE=1", to, b"DATA", content + b".")[:3] == [250, 250, 354]
        assert server.messages(SMALL) == []


# Open relays

STRANGERS = (
    "<x@elsewhere.test>", "<x%elsewhere.test@example.test>", "<elsewhere.test!x@example.test>", "<x@[127.0.0.1]>",
    '<"x@elsewhere.test"@example.test>', "<@example.test:x@elsewhere.test>", "<x@elsewhere.test@example.test>",
    '<"x%elsewhere.test">', "<x@elsewhere.test.>", "<x@example.test@elsewhere.test>", "x@elsewhere.test",
    "<x@elsewhere.test\0@example.test>", "<x＠elsewhere.test>", "<|/bin/sh@example.test>", '<"|/bin/sh"@example.test>',
    "</etc/passwd@example.test>", "<:include:/etc/passwd@example.test>", "<x@[IPv6:::1]>", "<@>", "<x@>",
    "< x@elsewhere.test >", "<alice@example.test> <x@elsewhere.test>", "<../../alice@example.test>",
    "<@elsewhere.test,@example.test:x@elsewhere.test>", "<elsewhere.test!x>", "<x%elsewhere.test>",
    "<x@[::1]>", "<x@2130706433>", "<x@mail.example.test>", "<x@sub.example.test>", "<x@example.test.elsewhere.test>",
)  # fmt: skip


@pytest.mark.parametrize("sender", ["<alice@example.test>", "<>", "<root@localhost>", "<postmaster@[127.0.0.1]>"])
def test_open_relay_by_the_sender(server: RunningServer, sender: str) -> None:
    with greeted(server) as wire:
        assert wire.codes(f"MAIL FROM:{sender}".encode(), b"RCPT TO:<x@elsewhere.test>") == [250, 550]
        assert wire.codes(b"DATA") == [554]


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("recipient", STRANGERS)
def test_open_relay_by_the_recipient(server: RunningServer, recipient: str, encrypted: bool) -> None:
    with greeted(server) as wire:
        if encrypted:
            assert wire.codes(b"STARTTLS") == [220]
            wire.encrypt()
            wire.codes(b"EHLO x")
        assert wire.codes(b"MAIL FROM:<alice@example.test>") == [250]
        (code,) = wire.codes(f"RCPT TO:{recipient}".encode())
        assert 500 <= code < 600


def test_open_relay_by_what_a_stranger_claims_to_be(server: RunningServer) -> None:
    for claim in (b"EHLO mail.example.test", b"EHLO localhost", b"HELO [127.0.0.1]"):
        with Wire(server, "smtp") as wire:
            wire.line()
            parameters = b" AUTH=<alice@example.test>" if claim.startswith(b"EHLO") else b""
            assert wire.codes(claim, b"MAIL FROM:<alice@example.test>" + parameters)[0] == 250
            assert wire.codes(b"RCPT TO:<x@elsewhere.test>")[0] in (503, 550)
            (code,) = wire.codes(b"XCLIENT ADDR=127.0.0.1 LOGIN=alice@example.test")
            assert code in (503, 550)
    assert queue(server) == []


# Header injection through envelope parameters

INJECTED = (
    (b"MAIL FROM:<a\r\nX-Evil: 1@x.test>", b"RCPT TO:<bob@example.test>"),
    (b'MAIL FROM:<"a\rX-Evil: 1"@x.test>', b"RCPT TO:<bob@example.test>"),
    (b'MAIL FROM:<"a\\\nX-Evil: 1"@x.test>', b"RCPT TO:<bob@example.test>"),
    (b"MAIL FROM:<a@x.test> ENVID=x+0D+0AX-Evil:+201", b"RCPT TO:<bob@example.test>"),
    (b"MAIL FROM:<a@x.test>", b"RCPT TO:<bob@example.test> NOTIFY=SUCCESS ORCPT=rfc822;x+0D+0AX-Evil:+201"),
    (b"MAIL FROM:<a@x.test> AUTH=x+0D+0AX-Evil:+201", b"RCPT TO:<bob@example.test>"),
    (b"MAIL FROM:<a@x.test> SMTPUTF8", b"RCPT TO:<bob+\xc2\x85X-Evil:1@example.test>"),
    (b"MAIL FROM:<a@x.test> SMTPUTF8", b"RCPT TO:<bob+\xe2\x80\xa8X-Evil:1@example.test>"),
    (b"MAIL FROM:<a@x.test>", b"RCPT TO:<bob+\x0bX-Evil:1@example.test>"),
)


@pytest.mark.parametrize(("mail", "rcpt"), INJECTED, ids=repr)
def test_header_injection_through_envelope_parameters(server: RunningServer, mail: bytes, rcpt: bytes) -> None:
    before = server.messages(BOB)
    with Wire(server, "smtp") as wire:
        wire.line()
        wire.send(b"EHLO x\r\n" + mail + b"\r\n" + rcpt + b"\r\nDATA\r\n")
        time.sleep(0.2)
        wire.send(b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n")
        wire.rest()
    for message in (message for message in server.messages(BOB) if message not in before):
        header = message.partition(b"\n\n")[0]
        assert not [line for line in header.decode().splitlines() if line.startswith("X-Evil")]


def test_header_injection_through_the_greeting(server: RunningServer) -> None:
    before = server.messages(BOB)
    with Wire(server, "smtp") as wire:
        wire.line()
        hello = b"EHLO x)(by.evil;X-Evil:1<>\"'\\"
        assert wire.codes(hello, b"MAIL FROM:<jo@x.test>", b"RCPT TO:<%b>" % BOB.encode(), b"DATA") == [
            250,
            250,
            250,
            354,
        ]
        assert wire.codes(b"Subject: x\r\n\r\nx\r\n.", b"QUIT") == [250, 221]
    (message,) = [message for message in server.messages(BOB) if message not in before]
    received = message[message.index(b"Received:") :].partition(b"Subject:")[0]
    assert received.startswith(b"Received: from x??by.evil?X-Evil:1????? ([127.0.0.1])\n"), received


# Log injection

FORGED = "2026-01-01T00:00:00 forged=line"


def test_log_injection(server: RunningServer) -> None:
    """Whatever a client says stands within a line of the log, and no control character goes into it."""
    marks = (b"\x1b[2J", "\u2028".encode(), "\u0085".encode(), "\u202e".encode(), b"\\r\\n", b"%s%n", b"\xff\n\r\x0b\0")
    for mark in marks:
        text = mark + FORGED.replace(" ", "_").encode()
        for command in (
            b"EHLO " + text,
            b"MAIL FROM:<" + text + b"@x.test> SMTPUTF8",
            b'MAIL FROM:<"' + text + b'"@x.test> SMTPUTF8',
            b"RCPT TO:<" + text + b"@example.test>",
            b'RCPT TO:<"' + text + b'"@example.test>',
            b"XCLIENT NAME=" + text,
            b"ETRN " + text,
            text,
        ):
            with greeted(server) as wire:
                if command.startswith(b"RCPT"):
                    wire.codes(b"MAIL FROM:<jo@x.test> SMTPUTF8")
                wire.send(command + b"\r\nQUIT\r\n")
                wire.rest()
    with greeted(server) as wire:  # that which is accepted
        wire.codes('MAIL FROM:<"x\u2028y"@x.test> SMTPUTF8'.encode(), b"RCPT TO:<%b>" % BOB.encode(), b"DATA")
        wire.codes(b"Subject: x\r\n\r\nx\r\n.")
    log = server.log()
    assert "forged" in log
    assert not [line for line in log.splitlines() if line.startswith(FORGED[:10])]
    for line in log.splitlines():
        assert "forged" not in line or "session=" in line or "message=" in line, line
    assert not set(log) & {chr(code) for code in (*range(10), *range(11, 32), *range(127, 160), 0x2028, 0x2029, 0x202E)}
