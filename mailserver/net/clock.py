"""Time from the reactor, made monotonic.

Twisted's reactor runs its timers on wall time: a clock that is set back a day stops every timer for a day, a jump ahead
fires all at once. `use_monotonic_time` gives the reactor a monotonic clock; it must come before any timer is set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall


def use_monotonic_time(reactor: Any) -> None:
    reactor.seconds = time.monotonic


class _Timer:
    __slots__ = ("_call",)

    def __init__(self, call: IDelayedCall) -> None:
        self._call = call

    def cancel(self) -> None:
        if self._call.active():
            self._call.cancel()


class ReactorClock:
    """The Clock port."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def call_later(self, seconds: float, call: Callable[[], object]) -> _Timer:
        return _Timer(self._reactor.callLater(seconds, call))

    def sleep(self, seconds: float) -> Deferred[None]:
        return task.deferLater(self._reactor, seconds)
