"""Which folder is next."""

from __future__ import annotations

from mailserver.store.arrivals import Place
from mailserver.store.backlog import FIRST, LONGEST, Backlog

A, B = Place("example.org/a", ""), Place("example.org/b", ".Work")


def test_who_has_been_due_for_longest_comes_first_and_each_once() -> None:
    backlog = Backlog()
    backlog.add(A, 20.0)
    backlog.add(B, 10.0)
    backlog.add(A, 5.0)
    backlog.add(A, 30.0)
    assert (len(backlog), set(backlog), A in backlog) == (2, {A, B}, True)
    assert not backlog.due(4.0) and backlog.take(4.0) is None
    assert backlog.due(5.0)
    assert [backlog.take(50.0), backlog.take(50.0), backlog.take(50.0)] == [A, B, None]
    assert len(backlog) == 0 and A not in backlog


def test_what_fails_waits_longer_each_time_whatever_arrives_there_and_is_left_in_the_end() -> None:
    backlog = Backlog()
    now, delay, first = 0.0, FIRST, True
    while delay <= LONGEST:
        assert backlog.failed(A, now) is first
        backlog.add(A, now)
        assert backlog.take(now + delay - 1) is None
        now += delay
        assert backlog.take(now) == A
        delay, first = delay * 2, False
    assert not backlog.failed(A, now)
    assert len(backlog) == 0
    assert backlog.failed(A, now), "the next round begins anew"


def test_what_succeeded_has_not_failed() -> None:
    backlog = Backlog()
    backlog.failed(A, 0.0)
    assert backlog.take(FIRST) == A
    backlog.succeeded(A)
    backlog.add(A, 1.0)
    assert backlog.take(1.0) == A
