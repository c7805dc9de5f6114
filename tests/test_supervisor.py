"""How the first process deals with workers that do not stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mailserver.supervisor import DELAY_LONGEST, _Worker


class First:
    """In place of the first process: remembers what it was asked."""

    stopping = False
    patience = 120.0

    def __init__(self) -> None:
        self.begun = 0
        self.fails = False
        self.waiting: list[tuple[float, Callable[[], object]]] = []
        self.away: list[bool] = []
        self.pid = 1

    def spawn(self, _number: int, _protocol: object) -> Any:
        self.begun += 1
        if self.fails:
            raise BlockingIOError("Resource temporarily unavailable")
        return self

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        self.waiting.append((seconds, call))

    def ended(self, _number: int) -> None:
        pass

    def turn_away(self, _number: int, away: bool) -> None:
        self.away.append(away)


def test_one_that_ends_soon_is_started_again_later_each_time() -> None:
    first = First()
    worker: Any = _Worker(first, 0)  # type: ignore[arg-type]
    worker.start()
    delays = []
    for _ in range(8):
        worker.ended("it crashed")
        ((delay, start),) = first.waiting
        first.waiting.clear()
        delays.append(delay)
        assert first.away[-1] is (delay > 2), "its clients are not left waiting for long"
        start()
        assert first.away[-1] is False
    assert delays == [1, 2, 4, 8, 16, 32, DELAY_LONGEST, DELAY_LONGEST]


def test_one_that_cannot_be_started_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    first = First()
    first.fails = True
    worker: Any = _Worker(first, 0)  # type: ignore[arg-type]
    worker.start()
    assert "worker=0 cannot be started: Resource temporarily unavailable; started again in 1 s" in caplog.text
    first.fails = False
    first.waiting[0][1]()
    assert first.begun == 2 and len(first.waiting) == 1
