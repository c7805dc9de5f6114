"""One connection class for all protocols: the pump between a transport, an engine and a session.

Promises   Events reach the session one at a time and in order; the answers to pipelined commands leave in few writes.
           Reading pauses while the engine holds more than `READ_AHEAD` octets, and `drain` waits while the transport
           holds more than it likes, so that neither a fast nor a slow client makes memory grow. A client that takes all
           at once keeps others waiting no longer than `TURN`, and one command or `EVENTS_AT_ONCE` small ones.
           With compression nothing is inflated ahead of what the engine takes, and other connections have their turn.
           `lost` is called once, after the last handler has ended.
           A client that is silent for the session's idle timeout is told so and closed; one that does not shake hands
           or log in within the login timeout likewise, whatever it sends meanwhile; that begins anew when it logs out.
           Octets that complete no command do not count as activity. A session may set a deadline of its own, which
           activity does not move.
           At the stop of the server each command at work is answered before its connection is closed.
On failure An exception of a session is logged with the session's id, and the connection closed; so is what cannot be
           inflated.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from twisted.internet import interfaces, protocol
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from mailserver import metrics
from mailserver.net.compression import Corrupt, Deflate
from mailserver.net.driving import drive
from mailserver.net.handshake import Handshake
from mailserver.net.tls import CertificateStore, channel_binding, tls_state
from mailserver.net.transport import write
from mailserver.policy.connections import ConnectionLimits, Refusal
from mailserver.policy.networks import Networks
from mailserver.ports import Channel, ClientCertificate, Clock, Disconnected, Timer, TLSState

log = logging.getLogger(__name__)

READ_AHEAD = 256 * 1024
INFLATED_AT_ONCE = 256 * 1024  # octets before others have their turn
EVENTS_AT_ONCE = 256  # whose answers leave in one write
TURN = 0.005  # seconds after which others have their turn
FAREWELL = 10.0  # seconds for the last octets to leave
STOP_FAREWELL = 2.0  # seconds for clients to close at the stop of the server
STOP_GRACE = 20.0  # seconds for commands at work at the stop of the server: a slow disk is worth the wait


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
    def deadline(self) -> float:
        """Monotonic time when the connection ends, however busy the client is; infinite where there is none."""

    @property
    def awaits_login(self) -> bool:
        """True while the client has still to log in: then the login timeout runs, which no input sets back."""

    @property
    def amid_message(self) -> bool:
        """A message is on its way from the client: at the stop its end is waited for."""

    async def opened(self) -> None: ...

    async def handle(self, event: Any) -> None: ...

    def timed_out(self) -> None: ...

    def lost(self) -> None: ...


class Unnamed(Protocol):
    """A connection whose client is not known yet."""

    def refuse(self) -> None: ...


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
    alpn: Sequence[bytes] = ()
    """What a client may call the protocol, if it names one."""
    asks_certificate: bool = False
    proxies: Networks | None = None
    """Not None: each connection begins with a PROXY header, and comes from one of these."""
    open: set[ServedConnection] = field(default_factory=set)
    waiting: set[Unnamed] = field(default_factory=set)
    """Those whose PROXY header has not come."""

    @property
    def protocol(self) -> str:
        return self.name.partition(" ")[0]


@implementer(interfaces.IPushProducer, interfaces.IHandshakeListener, interfaces.IHalfCloseableProtocol)
class ServedConnection(protocol.Protocol):
    """The Channel port, over a Twisted transport."""

    transport: Any

    def __init__(self, service: Service, peer: str) -> None:
        self._service = service
        self.protocol = service.protocol
        self._admitted = peer
        self.peer = peer
        self.id = secrets.token_hex(5)
        self.local_port = 0
        self.client_certificate: ClientCertificate | None = None
        self._session: Session | None = None
        self.busy = False
        self._stopping = False
        self._closing = False
        self._connected = False
        self._reading = True
        self._writable = True
        self._handshake: Handshake | None = None
        self._end_of_input = False
        self._deflate: Deflate | None = None
        self._inflated = 0
        self._left: Deflate | None = None  # the end of its stream may be still to come
        self._known = False  # the client is logged in
        self._draining: list[Deferred[None]] = []
        self._turn = 0.0  # when others had theirs, in monotonic time
        self._timer: Timer | None = None
        self._rings = math.inf  # when the timer does, in monotonic time
        self._active = self._stranger_since = service.clock.monotonic()

    # The transport's side

    def connectionMade(self) -> None:
        self._connected = True
        log.info("session=%s peer=%s service=%s opened", self.id, self.peer, self._service.name)
        self._service.open.add(self)
        metrics.CONNECTIONS.add(self.protocol)
        metrics.CONNECTIONS_OPEN.add(self.protocol)
        self.local_port = getattr(self.transport.getHost(), "port", 0)
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._look_at_time()
        if self._service.implicit_tls:
            self._shake_hands()
        else:
            self._pump()

    def handshakeCompleted(self) -> None:
        if self._handshake is not None:
            self.client_certificate = self._handshake.client_certificate(self.transport.getHandle())
            self._handshake = None
        state = self.tls
        metrics.HANDSHAKES.add(self.protocol, state.version if state is not None else "unknown")
        log.info("session=%s peer=%s encrypted tls=%s", self.id, self.peer, state)
        if (shown := self.client_certificate) is not None:
            log.info("session=%s peer=%s certificate=%s %s", self.id, self.peer, shown.fingerprint, shown.subject)
        if self._session is None:
            self._pump()

    def dataReceived(self, data: bytes) -> None:
        if self._closing or self._session is None:
            return
        engine = self._session.engine
        if self._deflate is not None:
            self._deflate.feed(data)
            self._pump()  # whatever it makes of that, only a command that is complete is activity
            return
        if self._left is not None:
            self._left.feed(data)
            data, self._left = self._left.leave(), None
        waiting = engine.buffered + len(data)
        engine.receive_data(data)
        self._pump()
        if engine.buffered < waiting:
            self._active = self._service.clock.monotonic()

    def readConnectionLost(self) -> None:
        """The client sends no more; what it has sent is still answered."""
        self._end_of_input = True
        if not self.busy:
            self.close()

    def writeConnectionLost(self) -> None:
        self._abort()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._connected = False
        if self._handshake is not None:
            metrics.HANDSHAKES.add(self.protocol, "failed")
            log.info("session=%s peer=%s service=%s no TLS: %s", self.id, self.peer, self._service.name, reason.value)
        log.info("session=%s peer=%s closed by %s", self.id, self.peer, "us" if self._closing else "the client")
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._release_drain()
        if not self.busy:
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

    def binding(self, kind: str) -> bytes | None:
        return channel_binding(self.transport, kind)

    def speak_for(self, address: str) -> None:
        log.info("session=%s peer=%s speaks for %s", self.id, self.peer, address)
        self.peer = address

    def flush(self) -> None:
        if self._connected and not self._closing and self._session is not None:
            data = self._session.engine.data_to_send()
            if data:
                self._active = self._service.clock.monotonic()
                self._write(data)

    async def drain(self) -> None:
        self.flush()
        if self._connected and not self._writable:
            drained: Deferred[None] = Deferred()
            self._draining.append(drained)
            await drained
        elif self._connected and self._service.clock.monotonic() - self._turn >= TURN:
            await self._service.clock.sleep(0)
        self._turn = self._service.clock.monotonic()
        if not self._connected:
            raise Disconnected

    def wake(self) -> None:
        if self._connected and not self._closing and self._handshake is None and self._session is not None:
            self._pump()

    def start_tls(self) -> None:
        self.flush()
        if self._connected and not self._closing:
            self._shake_hands()

    @property
    def compressed(self) -> bool:
        return self._deflate is not None

    def start_compression(self) -> None:
        self.flush()
        self._deflate = Deflate()

    def stop_compression(self) -> None:
        deflate, self._deflate = self._deflate, None
        if deflate is None or self._session is None or not self._connected or self._closing:
            return
        engine = self._session.engine
        self.transport.write(deflate.compress(engine.data_to_send()) + deflate.finish())
        rest = deflate.leave()
        if rest:
            engine.receive_data(rest)
        elif not deflate.ended:
            self._left = deflate

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

    # The stop of the server

    def stop(self) -> None:
        """What is at work, or on its way, is answered first; then the client is told, and the connection closed."""
        self._stopping = True
        if not self.at_work:
            self._part()

    @property
    def at_work(self) -> bool:
        return self.busy or self._amid_message

    @property
    def _amid_message(self) -> bool:
        return self._session is not None and not self._closing and self._session.amid_message

    def abandon(self) -> None:
        """Closed without a word; what the session holds is let go at once."""
        self._abort()

    def _part(self) -> None:
        if self._session is None:
            self._abort()
        elif not self._closing:
            self.flush()
            self._write(self._service.refuse(Refusal.STOPPING))
            self.close()

    # The pump

    def _pump(self) -> None:
        if not self.busy:
            self.busy = True
            drive(self._run(), self._rest, self._failed)
        self._regulate_reading()

    async def _run(self) -> None:
        try:
            session = self._session or await self._open()
            handled = 0
            self._turn = self._service.clock.monotonic()
            while not self._closing and (not self._stopping or session.amid_message):
                event = session.engine.next_event()
                if event is None:
                    if self._deflate is None or not await self._inflate(self._deflate, session.engine):
                        break
                    continue
                await session.handle(event)
                self._active = self._service.clock.monotonic()
                if not self._reading or self._deflate is not None:  # else there is no more than before
                    self._regulate_reading()
                if self._known is session.awaits_login:  # it has logged in, or out
                    self._known = not self._known
                    self._stranger_since = self._active
                    self._look_at_time()
                handled += 1
                if not self._writable or handled % EVENTS_AT_ONCE == 0:
                    await self.drain()  # answers must not pile up at a client that asks and does not read
            self.flush()
        except Disconnected:
            pass

    async def _inflate(self, deflate: Deflate, engine: Engine) -> bool:
        """Gives the engine the next piece of what came compressed. False: there is none."""
        try:
            data = deflate.read()
        except Corrupt as error:
            log.info("session=%s peer=%s sent what cannot be inflated: %s", self.id, self.peer, error)
            self._abort()
            return False
        engine.receive_data(data)
        self._inflated += len(data)
        if self._inflated >= INFLATED_AT_ONCE:
            self._inflated = 0
            self._regulate_reading()
            await self._service.clock.sleep(0)
        return bool(data)

    def _rest(self) -> None:
        self.busy = False
        if not self._connected:
            self._end()
        elif self._stopping and not self._amid_message:
            self._part()
        elif self._end_of_input:
            self.close()

    async def _open(self) -> Session:
        self._session = session = self._service.open_session(cast(Channel, self))
        await session.opened()
        self._look_at_time()  # the session's own deadline may come first
        return session

    def _shake_hands(self) -> None:
        service = self._service
        assert service.certificates is not None
        self._handshake = Handshake(service.certificates, service.alpn, asks=service.asks_certificate, session=self.id)
        self.transport.startTLS(self._handshake)

    def _regulate_reading(self) -> None:
        if self._closing or self._session is None:
            return
        waiting = self._session.engine.buffered + (self._deflate.buffered if self._deflate is not None else 0)
        wanted = waiting <= READ_AHEAD
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _failed(self, failure: Failure) -> None:
        log.critical("session=%s peer=%s failed: %s", self.id, self.peer, failure.getTraceback())
        self._abort()
        self._rest()

    def _look_at_time(self) -> None:
        """Comes when a deadline may have passed or come nearer. A timer that rings too early is set again then."""
        if self._closing:
            return
        now = self._service.clock.monotonic()
        session = self._session
        deadline = self._stranger_since + self._service.login_timeout
        if session is not None and not session.awaits_login:
            working = self.busy and not self._draining  # waiting for a slow reader is no work
            idle = (now if working else self._active) + session.idle_timeout
            deadline = idle if working else min(idle, session.deadline)
        if now < deadline:
            if deadline < self._rings:
                if self._timer is not None:
                    self._timer.cancel()
                self._rings = deadline
                self._timer = self._service.clock.call_later(deadline - now, self._ring)
            return
        log.info("session=%s peer=%s timed out", self.id, self.peer)
        if session is None or self._handshake is not None or not self._writable:
            self._abort()
            return
        session.timed_out()
        self.close()

    def _ring(self) -> None:
        self._rings = math.inf
        self._look_at_time()

    def _write(self, data: bytes) -> None:
        write(self.transport, data if self._deflate is None else self._deflate.compress(data))

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
        self._service.open.discard(self)
        metrics.CONNECTIONS_OPEN.add(self.protocol, amount=-1)
        self._service.connections.release(self._admitted)


async def stop_connections(services: Sequence[Service], clock: Clock) -> None:
    """Ends all that are open; waits a little for those that are at work, and less for clients to take their leave."""

    def left() -> list[ServedConnection]:
        return [connection for service in services for connection in service.open]

    for proxied in [each for service in services for each in service.waiting]:
        proxied.refuse()
    for connection in left():
        connection.stop()
    deadline = clock.monotonic() + STOP_GRACE
    while any(connection.at_work for connection in left()) and clock.monotonic() < deadline:
        await clock.sleep(0.02)
    deadline = clock.monotonic() + STOP_FAREWELL
    while left() and clock.monotonic() < deadline:
        await clock.sleep(0.02)
    for connection in left():
        connection.abandon()


def is_loopback(peer: str) -> bool:
    """True for this machine's addresses and for UNIX sockets."""
    try:
        ip = ipaddress.ip_address(peer)
    except ValueError:
        return True
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback
