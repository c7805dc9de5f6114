"""The ports of `mailserver.ports` without a reactor: time that tests move, work that is done at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mailserver.mail import Address, AddressError, parse_mailbox
from mailserver.ports import ClientCertificate, TLSState

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Drives a coroutine whose awaits are all ready at once."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("the coroutine waits for something that the fakes do not give")


class Ready(Awaitable[T]):
    """An awaitable whose result is there already."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make

    def __await__(self) -> Generator[None, None, T]:
        return self._make()
        yield


@dataclass
class FakeTimer:
    due: float
    call: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeClock:
    """`advance` moves both times and makes the calls that fall due."""

    now: float = 1_000.0
    epoch: float = 1_700_000_000.0
    timers: list[FakeTimer] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.epoch

    def call_later(self, seconds: float, call: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(self.now + seconds, call)
        self.timers.append(timer)
        return timer

    def sleep(self, seconds: float) -> Awaitable[None]:
        return Ready(lambda: self.advance(seconds))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [t for t in self.timers if not t.cancelled and t.due <= end]:
            timer = min(due, key=lambda t: t.due)
            self.timers.remove(timer)
            self._move(max(timer.due, self.now))
            timer.call()
        self._move(end)

    def _move(self, to: float) -> None:
        self.epoch += to - self.now
        self.now = to


class FakeWorkers:
    """Does all work at once, on this thread."""

    def run(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> Awaitable[T]:
        return Ready(lambda: work(*args, **kwargs))

    def grouped(self, work: Callable[[Sequence[Any]], Sequence[Any]]) -> Callable[[Any], Awaitable[Any]]:
        def one(job: Any) -> Any:
            (result,) = work([job])
            if isinstance(result, Exception):
                raise result
            return result

        return lambda job: Ready(lambda: one(job))

    def call_from_thread(self, call: Callable[[], object]) -> None:
        call()

    def spawn(self, task: Coroutine[Any, Any, object]) -> None:
        run(task)


@dataclass
class FakeChannel:
    """Collects what a session's engine sends; `sent` is all of it."""

    engine: Any = None
    id: str = "test1"
    peer: str = "127.0.0.1"
    local_port: int = 25
    tls: TLSState | None = None
    client_certificate: ClientCertificate | None = None
    loopback: bool = True
    bindings: Mapping[str, bytes] = field(default_factory=dict)
    sent: bytes = b""
    closed: bool = False
    compressed: bool = False
    session: Any = None
    talking: bool = False

    def wake(self) -> None:
        if self.session is not None and not self.talking and not self.closed:
            self.talk()
            self.flush()

    def talk(self) -> None:
        """Lets the session handle all events, one at a time."""
        self.talking = True
        try:
            while not self.closed and (event := self.engine.next_event()) is not None:
                run(self.session.handle(event))
        finally:
            self.talking = False

    def flush(self) -> None:
        self.sent += self.engine.data_to_send()

    async def drain(self) -> None:
        self.flush()

    def binding(self, kind: str) -> bytes | None:
        return self.bindings.get(kind)

    def speak_for(self, address: str) -> None:
        self.peer, self.loopback = address, False

    def start_tls(self) -> None:
        self.flush()
        self.tls = TLSState("TLSv1.3", "TLS_AES_256_GCM_SHA384")

    def start_compression(self) -> None:
        self.flush()
        self.compressed = True

    def stop_compression(self) -> None:
        self.flush()
        self.compressed = False

    def close(self) -> None:
        self.flush()
        self.closed = True


class PasswordsOnly:
    """The part of a directory whose accounts have passwords only."""

    offers_tokens = False

    def by_token(self, username: str, token: str) -> None:
        return None

    def account_of(self, username: str) -> Address | None:
        try:
            return parse_mailbox(username)
        except AddressError:
            return None

    def offers_scram(self) -> bool:
        return False

    def scram_iterations(self) -> list[int]:
        return []

    def scram_keys(self, username: str) -> None:
        return None


def converse(session: Any, channel: FakeChannel, data: bytes) -> bytes:
    """What the pump does with `data` from the client: returns what the session answers."""
    channel.sent = b""
    if data and not channel.closed:
        session.engine.receive_data(data)
        channel.session = session
        channel.talk()
    channel.flush()
    return channel.sent


@dataclass
class Space:
    """A disk with so much room."""

    octets: int

    def recent(self) -> int | None:
        return None

    def look(self) -> int:
        return self.octets
