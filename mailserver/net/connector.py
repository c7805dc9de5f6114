"""Outbound connections for the relay.

Promises   Reading pauses while more than `READ_AHEAD` octets are unread. Every wait ends by its timeout.
           At STARTTLS whatever came in clear after the go-ahead is dropped.
On failure ConnectFailure with a text that names the cause; the connection is closed then.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, endpoints, error, interfaces, protocol
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.net.tls import client_tls, tls_state
from mailserver.ports import ConnectFailure, TLSState

READ_AHEAD = 64 * 1024


class ReactorConnector:
    """The Connector port."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    async def connect(self, address: str, port: int, timeout: float) -> OutboundConnection:
        endpoint_of = endpoints.TCP6ClientEndpoint if ":" in address else endpoints.TCP4ClientEndpoint
        endpoint = endpoint_of(self._reactor, address, port, timeout)
        try:
            connection = await endpoint.connect(_Factory(self._reactor))
        except (error.ConnectError, OSError) as problem:
            raise ConnectFailure(f"no connection to {address} port {port}: {problem}") from problem
        assert isinstance(connection, OutboundConnection)
        return connection


@implementer(interfaces.IPushProducer, interfaces.IHandshakeListener)
class OutboundConnection(protocol.Protocol):
    """The Connection port."""

    transport: Any

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._input = bytearray()
        self._lost: str | None = None
        self._reading = True
        self._writable = True
        self._waiting: dict[str, Deferred[None]] = {}  # "read", "write", "handshake"

    # The transport's side

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self._input += data
        self._regulate_reading()
        self._wake("read")

    def handshakeCompleted(self) -> None:
        self._wake("handshake")

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        clean = isinstance(reason.value, error.ConnectionDone)
        self._lost = "" if clean else f"the connection broke: {reason.value or type(reason.value).__name__}"
        for what in tuple(self._waiting):
            self._wake(what)

    def pauseProducing(self) -> None:
        self._writable = False

    def resumeProducing(self) -> None:
        self._writable = True
        self._wake("write")

    def stopProducing(self) -> None:
        self.transport.abortConnection()

    # The Connection port

    @property
    def tls(self) -> TLSState | None:
        return tls_state(self.transport)

    async def read(self, timeout: float) -> bytes:
        if not self._input and self._lost is None:
            await self._wait("read", timeout, "no answer")
        if not self._input and self._lost:
            raise ConnectFailure(self._lost)
        data = bytes(self._input)
        self._input.clear()
        self._regulate_reading()
        return data

    async def write(self, data: bytes, timeout: float) -> None:
        if self._lost is None:
            self.transport.write(data)
            if not self._writable:
                await self._wait("write", timeout, "the remote does not read")
        if self._lost is not None:
            raise ConnectFailure(self._lost or "the remote closed the connection")

    async def start_tls(self, server_name: str, timeout: float, *, verify: bool = False) -> None:
        self._input.clear()
        self._regulate_reading()
        if self._lost is None:
            self.transport.startTLS(client_tls(server_name, verify=verify))
            await self._wait("handshake", timeout, "no TLS handshake")
        if self._lost is not None:
            raise ConnectFailure(f"TLS failed: {self._lost or 'the remote closed the connection'}")

    def close(self) -> None:
        if self._lost is None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self._reactor.callLater(5, self._abort)

    def _abort(self) -> None:
        if self._lost is None:
            self.transport.abortConnection()

    async def _wait(self, what: str, timeout: float, problem: str) -> None:
        waiting: Deferred[None] = Deferred()
        self._waiting[what] = waiting
        waiting.addTimeout(timeout, self._reactor)
        try:
            await waiting
        except defer.TimeoutError:
            self._waiting.pop(what, None)
            self._abort()
            raise ConnectFailure(f"{problem} within {timeout:.0f} s") from None

    def _wake(self, what: str) -> None:
        waiting = self._waiting.pop(what, None)
        if waiting is not None:
            waiting.callback(None)

    def _regulate_reading(self) -> None:
        wanted = len(self._input) <= READ_AHEAD
        if wanted != self._reading and self._lost is None:
            self._reading = wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()


class _Factory(protocol.Factory):
    noisy = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def buildProtocol(self, addr: interfaces.IAddress | None) -> OutboundConnection:
        return OutboundConnection(self._reactor)
