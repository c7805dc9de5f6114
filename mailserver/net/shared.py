"""Listening sockets that several processes serve: bound by the one that starts the others, accepted from by these.

Of a TCP port each process has a socket of its own, among which the system spreads the connections (SO_REUSEPORT); it
stays open in the first process, so that connections wait while a process is started again; where that takes long, they
are closed, and who comes again may come to another process. Others are shared by all.

Promises   All is bound before privileges are dropped. The process that binds accepts nothing.
On failure CannotListenError when a socket cannot be bound.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.application.service import Service as TwistedService
from twisted.internet import endpoints, protocol, tcp
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from mailserver.config.network import Endpoint, parse_endpoint
from mailserver.net.connection import Service
from mailserver.net.factory import ServiceFactory

BACKLOG = 128


class BoundSockets(TwistedService):
    """Of one listener, for `count` processes."""

    def __init__(self, reactor: Any, endpoint: str, count: int) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._count = count
        self._ports: list[Any] = []

    def privilegedStartService(self) -> None:
        parsed = parse_endpoint(self._endpoint)
        if parsed.kind in ("tcp", "tcp6"):
            self._look_for_others(parsed)
            self._ports = [self._own_socket(parsed) for _ in range(self._count)]
        else:
            self._ports = [self._common_socket()] * self._count
        for port in self._ports:
            port._shouldShutdown = False  # a worker may still take what came to its copy of the socket
            port.stopReading()

    def _look_for_others(self, endpoint: Endpoint) -> None:
        """A second server of this user could share the port in the same way, and get half of the connections."""
        port = tcp.Port(endpoint.port or 0, protocol.Factory(), interface=endpoint.where)
        with port.createInternetSocket() as alone:
            try:
                alone.bind((endpoint.where, port.port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:  # anything else the sockets themselves will tell
                    raise CannotListenError(endpoint.where, port.port, error) from error

    def _own_socket(self, endpoint: Endpoint) -> Any:
        port = _ReusedPort(endpoint.port or 0, _Nobody(), BACKLOG, endpoint.where, self._reactor)
        port.startListening()
        return port

    def _common_socket(self) -> Any:
        listening = endpoints.serverFromString(self._reactor, self._endpoint).listen(protocol.Factory())
        bound: list[Any] = []
        listening.addBoth(bound.append)  # binding is done at once
        if isinstance(bound[0], Failure):
            bound[0].raiseException()
        return bound[0]

    def of(self, number: int) -> tuple[int, socket.AddressFamily]:
        """The descriptor and the family of the socket for a process, counted from 0."""
        port = self._ports[number]
        return port.fileno(), socket.AddressFamily(port.addressFamily)

    def turn_away(self, number: int, away: bool) -> None:
        """What comes for that process alone is closed from now on, or waits for it again."""
        for port in self._ports[number : number + 1]:
            if isinstance(port, _ReusedPort):
                (port.startReading if away else port.stopReading)()

    def stopService(self) -> Any:
        """Also when it was stopped before."""
        ports, self._ports = set(self._ports), []
        for port in ports:
            port.stopListening()


class _Nobody(protocol.Factory):
    noisy = False

    def buildProtocol(self, addr: object) -> None:
        """None: the connection is closed."""


class _ReusedPort(tcp.Port):
    def createInternetSocket(self) -> socket.socket:
        made: socket.socket = super().createInternetSocket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return made


class AdoptedSocket(TwistedService):
    """Serves what comes in on a socket that another process bound; its descriptor is this service's to close."""

    def __init__(self, reactor: Any, fd: int, family: socket.AddressFamily, service: Service) -> None:
        self._reactor = reactor
        self._fd = fd
        self._family = family
        self._factory = ServiceFactory(service)
        self._port: Any = None

    def startService(self) -> None:
        super().startService()
        with socket.socket(fileno=self._fd) as adopted:
            adopted.setblocking(False)
            self._port = self._reactor.adoptStreamPort(adopted.fileno(), self._family, self._factory)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        if self._family is socket.AF_UNIX:  # to end the port would remove the name that the others still serve
            self._port.stopReading()
            return None
        stopped: Deferred[None] | None = self._port.stopListening()
        return stopped
