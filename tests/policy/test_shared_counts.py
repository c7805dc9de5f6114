"""Processes count the connections of one source together."""

from __future__ import annotations

import random
from pathlib import Path

from mailserver.policy.connections import ConnectionLimits, Refusal
from mailserver.policy.shared import SharedCounts, make_counts


def limits(path: Path, *numbers: int, total: int = 100, per_address: int = 4) -> list[ConnectionLimits]:
    return [ConnectionLimits(total, per_address, SharedCounts(path, number)) for number in numbers]


def test_a_limit_for_an_address_holds_over_all_processes(tmp_path: Path) -> None:
    make_counts(tmp_path / "connections", 3)
    first, second, third = limits(tmp_path / "connections", 0, 1, 2)
    assert [process.admit("192.0.2.1") for process in (first, second, third, first)] == [None] * 4
    assert second.admit("192.0.2.1") is Refusal.ADDRESS
    assert second.admit("192.0.2.2") is None
    third.release("192.0.2.1")
    assert second.admit("192.0.2.1") is None


def test_the_limit_of_all_holds_over_all_processes(tmp_path: Path) -> None:
    make_counts(tmp_path / "connections", 2)
    first, second = limits(tmp_path / "connections", 0, 1, total=3)
    assert [process.admit(f"192.0.2.{n}") for n, process in enumerate((first, second, second))] == [None] * 3
    assert first.admit("192.0.2.9") is Refusal.TOTAL
    second.release("192.0.2.1")
    assert first.admit("192.0.2.9") is None


def test_what_a_process_that_died_had_is_free_for_its_successor(tmp_path: Path) -> None:
    make_counts(tmp_path / "connections", 2)
    first, second = limits(tmp_path / "connections", 0, 1, per_address=1)
    assert second.admit("192.0.2.1") is None
    assert first.admit("192.0.2.1") is Refusal.ADDRESS
    (second,) = limits(tmp_path / "connections", 1, per_address=1)
    assert first.admit("192.0.2.1") is None


def test_the_counts_are_those_of_one_process(tmp_path: Path) -> None:
    """The same connections, spread at random, against one that has them all."""
    make_counts(tmp_path / "connections", 4)
    spread = limits(tmp_path / "connections", 0, 1, 2, 3, total=50, per_address=5)
    alone = ConnectionLimits(50, 5)
    chance = random.Random(5)
    opened: list[tuple[ConnectionLimits, str]] = []
    for _ in range(3000):
        if opened and chance.random() < 0.45:
            process, address = opened.pop(chance.randrange(len(opened)))
            process.release(address)
            alone.release(address)
        else:
            process, address = chance.choice(spread), f"198.51.100.{chance.randrange(30)}"
            refusal = process.admit(address)
            assert refusal == alone.admit(address)
            if refusal is None:
                opened.append((process, address))
