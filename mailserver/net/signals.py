"""Signals: SIGHUP, at which files that changed are read again, and those that stop.

Promises   The call is made on the main thread, soon.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


def ignore_hangup() -> None:
    """Until `on_hangup`: whoever starts reads all files anyway."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def on_hangup(reactor: Any, call: Callable[[], object]) -> None:
    """From the main thread."""
    signal.signal(signal.SIGHUP, lambda _number, _frame: reactor.callFromThread(call))


def stop_once(reactor: Any) -> None:
    """While the reactor stops, further SIGTERM and SIGINT change nothing; Twisted would log them as errors."""
    reactor.addSystemEventTrigger("before", "shutdown", _ignore_stops)


def _ignore_stops() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
