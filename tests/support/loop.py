"""Ports with real interleaving, on virtual time: coroutines wait for each other, work ends when the loop gets to it.

`Loop` is the Clock, `LoopWorkers` the Workers on it. `Loop.run` drives a coroutine to its end, `advance` passes time.
"""

# ruff: noqa: BLE001 - whatever the work raises belongs to those who wait for it

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Promise(Generic[T]):
    """Something to wait for; `resolve` or `fail` once."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._outcome: tuple[T | None, Exception | None] | None = None
        self._waiting: list[Coroutine[Any, Any, object]] = []

    @property
    def done(self) -> bool:
        return self._outcome is not None

    def resolve(self, value: T) -> None:
        self._finish((value, None))

    def fail(self, error: Exception) -> None:
        self._finish((None, error))

    def _finish(self, outcome: tuple[T | None, Exception | None]) -> None:
        if self._outcome is None:
            self._outcome = outcome
            waiting, self._waiting = self._waiting, []
            for task in waiting:
                self._loop.soon(lambda task=task: self._loop.step(task))

    def wait_for(self, task: Coroutine[Any, Any, object]) -> None:
        self._waiting.append(task)

    def value(self) -> T:
        assert self._outcome is not None, "not done yet"
        value, error = self._outcome
        if error is not None:
            raise error
        return cast(T, value)

    def __await__(self) -> Generator[Promise[T], None, T]:
        if self._outcome is None:
            yield self
        return self.value()


class LoopTimer:
    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Failures of spawned coroutines are kept in `failures`."""

    def __init__(self, now: float = 1_000.0, epoch: float = 1_700_000_000.0) -> None:
        self.now = now
        self.epoch = epoch
        self.failures: list[Exception] = []
        self._ready: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, LoopTimer]] = []
        self._numbers = itertools.count()

    # Driving it

    def soon(self, call: Callable[[], object]) -> None:
        self._ready.append(call)

    def settle(self) -> None:
        """Runs what can run without time passing."""
        while self._ready:
            self._ready.popleft()()

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        self.settle()
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self._move(max(due, self.now))
            if not timer.cancelled:
                timer.call()
                self.settle()
        self._move(end)

    def run(self, coroutine: Coroutine[Any, Any, T], limit: float = 86400.0) -> T:
        """Drives it to its end, letting at most `limit` seconds pass."""
        promise: Promise[T] = Promise(self)

        async def wrapped() -> None:
            try:
                promise.resolve(await coroutine)
            except Exception as error:
                promise.fail(error)

        self.spawn(wrapped())
        self.settle()
        end = self.now + limit
        while not promise.done:
            live = [due for due, _, timer in self._timers if not timer.cancelled]
            assert live and min(live) <= end, "the coroutine waits for something that never comes"
            self.advance(max(min(live) - self.now, 0.0))
        return promise.value()

    def _move(self, to: float) -> None:
        self.epoch += to - self.now
        self.now = to

    def step(self, task: Coroutine[Any, Any, object]) -> None:
        try:
            promise = task.send(None)
        except StopIteration:
            return
        except Exception as error:
            self.failures.append(error)
            return
        promise.wait_for(task)

    # Clock

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.epoch

    def call_later(self, seconds: float, call: Callable[[], object]) -> LoopTimer:
        timer = LoopTimer(call)
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), timer))
        return timer

    def sleep(self, seconds: float) -> Awaitable[None]:
        promise: Promise[None] = Promise(self)
        self.call_later(seconds, lambda: promise.resolve(None))
        return promise

    def spawn(self, task: Coroutine[Any, Any, object]) -> None:
        self.step(task)


class LoopWorkers:
    """The Workers port: work is done when the loop gets to it, not before the caller goes on."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def run(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> Awaitable[T]:
        promise: Promise[T] = Promise(self._loop)

        def do() -> None:
            try:
                promise.resolve(work(*args, **kwargs))
            except Exception as error:
                promise.fail(error)

        self._loop.soon(do)
        return promise

    def grouped(self, work: Callable[[Sequence[Any]], Sequence[Any]]) -> Callable[[Any], Awaitable[Any]]:
        waiting: list[tuple[Any, Promise[Any]]] = []

        def do() -> None:
            batch = waiting[:]
            waiting.clear()
            if not batch:
                return
            try:
                results = work([job for job, _ in batch])
            except Exception as error:
                results = [error] * len(batch)
            for (_, promise), result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    promise.fail(result)
                else:
                    promise.resolve(result)

        def add(job: Any) -> Awaitable[Any]:
            promise: Promise[Any] = Promise(self._loop)
            waiting.append((job, promise))
            self._loop.soon(do)
            return promise

        return add

    def call_from_thread(self, call: Callable[[], object]) -> None:
        self._loop.soon(call)

    def spawn(self, task: Coroutine[Any, Any, object]) -> None:
        self._loop.spawn(task)
