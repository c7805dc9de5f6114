"""Work that comes again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailserver.net.repeating import AFTER_FAILURE, Repeating
from tests.support.fakes import FakeClock, FakeWorkers, run


class Work:
    def __init__(self) -> None:
        self.done = 0
        self.results: Iterator[float | Exception] = iter(())

    async def __call__(self) -> float:
        self.done += 1
        result = next(self.results)
        if isinstance(result, Exception):
            raise result
        return result


def test_it_comes_again_after_what_it_says_also_when_it_failed(caplog: pytest.LogCaptureFixture) -> None:
    clock, work = FakeClock(), Work()
    work.results = iter([5.0, RuntimeError("oops"), 1.0, 1.0])
    repeating = Repeating(work, workers=FakeWorkers(), clock=clock)
    repeating.start()
    assert work.done == 1
    clock.advance(4.9)
    assert work.done == 1
    clock.advance(0.1)
    assert work.done == 2 and "oops" in caplog.text
    clock.advance(AFTER_FAILURE)
    assert work.done == 3
    run(repeating.stop())
    clock.advance(1000)
    assert work.done == 3
