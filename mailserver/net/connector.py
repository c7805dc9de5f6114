"""Outbound connections for the relay.

Promises   Reading pauses while more than `READ_AHEAD` octets are unread. Every wait ends by its timeout.
           At STARTTLS whatever came in clear after the go-ahead is dropped.
           Of several addresses the next is tried after `HEAD_START`, or at once when one fails, IPv4 and IPv6 in turn;
           the first connection counts and no other stays open (RFC 8305 §5).
On failure ConnectFailure with a text that names the cause; the connection is closed then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

from twisted.internet import defer, endpoints, error, interfaces, protocol
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.net.peer import peer_certificate
from mailserver.net.tls import client_tls, tls_state
from mailserver.net.transport import write
from mailserver.ports import ConnectFailure, TLSState

READ_AHEAD = 64 * 1024
HEAD_START = 0.5  # seconds that an address has for itself before the next one is tried as well


class ReactorConnector:
    """The Connector port."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    async def connect_any(self, addresses: Sequence[str], port: int, timeout: float) -> OutboundConnection:
        race = _Race(self._reactor, in_turn(addresses), port, timeout)
        connection = await race.result
        if connection is None:
            raise ConnectFailure(f"no connection to {'; '.join(race.problems) or 'a host without an address'}")
        return connection

    async def connect_unix(self, path: str, timeout: float) -> OutboundConnection:
        endpoint = endpoints.UNIXClientEndpoint(self._reactor, path, timeout)
        try:
            connection = await endpoint.connect(_Factory(self._reactor, path))
        except (error.ConnectError, OSError) as problem:
            raise ConnectFailure(f"no connection to {path}: {problem}") from problem
        assert isinstance(connection, OutboundConnection)
        return connection


def in_turn(addresses: Sequence[str]) -> list[str]:
    """Each once; IPv6 and IPv4 by turns, the family of the first one first, else in their order (RFC 8305 §4)."""
    families: dict[bool, list[str]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(":" in address, []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


class _Race:
    """Attempts at the addresses. `result` is the first connection, None when there is none; `problems` says why."""

    def __init__(self, reactor: Any, addresses: Sequence[str], port: int, timeout: float) -> None:
        self._reactor = reactor
        self._addresses = deque(addresses)
        self._port = port
        self._timeout = timeout
        self._running: list[Deferred[Any]] = []
        self._next: Any = None
        self.problems: list[str] = []
        self.result: Deferred[OutboundConnection | None] = Deferred(lambda _: self._end())
        self._start()

    def _start(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        if not self._addresses:
            if not self._running and not self.result.called:
                self.result.callback(None)
            return
        address = self._addresses.popleft()
        if self._addresses:
            self._next = self._reactor.callLater(HEAD_START, self._start)
        endpoint_of = endpoints.TCP6ClientEndpoint if ":" in address else endpoints.TCP4ClientEndpoint
        endpoint = endpoint_of(self._reactor, address, self._port, self._timeout)
        attempt: Deferred[Any] = endpoint.connect(_Factory(self._reactor, address))
        self._running.append(attempt)
        attempt.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt, address))

    def _won(self, connection: OutboundConnection, attempt: Deferred[Any]) -> None:
        self._running.remove(attempt)
        self._end()  # before anything else can connect
        self.result.callback(connection)

    def _lost(self, failure: Failure, attempt: Deferred[Any], address: str) -> None:
        self._running.remove(attempt)
        if failure.check(error.ConnectingCancelledError):
            return
        if not failure.check(error.ConnectError, OSError):
            self._end()
            self.result.errback(failure)
            return
        self.problems.append(f"{address} port {self._port}: {failure.value}")
        self._start()

    def _end(self) -> None:
        """No further attempt, and those that are under way are given up."""
        self._addresses.clear()
        if self._next is not None and self._next.active():
            self._next.cancel()
        for attempt in tuple(self._running):
            attempt.cancel()


@implementer(interfaces.IPushProducer, interfaces.IHandshakeListener)
class OutboundConnection(protocol.Protocol):
    """The Connection port."""

    transport: Any

    def __init__(self, reactor: Any, peer: str) -> None:
        self._reactor = reactor
        self.peer = peer
        self._server_name = ""
        self._verified = False
        self._input = bytearray()
        self._lost: str | None = None
        self._reading = True
        self._writable = True
        self._waiting: dict[str, tuple[Deferred[None], float]] = {}  # "read", "write", "handshake"; until when
        self._timer: Any = None

    # The transport's side

    def connectionMade(self) -> None:
        if hasattr(self.transport, "setTcpNoDelay"):  # a UNIX socket has none
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
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

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

    @property
    def certificate(self) -> str | None:
        return peer_certificate(self.transport, self._server_name, verified=self._verified)

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
            write(self.transport, data)
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
            self._server_name, self._verified = server_name, verify
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
        self._waiting[what] = waiting, self._reactor.seconds() + timeout
        self._look_at_time()
        try:
            await waiting
        except defer.TimeoutError:
            self._abort()
            raise ConnectFailure(f"{problem} within {timeout:.0f} s") from None

    def _wake(self, what: str) -> None:
        waiting, _ = self._waiting.pop(what, (None, 0.0))
        if waiting is not None:
            waiting.callback(None)

    def _look_at_time(self) -> None:
        """One timer for all that is waited for, one after the other: it stays set when an answer has come."""
        now = self._reactor.seconds()
        for what, (waiting, until) in tuple(self._waiting.items()):
            if until <= now:
                del self._waiting[what]
                waiting.errback(defer.TimeoutError())
        first = min((until for _, until in self._waiting.values()), default=None)
        active = self._timer is not None and self._timer.active()
        if first is not None and not (active and self._timer.getTime() <= first):
            if active:
                self._timer.cancel()
            self._timer = self._reactor.callLater(max(first - now, 0.0), self._look_at_time)

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

    def __init__(self, reactor: Any, peer: str) -> None:
        self._reactor = reactor
        self._peer = peer

    def buildProtocol(self, addr: interfaces.IAddress | None) -> OutboundConnection:
        return OutboundConnection(self._reactor, self._peer)
