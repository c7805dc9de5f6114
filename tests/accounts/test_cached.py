"""Remembered answers, and connections that are shared."""

from __future__ import annotations

import threading
import time

import pytest

from mailserver.accounts import SourceDown
from mailserver.accounts.cached import Cached
from mailserver.accounts.model import Account, Alias, Domain, Key
from mailserver.accounts.pool import IDLE, PAUSE, ConnectionLost, Pool
from mailserver.mail import Address, parse_mailbox
from tests.support.sink import wait_until


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A source with one account, that counts what it is asked."""

    name = "slow"
    blocking = True

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.down = self.gone = False
        self.gate = threading.Event()
        self.gate.set()

    def _answer(self, question: object) -> None:
        self.asked.append(question)
        assert self.gate.wait(60)
        if self.down:
            raise SourceDown("slow: it is down")

    def domain(self, name: str) -> Domain | None:
        self._answer(name)
        return Domain(name, caretaker=parse_mailbox("a@b.example")) if name == "b.example" else None

    def find(self, key: Key) -> Account | Alias | None:
        self._answer(key)
        return Account(Address(*key)) if key[0] == "a" and not self.gone else None

    def caretaker(self, domain: str) -> Address | None:
        raise AssertionError("the domain tells it")

    def verify(self, account: Account, password: str) -> bool:
        self._answer("verify")
        return password == "right"

    def refuse(self, key: Key, password: str) -> None:
        self._answer("refuse")

    def reload(self) -> None:
        self.asked.append("reload")

    def try_out(self) -> list[str]:
        return ["odd"]


THERE, NOT_THERE = ("a", "b.example"), ("x", "b.example")


def make(*, most: int = 100) -> tuple[Cached, Slow, Time]:
    source, moment = Slow(), Time()
    return Cached(source, fresh=10, stale=3600, most=most, monotonic=moment), source, moment


@pytest.mark.parametrize("key", [THERE, NOT_THERE])
def test_an_answer_holds_for_some_seconds_also_that_nobody_is_there(key: Key) -> None:
    cached, source, moment = make()
    first = cached.find(key)
    moment.now += 9.9
    assert cached.find(key) == first and source.asked == [key]
    moment.now += 0.2
    assert cached.find(key) == first and source.asked == [key] * 2
    assert (first is not None) == (key == THERE)


def test_domains_and_their_caretakers() -> None:
    cached, source, _ = make()
    for _ in range(3):
        assert cached.domain("b.example") == Domain("b.example", caretaker=parse_mailbox("a@b.example"))
        assert cached.domain("c.example") is None
        assert cached.caretaker("b.example") == parse_mailbox("a@b.example")
        assert cached.caretaker("c.example") is None and cached.caretaker("") is None
    assert source.asked == ["b.example", "c.example"]


def test_passwords_are_never_remembered() -> None:
    cached, source, _ = make()
    account = Account(Address(*THERE))
    for _ in range(2):
        assert cached.verify(account, "right") and not cached.verify(account, "wrong")
        cached.refuse(NOT_THERE, "right")
    assert source.asked == ["verify", "verify", "refuse"] * 2
    assert cached.try_out() == ["odd"]


def test_while_the_source_is_down_only_who_is_there_is_told() -> None:
    cached, source, moment = make()
    there = cached.find(THERE)
    assert cached.find(NOT_THERE) is None
    source.down = True
    moment.now += 5
    assert cached.find(NOT_THERE) is None  # still fresh
    moment.now += 3000
    assert cached.find(THERE) == there
    for key in (NOT_THERE, ("never asked", "b.example")):
        with pytest.raises(SourceDown):
            cached.find(key)
    moment.now += 600
    with pytest.raises(SourceDown):
        cached.find(THERE)
    source.down = False
    assert cached.find(THERE) == there


def test_what_is_gone_is_not_told_from_before_it_went() -> None:
    cached, source, moment = make()
    assert cached.find(THERE) is not None
    source.gone = True
    moment.now += 60
    assert cached.find(THERE) is None
    source.down = True
    moment.now += 60
    with pytest.raises(SourceDown):
        cached.find(THERE)


def test_after_a_reload_the_source_is_asked_again() -> None:
    cached, source, moment = make()
    there = cached.find(THERE)
    cached.domain("b.example")
    cached.reload()
    moment.now += 0.1
    assert cached.find(THERE) == there
    cached.domain("b.example")
    assert source.asked == [THERE, "b.example", "reload", THERE, "b.example"]
    cached.reload()
    source.down = True
    moment.now += 1
    assert cached.find(THERE) == there


def test_the_number_of_answers_is_bounded_and_those_used_last_stay() -> None:
    cached, source, _ = make(most=10)
    for n in range(1000):
        cached.find(THERE)
        cached.find((f"user{n}", "b.example"))
    assert source.asked.count(THERE) == 1
    assert len(cached._found._known) == 10
    assert not cached._found._asking


def waiting(cached: Cached) -> list[object]:
    """Threads that wait for what another one asks."""
    return [each for asking in [*cached._found._asking.values()] for each in asking._condition._waiters]  # type: ignore[attr-defined]


def test_threads_that_ask_the_same_ask_once() -> None:
    cached, source, _ = make()
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(cached.find(THERE))
        except SourceDown as error:
            found.append(str(error))

    for source.down, expected in ((True, "slow: it is down"), (False, Account(Address(*THERE)))):
        source.asked.clear()
        found.clear()
        source.gate.clear()
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(waiting(cached)) == 7, what="all who ask")
        assert source.asked == [THERE]
        source.gate.set()
        for thread in threads:
            thread.join(60)
        assert found == [expected] * 8
        assert source.asked == [THERE]


# The pool


class Connection:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Server:
    def __init__(self, *, size: int = 2, timeout: float = 0.2) -> None:
        self.made: list[Connection] = []
        self.tries = 0
        self.down = False
        self.moment = Time()
        self.pool = Pool(self._connect, size=size, timeout=timeout, monotonic=self.moment)

    def _connect(self) -> Connection:
        self.tries += 1
        if self.down:
            raise ConnectionLost("it is down")
        self.made.append(Connection())
        return self.made[-1]


def lose(_: Connection) -> None:
    raise ConnectionLost("gone")


def test_a_connection_is_used_again_until_it_lay_idle_for_long() -> None:
    server = Server()
    for _ in range(5):
        assert server.pool.run(lambda connection: connection) is server.made[0]
    server.moment.now += IDLE + 1
    assert server.pool.run(lambda connection: connection) is server.made[1]
    assert server.made[0].closed
    server.pool.close()
    assert server.made[1].closed


def test_a_connection_that_was_lost_is_replaced_at_once_but_only_one_time() -> None:
    server = Server()
    server.pool.run(lambda _: None)
    lost = [server.made[0]]

    def work(connection: Connection) -> str:
        if connection in lost:
            raise ConnectionLost("gone")
        return "answer"

    assert server.pool.run(work) == "answer"
    assert server.made[0].closed and len(server.made) == 2
    with pytest.raises(ConnectionLost):
        server.pool.run(lose)
    assert all(connection.closed for connection in server.made) and len(server.made) == 3


def test_a_question_that_is_wrong_keeps_the_connection_and_one_that_breaks_does_not() -> None:
    server = Server()

    def wrong(_: Connection) -> None:
        raise SourceDown("no such table")

    for _ in range(3):
        with pytest.raises(SourceDown, match="no such table"):
            server.pool.run(wrong)
    assert len(server.made) == 1 and not server.made[0].closed
    with pytest.raises(ZeroDivisionError):
        server.pool.run(lambda _: 1 / 0)
    assert server.made[0].closed


def test_a_server_that_is_down_is_tried_once_a_second() -> None:
    server = Server()
    server.down = True
    for _ in range(100):
        with pytest.raises(SourceDown, match="it is down"):
            server.pool.run(lambda _: None)
    assert server.tries == 1
    server.moment.now += PAUSE + 0.1
    with pytest.raises(SourceDown):
        server.pool.run(lambda _: None)
    assert server.tries == 2
    server.down = False
    server.moment.now += PAUSE + 0.1
    assert server.pool.run(lambda _: 1) == server.pool.run(lambda _: 1) == 1


def test_one_thread_tries_and_the_others_are_told_at_once() -> None:
    server = Server()
    server.down = True
    with pytest.raises(SourceDown):
        server.pool.run(lambda _: None)
    server.down = False
    server.moment.now += PAUSE + 0.1
    begun, go = threading.Event(), threading.Event()

    def hang(_: Connection) -> str:
        begun.set()
        assert go.wait(60)
        return "answer"

    answers: list[str] = []
    trying = threading.Thread(target=lambda: answers.append(server.pool.run(hang)))
    trying.start()
    assert begun.wait(60)
    with pytest.raises(SourceDown, match="it is down"):
        server.pool.run(lambda _: None)
    go.set()
    trying.join(60)
    assert answers == ["answer"]
    assert server.pool.run(lambda _: 1) == 1


def test_no_more_connections_than_allowed_and_no_endless_wait() -> None:
    server = Server(size=2, timeout=0.1)
    go = threading.Event()
    busy = [threading.Thread(target=server.pool.run, args=(lambda _: go.wait(60),)) for _ in range(2)]
    for thread in busy:
        thread.start()
    deadline = time.monotonic() + 60
    while len(server.made) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    start = time.monotonic()
    with pytest.raises(SourceDown, match=r"all 2 connections were busy for 0\.1 s"):
        server.pool.run(lambda _: None)
    assert 0.05 < time.monotonic() - start < 20
    go.set()
    for thread in busy:
        thread.join(60)
    assert server.pool.run(lambda _: 1) == 1 and len(server.made) == 2


def test_no_answer_in_time_counts_as_down_and_is_not_asked_twice() -> None:
    server = Server()
    server.pool.run(lambda _: None)
    asked = 0

    def late(_: Connection) -> None:
        nonlocal asked
        asked += 1
        raise ConnectionLost("no answer", late=True)

    for _ in range(5):
        with pytest.raises(SourceDown, match="no answer"):
            server.pool.run(late)
    assert asked == 1
