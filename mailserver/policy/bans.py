"""Bans, the failed logins that lead to them, and who is known for an account, as the ledger has them. Blocking code.

A failed login counts for its source and for the pair of source and account. Where somebody logged in to the account
from this source lately, it leads to no ban: else whoever sits beside the owner would lock the owner out.

Promises   All processes count together. Bans end by wall time; one that was made while the clock stood in the future
           lasts no longer, counted from when the server starts. Rows are bounded, the oldest go first.
On failure LedgerError.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailserver.config.abuse import Abuse
from mailserver.policy.ledger import Ledger

ALL = ""
"""In place of an account: the ban holds for all."""

BANS = 50_000
FAILURES = 100_000
KNOWN_PER_ACCOUNT = 50
SWEEP_EVERY = 500  # failures


@dataclass(frozen=True, slots=True)
class Ban:
    """Of a source or network, for one account or ALL. `manual`: somebody wrote it, so it spares nobody.

    `since`, `until` in seconds since the epoch; `times`: which ban in a row this is.
    """

    network: str
    account: str
    since: float
    until: float
    times: int
    manual: bool
    reason: str
    refused: int = 0
    seq: int = 0

    @property
    def length(self) -> float:
        return self.until - self.since


@dataclass(frozen=True, slots=True)
class FailedLogin:
    source: str
    account: str
    time: float


class BanBook:
    """One for each process that opens the ledger."""

    def __init__(self, ledger: Ledger, rules: Abuse) -> None:
        self._ledger = ledger
        self._rules = rules
        self._noted = 0

    # Bans

    def active(self, now: float) -> list[Ban]:
        """The longest to come first."""
        self._mend(now)
        with self._ledger.reading() as db:
            rows = db.execute("SELECT * FROM ban WHERE until > ? ORDER BY until DESC", (now,)).fetchall()
        return [_ban(row) for row in rows]

    def changed(self, seq: int) -> list[Ban]:
        """Those that were made, lengthened or ended since the change of this number."""
        with self._ledger.reading() as db:
            return [_ban(row) for row in db.execute("SELECT * FROM ban WHERE seq > ? ORDER BY seq", (seq,))]

    def _mend(self, now: float) -> None:
        """A ban of the future is of a clock that has been set since: it lasts its time from now."""
        with self._ledger.reading() as db:
            if db.execute("SELECT 1 FROM ban WHERE since > ? LIMIT 1", (now,)).fetchone() is None:
                return
        with self._ledger.writing() as db:
            db.execute(
                "UPDATE ban SET until = ? + max(0, until - since), since = ?, seq = ? WHERE since > ?",
                (now, now, _next(db), now),
            )

    def add(self, network: str, seconds: float, reason: str, now: float) -> Ban:
        """By hand, for all accounts. On disk when it returns."""
        with self._ledger.writing(durable=True) as db:
            return _put(db, Ban(network, ALL, now, now + seconds, 1, True, reason))

    def remove(self, network: str, now: float) -> list[Ban]:
        """Ends those of this network, for accounts too, and forgets its failures. On disk when it returns."""
        with self._ledger.writing(durable=True) as db:
            rows = db.execute("SELECT * FROM ban WHERE network = ? AND until > ?", (network, now)).fetchall()
            db.execute(
                "UPDATE ban SET until = ?, since = min(since, ?), times = 0, seq = ? WHERE network = ?",
                (now, now, _next(db), network),
            )
            db.execute("DELETE FROM failure WHERE source = ?", (network,))
        return [_ban(row) for row in rows]

    def count_refused(self, refused: Mapping[tuple[str, str], int]) -> None:
        """So many more by each ban, which is named by its network and account."""
        with self._ledger.writing() as db:
            db.executemany(
                "UPDATE ban SET refused = refused + ? WHERE network = ? AND account = ?",
                [(count, *key) for key, count in refused.items()],
            )

    # Logins

    def failed(self, failures: Sequence[FailedLogin]) -> Sequence[Ban | Exception | None]:
        """Notes them, in one transaction; for each the ban that it led to."""
        with self._ledger.writing() as db:
            bans = [self._failed(db, failure) for failure in failures]
            self._noted += len(failures)
            if self._noted >= SWEEP_EVERY:
                self._noted = 0
                self._sweep(db, failures[-1].time)
        return bans

    def _failed(self, db: sqlite3.Connection, failure: FailedLogin) -> Ban | None:
        source, account, now = failure.source, failure.account, failure.time
        if self._is_known(db, account, source, now):
            return None
        db.execute("INSERT INTO failure (source, account, time) VALUES (?, ?, ?)", (source, account, now))
        return self._judge(db, source, ALL, now) or self._judge(db, source, account, now)

    def _judge(self, db: sqlite3.Connection, source: str, account: str, now: float) -> Ban | None:
        """Failures that led to a ban do not count again."""
        row = db.execute("SELECT * FROM ban WHERE network = ? AND account = ?", (source, account)).fetchone()
        last = _ban(row) if row else None
        if last is not None and last.since <= now < last.until:
            return None
        since = max(now - self._rules.window, last.until if last is not None and last.since <= now else 0.0)
        (count,) = db.execute(
            "SELECT count(*) FROM failure WHERE source = ?1 AND time BETWEEN ?2 AND ?3 AND ?4 IN ('', account)",
            (source, since, now, account),
        ).fetchone()
        most = self._rules.failures if account == ALL else self._rules.failures_per_account
        if count < most:
            return None
        recent = last is not None and now - last.until < self._rules.ban_longest and not last.manual
        times = last.times + 1 if last is not None and recent else 1
        length = min(self._rules.ban_first * 2.0 ** min(times - 1, 60), self._rules.ban_longest)
        return _put(db, Ban(source, account, now, now + length, times, False, f"{count} failed logins"))

    def succeeded(self, account: str, source: str, now: float) -> None:
        """The source is known for the account from now on; failures and a ban for this pair are forgotten."""
        with self._ledger.writing() as db:
            db.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?)", (account, source, now))
            db.execute(
                "DELETE FROM known WHERE account = ?1 AND source NOT IN"
                " (SELECT source FROM known WHERE account = ?1 ORDER BY last DESC LIMIT ?2)",
                (account, KNOWN_PER_ACCOUNT),
            )
            db.execute("DELETE FROM failure WHERE source = ? AND account = ?", (source, account))
            pair = "SELECT 1 FROM ban WHERE network = ? AND account = ? AND until > ?"
            if db.execute(pair, (source, account, now)).fetchone():
                db.execute(
                    "UPDATE ban SET until = ?1, since = min(since, ?1), times = 0, seq = ?2"
                    " WHERE network = ?3 AND account = ?4",
                    (now, _next(db), source, account),
                )

    def is_known(self, account: str, source: str, now: float) -> bool:
        with self._ledger.reading() as db:
            return self._is_known(db, account, source, now)

    def known_for(self, source: str, now: float) -> frozenset[str]:
        """The accounts that somebody logged in to from there lately."""
        with self._ledger.reading() as db:
            rows = db.execute(
                "SELECT account FROM known WHERE source = ? AND last > ?", (source, now - self._rules.known)
            )
            return frozenset(account for (account,) in rows)

    def _is_known(self, db: sqlite3.Connection, account: str, source: str, now: float) -> bool:
        query = "SELECT 1 FROM known WHERE account = ? AND source = ? AND last > ?"
        return db.execute(query, (account, source, now - self._rules.known)).fetchone() is not None

    # Bounds

    def sweep(self, now: float) -> None:
        """What has no meaning any more goes, and what is beyond the bounds."""
        with self._ledger.writing() as db:
            self._sweep(db, now)

    def _sweep(self, db: sqlite3.Connection, now: float) -> None:
        db.execute("DELETE FROM failure WHERE time NOT BETWEEN ? AND ?", (now - self._rules.window, now + 60.0))
        db.execute("DELETE FROM failure WHERE id <= (SELECT max(id) FROM failure) - ?", (FAILURES,))
        db.execute("DELETE FROM ban WHERE until < ?", (now - self._rules.ban_longest,))
        db.execute(
            "DELETE FROM ban WHERE (network, account) IN"
            " (SELECT network, account FROM ban ORDER BY manual DESC, until DESC LIMIT -1 OFFSET ?)",
            (BANS,),
        )
        db.execute("DELETE FROM known WHERE last < ?", (now - self._rules.known,))
        db.execute("DELETE FROM sent WHERE hour < ?", (int(now // 3600) - 24,))


def _next(db: sqlite3.Connection) -> int:
    """The number of a change."""
    (number,) = db.execute("UPDATE change SET seq = seq + 1 RETURNING seq").fetchone()
    return int(number)


def _put(db: sqlite3.Connection, ban: Ban) -> Ban:
    seq = _next(db)
    db.execute(
        "INSERT OR REPLACE INTO ban VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)",
        (ban.network, ban.account, ban.since, ban.until, ban.times, ban.manual, ban.reason, seq),
    )
    return Ban(ban.network, ban.account, ban.since, ban.until, ban.times, ban.manual, ban.reason, 0, seq)


def _ban(row: tuple[str, str, float, float, int, int, str, int, int]) -> Ban:
    network, account, since, until, times, manual, reason, refused, seq = row
    return Ban(network, account, since, until, times, bool(manual), reason, refused, seq)
