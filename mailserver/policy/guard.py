"""Who is let in: bans after failed logins or by hand, and the rate of connections; one guard for all protocols.

Promises   Networks that are allowed, proxies, and this machine where it is exempt, are never refused here.
           A ban for all accounts is told at the connection, one for an account at the login to it. Who logged in to an
           account lately from the same source gets in there, whatever others do beside him. What another process or
           the command changes is known within about a second. The same wrong password again counts once.
On failure When the ledger cannot be read or written, that is logged, and failed logins only cost time.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import TypeVar

from mailserver.config.abuse import Abuse
from mailserver.policy.banned import Banned, BannedNow
from mailserver.policy.bans import ALL, Ban, BanBook, FailedLogin
from mailserver.policy.connections import Refusal
from mailserver.policy.ledger import Ledger, LedgerError
from mailserver.policy.networks import LOOPBACK, Networks, ip_of, network_of
from mailserver.policy.rates import Rate
from mailserver.policy.shared import SharedRates
from mailserver.ports import Clock, Timer, Workers

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_EVERY = 1.0  # seconds between two looks at what others changed
TELL_EVERY = 60.0  # seconds between two lines of what was refused
SWEEP_EVERY = 3600.0
REMEMBERED = 10_000  # successes and wrong passwords
PASSWORDS = 8  # different wrong ones that are known again, of each source and account
KNOWN_ANEW = 3600.0  # seconds until a success is written down again
NAME_LIMIT = 254  # characters of what a client wants to log in to


class Guard:
    """One for each process. Until `open` nobody is banned."""

    def __init__(
        self,
        rules: Abuse,
        clock: Clock,
        workers: Workers,
        *,
        proxies: Iterable[str] = (),
        rates: SharedRates | None = None,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._workers = workers
        self._allowed = Networks(rules.allow)
        self.exempt = Exempt([*rules.allow, *proxies, *(LOOPBACK if rules.exempt_loopback else ())])
        self._banned = BannedNow()
        self._connections = Rate("connections", rules.connection_rate, rates)
        self._book: BanBook | None = None
        self._ledger: Ledger | None = None
        self._seen = (0, 0)  # what the ledger told of changes
        self._last = 0  # the last change of a ban that is known here
        self._trouble = ""
        self._timer: Timer | None = None
        self._swept = self._told = clock.monotonic()
        self._refused: Counter[str] = Counter()
        self._refused_by: Counter[tuple[str, str]] = Counter()
        self._written: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._wrong: OrderedDict[tuple[str, str], tuple[bytes, ...]] = OrderedDict()
        self._key = secrets.token_bytes(16)
        self._note = workers.grouped(self._note_all)

    # Starting and stopping

    def open(self, ledger: Ledger) -> None:
        """Blocks. Raises LedgerError."""
        self._ledger, self._book = ledger, BanBook(ledger, self._rules)
        now = self._clock.wall()
        self._book.sweep(now)
        self._book.active(now)  # mends what a clock did
        self._learn(self._news({}))
        self._timer = self._clock.call_later(LOOK_EVERY, self._look)

    def close(self) -> None:
        """Blocks."""
        if self._timer is not None:
            self._timer.cancel()
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            try:
                self._write_refused(self._refused_by)
            except LedgerError as error:
                log.error("%s", error)
            self._book = None
            ledger.close()

    # Connections: the gate

    def is_allowed(self, address: str) -> bool:
        return address in self._allowed

    def refusal(self, address: str) -> Refusal | None:
        """Why a connection is not served; if it is, it counts."""
        if (banned := self.ban_refusal(address)) is not None:
            return banned
        wait = self._connections.take(network_of(address), self._clock.monotonic())
        if not wait or address in self.exempt:
            return None
        self._refused["too many connections"] += 1
        text = f"too many connections from your address in a minute, try again in {how_long(wait)}"
        return Refusal("RATE", text, counted=True)

    def ban_refusal(self, address: str) -> Refusal | None:
        """Of a client that is connected, and whose address is told only now."""
        ban = self.ban_of(address)
        return self._refuse(ban, self._clock.monotonic()) if ban is not None and not ban.spared else None

    def ban_of(self, address: str, account: str = ALL) -> Banned | None:
        """The longest that does not spare the account; with ALL, one that spares some is better than none."""
        bans = self._banned.of(address, self._clock.monotonic(), account)
        if not bans or address in self.exempt:
            return None
        return next((each for each in bans if not each.spared), bans[0])

    def _refuse(self, banned: Banned, now: float) -> Refusal:
        self._refused["banned"] += 1
        self._refused_by[banned.ban.network, banned.ban.account] += 1
        why = "your address is banned" if banned.ban.manual else "too many failed logins from your address"
        return Refusal("BANNED", f"{why}, try again in {how_long(banned.ends - now)}", counted=True)

    # Logins

    def watches(self, address: str) -> bool:
        """There is something to ask before a login from there. From memory."""
        return self._banned.knows(address)

    async def refuse_login(self, address: str, account: str, password: str | None) -> Refusal | None:
        """Before the password is looked at. Who is banned for one account and guesses on is soon banned for all."""
        account = _cut(account)
        everywhere = self.ban_of(address)
        if everywhere is not None and account not in everywhere.spared:
            return self._refuse(everywhere, self._clock.monotonic())
        there = self.ban_of(address, account)
        if there is None:
            return None
        await self.failed(address, account, password)
        return self._refuse(there, self._clock.monotonic())

    async def is_known(self, address: str, account: str) -> bool:
        """Somebody logged in to the account from there lately, or could not be banned there."""
        book = self._book
        if book is None or address in self.exempt:
            return True
        try:
            return await self._workers.run(book.is_known, _cut(account), network_of(address), self._clock.wall())
        except LedgerError as error:
            log.error("%s", error)
            return True

    async def failed(self, address: str, account: str, password: str | None = None) -> None:
        """`password`, if it was seen: the same again is a program that has an old one, and nobody who guesses."""
        source, account = network_of(address), _cut(account)
        if self._book is None or address in self.exempt or self._is_repeated(source, account, password):
            return
        try:
            made = await self._note(FailedLogin(source, account, self._clock.wall()))
        except LedgerError as error:
            log.error("%s", error)
            return
        if made is not None:
            banned = self._put(*made)
            ban = banned.ban
            log.warning(
                "banned network=%s account=%r for=%s times=%d spared=%d: %s",
                *(ban.network, ban.account or "all", how_long(ban.length), ban.times, len(banned.spared), ban.reason),
            )

    async def succeeded(self, address: str, account: str) -> None:
        source, account, now = network_of(address), _cut(account), self._clock.monotonic()
        book, key = self._book, (source, account)
        if book is None or address in self.exempt or now - self._written.get(key, float("-inf")) < KNOWN_ANEW:
            return
        try:
            await self._workers.run(book.succeeded, account, source, self._clock.wall())
        except LedgerError as error:
            log.error("%s", error)
            return
        self._wrong.pop(key, None)
        _remember(self._written, key, now)

    def _is_repeated(self, source: str, account: str, password: str | None) -> bool:
        if password is None:
            return False
        tag = hashlib.blake2b(password.encode(errors="surrogatepass"), digest_size=8, key=self._key).digest()
        before = self._wrong.get((source, account), ())
        if tag in before:
            return True
        _remember(self._wrong, (source, account), (*before, tag)[-PASSWORDS:])
        return False

    def _note_all(self, failures: Sequence[FailedLogin]) -> Sequence[tuple[Ban, frozenset[str]] | Exception | None]:
        """In a thread."""
        book = self._book
        if book is None:
            return [None] * len(failures)
        return [self._with_spared(book, each) if isinstance(each, Ban) else each for each in book.failed(failures)]

    def _with_spared(self, book: BanBook, ban: Ban) -> tuple[Ban, frozenset[str]]:
        if ban.manual or ban.account != ALL:
            return ban, frozenset()
        return ban, book.known_for(ban.network, self._clock.wall())

    # What others change

    def _look(self) -> None:
        self._workers.spawn(self._look_around())

    async def _look_around(self) -> None:
        try:
            refused, self._refused_by = self._refused_by, Counter()
            self._learn(await self._workers.run(self._news, refused))
            self._trouble = ""
        except LedgerError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.error("%s", error)
        finally:
            if self._ledger is not None:
                self._timer = self._clock.call_later(LOOK_EVERY, self._look)
        self._tell()
        self._banned.prune(self._clock.monotonic())

    def _news(self, refused: Mapping[tuple[str, str], int]) -> list[tuple[Ban, frozenset[str]]]:
        """In a thread; writes what was refused by the way. Raises LedgerError."""
        ledger, book = self._ledger, self._book
        if ledger is None or book is None:
            return []
        now = self._clock.monotonic()
        if now - self._swept >= SWEEP_EVERY:
            self._swept = now
            book.sweep(self._clock.wall())
        self._write_refused(refused)
        changes = ledger.changes()
        if changes == self._seen:
            return []
        if changes[0] != self._seen[0]:
            self._last = 0  # another file, in which nobody is known
            self._written = OrderedDict()
        bans = book.changed(self._last)
        self._seen, self._last = changes, max((ban.seq for ban in bans), default=self._last)
        return [self._with_spared(book, ban) for ban in bans]

    def _learn(self, news: Iterable[tuple[Ban, frozenset[str]]]) -> None:
        for ban, spared in news:
            banned = self._put(ban, spared)
            if ban.manual and banned.ends > self._clock.monotonic() and self._timer is not None:
                log.warning("banned network=%s for=%s by hand: %r", ban.network, how_long(ban.length), ban.reason)

    def _put(self, ban: Ban, spared: frozenset[str]) -> Banned:
        now = self._clock.monotonic()
        left = min(ban.until - self._clock.wall(), ban.length)
        banned = Banned(ban, now + left, spared)
        self._banned.put(banned, now)
        return banned

    # What was refused

    def count(self, what: str) -> None:
        """Something else that was refused."""
        self._refused[what] += 1

    def _write_refused(self, refused: Mapping[tuple[str, str], int]) -> None:
        """Raises LedgerError."""
        if refused and self._book is not None:
            self._book.count_refused(refused)

    def _tell(self) -> None:
        now = self._clock.monotonic()
        if now - self._told < TELL_EVERY:
            return
        if self._refused:
            kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(self._refused.items()))
            log.warning("refused in the last %s: %s", how_long(now - self._told), kinds)
            self._refused.clear()
        self._told = now


class Exempt(Networks):
    """Networks, and the peers of UNIX sockets: those are on this machine and have no address."""

    def __contains__(self, address: object) -> bool:
        return super().__contains__(address) or ip_of(str(address)) is None


def how_long(seconds: float) -> str:
    """Rounded up, in a unit that tells enough: `45 s`, `10 min`, `3 h`, `2 days`."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if (count := max(1, ceil((seconds - 0.01) / size))) <= most:
            return f"{count} {unit}"
    return f"{ceil((seconds - 0.01) / 86400)} days"


def _cut(account: str) -> str:
    """As it is kept; never ALL."""
    return account[:NAME_LIMIT].encode(errors="replace").decode() or "?"


def _remember(known: OrderedDict[tuple[str, str], T], key: tuple[str, str], value: T) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > REMEMBERED:
        known.popitem(last=False)
