"""What the core asks of the world around it: time, threads, names, connections.

Everything between `mail` and `sessions` is written against these small protocols. `net` fulfils them with Twisted;
`tests/support` fulfils them without a reactor. An awaitable that comes from here is the only thing that core code
awaits, so that the same coroutine runs under any driver.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
J = TypeVar("J")


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Does nothing when the call was made or cancelled already."""


class Clock(Protocol):
    """Time. Timers run on monotonic time: a wall clock that jumps neither stops nor fires them."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""

    def wall(self) -> float:
        """Seconds since the epoch, for what is stored or shown."""

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer: ...

    def sleep(self, seconds: float) -> Awaitable[None]: ...


class Workers(Protocol):
    """Threads for blocking work, bounded in number."""

    def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """Runs `work` in a thread; its exception comes out of the await."""

    def grouped(self, work: Callable[[Sequence[J]], Sequence[R | Exception]]) -> Callable[[J], Awaitable[R]]:
        """Group commit: jobs that come while a batch is at work wait and make the next batch together.

        `work` gives one result or exception for each job, in order; an exception that it raises goes to every job.
        """

    def call_from_thread(self, call: Callable[[], object]) -> None:
        """Makes `call` on the main thread soon. The one method here that may be used from any thread."""

    def spawn(self, task: Coroutine[Any, Any, object]) -> None:
        """Starts a coroutine on the main thread and lets it run; an exception that it raises is logged."""


class DNSFailure(Exception):
    """The answer is not known now (SERVFAIL, timeout): temporary."""


class NoSuchDomain(Exception):
    """NXDOMAIN: the name does not exist: permanent."""


@dataclass(frozen=True, slots=True)
class MX:
    """One MX record; host in lower case without the last dot, empty for the null MX of RFC 7505."""

    preference: int
    host: str


class Resolver(Protocol):
    """The domain name system. An empty answer means: the name exists, without such records."""

    async def mx(self, domain: str) -> Sequence[MX]:
        """In the order of the answer. Raises DNSFailure, NoSuchDomain."""

    async def addresses(self, host: str) -> Sequence[str]:
        """AAAA and A records as text. Raises DNSFailure, NoSuchDomain."""


@dataclass(frozen=True, slots=True)
class TLSState:
    """What was agreed on: `version` as in "TLSv1.3", `cipher` as OpenSSL names it."""

    version: str
    cipher: str

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}"


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What the client has proved to own, issued by one of the authorities of `tls.client_ca`.

    `subject` as in RFC 4514; `addresses`: the mail addresses of its subjectAltName, as they stand there;
    `fingerprint`: SHA-256 of the whole, in lower-case hexadecimal digits.
    """

    subject: str
    addresses: tuple[str, ...]
    fingerprint: str


class Disconnected(Exception):
    """The client has gone. Sessions let it pass, after `finally`; whoever runs the session takes it for no fault."""


class Channel(Protocol):
    """What a session may do with the connection that it serves."""

    id: str
    """Names the session in logs and Received fields; letters and digits."""

    peer: str
    """The client's IP address, or a word for a UNIX socket."""

    local_port: int

    @property
    def tls(self) -> TLSState | None: ...

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """None: the client has shown none, or one that does not hold, or none was asked for."""

    @property
    def loopback(self) -> bool:
        """The client is on this machine."""

    def binding(self, kind: str) -> bytes | None:
        """What binds to this TLS connection: "tls-exporter" (RFC 9266) or "tls-server-end-point" (RFC 5929 §4).

        None: there is nothing of this kind.
        """

    def speak_for(self, address: str) -> None:
        """From now on `peer` is this address: somebody who may say so said it."""

    def flush(self) -> None:
        """Writes what the engine has to send, without waiting. For news that no command asked for."""

    async def drain(self) -> None:
        """Writes what the engine has to send and waits while the client is slow to read. Raises Disconnected."""

    def wake(self) -> None:
        """Lets the session handle what its engine has, though nothing came from the client; after what is at work."""

    def start_tls(self) -> None:
        """Flushes, then begins the handshake; all later octets are encrypted."""

    @property
    def compressed(self) -> bool: ...

    def start_compression(self) -> None:
        """Flushes; all later octets are compressed with DEFLATE, in both directions."""

    def stop_compression(self) -> None:
        """Flushes and ends the stream; all later octets are as they are, also those that came behind the client's end.

        Nothing happens when none is compressed.
        """

    def close(self) -> None:
        """Flushes, then closes in good order."""


class ConnectFailure(Exception):
    """No connection to the remote, or it broke, or it took too long, or TLS failed. The text says which."""


class Connection(Protocol):
    """An outbound connection: octets in order, each wait bounded by a timeout in seconds."""

    peer: str
    """The IP address that it leads to, or the path of a UNIX socket."""

    @property
    def tls(self) -> TLSState | None: ...

    @property
    def certificate(self) -> str | None:
        """Whom the peer's certificate is for, who issued it, and whether it holds: one line for the log.

        None without TLS.
        """

    async def read(self, timeout: float) -> bytes:
        """At least one octet; empty at the end. Raises ConnectFailure (timeout, reset)."""

    async def write(self, data: bytes, timeout: float) -> None:
        """Waits while the remote is slow to read. Raises ConnectFailure."""

    async def start_tls(self, server_name: str, timeout: float, *, verify: bool = False) -> None:
        """Handshakes as a client; with `verify` the certificate must hold for the name. Raises ConnectFailure."""

    def close(self) -> None: ...


class Connector(Protocol):
    async def connect_any(self, addresses: Sequence[str], port: int, timeout: float) -> Connection:
        """To one of these IP addresses, those of one host: the first connection that comes about.

        `timeout` is that of each. Raises ConnectFailure, which names them all.
        """

    async def connect_unix(self, path: str, timeout: float) -> Connection:
        """To a UNIX socket. Raises ConnectFailure."""


class OwnAddresses(Protocol):
    def is_own(self, address: str) -> bool:
        """A connection to this IP address ends at this machine."""
