"""How much may be sent: in a minute by addresses and accounts, in a day by accounts; the refusal says when again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mailserver.config.abuse import Abuse
from mailserver.mail import Address, Reply
from mailserver.policy.guard import Guard
from mailserver.policy.ledger import Ledger
from mailserver.policy.sending import SendingLimits
from tests.support.fakes import FakeClock, FakeWorkers, run

RULES = Abuse(
    message_rate=3, recipient_rate=5, account_message_rate=2, account_recipient_rate=4, allow=["203.0.113.0/24"]
)
ALICE, BOB = Address("alice", "example.org"), Address("bob", "example.org")
THERE, ALLOWED = "192.0.2.1", "203.0.113.1"


class Setup:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.restart()

    def restart(self) -> None:
        self.guard = Guard(RULES, self.clock, FakeWorkers())
        self.limits = self.another()

    def another(self) -> SendingLimits:
        limits = SendingLimits(RULES, self.clock, FakeWorkers(), self.guard)
        limits.open(Ledger(self.path))
        return limits


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    yield Setup(tmp_path / "bans.db")


@pytest.mark.parametrize(
    ("account", "kind", "most", "told"),
    [
        (None, "message", 3, r"450 4\.7\.1 Your address sends too many messages a minute, try again in \d+ s"),
        (ALICE, "message", 2, r"450 4\.7\.1 Your account sends too many messages a minute, try again in \d+ s"),
        (None, "recipient", 5, r"452 4\.5\.3 Too many recipients in a minute, send to the others in \d+ s"),
        (ALICE, "recipient", 4, r"452 4\.5\.3 Too many recipients in a minute, send to the others in \d+ s"),
    ],
)
def test_in_a_minute(setup: Setup, account: Address | None, kind: str, most: int, told: str) -> None:
    take: Callable[[str, Address | None], Reply | None] = getattr(setup.limits, kind)
    assert [take(THERE, account) for _ in range(most)] == [None] * most
    reply = take(THERE, account)
    assert re.fullmatch(told, str(reply))
    assert [take(ALLOWED, account) for _ in range(20)] == [None] * 20, "an allowed network always may"
    other = take("192.0.2.2", account)
    assert (other is None) == (account is None), "an account is the same from everywhere"
    setup.clock.advance(int(str(reply).split()[-2]) + 60)
    assert take(THERE, account) is None


def test_loopback_has_no_rate_but_its_users_have(setup: Setup) -> None:
    assert [setup.limits.message("127.0.0.1", None) for _ in range(20)] == [None] * 20
    assert [setup.limits.message("127.0.0.1", ALICE) for _ in range(3)][2] is not None
    assert setup.limits.message("127.0.0.1", BOB) is None


def ask(setup: Setup, *, most: int = 3, account: Address = ALICE) -> str | None:
    reply = run(setup.limits.ask(account, most))
    return str(reply) if reply else None


def test_in_a_day(setup: Setup) -> None:
    for _ in range(3):
        assert ask(setup) is None
        assert run(setup.limits.count(ALICE, 3)) is None
    told = ask(setup)
    assert told == "450 4.7.1 Your account has sent as many messages as it may in a day (3), try again in 24 h"
    assert run(setup.limits.count(ALICE, 3)) is not None
    assert ask(setup, account=BOB) is None
    setup.restart()
    assert ask(setup) is not None, "a restart does not make it a new day"
    assert run(setup.another().ask(ALICE, 3)) is not None, "another process counts the same"
    setup.clock.advance(24 * 3600)
    assert ask(setup) is None


def test_the_day_slides_by_hours(setup: Setup) -> None:
    setup.clock.epoch = 1_700_000_000 // 3600 * 3600 + 1.0
    run(setup.limits.count(ALICE, 2))
    setup.clock.advance(10 * 3600)
    run(setup.limits.count(ALICE, 2))
    told = ask(setup, most=2)
    assert told is not None and told.endswith("try again in 14 h")
    setup.clock.advance(14 * 3600)
    assert ask(setup, most=2) is None
    run(setup.limits.count(ALICE, 2))
    told = ask(setup, most=2)
    assert told is not None and told.endswith("try again in 10 h")
    told = ask(setup, most=1)
    assert told is not None and told.endswith("try again in 24 h"), "a limit that was made smaller"


def test_what_was_not_taken_does_not_count(setup: Setup) -> None:
    run(setup.limits.count(ALICE, 1))
    assert ask(setup, most=1) is not None
    run(setup.limits.take_back(ALICE, 1))
    assert ask(setup, most=1) is None
    run(setup.limits.take_back(ALICE, 1))
    run(setup.limits.count(ALICE, 1))
    assert ask(setup, most=1) is not None, "it is never less than none"


def test_when_it_cannot_be_counted_the_message_passes(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(setup.path)
    setup.limits.open(ledger)
    with closing(ledger):
        run(setup.limits.count(ALICE, 1))
    assert ask(setup, most=1) is None
    assert "cannot be counted" in caplog.text


def test_the_log_hears_of_each_once_a_minute(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        setup.limits.message(THERE, None)
        setup.limits.message("127.0.0.1", ALICE)
        run(setup.limits.count(BOB, 1))
    assert [caplog.text.count(each) for each in (THERE, str(ALICE), str(BOB))] == [1, 1, 1]
    assert "too many messages of an address: 192.0.2.1" in caplog.text
    setup.clock.advance(61)
    for _ in range(100):
        setup.limits.message(THERE, None)
    assert caplog.text.count(THERE) == 2
