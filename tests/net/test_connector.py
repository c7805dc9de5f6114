"""Outbound connections: several addresses of one host, UNIX sockets, and what is told of a peer's certificate."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from OpenSSL import crypto
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from benchmarks.ports import free_ports
from mailserver.net import peer
from mailserver.net.connector import HEAD_START, OutboundConnection, ReactorConnector, in_turn
from mailserver.net.peer import LENGTH, describe
from mailserver.ports import ConnectFailure
from tests.support.reactor import in_reactor

A, B, C, SIX, SEVEN = "192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::6", "2001:db8::7"


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ([], []),
        ([A, B], [A, B]),
        ([A, B, SIX], [A, SIX, B]),
        ([SIX, SEVEN, A], [SIX, A, SEVEN]),
        ([SIX, A, B, C], [SIX, A, B, C]),
        ([A, A, SIX, A], [A, SIX]),
    ],
)
def test_families_take_turns(given: list[str], order: list[str]) -> None:
    assert in_turn(given) == order


# Several addresses, on time that the test moves


class Attempts:
    """What a connector tries, and what becomes of it."""

    def __init__(self, *addresses: str, timeout: float = 30.0) -> None:
        self.reactor = MemoryReactorClock()
        self.transports: dict[str, StringTransport] = {}
        connecting = ReactorConnector(self.reactor).connect_any(addresses, 25, timeout)
        self.deferred: Deferred[Any] = Deferred.fromCoroutine(connecting)
        self.outcome: list[Any] = []
        self.deferred.addBoth(self.outcome.append)

    @property
    def tried(self) -> list[str]:
        return [client[0] for client in self.reactor.tcpClients]

    @property
    def given_up(self) -> list[str]:
        return [a for a, c in zip(self.tried, self.reactor.connectors, strict=True) if c.stoppedConnecting]

    def fail(self, address: str, problem: Exception | None = None) -> None:
        factory = self.reactor.tcpClients[self.tried.index(address)][2]
        connector = self.reactor.connectors[self.tried.index(address)]
        factory.clientConnectionFailed(connector, Failure(problem or error.ConnectionRefusedError()))

    def succeed(self, address: str) -> None:
        protocol = self.reactor.tcpClients[self.tried.index(address)][2].buildProtocol(None)
        self.transports[address] = StringTransport()
        protocol.makeConnection(self.transports[address])

    @property
    def won(self) -> str:
        (connection,) = self.outcome
        assert not isinstance(connection, Failure)
        peer: str = connection.peer
        return peer

    @property
    def failure(self) -> str:
        (failure,) = self.outcome
        failure.trap(ConnectFailure)
        return str(failure.value)


def test_the_next_address_has_to_wait_a_little() -> None:
    attempts = Attempts(A, B, C)
    attempts.reactor.advance(HEAD_START - 0.01)
    assert attempts.tried == [A]
    attempts.reactor.advance(0.02)
    assert attempts.tried == [A, B]
    attempts.reactor.advance(HEAD_START)
    assert attempts.tried == [A, B, C]
    attempts.reactor.advance(10)
    assert attempts.outcome == []
    attempts.succeed(B)
    assert attempts.won == B
    assert attempts.given_up == [A, C]


def test_the_first_one_that_answers_leaves_the_others_alone() -> None:
    attempts = Attempts(A, B)
    attempts.succeed(A)
    assert attempts.won == A
    attempts.reactor.advance(60)
    assert attempts.tried == [A]
    assert attempts.reactor.getDelayedCalls() == []


def test_after_a_failure_the_next_one_is_tried_at_once_and_has_its_own_time() -> None:
    attempts = Attempts(A, SIX, B)
    attempts.reactor.advance(HEAD_START - 0.1)
    attempts.fail(A)
    assert attempts.tried == [A, SIX]
    attempts.reactor.advance(HEAD_START - 0.1)
    assert attempts.tried == [A, SIX]
    attempts.reactor.advance(0.2)
    assert attempts.tried == [A, SIX, B]


def test_a_failure_while_others_are_under_way() -> None:
    attempts = Attempts(A, B)
    attempts.reactor.advance(HEAD_START)
    attempts.fail(B)
    assert attempts.outcome == []
    attempts.succeed(A)
    assert attempts.won == A


def test_when_all_fail_all_are_named() -> None:
    attempts = Attempts(A, SIX)
    attempts.fail(A)
    attempts.fail(SIX, error.TimeoutError())
    assert attempts.failure.startswith("no connection to 192.0.2.1 port 25: Connection was refused")
    assert "; 2001:db8::6 port 25: User timeout caused connection failure" in attempts.failure
    assert attempts.reactor.getDelayedCalls() == []


def test_the_timeout_is_that_of_each() -> None:
    attempts = Attempts(A, B, timeout=7.0)
    attempts.fail(A)
    assert [client[3] for client in attempts.reactor.tcpClients] == [7.0, 7.0]


def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    attempts = Attempts(A, B, C)
    attempts.reactor.advance(HEAD_START)
    attempts.deferred.cancel()
    attempts.reactor.advance(60)
    assert attempts.given_up == attempts.tried == [A, B]
    assert attempts.reactor.getDelayedCalls() == []


def test_a_host_without_an_address() -> None:
    assert Attempts().failure == "no connection to a host without an address"


def test_a_fault_of_this_program_is_not_taken_for_one_of_the_network() -> None:
    attempts = Attempts(A, B)
    attempts.fail(A, TypeError("no"))
    (failure,) = attempts.outcome
    assert failure.check(TypeError)
    assert attempts.tried == [A]


# The time of a connection


class Connected:
    """A connection on time that the test moves."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.transport = StringTransport()
        self.connection = OutboundConnection(self.reactor, A)
        self.connection.makeConnection(self.transport)

    def read(self, timeout: float) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self.connection.read(timeout))


def test_a_wait_ends_by_its_own_time_whatever_was_waited_for_before() -> None:
    connected = Connected()
    greeting = connected.read(300.0)
    connected.reactor.advance(10.0)
    connected.connection.dataReceived(b"220\r\n")
    assert greeting.result == b"220\r\n"
    answer = connected.read(20.0)  # sooner than what the timer is set for
    connected.reactor.advance(19.0)
    assert not answer.called
    connected.connection.dataReceived(b"250\r\n")
    assert answer.result == b"250\r\n"
    late = connected.read(100.0)  # beyond it
    connected.reactor.advance(1.0)
    connected.reactor.advance(98.0)
    assert not late.called and not connected.transport.disconnected
    connected.reactor.advance(1.0)
    failed: list[Failure] = []
    late.addErrback(failed.append)
    assert connected.transport.disconnected and "no answer within 100 s" in str(failed[0].value)


def test_nothing_is_left_of_the_time_of_a_connection_that_is_gone() -> None:
    connected = Connected()
    answer = connected.read(300.0)
    connected.connection.connectionLost(Failure(error.ConnectionDone()))
    assert answer.result == b"" and not connected.reactor.getDelayedCalls()


# With real sockets


def test_a_dead_address_is_passed_over() -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.2", port)):

        async def use(reactor: Any) -> str:
            connection = await ReactorConnector(reactor).connect_any(["127.0.0.1", "::1", "127.0.0.2"], port, 60)
            connection.close()
            assert connection.certificate is None
            return connection.peer

        assert in_reactor(use) == "127.0.0.2"


def test_an_address_that_does_not_answer_is_not_waited_for() -> None:
    (port,) = free_ports(1)
    with socket.socket() as full, socket.create_server(("127.0.0.2", port)):
        full.bind(("127.0.0.1", port))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(3):  # its queue is full: it answers nobody any more
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())

            async def use(reactor: Any) -> tuple[str, float]:
                begun = reactor.seconds()
                addresses = ["127.0.0.1", "127.0.0.2"]
                connection = await ReactorConnector(reactor).connect_any(addresses, port, 60)
                connection.close()
                return connection.peer, reactor.seconds() - begun

            address, took = in_reactor(use)
    assert address == "127.0.0.2"
    assert HEAD_START * 0.9 < took < 20


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())

        thread = threading.Thread(target=serve)
        thread.start()

        async def use(reactor: Any) -> tuple[str, bytes, bytes]:
            connection = await ReactorConnector(reactor).connect_unix(path, 60)
            assert (connection.tls, connection.certificate) == (None, None)
            await connection.write(b"lhlo", 5)
            found = connection.peer, await connection.read(60), await connection.read(60)
            connection.close()
            return found

        assert in_reactor(use) == (path, b"LHLO", b"")
        thread.join()


def test_a_unix_socket_that_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "nothing")

    async def use(reactor: Any) -> str:
        with pytest.raises(ConnectFailure) as caught:
            await ReactorConnector(reactor).connect_unix(path, 60)
        return str(caught.value)

    assert in_reactor(use).startswith(f"no connection to {path}: ")


# Certificates


@pytest.fixture
def issuer() -> trustme.CA:
    return trustme.CA(organization_name="A trusted one")


@pytest.fixture
def trusted(issuer: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(x509.load_pem_x509_certificate(issuer.cert_pem.bytes())))
    monkeypatch.setattr(peer, "_system", lambda: (None, store))
    return None


def told(issued: trustme.LeafCert, server_name: str) -> str | None:
    """What a connection with encryption alone tells of its peer."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()

        async def use(reactor: Any) -> str | None:
            connection = await ReactorConnector(reactor).connect_any(["127.0.0.1"], listener.getsockname()[1], 60)
            assert connection.certificate is None
            await connection.start_tls(server_name, 60)
            certificate: str | None = connection.certificate
            connection.close()
            return certificate

        found = in_reactor(use)
        thread.join()
    return found


@pytest.mark.usefixtures("trusted")
def test_a_certificate_that_holds(issuer: trustme.CA) -> None:
    issued = issuer.issue_cert("mx.example.net", "mail.example.net", "a.example.net", "b.example.net")
    assert told(issued, "mail.example.net") == (
        "for mx.example.net mail.example.net a.example.net and 1 more, issued by A trusted one, verified"
    )
    assert told(issued, "other.example.net") == (
        "for mx.example.net mail.example.net a.example.net and 1 more, issued by A trusted one, "
        "not verified: it does not hold for other.example.net"
    )


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_an_address(issuer: trustme.CA) -> None:
    issued = issuer.issue_cert("192.0.2.1")
    assert told(issued, "192.0.2.1") == "for 192.0.2.1, issued by A trusted one, verified"
    assert "does not hold for 192.0.2.2" in str(told(issued, "192.0.2.2"))


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_somebody_else() -> None:
    issued = trustme.CA(organization_name="Mallory").issue_cert("mx.example.net")
    found = told(issued, "mx.example.net")
    assert found is not None
    assert found.startswith("for mx.example.net, issued by Mallory, not verified: ")
    assert "unable to get" in found or "self" in found


def test_the_system_has_its_trusted_ones() -> None:
    context, store = peer._system()
    assert isinstance(store, crypto.X509Store)
    assert context.get_cert_store() is not None, "who owns the store is kept"


def made(subject: str, *names: str) -> x509.Certificate:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
    return builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, SHA256())


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        (made("mx.example"), "for mx.example, issued by mx.example"),
        (made("mx.example", "mx.example", "b.example"), "for mx.example b.example, issued by mx.example"),
        (made("", "b.example"), "for b.example, issued by nobody"),
        (made(""), "for nobody, issued by nobody"),
        (made("a\r\nlog: line\x1b[1m\u2028"), "for a??log: line?[1m?, issued by a??log: line?[1m?"),
    ],
)
def test_what_stands_in_a_certificate_is_made_printable(certificate: x509.Certificate, text: str) -> None:
    assert describe(certificate) == text


def test_what_stands_in_a_certificate_is_cut() -> None:
    name = ".".join(["a" * 60] * 4)
    assert describe(made("", name)) == f"for {name[:LENGTH]}..., issued by nobody"


def test_a_certificate_that_nothing_can_be_made_of(
    issuer: trustme.CA, monkeypatch: pytest.MonkeyPatch, trusted: None
) -> None:
    def fail(certificate: object) -> str:
        raise ValueError("error parsing asn1 value")

    monkeypatch.setattr(peer, "describe", fail)
    assert told(issuer.issue_cert("mx.example.net"), "mx.example.net") == "a certificate that cannot be read"
