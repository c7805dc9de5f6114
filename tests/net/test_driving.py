"""Coroutines without a Deferred of their end."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from mailserver.net.driving import drive


class Told:
    """What `drive` told."""

    def __init__(self) -> None:
        self.ended = 0
        self.failures: list[Failure] = []

    def end(self) -> None:
        self.ended += 1

    def fail(self, failure: Failure) -> None:
        self.failures.append(failure)


def test_what_waits_for_nothing_has_ended_at_once() -> None:
    told = Told()

    async def work() -> None:
        for number in range(3000):  # no call within a call for each
            assert await succeed(number) == number

    drive(work(), told.end, told.fail)
    assert told.ended == 1 and not told.failures


def test_what_waits_goes_on_with_what_came() -> None:
    told, first, second, got = Told(), Deferred[str](), Deferred[str](), list[str]()

    async def work() -> None:
        got.append(await first)
        got.append(await second)

    drive(work(), told.end, told.fail)
    assert not told.ended
    first.callback("a")
    assert got == ["a"] and not told.ended
    second.callback("b")
    assert got == ["a", "b"] and told.ended == 1 and not told.failures


def test_a_failure_is_raised_where_it_was_waited_for_and_is_told_when_it_is_not_caught() -> None:
    told, waited, caught = Told(), Deferred[None](), list[str]()

    async def work() -> None:
        try:
            await waited
        except ValueError as error:
            caught.append(str(error))
        await fail(KeyError("second"))

    drive(work(), told.end, told.fail)
    waited.errback(ValueError("first"))
    assert caught == ["first"] and not told.ended
    (failure,) = told.failures
    assert failure.check(KeyError) is KeyError
    told.failures.clear()


def test_an_end_that_raises_is_no_failure_of_the_coroutine() -> None:
    told = Told()

    async def work() -> None:
        pass

    def end() -> None:
        raise RuntimeError("of the end")

    try:
        drive(work(), end, told.fail)
    except RuntimeError as error:
        assert str(error) == "of the end" and not told.failures
