"""Failed logins slow their source, and no one else."""

from mailserver.policy.failures import FORGET_AFTER, LONGEST_DELAY, SOURCES, Failures
from mailserver.policy.networks import network_of


def test_delay_grows_with_each_failure_up_to_a_limit() -> None:
    failures = Failures()
    delays = []
    for _ in range(7):
        failures.note("192.0.2.1", 0.0)
        delays.append(failures.delay("192.0.2.1", 0.0))
    assert delays == [1, 2, 4, 8, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]


def test_other_sources_are_not_touched() -> None:
    failures = Failures()
    failures.note("192.0.2.1", 0.0)
    assert failures.delay("192.0.2.2", 0.0) == 0


def test_an_ipv6_network_counts_as_one_source() -> None:
    failures = Failures()
    failures.note("2001:db8::1", 0.0)
    failures.note("2001:db8::ffff", 0.0)
    assert failures.count("2001:db8:0:0:1::", 0.0) == 2
    assert failures.count("2001:db8:0:1::", 0.0) == 0
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1")


def test_success_and_time_forget() -> None:
    failures = Failures()
    failures.note("192.0.2.1", 0.0)
    assert failures.count("192.0.2.1", FORGET_AFTER) == 0
    failures.note("192.0.2.1", FORGET_AFTER)
    failures.forget("192.0.2.1", 1.0)
    assert failures.count("192.0.2.1", FORGET_AFTER) == 0


def test_memory_is_bounded() -> None:
    failures = Failures()
    for n in range(SOURCES + 100):
        failures.note(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 0.0)
    assert failures.count("10.0.0.0", 0.0) == 0
    assert failures.count(f"10.0.{(SOURCES + 99) >> 8}.{(SOURCES + 99) & 255}", 0.0) == 1
