"""Who is served: each connection that comes in is admitted, refused with a word, or asked for its PROXY header first.

Promises   What is admitted is counted, and released at its end. A proxy's connection is that of the client it names.
On failure Too many connections, strangers on a port of proxies, and what is no PROXY header are refused and logged.
"""

from __future__ import annotations

import logging
from typing import Any

from twisted.internet import address, interfaces, protocol
from twisted.python.failure import Failure

from mailserver import metrics
from mailserver.net.connection import ServedConnection, Service
from mailserver.net.proxy import read_header
from mailserver.ports import Timer

log = logging.getLogger(__name__)

PROXY_TIMEOUT = 5.0  # seconds; a proxy sends its header at once
PROXY_WAITING = 256  # connections of one service whose header has not come


def _host(addr: interfaces.IAddress | None) -> str:
    """A client by IPv4 on a socket of IPv6 has its own address, in the log and in trace fields."""
    host = str(addr.host) if isinstance(addr, address.IPv4Address | address.IPv6Address) else "local"
    return host.removeprefix("::ffff:") if "." in host else host


class ServiceFactory(protocol.Factory):
    """Makes a connection for each client that is admitted."""

    noisy = False

    def __init__(self, service: Service) -> None:
        self._service = service

    def logPrefix(self) -> str:
        return self._service.name

    def buildProtocol(self, addr: interfaces.IAddress | None) -> protocol.Protocol:
        peer = _host(addr)
        proxies = self._service.proxies
        if proxies is None:
            return self.admit(peer)
        if peer not in proxies:
            log.warning("peer=%s service=%s refused: no proxy of ours", peer, self._service.name)
            self.count_refusal("proxy")
            return RefusedConnection(b"")
        if len(self._service.waiting) >= PROXY_WAITING:
            log.warning("peer=%s service=%s refused: too many connections without a header", peer, self._service.name)
            self.count_refusal("proxy")
            return RefusedConnection(b"")
        return ProxiedConnection(self, self._service, peer)

    def admit(self, peer: str) -> protocol.Protocol:
        """The protocol for a client, unless there are too many."""
        refusal = self._service.connections.admit(peer)
        if refusal is None:
            return ServedConnection(self._service, peer)
        self.count_refusal(refusal.name.lower())
        if not refusal.counted:
            log.warning("peer=%s service=%s refused: %s", peer, self._service.name, refusal.value)
        return RefusedConnection(b"" if self._service.implicit_tls else self._service.refuse(refusal))

    def count_refusal(self, reason: str) -> None:
        metrics.CONNECTIONS_REFUSED.add(self._service.protocol, reason)


class ProxiedConnection(protocol.Protocol):
    """Waits for the PROXY header, then makes room for the client's own connection, as if it had come from there."""

    transport: Any

    def __init__(self, factory: ServiceFactory, service: Service, proxy: str) -> None:
        self._factory = factory
        self._service = service
        self._proxy = proxy
        self._data = b""
        self._timer: Timer | None = None

    def connectionMade(self) -> None:
        self._service.waiting.add(self)
        self._timer = self._service.clock.call_later(PROXY_TIMEOUT, self.refuse)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            header = read_header(self._data)
        except ValueError as error:
            log.warning("peer=%s service=%s refused: %s", self._proxy, self._service.name, error)
            self._factory.count_refusal("proxy")
            self.refuse()
            return
        if header is not None:
            self._end()
            made = self._factory.admit(header.address or self._proxy)
            self.transport.protocol = made
            made.makeConnection(self.transport)
            if rest := self._data[header.length :]:
                self.transport.protocol.dataReceived(rest)  # TLS stands before `made` by now, where it is implicit

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._end()

    def refuse(self) -> None:
        self._end()
        self.transport.abortConnection()

    def _end(self) -> None:
        self._service.waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()


class RefusedConnection(protocol.Protocol):
    """Says one line and closes."""

    transport: Any

    def __init__(self, farewell: bytes) -> None:
        self._farewell = farewell

    def connectionMade(self) -> None:
        self.transport.write(self._farewell)
        self.transport.loseConnection()
