"""Backoff: bounded, growing, and deaf to clocks that jump."""

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from mailserver.delivery.retry import JITTER, SHORTEST, RetryPolicy
from mailserver.mail import Action, Address, DeliverBy, DeliveryStatus, Reply
from mailserver.queue import QueuedRecipient

DAY = 86400.0
DEFAULT = RetryPolicy(first=300.0, longest=4 * 3600.0, warning=4 * 3600.0, lifetime=5 * DAY)

chances = st.floats(0.0, 1.0, exclude_max=True)
policies = st.builds(
    RetryPolicy,
    first=st.floats(1, 3600),
    longest=st.floats(1, 86400),
    warning=st.just(3600.0),
    lifetime=st.floats(60, 10 * DAY),
)


@given(policies, st.integers(1, 10_000), st.floats(0, 10 * DAY), chances)
def test_no_wait_is_longer_than_the_longest_or_the_rest_of_the_lifetime(policy, attempts, waited, chance):
    wait = policy.wait(attempts, waited, chance)
    assert SHORTEST <= wait <= policy.horizon
    assert wait == SHORTEST or waited + wait <= policy.lifetime


@given(st.integers(1, 30), chances)
def test_waits_double_up_to_the_longest(attempts, chance):
    wait = DEFAULT.wait(attempts, 0.0, chance)
    full = min(300.0 * 2 ** (attempts - 1), DEFAULT.longest)
    assert full * (1 - JITTER) <= wait <= full


@given(chances, chances)
def test_chance_spreads_what_failed_together(one, other):
    assume(abs(one - other) > 0.01)
    assert abs(DEFAULT.wait(3, 0.0, one) - DEFAULT.wait(3, 0.0, other)) > 1.0


@given(st.floats(0, DAY), st.floats(0, 2e9), st.floats(0, 2e9))
def test_a_jump_of_the_clock_counts_at_most_one_longest_wait_and_never_backward(so_far, last, now):
    waited = DEFAULT.waited(so_far, last, now)
    assert so_far <= waited <= so_far + DEFAULT.longest


@given(st.lists(chances, min_size=61, max_size=61))
def test_a_message_that_always_fails_expires_after_its_lifetime(luck):
    now, waited, last, attempts = 0.0, 0.0, 0.0, 0
    for chance in luck:
        attempts += 1
        waited = DEFAULT.waited(waited, last, now)
        if waited >= DEFAULT.lifetime:
            break
        last = now
        now += DEFAULT.wait(attempts, waited, chance)
    assert DEFAULT.lifetime <= now <= DEFAULT.lifetime + 10
    assert 30 <= attempts <= 60


def test_nobody_sleeps_through_the_time_that_a_sender_named():
    recipient = QueuedRecipient(0, Address("bob", "example.net"), None, 0.0, 0.0)
    later = DeliveryStatus(recipient.address, Action.DELAYED, Reply.of(451, "4.7.1", "Later"))
    by = DeliverBy(100.0, returned=True)
    assert DEFAULT.after(recipient, later, 60.0, 0.0, by).next_attempt == 100.0
    assert not DEFAULT.after(recipient, later, 60.0, 0.0, by).failed
    assert DEFAULT.after(recipient, later, 100.0, 0.0, by).failed, "it passed during the attempt"
    assert DEFAULT.after(recipient, later, 100.0, 0.0, replace(by, returned=False)).next_attempt == 400.0
    assert DEFAULT.after(recipient, later, 60.0, 0.0, DeliverBy(1000.0, returned=True)).next_attempt == 360.0
    assert DEFAULT.after(recipient, later, 60.0, 0.0).next_attempt == 360.0


def test_who_named_a_time_hears_of_the_delay_then():
    recipient = QueuedRecipient(0, Address("bob", "example.net"), None, 0.0, 0.0, attempts=1, waited=DEFAULT.warning)
    by = DeliverBy(DAY, returned=False)
    assert DEFAULT.late(recipient, 0.0)
    assert not DEFAULT.late(recipient, DAY - 1, by)
    assert DEFAULT.late(replace(recipient, waited=0.0), DAY, by)
    assert not DEFAULT.late(replace(recipient, attempts=0), DAY, by)
    assert not DEFAULT.late(replace(recipient, failed=True), DAY, by)
    assert DEFAULT.late(recipient, 0.0, replace(by, returned=True))
