"""What is made ahead of those who ask: in order, not too far, and never in their way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from mailserver.store.ahead import AHEAD, WORTH, Ahead

MESSAGES = range(1, 5 * AHEAD + 1)


class Work:
    """Keeps what it made; stops at a UID until it is let go on."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.stop = 0
        self.going = threading.Event()
        self.error: Exception | None = None

    def __call__(self, uids: Sequence[int]) -> Iterator[int]:
        for start in range(0, len(uids), WORTH):
            batch = uids[start : start + WORTH]
            if self.stop and self.stop in batch:
                assert self.going.wait(60)
            if self.error is not None:
                raise self.error
            self.made += batch
            yield batch[-1]


def follow(uid: int, count: int) -> list[int]:
    return list(MESSAGES[uid - 1 : uid - 1 + count])


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def ahead(work: Work) -> Ahead:
    return Ahead(work, follow)


def ended() -> None:
    for thread in threading.enumerate():
        if thread.name == "ahead":
            thread.join(60)


def uids(first: int, count: int = WORTH) -> list[int]:
    return list(range(first, first + count))


def test_those_who_ask_wait_for_their_part_and_more_is_made(ahead: Ahead, work: Work) -> None:
    assert ahead.wait_for(uids(1))
    assert work.made[:WORTH] == uids(1)
    ended()
    assert work.made == uids(1, AHEAD)


def test_it_goes_on_while_somebody_asks(ahead: Ahead, work: Work) -> None:
    for first in range(1, len(MESSAGES), WORTH):
        assert ahead.wait_for(uids(first))
        assert work.made[-1] >= first + WORTH - 1
    ended()
    assert sorted(set(work.made)) == list(MESSAGES)


@pytest.mark.parametrize("asked", [uids(1, WORTH - 1), uids(1, AHEAD + 1), uids(1)[::-1], uids(1, 2 * WORTH)[::2]])
def test_few_many_and_scattered_ones_are_not_its_concern(ahead: Ahead, work: Work, asked: list[int]) -> None:
    assert not ahead.wait_for(asked)
    assert not work.made


def test_who_asks_elsewhere_does_not_wait(ahead: Ahead, work: Work) -> None:
    work.stop = 2500
    asking = threading.Thread(target=ahead.wait_for, args=(uids(2451),))
    asking.start()
    while not ahead._running:
        pass
    assert not ahead.wait_for(uids(1))
    assert not ahead.wait_for(uids(4501))
    work.going.set()
    asking.join(60)
    ended()
    assert work.made[:WORTH] == uids(2451)


def test_an_error_lets_everybody_go(ahead: Ahead, work: Work, caplog: pytest.LogCaptureFixture) -> None:
    work.error = RuntimeError("broken")
    assert ahead.wait_for(uids(1))
    ended()
    assert "broken" in caplog.text
    work.error = None
    assert ahead.wait_for(uids(1))
    assert work.made[:WORTH] == uids(1)
    ended()


def test_without_threads_it_is_done_without(
    ahead: Ahead, work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert not ahead.wait_for(uids(1))
    assert "can't start" in caplog.text
    assert ahead.wait_for(uids(1))
    ended()
