"""Sockets that several processes serve, in the process that binds them."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from twisted.internet.error import CannotListenError

from benchmarks.ports import free_ports
from mailserver.net.shared import BoundSockets
from tests.support.reactor import in_reactor


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def bound(port: int) -> Iterator[BoundSockets]:
    async def start(reactor: Any) -> BoundSockets:
        made = BoundSockets(reactor, f"tcp:{port}:interface=127.0.0.1", 2)
        made.privilegedStartService()
        return made

    made = in_reactor(start)
    yield made

    async def stop(_: Any) -> None:
        made.stopService()
        made.stopService()

    in_reactor(stop)


def fates(port: int) -> Counter[str]:
    """Of forty connections, when a second has gone."""
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(40)]
        time.sleep(1)
        return Counter(map(fate, connections))


def fate(connection: socket.socket) -> str:
    connection.settimeout(0.02)
    try:
        return "closed" if connection.recv(1) == b"" else "served"
    except ConnectionResetError:
        return "closed"
    except TimeoutError:
        return "waits"


def test_connections_wait_or_those_for_one_process_are_closed(port: int, bound: BoundSockets) -> None:
    async def turn(_: Any, away: bool) -> None:
        bound.turn_away(0, away)

    assert fates(port).keys() == {"waits"}
    in_reactor(lambda reactor: turn(reactor, True))
    assert fates(port).keys() == {"waits", "closed"}
    in_reactor(lambda reactor: turn(reactor, False))
    assert fates(port).keys() == {"waits"}


def test_nobody_else_may_share_the_port(port: int, bound: BoundSockets) -> None:
    async def start(reactor: Any) -> None:
        BoundSockets(reactor, f"tcp:{port}:interface=127.0.0.1", 2).privilegedStartService()

    with pytest.raises(CannotListenError, match="Address already in use"):
        in_reactor(start)


def test_who_has_a_copy_of_the_socket_goes_on_when_the_first_process_closes_its_own(
    port: int, bound: BoundSockets
) -> None:
    async def stop(_: Any) -> None:
        bound.stopService()

    copies = [socket.socket(fileno=os.dup(bound.of(number)[0])) for number in range(2)]
    try:
        in_reactor(stop)
        time.sleep(0.2)
        for copy in copies:
            copy.setblocking(False)
            with pytest.raises(BlockingIOError):
                copy.accept()
        assert fates(port).keys() == {"waits"}
    finally:
        for copy in copies:
            copy.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
