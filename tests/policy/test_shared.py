"""Processes count the connections of one source together."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mailserver.policy import shared
from mailserver.policy.connections import ConnectionLimits, Refusal
from mailserver.policy.failures import FORGET_AFTER, Failures
from mailserver.policy.shared import SharedCounts, SharedFailures, SharedTable


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which sources share a row depends on a key: the same one each time."""
    monkeypatch.setattr(shared.secrets, "token_bytes", bytes)


def limits(path: Path, *numbers: int, total: int = 100, per_address: int = 4) -> list[ConnectionLimits]:
    return [ConnectionLimits(total, per_address, SharedCounts(path, number)) for number in numbers]


def test_a_limit_for_an_address_holds_over_all_processes(tmp_path: Path) -> None:
    SharedTable.make(tmp_path / "connections", 3, 1)
    first, second, third = limits(tmp_path / "connections", 0, 1, 2)
    assert [process.admit("192.0.2.1") for process in (first, second, third, first)] == [None] * 4
    assert second.admit("192.0.2.1") is Refusal.ADDRESS
    assert second.admit("192.0.2.2") is None
    third.release("192.0.2.1")
    assert second.admit("192.0.2.1") is None


def test_the_limit_of_all_holds_over_all_processes(tmp_path: Path) -> None:
    SharedTable.make(tmp_path / "connections", 2, 1)
    first, second = limits(tmp_path / "connections", 0, 1, total=3)
    assert [process.admit(f"192.0.2.{n}") for n, process in enumerate((first, second, second))] == [None] * 3
    assert first.admit("192.0.2.9") is Refusal.TOTAL
    second.release("192.0.2.1")
    assert first.admit("192.0.2.9") is None


def test_what_a_process_that_died_had_is_free_for_its_successor(tmp_path: Path) -> None:
    SharedTable.make(tmp_path / "connections", 2, 1)
    first, second = limits(tmp_path / "connections", 0, 1, per_address=1)
    assert second.admit("192.0.2.1") is None
    assert first.admit("192.0.2.1") is Refusal.ADDRESS
    (second,) = limits(tmp_path / "connections", 1, per_address=1)
    assert first.admit("192.0.2.1") is None


def test_the_counts_are_those_of_one_process(tmp_path: Path) -> None:
    """The same connections, spread at random, against one that has them all."""
    SharedTable.make(tmp_path / "connections", 4, 1)
    table = SharedTable(tmp_path / "connections", 0, 1)
    rows = {table.row(f"198.51.100.{n}"): f"198.51.100.{n}" for n in range(30)}  # those that share one count as one
    rows.pop(table.row(""), None)
    addresses = list(rows.values())
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
            process, address = chance.choice(spread), chance.choice(addresses)
            refusal = process.admit(address)
            assert refusal == alone.admit(address)
            if refusal is None:
                opened.append((process, address))


# Failed logins


def failures(path: Path) -> tuple[Failures, Failures]:
    SharedTable.make(path / "failures", 2, SharedFailures.COLUMNS)
    return Failures(SharedFailures(path / "failures", 0)), Failures(SharedFailures(path / "failures", 1))


def test_failures_in_all_processes_make_the_delay(tmp_path: Path) -> None:
    first, second = failures(tmp_path)
    for now in (1000.0, 1001.0):
        first.note("192.0.2.1", now)
        second.note("192.0.2.1", now)
    assert first.count("192.0.2.1", 1002.0) == second.count("192.0.2.1", 1002.0) == 4
    assert first.delay("192.0.2.1", 1002.0) == 8.0
    assert first.delay("192.0.2.2", 1002.0) == 0.0
    assert first.count("192.0.2.1", 1002.0 + FORGET_AFTER) == 0


def test_a_success_in_one_is_known_to_the_others(tmp_path: Path) -> None:
    first, second = failures(tmp_path)
    first.note("192.0.2.1", 1000.0)
    second.note("192.0.2.1", 1001.0)
    second.forget("192.0.2.1", 1002.5)
    assert first.count("192.0.2.1", 1003.0) == second.count("192.0.2.1", 1003.0) == 0
    first.note("192.0.2.1", 1004.0)
    assert first.count("192.0.2.1", 1005.0) == second.count("192.0.2.1", 1005.0) == 1


def test_a_process_that_begins_anew_keeps_nothing_of_its_own(tmp_path: Path) -> None:
    first, _ = failures(tmp_path)
    first.note("192.0.2.1", 1000.0)
    second = Failures(SharedFailures(tmp_path / "failures", 1))
    assert second.count("192.0.2.1", 1001.0) == 1
    second.note("192.0.2.1", 1001.0)
    second = Failures(SharedFailures(tmp_path / "failures", 1))
    assert second.count("192.0.2.1", 1002.0) == 1
