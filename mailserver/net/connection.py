"""One connection class for all protocols: the pump between a transport, an engine and a session.

Promises   Events reach the session one at a time and in order; the answers to pipelined commands leave in few writes.
           Reading pauses while the engine holds more than `READ_AHEAD` octets, and `drain` waits while the transport
           holds more than it likes, so that neither a fast nor a slow client makes memory grow.
           `lost` is called once, after the last handler has ended.
           A client that is silent for the session's idle timeout is told so and closed; one that does not shake hands
           or log in within the login timeout likewise, whatever it sends meanwhile.
On failure An exception of a session is logged with the session's id, and the connection closed.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from twisted.internet import address, interfaces, protocol
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver.net.tls import CertificateStore, tls_state
from mailserver.policy.connections import ConnectionLimits, Refusal
from mailserver.ports import Channel, Clock, Disconnected, Timer, TLSState

log = logging.getLogger(__name__)

READ_AHEAD = 256 * 1024
FAREWELL = 10.0  # seconds for the last octets to leave


class Engine(Protocol):
    """The part of a protocol engine that the pump needs."""

    def receive_data(self, data: bytes) -> None: ...

    def next_event(self) -> Any | None: ...

    def data_to_send(self) -> bytes: ...

    @property
    def buffered(self) -> int: ...


class Session(Protocol):
    """What is spoken on one connection."""

    @property
    def engine(self) -> Engine: ...

    @property
    def idle_timeout(self) -> float: ...

    @property
    def awaits_login(self) -> bool:
        """True while the client has still to log in: then the login timeout runs, which no input sets back."""

    async def opened(self) -> None: ...

    async def handle(self, event: Any) -> None: ...

    def timed_out(self) -> None: ...

    def lost(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Service:
    """What a listener serves. `refuse` gives the last words to a client that is turned away."""

    name: str
    open_session: Callable[[Channel], Session]
    refuse: Callable[[Refusal], bytes]
    connections: ConnectionLimits
    clock: Clock
    login_timeout: float
    certificates: CertificateStore | None
    implicit_tls: bool


@implementer(interfaces.IPushProducer, interfaces.IHandshakeListener, interfaces.IHalfCloseableProtocol)
class ServedConnection(protocol.Protocol):
    """The Channel port, over a Twisted transport."""

    transport: Any

    def __init__(self, service: Service, peer: str) -> None:
        self._service = service
        self.peer = peer
        self.id = secrets.token_hex(5)
        self.local_port = 0
        self._session: Session | None = None
        self._busy = False
        self._closing = False
        self._connected = False
        self._reading = True
        self._writable = True
        self._end_of_input = False
        self._draining: list[Deferred[None]] = []
        self._timer: Timer | None = None
        self._active = self._made = service.clock.monotonic()

    # The transport's side

    def connectionMade(self) -> None:
        self._connected = True
        self.local_port = getattr(self.transport.getHost(), "port", 0)
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._timer = self._service.clock.call_later(self._service.login_timeout, self._look_at_time)
        if self._service.implicit_tls:
            self.transport.startTLS(self._service.certificates)
        else:
            self._pump()

    def handshakeCompleted(self) -> None:
        state = self.tls
        log.info("session=%s peer=%s tls=%s", self.id, self.peer, state)
        if self._session is None:
            self._pump()

    def dataReceived(self, data: bytes) -> None:
        if self._closing or self._session is None:
            return
        self._active = self._service.clock.monotonic()
        self._session.engine.receive_data(data)
        self._pump()

    def readConnectionLost(self) -> None:
        """The client sends no more; what it has sent is still answered."""
        self._end_of_input = True
        if not self._busy:
            self.close()

    def writeConnectionLost(self) -> None:
        self._abort()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._connected = False
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._release_drain()
        if not self._busy:
            self._end()

    def pauseProducing(self) -> None:
        self._writable = False

    def resumeProducing(self) -> None:
        self._writable = True
        self._active = self._service.clock.monotonic()
        self._release_drain()

    def stopProducing(self) -> None:
        self._abort()

    # The session's side: the Channel port

    @property
    def tls(self) -> TLSState | None:
        return tls_state(self.transport)

    @property
    def loopback(self) -> bool:
        return is_loopback(self.peer)

    def flush(self) -> None:
        if self._connected and not self._closing and self._session is not None:
            data = self._session.engine.data_to_send()
            if data:
                self._active = self._service.clock.monotonic()
                self.transport.write(data)

    async def drain(self) -> None:
        self.flush()
        if self._connected and not self._writable:
            drained: Deferred[None] = Deferred()
            self._draining.append(drained)
            await drained
        if not self._connected:
            raise Disconnected

    def start_tls(self) -> None:
        self.flush()
        if self._connected and not self._closing:
            self.transport.startTLS(self._service.certificates)

    def close(self) -> None:
        if self._closing:
            return
        self.flush()
        self._closing = True
        if self._connected:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._service.clock.call_later(FAREWELL, self._abort)

    # The pump

    def _pump(self) -> None:
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._run()).addErrback(self._failed)
        self._regulate_reading()

    async def _run(self) -> None:
        try:
            session = self._session or await self._open()
            while not self._closing and (event := session.engine.next_event()) is not None:
                await session.handle(event)
                self._regulate_reading()
                if not self._writable:  # answers pile up at a client that asks and does not read
                    await self.drain()
            self.flush()
        except Disconnected:
            pass
        finally:
            self._busy = False
            self._active = self._service.clock.monotonic()
            if not self._connected:
                self._end()
            elif self._end_of_input:
                self.close()

    async def _open(self) -> Session:
        log.info("session=%s peer=%s service=%s opened", self.id, self.peer, self._service.name)
        self._session = session = self._service.open_session(cast(Channel, self))
        await session.opened()
        self._look_at_time()  # the session's own deadline may come first
        return session

    def _regulate_reading(self) -> None:
        if self._closing or self._session is None:
            return
        wanted = self._session.engine.buffered <= READ_AHEAD
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _failed(self, failure: Failure) -> None:
        log.critical("session=%s peer=%s failed: %s", self.id, self.peer, failure.getTraceback())
        self._abort()

    def _look_at_time(self) -> None:
        """Comes when a deadline may have passed; sets itself again for the next one."""
        if self._timer is not None:
            self._timer.cancel()
        if self._closing:
            return
        now = self._service.clock.monotonic()
        session = self._session
        deadline = self._made + self._service.login_timeout
        if session is not None and not session.awaits_login:
            working = self._busy and not self._draining  # waiting for a slow reader is no work
            idle_since = now if working else self._active
            deadline = idle_since + session.idle_timeout
        if now < deadline:
            self._timer = self._service.clock.call_later(deadline - now, self._look_at_time)
            return
        log.info("session=%s peer=%s timed out", self.id, self.peer)
        if session is None or not self._writable:
            self._abort()
            return
        session.timed_out()
        self.close()

    def _release_drain(self) -> None:
        draining, self._draining = self._draining, []
        for drained in draining:
            drained.callback(None)

    def _abort(self) -> None:
        self._closing = True
        if self._connected:
            self.transport.abortConnection()

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.lost()
            log.info("session=%s peer=%s closed", self.id, self.peer)
        self._service.connections.release(self.peer)


class ServiceFactory(protocol.Factory):
    """Makes a connection for each client that is admitted."""

    noisy = False

    def __init__(self, service: Service) -> None:
        self._service = service

    def buildProtocol(self, addr: interfaces.IAddress | None) -> protocol.Protocol:
        peer = addr.host if isinstance(addr, address.IPv4Address | address.IPv6Address) else "local"
        refusal = self._service.connections.admit(peer)
        if refusal is None:
            return ServedConnection(self._service, peer)
        log.warning("peer=%s service=%s refused: %s", peer, self._service.name, refusal.value)
        return RefusedConnection(b"" if self._service.implicit_tls else self._service.refuse(refusal))


class RefusedConnection(protocol.Protocol):
    """Says one line and closes."""

    transport: Any

    def __init__(self, farewell: bytes) -> None:
        self._farewell = farewell

    def connectionMade(self) -> None:
        self.transport.write(self._farewell)
        self.transport.loseConnection()


def is_loopback(peer: str) -> bool:
    """True for this machine's addresses and for UNIX sockets."""
    try:
        ip = ipaddress.ip_address(peer)
    except ValueError:
        return True
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback
