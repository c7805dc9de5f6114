"""The pump: events in order, backpressure both ways, time limits, one end."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import StringTransport

from mailserver.net.connection import (
    EVENTS_AT_ONCE,
    READ_AHEAD,
    STOP_FAREWELL,
    STOP_GRACE,
    ServedConnection,
    Service,
    stop_connections,
)
from mailserver.net.factory import RefusedConnection, ServiceFactory
from mailserver.policy.connections import ConnectionLimits
from tests.support.fakes import FakeClock, run


@dataclass
class LineEngine:
    """Each line is an event; answers are what was queued."""

    input: bytes = b""
    output: list[bytes] = field(default_factory=list)
    woken: bool = False

    def receive_data(self, data: bytes) -> None:
        self.input += data

    def next_event(self) -> bytes | None:
        line, end, rest = self.input.partition(b"\n")
        if not end:
            woken, self.woken = self.woken, False
            return b"woken" if woken else None
        self.input = rest
        return line

    def data_to_send(self) -> bytes:
        data, self.output = b"".join(self.output), []
        return data

    @property
    def buffered(self) -> int:
        return len(self.input)


@dataclass
class EchoSession:
    channel: Any
    engine: LineEngine = field(default_factory=LineEngine)
    idle_timeout: float = 100.0
    deadline: float = math.inf
    awaits_login: bool = False
    amid_message: bool = False
    gate: Deferred[None] | None = None
    events: list[bytes] = field(default_factory=list)
    lost_calls: int = 0

    async def opened(self) -> None:
        self.engine.output.append(b"hello\n")

    async def handle(self, event: bytes) -> None:
        self.events.append(event)
        if event == b"wait":
            self.gate = Deferred()
            await self.gate
        elif event == b".":
            self.amid_message = False
        elif event == b"drain":
            await self.channel.drain()
        elif event == b"work":
            self.channel._service.clock.advance(0.0001)
        elif event == b"crash":
            raise RuntimeError("a bug")
        elif event in (b"login", b"logout"):
            self.awaits_login = event == b"logout"
        elif event == b"plain":
            self.engine.output.append(b"plain!\n")
            self.channel.stop_compression()
            return
        elif event == b"quit":
            self.engine.output.append(b"bye\n")
            self.channel.close()
            return
        self.engine.output.append(event + b"!\n")

    def timed_out(self) -> None:
        self.engine.output.append(b"too slow\n")

    def lost(self) -> None:
        self.lost_calls += 1


class Transport(StringTransport):
    aborted = False

    def getHandle(self) -> None:
        return None

    def abortConnection(self) -> None:
        self.aborted = True


@dataclass
class Served:
    connection: ServedConnection
    transport: Transport
    session: EchoSession
    clock: FakeClock
    limits: ConnectionLimits

    def sent(self) -> bytes:
        data = self.transport.value()
        self.transport.clear()
        return data


def make_service(clock: FakeClock, limits: ConnectionLimits, sessions: list[EchoSession]) -> Service:
    def open_session(channel: Any) -> EchoSession:
        sessions.append(EchoSession(channel))
        return sessions[-1]

    return Service(
        name="echo",
        open_session=open_session,
        refuse=lambda refusal: b"no: " + refusal.name.encode() + b"\n",
        connections=limits,
        clock=clock,
        login_timeout=10.0,
        certificates=None,
        implicit_tls=False,
    )


@pytest.fixture
def served() -> Served:
    clock, limits, sessions = FakeClock(), ConnectionLimits(10, 2), []
    factory = ServiceFactory(make_service(clock, limits, sessions))
    connection = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 4000))
    assert isinstance(connection, ServedConnection)
    transport = Transport()
    connection.makeConnection(transport)
    return Served(connection, transport, sessions[0], clock, limits)


def lose(served: Served) -> None:
    served.connection.connectionLost(connectionDone)


def test_greets_and_answers_in_order(served: Served) -> None:
    assert served.sent() == b"hello\n"
    served.connection.dataReceived(b"a\nb\nc")
    assert served.sent() == b"a!\nb!\n"
    served.connection.dataReceived(b"\n")
    assert served.sent() == b"c!\n"


def test_pipelined_answers_leave_in_one_write(served: Served) -> None:
    writes: list[bytes] = []
    served.transport.write = writes.append  # type: ignore[method-assign]
    served.connection.dataReceived(b"a\n" * 100)
    assert writes == [b"a!\n" * 100]


def test_one_handler_at_a_time(served: Served) -> None:
    served.connection.dataReceived(b"wait\na\n")
    served.connection.dataReceived(b"b\n")
    assert served.session.events == [b"wait"]
    assert served.session.gate is not None
    served.session.gate.callback(None)
    assert served.session.events == [b"wait", b"a", b"b"]


def wake(served: Served) -> None:
    served.session.engine.woken = True
    served.connection.wake()


def test_a_session_that_is_woken_has_its_turn(served: Served) -> None:
    served.sent()
    wake(served)
    assert served.sent() == b"woken!\n"


def test_it_waits_for_what_is_at_work_and_what_came_before(served: Served) -> None:
    served.connection.dataReceived(b"wait\na\n")
    wake(served)
    assert served.session.events == [b"wait"]
    assert served.session.gate is not None
    served.session.gate.callback(None)
    assert served.session.events == [b"wait", b"a", b"woken"]


def test_who_does_not_read_is_not_told_more(served: Served) -> None:
    served.connection.pauseProducing()
    served.connection.dataReceived(b"drain\n")
    wake(served)
    wake(served)
    assert served.session.events == [b"drain"]
    served.connection.resumeProducing()
    assert served.session.events == [b"drain", b"woken"]


def test_nobody_is_woken_after_the_end(served: Served) -> None:
    served.connection.close()
    wake(served)
    lose(served)
    wake(served)
    assert served.session.events == []


def test_reading_pauses_while_too_much_is_buffered(served: Served) -> None:
    served.connection.dataReceived(b"wait\n")
    served.connection.dataReceived(b"x" * READ_AHEAD)
    assert served.transport.producerState == "producing"
    served.connection.dataReceived(b"y\n")
    assert served.transport.producerState == "paused"
    assert served.session.gate is not None
    served.session.gate.callback(None)
    assert served.transport.producerState == "producing"


def test_drain_waits_for_a_slow_reader(served: Served) -> None:
    served.connection.pauseProducing()
    served.connection.dataReceived(b"drain\na\n")
    assert served.session.events == [b"drain"]
    served.connection.resumeProducing()
    assert served.session.events == [b"drain", b"a"]


def test_a_reader_that_takes_all_at_once_lets_others_have_their_turn(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[Deferred[None]] = []

    def sleep(seconds: float) -> Deferred[None]:
        assert seconds == 0
        turns.append(Deferred())
        return turns[-1]

    monkeypatch.setattr(served.clock, "sleep", sleep)
    served.connection.dataReceived(b"work\n" * 2000)
    done = [len(served.session.events)]
    while len(turns) == len(done):
        turns[-1].callback(None)
        done.append(len(served.session.events))
    assert done[0] <= EVENTS_AT_ONCE and done[-1] == 2000
    assert max(after - before for before, after in pairwise(done)) <= EVENTS_AT_ONCE
    assert served.sent() == b"hello\n" + b"work!\n" * 2000


def test_a_reader_that_goes_away_ends_the_wait_and_the_session(served: Served) -> None:
    served.connection.pauseProducing()
    served.connection.dataReceived(b"drain\na\n")
    lose(served)
    assert served.session.events == [b"drain"]
    assert served.session.lost_calls == 1


def test_lost_is_called_after_the_last_handler(served: Served) -> None:
    served.connection.dataReceived(b"wait\na\n")
    lose(served)
    assert served.session.lost_calls == 0
    assert served.session.gate is not None
    served.session.gate.callback(None)
    assert served.session.lost_calls == 1
    assert served.session.events == [b"wait"]


def test_close_sends_the_last_words_and_takes_no_more(served: Served) -> None:
    served.sent()
    served.connection.dataReceived(b"quit\na\n")
    assert served.sent() == b"bye\n"
    assert served.transport.disconnecting
    assert served.session.events == [b"quit"]


def test_half_closed_client_gets_its_answers(served: Served) -> None:
    served.sent()
    served.connection.dataReceived(b"wait\na\n")
    served.connection.readConnectionLost()
    assert not served.transport.disconnecting
    assert served.session.gate is not None
    served.session.gate.callback(None)
    assert served.sent() == b"wait!\na!\n"
    assert served.transport.disconnecting


def test_a_bug_in_a_session_closes_the_connection_alone(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.connection.dataReceived(b"crash\n")
    assert served.transport.aborted
    assert "a bug" in caplog.text
    assert served.connection.id in caplog.text


def test_a_session_that_cannot_be_opened_gives_its_place_back(served: Served) -> None:
    def open_session(channel: Any) -> EchoSession:
        raise RuntimeError("a bug")

    limits = ConnectionLimits(1, 1)
    service = dataclasses.replace(make_service(served.clock, limits, []), open_session=open_session)
    connection = ServiceFactory(service).buildProtocol(IPv4Address("TCP", "192.0.2.9", 4000))
    transport = Transport()
    connection.makeConnection(transport)
    assert transport.aborted
    connection.connectionLost(connectionDone)
    assert limits.admit("192.0.2.9") is None


def test_an_idle_client_is_told_and_closed(served: Served) -> None:
    served.sent()
    served.clock.advance(60)
    served.connection.dataReceived(b"a\n")
    served.clock.advance(60)
    assert served.sent() == b"a!\n"
    served.clock.advance(41)
    assert served.sent() == b"too slow\n"
    assert served.transport.disconnecting


def test_an_idle_timeout_shorter_than_the_login_timeout_holds(served: Served) -> None:
    session = EchoSession(None, idle_timeout=3)
    service = dataclasses.replace(
        make_service(served.clock, served.limits, []), open_session=lambda channel: session, login_timeout=60
    )
    connection = ServiceFactory(service).buildProtocol(IPv4Address("TCP", "192.0.2.9", 4000))
    transport = Transport()
    connection.makeConnection(transport)
    served.clock.advance(4)
    assert transport.value() == b"hello\ntoo slow\n"


def test_a_deadline_of_the_session_holds_for_the_busiest_client(served: Served) -> None:
    served.session.deadline = served.clock.monotonic() + 250
    for _ in range(9):
        served.connection.dataReceived(b"a\n")
        assert not served.transport.disconnecting
        served.clock.advance(27)
    served.connection.dataReceived(b"wait\n")
    served.clock.advance(60)
    assert not served.transport.disconnecting, "work of ours is waited for"
    assert served.session.gate is not None
    served.session.gate.callback(None)
    served.clock.advance(100)
    assert served.sent().endswith(b"wait!\ntoo slow\n") and served.transport.disconnecting


def test_long_work_is_not_idleness(served: Served) -> None:
    served.connection.dataReceived(b"wait\n")
    served.clock.advance(1000)
    assert not served.transport.disconnecting


def test_a_client_that_stops_reading_is_cut(served: Served) -> None:
    served.connection.pauseProducing()
    served.connection.dataReceived(b"drain\n")
    served.clock.advance(101)
    assert served.transport.aborted


def test_a_client_that_does_not_log_in_is_closed_however_busy_it_is(served: Served) -> None:
    session = EchoSession(None, awaits_login=True)
    service = dataclasses.replace(make_service(served.clock, served.limits, []), open_session=lambda channel: session)
    connection = ServiceFactory(service).buildProtocol(IPv4Address("TCP", "192.0.2.9", 4000))
    assert isinstance(connection, ServedConnection)
    transport = Transport()
    connection.makeConnection(transport)
    for _ in range(11):
        connection.dataReceived(b"a\n")
        served.clock.advance(1)
    assert transport.value().endswith(b"too slow\n")


def test_who_logs_out_has_the_login_timeout_again(served: Served) -> None:
    served.connection.dataReceived(b"login\n")
    served.clock.advance(60)
    served.connection.dataReceived(b"logout\n")
    for _ in range(9):
        served.connection.dataReceived(b"a\n")
        served.clock.advance(1)
    assert not served.transport.disconnecting
    served.clock.advance(1)
    assert served.sent().endswith(b"too slow\n")


def test_who_logs_out_and_in_again_has_the_idle_timeout(served: Served) -> None:
    served.connection.dataReceived(b"login\nlogout\nlogin\n")
    served.clock.advance(99)
    assert not served.transport.disconnecting
    served.clock.advance(1)
    assert served.sent().endswith(b"too slow\n")


def test_connections_are_limited_by_address_and_given_back(served: Served) -> None:
    factory = ServiceFactory(make_service(served.clock, served.limits, []))
    assert isinstance(factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 4001)), ServedConnection)
    refused = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 4002))
    assert isinstance(refused, RefusedConnection)
    transport = StringTransport()
    refused.makeConnection(transport)
    assert transport.value() == b"no: ADDRESS\n"
    assert transport.disconnecting
    assert isinstance(factory.buildProtocol(IPv4Address("TCP", "192.0.2.2", 4003)), ServedConnection)
    lose(served)
    assert isinstance(factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 4004)), ServedConnection)


def test_octets_that_complete_no_command_do_not_count_as_activity(served: Served) -> None:
    for _ in range(11):
        served.connection.dataReceived(b"x")
        served.clock.advance(10)
    assert served.sent() == b"hello\ntoo slow\n"
    assert served.transport.disconnecting


# The stop of the server


def stop(served: Served) -> None:
    run(stop_connections([served.connection._service], served.clock))


def test_at_the_stop_an_idle_client_is_told_and_closed(served: Served) -> None:
    stop(served)
    assert served.sent() == b"hello\nno: STOPPING\n"
    assert served.transport.disconnecting


def test_at_the_stop_the_command_at_work_is_answered_and_no_further_one_begun(served: Served) -> None:
    served.connection.dataReceived(b"wait\nnext\n")
    assert served.session.gate is not None
    served.clock.call_later(1.0, lambda: served.session.gate.callback(None))
    stop(served)
    assert served.sent() == b"hello\nwait!\nno: STOPPING\n"
    assert served.session.events == [b"wait"]
    assert served.transport.disconnecting


def test_at_the_stop_a_message_that_is_on_its_way_is_waited_for(served: Served) -> None:
    served.session.amid_message = True
    served.clock.call_later(1.0, lambda: served.connection.dataReceived(b"more\n"))
    served.clock.call_later(2.0, lambda: served.connection.dataReceived(b".\nnext\n"))
    stop(served)
    assert served.session.events == [b"more", b"."]
    assert served.sent() == b"hello\nmore!\n.!\nno: STOPPING\n"
    assert served.transport.disconnecting


def test_at_the_stop_a_message_that_does_not_end_is_not_waited_for_for_ever(served: Served) -> None:
    served.session.amid_message = True
    begun = served.clock.monotonic()
    stop(served)
    assert served.clock.monotonic() - begun < STOP_GRACE + STOP_FAREWELL + 1
    assert served.transport.aborted


def test_the_stop_does_not_wait_for_ever(served: Served) -> None:
    served.connection.dataReceived(b"wait\n")
    begun = served.clock.monotonic()
    stop(served)
    assert served.clock.monotonic() - begun < STOP_GRACE + STOP_FAREWELL + 1


def test_a_connection_that_has_ended_is_forgotten(served: Served) -> None:
    served.connection.connectionLost(connectionDone)
    assert served.connection._service.open == set()
    stop(served)


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (IPv4Address("TCP", "192.0.2.1", 4001), "192.0.2.1"),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 4001), "192.0.2.1"),
        (IPv6Address("TCP", "2001:db8::1", 4001), "2001:db8::1"),
        (UNIXAddress("/run/imap"), "local"),
    ],
)
def test_a_client_by_ipv4_has_that_address_on_a_socket_of_ipv6_too(served: Served, address: Any, peer: str) -> None:
    connection = ServiceFactory(make_service(served.clock, served.limits, [])).buildProtocol(address)
    assert isinstance(connection, ServedConnection)
    assert connection.peer == peer
