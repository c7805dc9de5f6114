"""Other servers that answer nonsense: what our client sends stays sound, and every recipient gets a status."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mailserver.config.model import Relay as Settings
from mailserver.delivery.relay import Relay
from mailserver.delivery.routes import ByMX, Routes, Smarthost
from mailserver.mail import Action, Address, Content, Envelope, Recipient
from mailserver.ports import ConnectFailure, TLSState
from mailserver.sasl import choose
from mailserver.smtp.client import ClientConnection, Command, ReplyReceived
from mailserver.smtp.replies import LINES_LIMIT, ProtocolError
from tests.fuzz.dialogues import MESSAGE, REPLIES, REPLY_WORDS, STUFFED
from tests.fuzz.mutation import Mutator, cases
from tests.support.fakes import FakeClock, FakeWorkers, run
from tests.support.remote import TableResolver

SENDER = Address("alice", "example.org")
RECIPIENTS = (Address("x", "example.net"), Address("y z", "example.net"))
ENVELOPE = Envelope(SENDER, tuple(map(Recipient, RECIPIENTS)))
COMMAND = re.compile(rb"[\x20-\x7e]{0,12286}\r\n")


@dataclass(eq=False)
class ScriptedConnection:
    """The Connection port: gives its pieces one by one, then hangs up."""

    pieces: list[bytes]
    peer: str = "192.0.2.1"
    certificate: str | None = None
    tls: TLSState | None = None
    closed: bool = False
    sent: bytes = b""
    sent_in_clear: bytes = b""

    async def read(self, timeout: float) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def write(self, data: bytes, timeout: float) -> None:
        self.sent += data
        if self.tls is None:
            self.sent_in_clear += data

    async def start_tls(self, server_name: str, timeout: float, *, verify: bool = False) -> None:
        if not self.pieces:
            raise ConnectFailure("no handshake")
        self.tls = TLSState("TLSv1.3", "X")

    def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedConnector:
    """The Connector port: all connections share the pieces."""

    pieces: list[bytes]
    connections: list[ScriptedConnection] = field(default_factory=list)

    async def connect_any(self, addresses: Sequence[str], port: int, timeout: float) -> ScriptedConnection:
        if not self.pieces:
            raise ConnectFailure("refused")
        self.connections.append(ScriptedConnection(self.pieces, addresses[0]))
        return self.connections[-1]


def replies(turns: Sequence[bytes]) -> Iterator[ReplyReceived | str]:
    """What a client makes of these octets that says a command whenever it may; the last may be the error."""
    client, commands, sent = ClientConnection(), 0, bytearray()
    for turn in turns:
        client.receive_data(turn)
        try:
            while (event := client.next_event()) is not None:
                yield event
                if event.command is Command.DATA and event.reply.positive:
                    client.body(MESSAGE)
                    client.end_body()
                elif not client.outstanding and commands < 50:
                    _command(client, commands)
                    commands += 1
        except ProtocolError as error:
            try:
                client.receive_data(b"250 ok\r\n" * 10)
                client.next_event()
            except ProtocolError as again:
                assert again is error
            else:
                raise AssertionError("the error was forgotten") from error
            yield str(error)
            break
        sent += client.data_to_send()
    check_sent(bytes(sent))


def _command(client: ClientConnection, number: int) -> None:
    match number % 9:
        case 1 if "STARTTLS" in client.extensions:
            client.starttls()
        case 3 if mechanism := choose(client.mechanisms, "alice", "secret"):
            client.auth(mechanism)
        case 4:
            client.mail(SENDER, size=client.size_limit)
            client.rcpt(Recipient(RECIPIENTS[0]))
        case 5:
            client.rcpt(Recipient(RECIPIENTS[1]))
        case 6:
            client.data()
        case 7:
            client.rset()
        case _:
            client.ehlo("mx.example.org")


def check_sent(data: bytes) -> None:
    """Commands of one printable line each, and contents that end where they ought to, or are given up before that."""
    position = 0
    while position < len(data):
        line = COMMAND.match(data, position)
        if line is None or data.startswith(b"From:", position):
            end = data.find(b"\r\n.\r\n", position)
            if end < 0:  # by a reply that was not due
                assert STUFFED.startswith(data[position:])
                break
            content = data[position:end].replace(b"\r\n..", b"\r\n.") + b"\r\n"
            assert content == MESSAGE
            position = end + 5
        else:
            position = line.end()


def test_mutated_replies_to_the_engine() -> None:
    for case in cases("client", 400, 10.0):
        with case as random:
            mutator = Mutator(random, REPLY_WORDS, REPLIES)
            turns = mutator.dialogue(random.choice(REPLIES))
            for event in replies(turns):
                if isinstance(event, ReplyReceived):
                    lines = event.reply.lines()
                    assert len(lines) <= LINES_LIMIT
                    assert all(line.isprintable() or "\t" in line for line in lines)


@pytest.mark.parametrize("smarthost", [False, True])
def test_mutated_replies_to_a_delivery(smarthost: bool, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    login: dict[str, Any] = {
        "smarthost": "mx.example.net:587",
        "smarthost_user": "alice",
        "smarthost_password_file": tmp_path / "password",
    }
    settings = Settings(**login if smarthost else {})
    for case in cases(f"delivery-{'smarthost' if smarthost else 'mx'}", 200, 7.0):
        with case as random:
            mutator = Mutator(random, REPLY_WORDS, REPLIES)
            turns = mutator.dialogue(random.choice(REPLIES))
            connector = ScriptedConnector([piece for turn in turns for piece in mutator.cut(turn) if piece])
            clock = FakeClock()
            relay = Relay(
                settings,
                hostname="mx.example.org",
                resolver=TableResolver(hosts={"mx.example.net": ["192.0.2.1", "192.0.2.2"]}),
                connector=connector,
                is_own=lambda address: False,
                may_send=lambda: True,
                workers=FakeWorkers(),
                clock=clock,
            )
            transport = Routes.of((), settings).transport(RECIPIENTS[0], SENDER)
            assert isinstance(transport, ByMX | Smarthost)
            site = run(relay.locate(transport, "mx.example.net"))
            statuses = run(relay.deliver(site, ENVELOPE, b"", Content(MESSAGE)))
            clock.advance(60.0)
            assert [status.recipient for status in statuses] == list(RECIPIENTS)
            relayed = [status for status in statuses if status.action is Action.RELAYED]
            assert not relayed or any(b"\r\n.\r\n" in connection.sent for connection in connector.connections)
            for connection in connector.connections:
                check_sent(connection.sent)
                assert connection.closed
                assert b"AUTH" not in connection.sent_in_clear
