"""Writing at once, over real sockets: all octets, in order, to clients that read late or go away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
from twisted.internet import tcp
from twisted.internet.protocol import Protocol

from mailserver.net.transport import write


class _Reactor:
    """Knows what a connection waits for."""

    def __init__(self) -> None:
        self.writers: set[object] = set()

    def addReader(self, reader: object) -> None: ...

    def removeReader(self, reader: object) -> None: ...

    def addWriter(self, writer: object) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: object) -> None:
        self.writers.discard(writer)

    def callLater(self, delay: float, call: Callable[[], object]) -> None: ...


@pytest.fixture
def ends() -> tuple[tcp.Server, socket.socket, _Reactor]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted, address = listening.accept()
    accepted.setblocking(False)
    client.settimeout(60)
    reactor = _Reactor()
    server = tcp.Server(accepted, Protocol(), address, None, 0, reactor)  # type: ignore[arg-type]
    return server, client, reactor


def test_a_short_answer_is_there_before_the_reactor_turns(ends: tuple[tcp.Server, socket.socket, _Reactor]) -> None:
    server, client, reactor = ends
    write(server, b"250 2.0.0 Ok\r\n")
    assert client.recv(100) == b"250 2.0.0 Ok\r\n"
    assert not reactor.writers


def test_what_the_socket_does_not_take_follows_in_order(ends: tuple[tcp.Server, socket.socket, _Reactor]) -> None:
    server, client, reactor = ends
    pieces = [bytes([number]) * 300_000 for number in range(40)]
    for piece in pieces:
        write(server, piece)
    assert reactor.writers == {server}
    got = bytearray()

    def read() -> None:
        while len(got) < 40 * 300_000:
            got.extend(client.recv(65536))

    reader = threading.Thread(target=read)
    reader.start()
    while reactor.writers:
        assert server.doWrite() is None
    write(server, b"")
    reader.join(60)
    assert bytes(got) == b"".join(pieces)


def test_a_client_that_is_gone_is_found_by_the_reactor(ends: tuple[tcp.Server, socket.socket, _Reactor]) -> None:
    server, client, reactor = ends
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # it breaks the connection off
    client.close()
    write(server, b"lost")
    write(server, b"too")
    assert reactor.writers == {server} and isinstance(server.doWrite(), Exception)


def test_with_tls_it_is_twisteds_own(ends: tuple[tcp.Server, socket.socket, _Reactor]) -> None:
    server, client, _ = ends
    taken: list[bytes] = []
    server.TLS = True
    server.protocol = type("TLS", (), {"write": lambda _, data: taken.append(data)})()
    write(server, b"secret")
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert taken == [b"secret"]
