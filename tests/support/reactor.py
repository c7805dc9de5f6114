"""Twisted's reactor in a thread of its own, for tests of what needs a real one."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet import threads
from twisted.internet.defer import Deferred

from mailserver.net.clock import use_monotonic_time

T = TypeVar("T")


@functools.cache
def running_reactor() -> Any:
    """The reactor; started at the first call, ended with the process."""
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True).start()
    return reactor


def in_reactor(make: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Runs the coroutine that `make(reactor)` gives on the reactor's thread, and waits for its result."""
    reactor = running_reactor()
    return threads.blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(make(reactor)))
