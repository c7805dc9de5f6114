"""Failed logins lead to bans, for an address and for one account; what the ledger keeps of them."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.config.abuse import Abuse
from mailserver.policy import bans
from mailserver.policy.bans import ALL, Ban, BanBook, FailedLogin
from mailserver.policy.ledger import Ledger, LedgerError

RULES = Abuse(failures=6, failures_per_account=3, window="1 h", ban_first="10 min", ban_longest="2 h", known="30 days")
ALICE, BOB = "alice@example.org", "bob@example.org"
THERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"
NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bans.db"


@pytest.fixture
def book(path: Path) -> Iterator[BanBook]:
    opened = Ledger(path)
    yield BanBook(opened, RULES)
    opened.close()


def fail(book: BanBook, count: int, account: str = ALICE, *, source: str = THERE, now: float = NOW) -> list[Ban | None]:
    outcomes = [book.failed([FailedLogin(source, account, now)])[0] for _ in range(count)]
    assert not any(isinstance(each, Exception) for each in outcomes)
    return outcomes  # type: ignore[return-value]


def test_an_address_is_banned_for_the_account_and_then_for_all(book: BanBook) -> None:
    *before, ban = fail(book, 3)
    assert before == [None, None]
    assert ban is not None and (ban.network, ban.account, ban.length) == (THERE, ALICE, 600.0)
    *before, ban = fail(book, 3, BOB)
    assert before == [None, None]
    assert ban is not None and (ban.network, ban.account, ban.reason) == (THERE, ALL, "6 failed logins")
    assert {each.account for each in book.active(NOW + 599)} == {ALICE, ALL}
    assert book.active(NOW + 600) == []


def test_other_addresses_are_not_touched(book: BanBook) -> None:
    fail(book, 100)
    assert fail(book, 2, source=ELSEWHERE) == [None, None]
    assert {each.network for each in book.active(NOW)} == {THERE}


def test_failures_count_for_the_window_only(book: BanBook) -> None:
    fail(book, 2)
    assert fail(book, 2, now=NOW + 3601) == [None, None]
    assert fail(book, 1, now=NOW + 3601)[0] is not None


def test_each_ban_is_longer_up_to_a_limit_and_begins_anew_after_a_quiet_time(book: BanBook) -> None:
    now, lengths = NOW, []
    for _ in range(6):
        (*_, ban) = fail(book, 3, now=now)
        if ban is None:
            (*_, ban) = fail(book, 3, now=now)
        assert ban is not None
        lengths.append(ban.length)
        now = ban.until + 3601  # so that what led to it no longer counts
    assert lengths == [600, 1200, 2400, 4800, 7200, 7200]
    (*_, ban) = fail(book, 3, now=now + 7200)
    assert ban is not None and ban.length == 600


def test_failures_that_led_to_a_ban_do_not_lead_to_the_next(book: BanBook) -> None:
    fail(book, 3)
    assert fail(book, 2, now=NOW + 601) == [None, None]
    assert fail(book, 1, now=NOW + 601)[0] is not None


def test_who_logged_in_from_there_is_not_banned_for_that_account(book: BanBook) -> None:
    book.succeeded(ALICE, THERE, NOW)
    assert fail(book, 100, now=NOW + 1) == [None] * 100
    assert book.active(NOW + 1) == []
    assert fail(book, 3, BOB, now=NOW + 1)[-1] is not None, "for others it is"
    assert book.known_for(THERE, NOW + 1) == {ALICE}
    assert book.known_for(THERE, NOW + 30 * 86400) == frozenset()
    assert fail(book, 3, now=NOW + 31 * 86400)[-1] is not None, "not for ever"


def test_a_login_forgets_what_failed_at_this_account_and_no_other(book: BanBook) -> None:
    """Who has an account here does not begin anew by it."""
    fail(book, 2)
    fail(book, 2, BOB)
    book.succeeded(ALICE, THERE, NOW)
    assert fail(book, 1, BOB)[0] is not None
    assert [each.account for each in book.active(NOW)] == [BOB]


def test_a_login_ends_the_ban_for_this_account(book: BanBook) -> None:
    fail(book, 3)
    book.succeeded(ALICE, THERE, NOW + 1)
    assert book.active(NOW + 1) == []


def test_sources_of_an_account_are_bounded(book: BanBook) -> None:
    for n in range(bans.KNOWN_PER_ACCOUNT + 5):
        book.succeeded(ALICE, f"10.0.0.{n}", NOW + n)
    known = [n for n in range(bans.KNOWN_PER_ACCOUNT + 5) if book.is_known(ALICE, f"10.0.0.{n}", NOW + 100)]
    assert known == list(range(5, bans.KNOWN_PER_ACCOUNT + 5))


def test_rows_are_bounded_and_what_is_over_goes(book: BanBook, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bans, "FAILURES", 10)
    monkeypatch.setattr(bans, "BANS", 5)
    for n in range(30):
        fail(book, 3, source=f"10.0.0.{n}", now=NOW + n)
    book.add("203.0.113.0/24", 1, "by hand", NOW)
    book.sweep(NOW + 30)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM failure").fetchone() == (10,)
        kept = [network for (network,) in db.execute("SELECT network FROM ban ORDER BY until")]
    assert kept == ["203.0.113.0/24", *(f"10.0.0.{n}" for n in range(26, 30))]
    book.sweep(NOW + 86400)
    with sqlite3.connect(path) as db:
        assert [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("failure", "ban")] == [0, 0]


def test_all_is_there_again_after_a_restart(path: Path) -> None:
    first = Ledger(path)
    book = BanBook(first, RULES)
    fail(book, 3)
    fail(book, 2, BOB)
    book.succeeded(BOB, ELSEWHERE, NOW)
    first.close()
    second = Ledger(path)
    again = BanBook(second, RULES)
    assert [(each.network, each.account) for each in again.active(NOW + 1)] == [(THERE, ALICE)]
    assert fail(again, 1, BOB, now=NOW + 1)[0] is not None, "failures go on to count"
    assert fail(again, 50, BOB, source=ELSEWHERE, now=NOW + 1) == [None] * 50, "who is known stays known"
    second.close()


def test_processes_count_together_and_see_what_is_new(path: Path) -> None:
    ledgers = [Ledger(path), Ledger(path)]
    first, second = (BanBook(each, RULES) for each in ledgers)
    before = ledgers[1].changes()
    fail(first, 2)
    assert fail(second, 1)[0] is not None
    assert ledgers[0].changes() != before
    (ban,) = first.changed(0)
    assert first.changed(ban.seq) == []
    second.remove(THERE, NOW + 1)
    (ended,) = first.changed(ban.seq)
    assert ended.until <= NOW + 1
    for each in ledgers:
        each.close()


def test_a_ban_of_a_clock_that_was_ahead_does_not_last_for_years(book: BanBook) -> None:
    fail(book, 3, now=NOW + 10 * 365 * 86400)
    book.add("203.0.113.0/24", 3600, "by hand", NOW + 10 * 365 * 86400)
    assert sorted(ban.until for ban in book.active(NOW)) == [NOW + 600, NOW + 3600]
    assert book.active(NOW + 3601) == []
    assert fail(book, 3, source=ELSEWHERE)[-1] is not None, "and failures of that time harm nobody"


def test_failures_of_a_clock_that_was_ahead_do_not_count(book: BanBook) -> None:
    fail(book, 2, now=NOW + 10 * 365 * 86400)
    assert fail(book, 2) == [None, None]


def test_bans_by_hand(book: BanBook) -> None:
    book.add("203.0.113.0/24", 3600, "a note", NOW)
    (ban,) = book.active(NOW)
    assert (ban.manual, ban.account, ban.reason, ban.length) == (True, ALL, "a note", 3600)
    book.count_refused({("203.0.113.0/24", ALL): 3})
    book.count_refused({("203.0.113.0/24", ALL): 4})
    assert book.active(NOW)[0].refused == 7
    assert [each.network for each in book.remove("203.0.113.0/24", NOW)] == ["203.0.113.0/24"]
    assert book.active(NOW) == []
    assert book.remove("203.0.113.0/24", NOW) == []


def test_removing_a_ban_forgets_the_failures_too(book: BanBook) -> None:
    fail(book, 3)
    fail(book, 2, BOB)
    assert len(book.remove(THERE, NOW)) == 1
    assert fail(book, 2, BOB, now=NOW + 1) == [None, None]
    (*_, ban) = fail(book, 3, now=NOW + 1)
    assert ban is not None and ban.times == 1


# The file


def test_a_damaged_file_is_moved_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"no database at all, but long enough to be looked at\n" * 100)
    opened = Ledger(path)
    assert fail(BanBook(opened, RULES), 3)[-1] is not None
    opened.close()
    assert path.with_name("bans.db.damaged").exists()
    assert "is damaged and begun anew" in caplog.text


def test_nobody_else_may_read_it(book: BanBook, path: Path) -> None:
    fail(book, 1)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in path.parent.glob("bans.db*"))


def test_a_file_of_another_version_is_refused_and_kept(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="another version"):
        Ledger(path)


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="bans cannot be kept there"):
        Ledger(tmp_path / "missing" / "bans.db")
