"""Costly work by turns: nobody starves, nobody waits for ever, and the reactor never does it itself."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from mailserver.accounts import Directory, FileSource, hash_password
from mailserver.net import fairness
from mailserver.net.clock import ReactorClock
from mailserver.net.fairness import PATIENCE, WAITING, WAITING_EACH, FairThreads
from mailserver.net.workers import ThreadWorkers
from mailserver.policy.failures import Failures
from mailserver.ports import Crowded, TLSState
from mailserver.sessions.login import Authenticator
from tests.support.configs import ACCOUNTS, SECRET_HASH
from tests.support.fakes import FakeChannel, FakeClock
from tests.support.reactor import in_reactor


class ByHand:
    """Work that ends when a test says so, in the order in which it was begun."""

    def __init__(self) -> None:
        self.begun: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.begun.append((work, done))
        return done

    def end_one(self) -> None:
        work, done = self.begun.pop(0)
        try:
            result = work()
        except Exception:  # noqa: BLE001 - as the pool does it
            done.errback(Failure())
        else:
            done.callback(result)


class Queue:
    """Two threads; `order` has the sources of what was done, `refused` those that were told to come later."""

    def __init__(self) -> None:
        self.hand, self.clock = ByHand(), FakeClock()
        self.fair = FairThreads(self.hand, self.clock, 2)  # type: ignore[arg-type]
        self.order: list[str] = []
        self.refused: Counter[str] = Counter()

    def ask(self, source: str, times: int = 1) -> None:
        for _ in range(times):
            asked = self.fair.run_for(source, lambda: self.order.append(source))
            asked.addErrback(self._refused, source)

    def _refused(self, failure: Failure, source: str) -> None:
        failure.trap(Crowded)
        self.refused[source] += 1

    def end(self, times: int) -> None:
        for _ in range(times):
            self.hand.end_one()


def test_as_much_is_begun_as_there_are_threads() -> None:
    queue = Queue()
    queue.ask("a", 10)
    for _ in range(9):
        assert len(queue.hand.begun) == 2
        queue.end(1)
    queue.end(1)
    assert queue.order == ["a"] * 10 and not queue.hand.begun
    queue.ask("a", 3)
    assert len(queue.hand.begun) == 2


def test_each_source_has_its_turn() -> None:
    queue = Queue()
    queue.ask("flood", 30)
    queue.ask("alice", 2)
    queue.ask("bob")
    queue.end(7)
    assert queue.order == ["flood", "flood", "flood", "alice", "bob", "flood", "alice"]
    queue.end(26)
    assert Counter(queue.order) == {"flood": 30, "alice": 2, "bob": 1}


def test_what_one_source_may_have_waiting_is_bounded_and_others_are_still_taken() -> None:
    queue = Queue()
    queue.ask("flood", 2 + WAITING_EACH + 5)
    assert queue.refused == {"flood": 5}
    queue.ask("alice")
    queue.end(4)
    assert "alice" in queue.order
    assert queue.refused == {"flood": 5}
    queue.ask("flood", 3)
    assert queue.refused == {"flood": 5}, "there is room again"


def test_what_waits_is_bounded_in_all() -> None:
    queue = Queue()
    for number in range(WAITING + 12):
        queue.ask(str(number))
    assert sum(queue.refused.values()) == 10


def test_nobody_waits_longer_than_the_patience() -> None:
    queue = Queue()
    queue.ask("a", 4)
    queue.clock.advance(PATIENCE / 2)
    queue.ask("b", 1)
    queue.end(1)
    queue.clock.advance(PATIENCE / 2)
    assert queue.refused == {"a": 1}, "two work, one began, one waited too long"
    queue.end(3)
    assert queue.order == ["a", "a", "a", "b"]
    queue.clock.advance(10 * PATIENCE)
    assert queue.refused == {"a": 1}
    assert not queue.clock.timers or all(timer.cancelled for timer in queue.clock.timers)


def test_work_that_fails_gives_its_place_to_the_next() -> None:
    queue = Queue()
    failures: list[Failure] = []
    for _ in range(3):
        queue.fair.run_for("a", lambda: 1 // 0).addErrback(failures.append)
    queue.ask("b")
    queue.end(4)
    assert [failure.type for failure in failures] == [ZeroDivisionError] * 3
    assert queue.order == ["b"]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    (tmp_path / "accounts.toml").write_text(ACCOUNTS.replace(SECRET_HASH, hash_password("the right one")))
    return Directory(FileSource(tmp_path / "accounts.toml"))


def test_the_reactor_does_other_things_while_fifty_logins_are_hashed(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured in processor time of the reactor's thread, which a busy machine does not change."""
    lock, at_work, most, elsewhere = threading.Lock(), 0, 0, True
    authenticate = Directory.authenticate

    def counted(self: Directory, *arguments: Any) -> Any:
        nonlocal at_work, most, elsewhere
        with lock:
            at_work += 1
            most = max(most, at_work)
            elsewhere &= threading.get_ident() != reactor_thread
        try:
            return authenticate(self, *arguments)
        finally:
            with lock:
                at_work -= 1

    monkeypatch.setattr(Directory, "authenticate", counted)
    monkeypatch.setattr(fairness, "PATIENCE", 600.0)
    reactor_thread = 0
    turns: list[float] = []

    async def use(reactor: Any) -> list[Any]:
        nonlocal reactor_thread
        reactor_thread = threading.get_ident()
        clock = ReactorClock(reactor)
        pool = ThreadWorkers(reactor, 2, "passwords")
        pool.start()
        asked = Authenticator(directory, FairThreads(pool, clock, 2), clock, Failures())
        logins = gatherResults(
            [
                Deferred.fromCoroutine(
                    asked.login(
                        FakeChannel(peer=f"192.0.2.{n % 10}", tls=TLSState("TLSv1.3", "x")),
                        "alice@example.org",
                        "the right one",
                        "imap",
                    )
                )
                for n in range(50)
            ]
        )
        while not logins.called:
            before = time.thread_time()
            await clock.sleep(0.001)
            turns.append(time.thread_time() - before)
        pool.stop()
        return list(await logins)

    start = time.process_time()
    directory.authenticate("alice@example.org", "wrong")
    one = time.process_time() - start
    found = in_reactor(use)
    assert [str(account) for account in found] == ["alice@example.org"] * 50
    assert most == 2 and elsewhere
    assert len(turns) > 20
    assert sorted(turns)[-4] < one / 2, "hashes were computed between two turns"  # a few have collected garbage
