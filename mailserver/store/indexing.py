r"""Mail is made ready before anybody opens its mailbox: it gets its UID, its pieces of FETCH, its packed text.

Theory     What arrived comes first, as processes tell of it (`arrivals`); then, where a round was asked for, what else
           is outstanding in all accounts. A folder that somebody has opened before waits longer: who has it selected
           gives UIDs and makes pieces by itself, with less work. All that is known of what was done stands in the
           indexes, so whoever takes over goes on where this one ended.
Promises   Portions of `PORTION` messages, and after each a rest: as long as the portion took, longer by as much as
           others held it up, and while mail arrives. No folder keeps others waiting for longer than `TURN` and one
           portion. One mailbox is held at a time. Where another process makes the same just then, it is left to that
           one for a while. Nothing is claimed for a session: what nobody was told of is \Recent to the first that
           selects.
On failure A folder that cannot be indexed is logged once and tried again, later each time; the others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailserver import metrics
from mailserver.store import folders, layout, uids
from mailserver.store.account import AccountStore
from mailserver.store.arrivals import Place, Reader
from mailserver.store.backlog import Backlog
from mailserver.store.lag import directories
from mailserver.store.mailbox import Mailbox
from mailserver.store.model import NoSuchMailbox, Unavailable
from mailserver.store.outstanding import QUIET, outstanding
from mailserver.store.warm import Warm

log = logging.getLogger(__name__)

PORTION = 100  # messages
TURN = 5.0  # seconds
SOON = 2.0  # seconds until a folder is looked at that nobody has opened; longer than `arrivals.AGAIN`
LATER = 30.0  # seconds; the same for others
AFTER_ANOTHER = 10.0  # seconds
AFTER_FAILURE = 1.0  # seconds: perhaps the disk fails, and the next one will as well
LOOKED = 0.05  # seconds that are spent on looking at accounts before there is a rest
REST = 5.0  # seconds, the longest
AMID_MAIL = 0.25  # seconds, the shortest while mail arrives: the disk is for that
IDLE = 0.5  # seconds between looks for something to do


@dataclass(slots=True)
class State:
    """For those who want to know how far it is."""

    mailboxes: int = 0
    """That wait, or are at work."""
    messages: int = 0
    """That remain in the one that is at work, at least."""
    rounds: int = 0
    """That were asked for and have ended."""


class Indexer:
    """One for each store, among all processes. `rest` sleeps; `wanted` is asked often, and False ends all."""

    def __init__(
        self, root: Path, reader: Reader, host: str, *, rest: Callable[[float], None], wanted: Callable[[], bool]
    ) -> None:
        self._root = root
        self._reader = reader
        self._host = host
        self._rest = rest
        self._wanted = wanted
        self._backlog = Backlog()
        self._copied: set[Place] = set()
        self._told: dict[Place, float] = {}  # when mail of a folder was heard of last
        self._round: Iterator[Path] | None = None
        self._asked = 0
        self.state = State()

    def begin_round(self) -> None:
        """Over all accounts; one that is under way begins anew."""
        self._round = _accounts(self._root)
        self._asked += 1

    def step(self) -> bool:
        """Does something, and rests; False: there was nothing to do, and nothing waits."""
        self._listen()
        if self._reader.long:
            self._settle(self._backlog)
        now = time.monotonic()
        place = self._backlog.take(now)
        self.state.mailboxes = len(self._backlog) + (place is not None)
        if place is not None:
            self._visit(place)
            self.state.messages = 0
        elif self._round is not None:
            self._look(self._round)
        else:
            if not self._backlog and self._reader.waiting:
                self._settle(())
            self._rest(IDLE)
            return bool(self._backlog)
        return True

    # What is to be done

    def _listen(self) -> None:
        """Raises OSError."""
        for place in self._reader.read():
            self._wait_for(place)

    def _settle(self, left: Iterable[Place]) -> None:
        """All that was heard of is done, but for these; so nothing may be at work. Raises OSError."""
        for place in self._reader.settle(left):
            self._wait_for(place)

    def _wait_for(self, place: Place) -> None:
        known = uids.key(self._root / place.account / place.folder) is not None
        self._copied.discard(place)
        self._told[place] = now = time.monotonic()
        self._backlog.add(place, now + (LATER if known else SOON))

    def _look(self, round: Iterator[Path]) -> None:
        """At some accounts."""
        begun, used = time.monotonic(), time.process_time()
        looked = 0
        try:
            while time.monotonic() < begun + LOOKED and self._wanted():
                account = next(round, None)
                if account is None:
                    if not looked:  # else what was found there comes first
                        self._end_round()
                    break
                self._look_at(account)
                looked += 1
        except OSError as error:
            log.warning("indexing: the round over all accounts ends: %s", error)
            self._end_round()
        self._rest_after(begun, used)

    def _end_round(self) -> None:
        self._round = None
        self.state.rounds = self._asked

    def _look_at(self, account: Path) -> None:
        try:
            found = outstanding(account)
        except OSError as error:
            if account.exists():
                log.warning("indexing: account=%r is passed over: %s", str(account), error)
            return
        for folder, copied in found.items():
            place = Place(str(account.relative_to(self._root)), folder)
            if not copied:
                self._copied.discard(place)
            elif place not in self._backlog:
                self._copied.add(place)
            self._backlog.add(place, time.monotonic() + (QUIET if copied else 0.0))

    # Doing it

    def _visit(self, place: Place) -> None:
        begun, used = time.monotonic(), time.process_time()
        if place in self._copied:
            self._copied.discard(place)
            self._look_at(self._root / place.account)
            self._rest_after(begun, used)
            return
        try:
            again = self._index(place)
        except NoSuchMailbox:
            again = None  # it was removed meanwhile
        except Exception as error:  # noqa: BLE001 - whatever one folder has, the others go on
            if self._backlog.failed(place, time.monotonic()):
                log.warning(
                    "indexing: account=%r folder=%r is tried again later: %r", place.account, place.folder, error
                )
            self._rest(AFTER_FAILURE)
            return
        self._backlog.succeeded(place)
        if again is None and self._told.pop(place, begun - SOON) > begun - SOON:
            again = LATER  # of mail that came since then nobody needed to tell (`arrivals.AGAIN`)
        if again is not None:
            self._backlog.add(place, time.monotonic() + again)

    def _index(self, place: Place) -> float | None:
        """None: it is done, else the seconds until it may go on. Raises StoreError, OSError."""
        path = self._root / place.account
        name = folders.name_of(place.folder) if place.folder else folders.INBOX
        if name is None or not layout.is_maildir(str(path / place.folder)):
            return None  # an account is not made again by this
        account = AccountStore(str(path), self._host, Warm())
        try:
            begun, used = time.monotonic(), time.process_time()
            mailbox = account.open(name)
            try:
                self._rest_after(begun, used)
                again = self._fill(mailbox)
                mailbox.sync()  # so that the index knows the folder as it is now
            finally:
                mailbox.close()
        finally:
            account.close()
        return again

    def _fill(self, mailbox: Mailbox) -> float | None:
        """As `_index`, of a mailbox that is open."""
        until = time.monotonic() + TURN
        for work, make in (("prepare", mailbox.prepare), ("pack", mailbox.pack)):
            remaining = 1
            while remaining:
                begun, used = time.monotonic(), time.process_time()
                self.state.messages = remaining = make(PORTION)
                metrics.INDEX_TIMES.observe(time.monotonic() - begun, work)
                self._rest_after(begun, used)
                if mailbox.refused:
                    raise Unavailable("The index does not take what was made")
                if not self._wanted():
                    return 0.0
                if remaining and mailbox.overtaken:
                    return AFTER_ANOTHER
                if remaining and time.monotonic() > until and self._others_wait():
                    return 0.0
        return None

    def _others_wait(self) -> bool:
        self._listen()
        return self._backlog.due(time.monotonic())

    def _rest_after(self, begun: float, used: float) -> None:
        """`used`: of the processor, by this process, when it began."""
        took = time.monotonic() - begun
        worked = max(time.process_time() - used, 0.001)
        self._rest(min(REST, max(took * max(1.0, took / worked), AMID_MAIL if self._reader.stirs else 0.0)))


def _accounts(root: Path) -> Iterator[Path]:
    """Raises OSError when the root cannot be read."""
    for domain in directories(root):
        try:
            yield from directories(domain)
        except OSError as error:
            log.warning("indexing: domain=%r is passed over: %s", domain.name, error)
