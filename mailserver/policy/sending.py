"""How much an account, or an address without a login, may send: in a minute, and an account in a day.

Promises   Each refusal says what was too much and when there is room again. The messages of a day are counted in the
           ledger, exactly and over restarts, for accounts that have such a limit; one that was refused does not count.
On failure When the ledger cannot be asked, that is logged, and the message passes.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from mailserver.config.abuse import Abuse
from mailserver.mail import Address, Reply
from mailserver.policy.guard import Guard, how_long
from mailserver.policy.ledger import Ledger, LedgerError
from mailserver.policy.networks import network_of
from mailserver.policy.rates import MINUTE, Rate
from mailserver.policy.shared import SharedRates
from mailserver.ports import Clock, Workers

log = logging.getLogger(__name__)

HOUR, HOURS = 3600, 24
TOLD = 1000  # who were told of in the log in the last minute


@dataclass(frozen=True, slots=True)
class _Message:
    """One more of the account, of which so many may go in a day. `count` 0: only asked; -1: it was not taken."""

    account: str
    most: int
    now: float
    count: int


class SendingLimits:
    """One for each process. `guard` knows who is exempt. Until `open` the messages of a day are not counted."""

    def __init__(
        self, rules: Abuse, clock: Clock, workers: Workers, guard: Guard, rates: SharedRates | None = None
    ) -> None:
        self._clock = clock
        self._guard = guard
        self._ledger: Ledger | None = None
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._count = workers.grouped(self._count_all)
        self._rates = {
            ("messages", True): Rate("messages of", rules.account_message_rate, rates),
            ("messages", False): Rate("messages from", rules.message_rate, rates),
            ("recipients", True): Rate("recipients of", rules.account_recipient_rate, rates),
            ("recipients", False): Rate("recipients from", rules.recipient_rate, rates),
        }

    def open(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # In a minute

    def message(self, address: str, account: Address | None) -> Reply | None:
        """Why there may be no further one now; if there may, it counts."""
        if (wait := self._take("messages", address, account)) is None:
            return None
        whose = "Your account" if account is not None else "Your address"
        return Reply.of(450, "4.7.1", f"{whose} sends too many messages a minute, try again in {wait}")

    def recipient(self, address: str, account: Address | None) -> Reply | None:
        if (wait := self._take("recipients", address, account)) is None:
            return None
        return Reply.of(452, "4.5.3", f"Too many recipients in a minute, send to the others in {wait}")

    def _take(self, what: str, address: str, account: Address | None) -> str | None:
        if account is None and address in self._guard.exempt:
            return None
        key = network_of(address) if account is None else "@".join(account.key)
        wait = self._rates[what, account is not None].take(key, self._clock.monotonic())
        if not wait or self._guard.is_allowed(address):
            return None
        kind = "account" if account is not None else "address"
        self._tell(f"{what} of an {kind}", key)
        return how_long(wait)

    def _tell(self, what: str, whose: str) -> None:
        """Each is logged once a minute: who is refused may come again as fast as he likes."""
        self._guard.count(what)
        now, key = self._clock.monotonic(), (what, whose)
        if now - self._told.get(key, -inf) < MINUTE:
            return
        log.warning("too many %s: %s", what, whose)
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > TOLD:
            self._told.popitem(last=False)

    # In a day

    async def ask(self, account: Address, most: int) -> Reply | None:
        """Why the account may send no further message today."""
        return await self._day(account, most, 0)

    async def count(self, account: Address, most: int) -> Reply | None:
        """The same; if it may, the message counts."""
        return await self._day(account, most, 1)

    async def take_back(self, account: Address, most: int) -> None:
        """It was not taken in."""
        await self._day(account, most, -1)

    async def _day(self, account: Address, most: int, count: int) -> Reply | None:
        if self._ledger is None:
            return None
        try:
            wait = await self._count(_Message("@".join(account.key), most, self._clock.wall(), count))
        except LedgerError as error:
            log.error("the messages of the day cannot be counted: %s", error)
            return None
        if not wait:
            return None
        self._tell("messages of an account in a day", "@".join(account.key))
        text = f"Your account has sent as many messages as it may in a day ({most}), try again in {how_long(wait)}"
        return Reply.of(450, "4.7.1", text)

    def _count_all(self, messages: Sequence[_Message]) -> Sequence[float | Exception]:
        """In a thread."""
        ledger = self._ledger
        if ledger is None:
            return [0.0] * len(messages)
        with ledger.writing() as db:
            return [_counted(db, message) for message in messages]


def _counted(db: sqlite3.Connection, message: _Message) -> float:
    """0: there is room, and it was counted. Else the seconds until there is."""
    hour = int(message.now // HOUR)
    rows = db.execute(
        "SELECT hour, messages FROM sent WHERE account = ? AND hour BETWEEN ? AND ? ORDER BY hour",
        (message.account, hour - HOURS + 1, hour),
    ).fetchall()
    surplus = sum(messages for _, messages in rows) + 1 - message.most
    if surplus > 0 and message.count >= 0:
        for past, messages in rows:
            surplus -= messages
            if surplus <= 0:
                return float((past + HOURS) * HOUR) - message.now
        return float(HOURS * HOUR)
    db.execute(
        "INSERT INTO sent VALUES (?, ?, max(0, ?)) ON CONFLICT DO UPDATE SET messages = max(0, messages + ?)",
        (message.account, hour, message.count, message.count),
    )
    return 0.0
