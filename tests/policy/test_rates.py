"""How often a minute: the sliding count, alone and over processes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mailserver.policy import rates
from mailserver.policy.rates import Rate
from mailserver.policy.shared import SharedRates, SharedTable


def test_as_many_as_the_limit_and_then_it_says_when() -> None:
    rate = Rate("x", 3)
    assert [rate.take("a", 6000.0) for _ in range(3)] == [0, 0, 0]
    wait = rate.take("a", 6000.0)
    assert wait > 0
    assert rate.take("b", 6000.0) == 0, "others are not touched"
    assert rate.take("a", 6000.0 + wait - 1) > 0
    assert rate.take("a", 6000.0 + wait + 0.01) == 0


def test_no_limit() -> None:
    rate = Rate("x", 0)
    assert not any(rate.take("a", 0.0) for _ in range(10_000))


@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.floats(0, 30), min_size=1, max_size=200),
    start=st.floats(0, 10_000),
)
def test_the_wait_that_is_told_is_enough_and_the_limit_is_nearly_kept(
    limit: int, steps: list[float], start: float
) -> None:
    rate, now, taken = Rate("x", limit), start, []
    for step in steps:
        now += step
        wait = rate.take("a", now)
        assert 0 <= wait <= 2 * rates.MINUTE
        if wait:
            now += wait + 0.01
            assert rate.take("a", now) == 0
        taken.append(now)
    most = max(sum(t < each <= t + rates.MINUTE for each in taken) for t in [start - 1, *taken])
    assert most <= 2 * limit


def test_memory_is_bounded() -> None:
    rate = Rate("x", 1)
    for n in range(rates.KEYS + 10):
        rate.take(str(n), 6000.0)
    assert rate.take(str(rates.KEYS + 9), 6000.0) > 0
    assert rate.take("0", 6000.0) == 0, "the oldest is forgotten"


def test_processes_count_together(tmp_path: Path) -> None:
    SharedTable.make(tmp_path / "rates", 2, SharedRates.COLUMNS)
    first, second = (Rate("x", 4, SharedRates(tmp_path / "rates", number)) for number in (0, 1))
    assert [rate.take("a", 6000.0) for rate in (first, second, first, second)] == [0] * 4
    assert first.take("a", 6000.0) > 0 and second.take("a", 6000.0) > 0
    assert first.take("a", 6061.0) > 0, "the minute before counts by its part"
    assert first.take("a", 6100.0) == second.take("a", 6100.0) == 0
    assert first.take("b", 6000.0) == 0


def test_rates_of_other_names_and_keys_do_not_mix_even_in_one_row(tmp_path: Path) -> None:
    SharedTable.make(tmp_path / "rates", 2, SharedRates.COLUMNS)
    shared = [SharedRates(tmp_path / "rates", number) for number in (0, 1)]
    for each in shared:
        each._table.row = lambda source: 7  # type: ignore[method-assign]
        place = each._table.place
        each._table.place = lambda source, place=place: (7, place(source)[1])  # type: ignore[method-assign, misc]
    first, second = (Rate("x", 1, each) for each in shared)
    assert first.take("a", 6000.0) == 0
    assert second.take("b", 6000.0) == 0, "who shares a row is not refused for another"
    assert Rate("y", 1, shared[1]).take("a", 6000.0) == 0
