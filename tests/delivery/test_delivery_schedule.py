"""The bounds on what runs at the same time, and turns between next hops."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.delivery.schedule import Schedule


def started(schedule):
    found = []
    while (item := schedule.start()) is not None:
        found.append(item)
    return found


def test_next_hops_take_turns():
    schedule = Schedule(total=10, per_hop=10)
    for number in range(3):
        schedule.add("a", number)
    schedule.add("b", 10)
    schedule.add(None, 20)
    assert started(schedule) == [("a", 0), ("b", 10), (None, 20), ("a", 1), ("a", 2)]


def test_own_mailboxes_do_not_wait_for_slow_remotes():
    schedule = Schedule(total=2, per_hop=2)
    for hop in ("a", "a", "b", None, None, None):
        schedule.add(hop, hop)
    assert started(schedule) == [("a", "a"), ("b", "b"), (None, None), (None, None)]
    schedule.end(None)
    assert schedule.start() == (None, None)
    schedule.end("b")
    assert schedule.start() == ("a", "a")


def test_withdraw_takes_what_waits_and_not_what_runs():
    schedule = Schedule(total=1, per_hop=1)
    for number in range(3):
        schedule.add("a", number)
    assert schedule.start() == ("a", 0)
    assert schedule.withdraw("a") == [1, 2]
    assert schedule.withdraw("a") == []
    schedule.end("a")
    assert schedule.start() is None
    assert schedule.running == 0


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.lists(st.sampled_from(["a", "b", "c", None]), max_size=40),
    st.randoms(use_true_random=False),
)
def test_bounds_hold_and_everything_runs_once(total, per_hop, hops, chance):
    schedule = Schedule(total, per_hop)
    for number, hop in enumerate(hops):
        schedule.add(hop, number)
    running, ran = [], []
    while len(ran) < len(hops):
        for hop, job in started(schedule):
            assert hops[job] == hop
            running.append(hop)
            ran.append(job)
        assert schedule.running == len(running)
        assert len(running) - running.count(None) <= total
        assert running.count(None) <= total
        assert all(running.count(hop) <= per_hop for hop in set(running) - {None})
        assert running, "nothing runs although jobs wait"
        schedule.end(running.pop(chance.randrange(len(running))))
    assert sorted(ran) == list(range(len(hops)))


def test_urgent_jobs_come_first_and_next_hops_of_one_urgency_take_turns():
    schedule = Schedule(total=10, per_hop=10)
    for hop, job, priority in (("a", 1, 0), ("a", 2, 0), ("b", 3, 0), ("a", 4, 5), ("c", 5, 5), ("a", 6, -9)):
        schedule.add(hop, job, priority)
    assert [job for _, job in started(schedule)] == [4, 5, 1, 3, 2, 6]


def test_urgency_goes_beyond_no_bound():
    schedule = Schedule(total=3, per_hop=1)
    for hop, job, priority in (("a", 1, 9), ("a", 2, 9), ("b", 3, 0)):
        schedule.add(hop, job, priority)
    assert started(schedule) == [("a", 1), ("b", 3)]
    assert schedule.withdraw("a") == [2]
    assert schedule.start() is None
