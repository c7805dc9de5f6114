"""SIGHUP: files that changed are read again.

Promises   The call is made on the main thread, soon.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


def on_hangup(reactor: Any, call: Callable[[], object]) -> None:
    """From the main thread."""
    signal.signal(signal.SIGHUP, lambda _number, _frame: reactor.callFromThread(call))
