"""The guard on the fake clock: who is let in, what a login is answered, what other processes change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.config.abuse import Abuse
from mailserver.policy.bans import BanBook
from mailserver.policy.connections import ConnectionLimits, Refusal
from mailserver.policy.guard import Guard, how_long
from mailserver.policy.ledger import Ledger
from tests.support.fakes import FakeClock, FakeWorkers, run

RULES: dict[str, Any] = {"failures": 6, "failures_per_account": 3, "allow": ["203.0.113.0/24"], "connection_rate": 0}
ALICE, BOB = "alice@example.org", "bob@example.org"
THERE, ELSEWHERE, ALLOWED = "192.0.2.1", "198.51.100.7", "203.0.113.9"


class Setup:
    def __init__(self, path: Path, **rules: Any) -> None:
        self.path = path
        self.clock = FakeClock()
        self.rules = Abuse(**(RULES | rules))
        self.guard = self.another()

    def another(self) -> Guard:
        """As another process has it, or this one after a restart."""
        guard = Guard(self.rules, self.clock, FakeWorkers(), proxies=["198.51.100.250"])
        guard.open(Ledger(self.path))
        return guard

    def fail(self, count: int, account: str = ALICE, *, address: str = THERE, password: str | None = None) -> None:
        for _ in range(count):
            run(self.guard.failed(address, account, password))

    def login(self, account: str = ALICE, *, address: str = THERE, guard: Guard | None = None) -> str | None:
        refusal = run((guard or self.guard).refuse_login(address, account, None))
        return refusal.value if refusal else None


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path / "bans.db")
    with closing(made.guard):
        yield made


def test_who_guesses_at_one_account_is_banned_there_and_who_goes_on_everywhere(setup: Setup) -> None:
    setup.fail(3)
    assert setup.guard.refusal(THERE) is None
    assert setup.login(BOB) is None
    assert setup.login() == "too many failed logins from your address, try again in 10 min"
    for _ in range(2):
        setup.login()
    told = setup.guard.refusal(THERE)
    assert told == Refusal("BANNED", "too many failed logins from your address, try again in 10 min", counted=True)
    assert setup.login(BOB) is not None
    assert setup.guard.refusal(ELSEWHERE) is None and setup.login(address=ELSEWHERE) is None
    setup.clock.advance(590)
    told = setup.guard.refusal(THERE)
    assert told is not None and told.value.endswith("try again in 10 s")
    setup.clock.advance(10)
    assert setup.guard.refusal(THERE) is None and setup.login() is None


def test_attempts_during_a_ban_of_the_address_do_not_lengthen_it(setup: Setup) -> None:
    setup.fail(6)
    for _ in range(100):
        assert setup.login(BOB) is not None
    setup.clock.advance(601)
    assert setup.guard.refusal(THERE) is None and setup.login(BOB) is None


def test_neighbours_in_an_ipv6_network_are_one_source(setup: Setup) -> None:
    for n in range(6):
        setup.fail(1, f"u{n}@example.org", address=f"2001:db8::{n}")
    assert setup.guard.refusal("2001:db8::ffff") is not None
    assert setup.guard.refusal("2001:db8:0:1::1") is None


def test_the_owner_gets_in_from_where_he_was_before(setup: Setup) -> None:
    """The attacker sits beside him, behind the same address."""
    run(setup.guard.succeeded(THERE, ALICE))
    setup.fail(50)
    assert setup.guard.refusal(THERE) is None and setup.login() is None, "it cannot even be made to happen"
    for n in range(6):
        setup.fail(1, f"u{n}@example.org")
    assert setup.login(BOB) is not None
    assert setup.guard.refusal(THERE) is None, "he is let in to log in"
    assert setup.login() is None
    with closing(setup.another()) as again:
        assert again.refusal(THERE) is None and setup.login(guard=again) is None
        assert setup.login(BOB, guard=again) is not None


def test_thousands_of_addresses_do_not_lock_out_the_owner_anywhere(setup: Setup) -> None:
    for n in range(300):
        setup.fail(3, address=f"10.0.{n >> 8}.{n & 255}")
    assert setup.login(address="10.0.0.1") is not None
    assert setup.login(address=ELSEWHERE) is None and setup.guard.refusal(ELSEWHERE) is None


def test_the_same_wrong_password_again_is_a_forgotten_phone(setup: Setup) -> None:
    setup.fail(100, password="old")
    assert setup.login() is None and setup.guard.refusal(THERE) is None
    for n in range(2):
        setup.fail(1, password=f"guess {n}")
    assert setup.login() is not None
    setup.fail(5, BOB, password="old")
    assert setup.login(BOB) is None, "for another account it is one more guess, and no second"


def test_names_of_every_kind_are_counted_and_none_means_all(setup: Setup) -> None:
    for _ in range(3):
        setup.fail(1, "")
    assert setup.login("") is not None
    assert setup.guard.refusal(THERE) is None
    setup.fail(3, "\udcff" * 1000)
    assert setup.guard.refusal(THERE) is not None


@pytest.mark.parametrize("address", [ALLOWED, "127.0.0.1", "::1", "::ffff:127.0.0.1", "local", "198.51.100.250"])
def test_who_is_never_banned(setup: Setup, address: str) -> None:
    for n in range(50):
        setup.fail(2, f"u{n}@example.org", address=address)
    BanBook(Ledger(setup.path), setup.rules).add("127.0.0.0/8", 60, "", setup.clock.wall())
    setup.clock.advance(2)
    assert setup.guard.refusal(address) is None and setup.login("u1@example.org", address=address) is None


def test_loopback_is_like_others_where_it_is_not_exempt(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "bans.db", exempt_loopback=False)
    with closing(setup.guard):
        setup.fail(6, address="127.0.0.5")
        assert setup.guard.refusal("127.0.0.5") is not None
        assert setup.guard.refusal("127.0.0.6") is None


# Over restarts and processes


def test_bans_survive_a_restart(setup: Setup) -> None:
    setup.fail(6)
    setup.guard.close()
    setup.clock.advance(300)
    setup.guard = setup.another()
    told = setup.guard.refusal(THERE)
    assert told is not None and told.value.endswith("try again in 5 min")
    assert setup.login() is not None


def test_another_process_knows_within_a_second(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    with closing(setup.another()) as other:
        setup.fail(3)
        setup.fail(3, BOB)
        assert other.refusal(THERE) is None
        setup.clock.advance(1.0)
        assert other.refusal(THERE) is not None and setup.login(guard=other) is not None
        ledger = Ledger(setup.path)
        book = BanBook(ledger, setup.rules)
        book.remove(THERE, setup.clock.wall())
        book.add("198.51.100.0/24", 3600, "a bad neighbourhood", setup.clock.wall())
        ledger.close()
        setup.clock.advance(1.0)
        for guard in (setup.guard, other):
            assert guard.refusal(THERE) is None and setup.login(guard=guard) is None
            told = guard.refusal(ELSEWHERE)
            assert told is not None and told.value == "your address is banned, try again in 60 min"
    assert "a bad neighbourhood" in caplog.text


def test_a_ban_by_hand_spares_nobody_but_those_that_are_allowed(setup: Setup) -> None:
    run(setup.guard.succeeded(THERE, ALICE))
    ledger = Ledger(setup.path)
    for network in ("192.0.2.0/24", "203.0.113.0/24"):
        BanBook(ledger, setup.rules).add(network, 3600, "", setup.clock.wall())
    ledger.close()
    setup.clock.advance(1.0)
    assert setup.guard.refusal(THERE) is not None and setup.login() is not None
    assert setup.guard.refusal(ALLOWED) is None and setup.login(address=ALLOWED) is None


def test_a_wall_clock_that_jumps_neither_frees_nor_keeps(setup: Setup) -> None:
    setup.fail(6)
    setup.clock.epoch += 365 * 86400
    assert setup.guard.refusal(THERE) is not None
    setup.clock.epoch -= 3 * 365 * 86400
    setup.clock.advance(599)
    assert setup.guard.refusal(THERE) is not None
    setup.clock.advance(2)
    assert setup.guard.refusal(THERE) is None
    with closing(setup.another()) as again:
        told = again.refusal(THERE)
        assert told is not None and told.value.endswith("try again in 10 min"), "no longer than it was made for"
        setup.clock.advance(601)
        assert again.refusal(THERE) is None


def test_when_the_ledger_fails_nobody_is_refused_for_it(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    setup.guard._ledger.close()  # type: ignore[union-attr]
    setup.fail(10)
    run(setup.guard.succeeded(THERE, ALICE))
    setup.clock.advance(5)
    assert setup.guard.refusal(THERE) is None and setup.login() is None
    assert "cannot be written" in caplog.text


def test_a_file_that_somebody_removes_is_begun_anew_and_shared_again(setup: Setup) -> None:
    setup.fail(6)
    for file in setup.path.parent.glob("bans.db*"):
        file.unlink()
    with closing(Ledger(setup.path)) as made:
        BanBook(made, setup.rules).add(ELSEWHERE, 3600, "", setup.clock.wall())
        setup.clock.advance(1.0)
        assert setup.guard.refusal(ELSEWHERE) is not None
        setup.fail(6, BOB, address="192.0.2.200")
        assert {each.network for each in BanBook(made, setup.rules).active(setup.clock.wall())} == {
            ELSEWHERE,
            "192.0.2.200",
        }
    setup.path.unlink()
    setup.clock.advance(1.0)
    assert setup.path.exists()


def test_who_logs_in_when_the_file_was_begun_anew_is_known_again(setup: Setup) -> None:
    run(setup.guard.succeeded(THERE, ALICE))
    for file in setup.path.parent.glob("bans.db*"):
        file.unlink()
    setup.clock.advance(1.0)
    assert not run(setup.guard.is_known(THERE, ALICE))
    run(setup.guard.succeeded(THERE, ALICE))
    assert run(setup.guard.is_known(THERE, ALICE))


def test_trouble_with_the_ledger_is_told_once(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    setup.guard._ledger.close()  # type: ignore[union-attr]
    setup.clock.advance(60)
    assert caplog.text.count("cannot be read") == 1


# What is told


def test_each_ban_is_logged_with_its_reason_and_what_was_refused_is_counted(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.fail(3)
    assert f"banned network={THERE} account='{ALICE}' for=10 min times=1 spared=0: 3 failed logins" in caplog.text
    setup.fail(3)
    for _ in range(7):
        setup.guard.refusal(THERE)
    setup.clock.advance(61)
    assert "refused in the last 60 s: banned: 7" in caplog.text
    (ban,) = (each for each in BanBook(Ledger(setup.path), setup.rules).active(setup.clock.wall()) if not each.account)
    assert ban.refused == 7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59.5, "60 s"),
        (120, "120 s"),
        (121, "3 min"),
        (3600, "60 min"),
        (7201, "3 h"),
        (172_801, "3 days"),
    ],
)
def test_how_long(seconds: float, text: str) -> None:
    assert how_long(seconds) == text


# Connections


def test_the_rate_of_connections_is_told(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "bans.db", connection_rate=3)
    with closing(setup.guard):
        limits = ConnectionLimits(1000, 1000, gate=setup.guard)
        assert [limits.admit(THERE) for _ in range(3)] == [None] * 3
        told = limits.admit(THERE)
        assert told is not None and told.value.startswith("too many connections from your address in a minute")
        assert [limits.admit(each) for each in (ELSEWHERE, *[ALLOWED] * 9, *["127.0.0.1"] * 9)] == [None] * 19
        setup.clock.advance(60)
        assert limits.admit(THERE) is None


def test_only_who_is_allowed_has_no_limit_of_connections_at_the_same_time(setup: Setup) -> None:
    limits = ConnectionLimits(15, 2, gate=setup.guard)
    assert [limits.admit("127.0.0.1") for _ in range(3)] == [None, None, Refusal.ADDRESS]
    assert [limits.admit(ALLOWED) for _ in range(13)] == [None] * 13
    assert limits.admit(ALLOWED) is Refusal.TOTAL


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("fail"), st.sampled_from((ALICE, BOB, "")), st.sampled_from((ALLOWED, THERE))),
        st.tuples(st.just("connect"), st.sampled_from((ALLOWED, THERE))),
        st.tuples(st.just("succeed"), st.sampled_from((ALICE, BOB)), st.sampled_from((ALLOWED, THERE))),
        st.tuples(st.just("ban"), st.sampled_from(("203.0.113.0/24", ALLOWED, "203.0.0.0/16"))),
        st.tuples(st.just("wait"), st.floats(0, 4000)),
        st.tuples(st.just("jump"), st.floats(-1e8, 1e8)),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)


@given(steps=Steps)
@settings(max_examples=60)
def test_an_allowed_network_is_never_refused_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    setup = Setup(tmp_path_factory.mktemp("bans") / "bans.db", failures=2, failures_per_account=1, connection_rate=2)
    limits = ConnectionLimits(10_000, 1, gate=setup.guard)
    for kind, *what in steps:
        match kind:
            case "fail":
                setup.fail(1, what[0], address=what[1])
            case "connect":
                limits.admit(what[0])
            case "succeed":
                run(setup.guard.succeeded(what[1], what[0]))
            case "ban":
                with closing(Ledger(setup.path)) as ledger:
                    BanBook(ledger, setup.rules).add(what[0], 3600, "", setup.clock.wall())
            case "wait":
                setup.clock.advance(what[0])
            case "jump":
                setup.clock.epoch += what[0]
            case "restart":
                setup.guard.close()
                setup.guard = setup.another()
                limits = ConnectionLimits(10_000, 1, gate=setup.guard)
        assert limits.admit(ALLOWED) is None
        assert [setup.login(who, address=ALLOWED) for who in (ALICE, BOB, "")] == [None] * 3
    setup.guard.close()
