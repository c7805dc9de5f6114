"""The bounds on what runs at the same time, turns between sites, and what becomes of sites that fail."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailserver.delivery import schedule as schedule_module
from mailserver.delivery.schedule import DEAD_FIRST, STALL, Limits, Outcome, Schedule

ANSWERED, UNREACHABLE, NOTHING = Outcome.ANSWERED, Outcome.UNREACHABLE, Outcome.NOTHING


class Limited(Schedule):
    """With the same limits for each site."""

    def __init__(self, total, limits):
        super().__init__(total)
        self._usual = limits

    def add(self, site, job, now, **asked):
        return super().add(site, job, now, limits=None if site is None else self._usual, **asked)


def new(total=100, concurrency=20, rate=0):
    return Limited(total, Limits(concurrency, rate))


def started(schedule, now=0.0):
    found = []
    while (item := schedule.start(now)) is not None:
        found.append(item)
    return found


def proven(schedule, site, count=200):
    """Lets a site answer until its window is wide."""
    for _ in range(count):
        schedule.add(site, "warm", 0.0)
        assert schedule.start(0.0) == (site, "warm")
        schedule.end(site, 0.0, ANSWERED)


def test_sites_take_turns():
    schedule = new()
    for number in range(3):
        schedule.add("a", number, 0.0)
    schedule.add("b", 10, 0.0)
    schedule.add(None, 20, 0.0)
    assert started(schedule) == [("a", 0), ("b", 10), (None, 20), ("a", 1)]
    schedule.end("a", 0.0, ANSWERED)
    assert started(schedule) == [("a", 2)]


def test_own_mailboxes_do_not_wait_for_slow_remotes():
    schedule = new(total=2)
    proven(schedule, "a")
    proven(schedule, "b")
    for site in ("a", "a", "b", None, None, None):
        schedule.add(site, site, 0.0)
    assert started(schedule) == [("a", "a"), ("b", "b"), (None, None), (None, None)]
    schedule.end(None, 0.0, NOTHING)
    assert started(schedule) == [(None, None)]
    schedule.end("b", 0.0, NOTHING)
    assert started(schedule) == [("a", "a")]


def test_a_site_begins_with_two_and_grows_by_success_up_to_its_limit():
    schedule = new(concurrency=5)
    for number in range(500):
        schedule.add("a", number, 0.0)
    widths = []
    for _ in range(40):
        running = started(schedule)
        running = running or [()]
        widths.append(schedule.running)
        schedule.end("a", 0.0, ANSWERED)
    assert widths[0] == 2
    assert widths == sorted(widths)
    assert max(widths) == 5
    assert widths.index(3) >= 2, "not all at once"


def test_a_failure_to_connect_halves_what_runs_at_the_same_time():
    schedule = new(concurrency=8)
    proven(schedule, "a")
    for number in range(40):
        schedule.add("a", number, 0.0)
    assert len(started(schedule)) == 8
    assert schedule.end("a", 0.0, UNREACHABLE) == []
    for _ in range(7):
        schedule.end("a", 0.0, NOTHING)
    assert len(started(schedule)) == 4


def test_a_site_that_never_answered_is_dead_at_once_and_probed_by_one_job_later():
    schedule = new()
    for number in range(5):
        schedule.add("a", number, 0.0)
    assert len(started(schedule)) == 2
    assert schedule.end("a", 1.0, UNREACHABLE) == [2, 3, 4]
    schedule.end("a", 1.0, UNREACHABLE)
    assert schedule.dead("a", 2.0)
    assert not schedule.dead("b", 2.0)
    schedule.add("a", 10, 2.0)
    schedule.add("a", 11, 2.0)
    assert started(schedule, 2.0) == []
    assert schedule.next_start >= 1.0 + DEAD_FIRST
    later = schedule.next_start
    assert started(schedule, later) == [("a", 10)], "one probe"
    assert schedule.end("a", later, ANSWERED) == []
    assert len(started(schedule, later)) == 1
    assert not schedule.dead("a", later)


def test_a_probe_that_fails_makes_the_next_wait_longer():
    schedule = new()
    now, waits = 0.0, []
    for number in range(8):
        schedule.add("a", number, now)
        assert started(schedule, now) == [("a", number)]
        schedule.end("a", now, UNREACHABLE)
        wait = next(seconds for seconds in range(1, 5000) if not schedule.dead("a", now + seconds))
        waits.append(wait)
        now += wait
    assert waits == [60, 120, 240, 480, 900, 900, 900, 900]


def test_a_dead_site_is_tried_at_once_where_somebody_wants_it():
    schedule = new()
    schedule.add("a", 1, 0.0)
    started(schedule)
    schedule.end("a", 0.0, UNREACHABLE)
    schedule.add("a", 2, 1.0, force=True)
    assert started(schedule, 1.0) == [("a", 2)]


def test_small_jobs_do_not_wait_behind_bulk_and_bulk_has_its_turn():
    schedule = new(concurrency=4)
    proven(schedule, "a")
    for number in range(10):
        schedule.add("a", f"bulk {number}", 0.0, bulk=True)
    assert [job for _, job in started(schedule)] == ["bulk 0", "bulk 1", "bulk 2"], "one place stays free"
    for number in range(10):
        schedule.add("a", f"small {number}", 0.0)
    assert started(schedule) == [("a", "small 0")]
    order = []
    running = ["bulk 0", "bulk 1", "bulk 2", "small 0"]
    while running:
        job = running.pop(0)
        schedule.end("a", 0.0, ANSWERED, bulk=job.startswith("bulk"))
        new_ones = [job for _, job in started(schedule)]
        running += new_ones
        order += new_ones
    assert len(order) == 16
    assert order.index("small 9") < order.index("bulk 6")
    assert order.index("bulk 3") < order.index("small 9"), "bulk is not starved"


def test_a_rate_is_kept():
    schedule = new(rate=60)
    proven_at = []
    for number in range(10):
        schedule.add("a", number, 0.0)
    now = 0.0
    while len(proven_at) < 10:
        for _ in started(schedule, now):
            proven_at.append(now)
            schedule.end("a", now, ANSWERED)
        now = schedule.next_start if schedule.next_start is not None else now + 1
    gaps = [after - before for before, after in pairwise(proven_at)]
    assert min(gaps) >= 0.999


def test_what_waits_for_a_site_that_does_not_get_on_is_taken_back_but_for_two():
    schedule = new()
    for number in range(10):
        schedule.add("slow", number, 0.0)
    assert len(started(schedule)) == 2
    assert schedule.stalled(STALL - 1) == []
    assert sorted(schedule.stalled(STALL + 1)) == [4, 5, 6, 7, 8, 9]
    assert schedule.add("slow", 10, STALL + 1) is False, "enough wait"
    assert schedule.add("other", 11, STALL + 1) is True
    schedule.end("slow", STALL + 2, ANSWERED)
    assert schedule.add("slow", 12, STALL + 2) is True


def test_sites_that_never_answered_leave_room_for_those_that_do():
    schedule = new(total=8)
    proven(schedule, "good")
    for number in range(20):
        schedule.add(f"hanging {number}", number, 0.0)
    for number in range(3):
        schedule.add("good", f"good {number}", 0.0)
    ran = started(schedule)
    assert len(ran) == 8
    assert [job for site, job in ran if site == "good"] == ["good 0", "good 1"]


def test_urgent_jobs_come_first_whomever_they_are_for():
    schedule = new(total=1)
    schedule.add("a", "later", 0.0)
    schedule.add("b", "urgent", 0.0, priority=5)
    schedule.add("a", "bulk of no hurry", 0.0, priority=-5)
    order = []
    for _ in range(3):
        ((site, job),) = started(schedule)
        order.append(job)
        schedule.end(site, 0.0, ANSWERED)
    assert order == ["urgent", "later", "bulk of no hurry"]


def test_sites_that_are_of_no_interest_are_forgotten(monkeypatch):
    monkeypatch.setattr(schedule_module, "SITES_KEPT", 50)
    schedule = new()
    for number in range(500):
        schedule.add(f"site {number}", number, 0.0)
        started(schedule)
        schedule.end(f"site {number}", 0.0, ANSWERED)
    assert len(schedule._sites) <= 50


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.booleans(), st.integers(-1, 1)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_bounds_hold_and_everything_runs_once(total, concurrency, jobs, chance):
    schedule = new(total, concurrency)
    now = 0.0
    waiting = 0
    for number, (site, bulk, priority) in enumerate(jobs):
        waiting += schedule.add(site, (number, bulk), now, priority=priority, bulk=bulk)
    assert waiting == len(jobs)
    running, ran = [], []
    while len(ran) < len(jobs):
        now = max(now, schedule.next_start or 0.0)
        for site, job in started(schedule, now):
            running.append((site, job))
            ran.append(job[0])
        remote = [site for site, _ in running if site is not None]
        assert len(remote) <= total
        assert sum(site is None for site, _ in running) <= total
        assert all(remote.count(site) <= concurrency for site in remote)
        assert schedule.running == len(running)
        if not running:
            continue
        site, (_, bulk) = running.pop(chance.randrange(len(running)))
        outcome = chance.choice([ANSWERED, UNREACHABLE, NOTHING])
        ran += [number for number, _ in schedule.end(site, now, outcome, bulk=bulk)]
    assert sorted(ran) == list(range(len(jobs)))
