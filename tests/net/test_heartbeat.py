"""Signs of life: who gives none, and who is not judged."""

from __future__ import annotations

import os

from twisted.internet.task import Clock

from mailserver.net.heartbeat import EVERY, Silence, beat, waits_for_disk


def test_each_look_without_a_sign_counts() -> None:
    silence = Silence()
    silence.broken()
    assert [silence.look() for _ in range(3)] == [EVERY, 2 * EVERY, 3 * EVERY]
    silence.broken()
    assert silence.look() == EVERY


def test_who_never_gave_a_sign_is_not_judged() -> None:
    silence = Silence()
    assert [silence.look() for _ in range(3)] == [0, 0, 0]


def test_who_waits_for_the_disk_is_not_judged() -> None:
    states = iter([False, True, True, False])
    silence = Silence(lambda: next(states))
    silence.broken()
    assert [silence.look() for _ in range(4)] == [EVERY, 0, 0, 2 * EVERY]


def test_this_process_does_not_wait_for_the_disk_and_none_that_is_gone_does() -> None:
    assert not waits_for_disk(os.getpid())
    assert not waits_for_disk(2**22 + 1)


def test_signs_come_every_second_and_a_full_pipe_holds_up_nothing() -> None:
    reader, writer = os.pipe()
    try:
        clock = Clock()
        beat(clock, writer)
        clock.pump([EVERY] * 4)
        assert os.read(reader, 100) == b"....."
        while True:
            try:
                os.write(writer, b"x" * 4096)
            except BlockingIOError:
                break
        clock.pump([EVERY] * 2)
        os.read(reader, 2**20)
        clock.pump([EVERY])
        assert os.read(reader, 2**20).endswith(b".")
    finally:
        os.close(reader)
        os.close(writer)


def test_it_goes_on_when_nobody_reads_any_more() -> None:
    reader, writer = os.pipe()
    clock = Clock()
    try:
        os.close(reader)
        beat(clock, writer)
        clock.pump([EVERY] * 2)
        assert clock.getDelayedCalls()
    finally:
        os.close(writer)
