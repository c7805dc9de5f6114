"""Which process sees to the indexing in the background, and the process that does it (`store.indexer`).

Theory     Who holds the lock file leads. It starts the process when there is something to do: mail that arrived, or a
           round over all accounts, which is due at the start of a server and every some hours. The process ends by
           itself when it has nothing to do, so a server at rest has none.
Promises   Of all processes that use a data directory one leads; when it ends, however it ends, its lock is free, its
           process ends within seconds, and another leads after `LOOK_EVERY`. A round that did not end is begun again.
           None begins before the one before it has ended, however long that takes.
On failure What cannot be done now is logged once and tried again. A process that fails is started again after a second,
           then after twice as long each time, up to `DELAY_LONGEST`. One that says nothing for `HANGS_AFTER` is killed.
Layout     Beside what `store.arrivals` keeps: `lock`, and `round`, whose time is the end of the last round over all.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mailserver import metrics
from mailserver.net.heartbeat import Silence
from mailserver.net.logs import take_up
from mailserver.net.repeating import Repeating
from mailserver.ports import Clock, Workers
from mailserver.store.arrivals import Reader
from mailserver.store.indexer import ROUND
from mailserver.store.syncing import lock

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds
SETTLED = 2.0  # seconds until mail that arrived is worth a process: who has its mailbox open is faster
AFTER_START = 5.0  # seconds until the first round, which is not urgent
STOP_WITHIN = 5.0  # seconds
HANGS_AFTER = 1800.0  # seconds; a portion of the largest messages takes minutes where others have the processor
DELAY_FIRST, DELAY_LONGEST = 1.0, 300.0
LONG_ENOUGH = 60.0  # seconds; a process that ran so long did not fail at its start


class Indexing:
    """`mail`: where the accounts lie; `directory`: where this and `store.arrivals` keep their files."""

    def __init__(
        self,
        reactor: Any,
        *,
        mail: Path,
        directory: Path,
        hostname: str,
        round_every: float,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._reactor = reactor
        self._command = [sys.executable, "-P", "-m", "mailserver.store.indexer", "--mail", str(mail)]
        self._command += ["--arrivals", str(directory), "--hostname", hostname]
        self._lock_file, self._round_file = directory / "lock", directory / "round"
        self._reader = Reader(directory)
        self._round_every = round_every
        self._workers = workers
        self._clock = clock
        self._repeating = Repeating(self._look, workers=workers, clock=clock)
        self._lock: int | None = None
        self._tried = False
        self._failed = False
        self._round_at = 0.0  # monotonic, as all moments here
        self._round_open = False  # one was asked for and has not ended
        self._waiting_since: float | None = None
        self._not_before = 0.0
        self._delay = DELAY_FIRST
        self._process: _Indexer | None = None

    def start(self) -> None:
        self._repeating.start()

    async def stop(self) -> None:
        await self._repeating.stop()
        if self._process is not None:
            self._process.close()
            deadline = self._clock.monotonic() + STOP_WITHIN
            while self._process is not None and self._clock.monotonic() < deadline:
                await self._clock.sleep(0.02)
            if self._process is not None:
                self._process.kill()
        self._let_go()
        self._forget()

    # Leading

    async def _look(self) -> float:
        now = self._clock.monotonic()
        try:
            waiting = await self._workers.run(self._lead_and_look)
        except OSError as error:
            if not self._failed:
                log.warning("indexing: cannot be seen to: %s", error)
            self._failed = True
            return LOOK_EVERY
        self._failed = False
        if self._lock is None:
            self._forget()
            if self._process is not None:
                self._process.close()
            return LOOK_EVERY
        metrics.INDEXING.put(1)
        if self._process is not None and self._process.silence.look() >= HANGS_AFTER:
            log.error("indexing: its process is killed: it has said nothing for %.0f s", HANGS_AFTER)
            self._process.kill()
        if not waiting:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        settled = self._waiting_since is not None and now >= self._waiting_since + SETTLED
        due = now >= self._round_at and not self._round_open
        if self._process is None and (settled or due) and now >= self._not_before:
            self._begin(now)
        if due and self._process is not None:
            self._round_at, self._round_open = now + self._round_every, True
            self._process.order_round()
            metrics.INDEXING_ROUND.put(1)
        return LOOK_EVERY

    def _lead_and_look(self) -> bool:
        """Whether mail that arrived waits, if this process leads. Blocking. Raises OSError."""
        if self._lock is not None and not self._holds(self._lock):
            self._let_go()  # somebody removed the file
        if self._lock is None:
            first, self._tried = not self._tried, True
            self._lock_file.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                self._lock = lock(self._lock_file, wait=False)
            except BlockingIOError:
                return False
            self._plan_round(first)
        return self._reader.waiting

    def _plan_round(self, first: bool) -> None:
        """At the start of a server; else when the last one is over for long enough, or did not come to its end."""
        now = self._clock.monotonic()
        if first:
            self._round_at = now + AFTER_START
            return
        log.info("indexing: another process saw to it, this one does now")
        try:
            ago = time.time() - self._round_file.stat().st_mtime
        except FileNotFoundError:
            ago = self._round_every
        self._round_at = now + max(0.0, self._round_every - max(0.0, ago))

    def _holds(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._lock_file.stat())
        except FileNotFoundError:
            return False

    def _let_go(self) -> None:
        fd, self._lock = self._lock, None
        if fd is not None:
            os.close(fd)

    def _forget(self) -> None:
        """Another process tells."""
        for gauge in (metrics.INDEXING, metrics.INDEXING_WAITING, metrics.INDEXING_ROUND):
            gauge.forget()

    # The process

    def _begin(self, now: float) -> None:
        self._process = _Indexer(self, now)
        try:
            self._reactor.spawnProcess(
                self._process, self._command[0], self._command, env=None, childFDs={0: "w", 1: "r", 2: "r"}
            )
        except OSError as error:
            self.ended(self._process, str(error))

    def heard(self, line: bytes) -> None:
        """How far the process is."""
        try:
            told = json.loads(line)
            metrics.take_over(told["counted"])
            metrics.INDEXING_WAITING.put(told["mailboxes"], "mailboxes")
            metrics.INDEXING_WAITING.put(told["messages"], "messages")
            finished = self._process is not None and told["rounds"] >= self._process.rounds
        except (ValueError, KeyError, TypeError):
            log.warning("indexing: its process said %r", line[:200])
            return
        if self._round_open and finished:
            self._round_open = False
            metrics.INDEXING_ROUND.put(0)
            self._note_round()

    def _note_round(self) -> None:
        try:
            self._round_file.touch(mode=0o600)
        except OSError as error:
            log.warning("indexing: the end of a round cannot be noted: %s", error)

    def ended(self, process: _Indexer, failure: str | None) -> None:
        now = self._clock.monotonic()
        self._process = None
        self._waiting_since = None
        if self._lock is not None:
            for what in ("mailboxes", "messages"):
                metrics.INDEXING_WAITING.put(0, what)
        if self._round_open:
            self._round_open, self._round_at = False, now
        if failure is None or not self._repeating.running:
            return
        if now > process.begun + LONG_ENOUGH:
            self._delay = DELAY_FIRST
        log.error("indexing: its process ended: %s; started again in %.0f s at the earliest", failure, self._delay)
        self._not_before = now + self._delay
        self._delay = min(self._delay * 2.0, DELAY_LONGEST)


class _Indexer(ProcessProtocol):
    """One process, from its start to its end."""

    def __init__(self, indexing: Indexing, begun: float) -> None:
        self._indexing = indexing
        self._lines = {1: b"", 2: b""}
        self.begun = begun
        self.rounds = 0
        """How many it was asked for."""
        self.silence = Silence()
        self.silence.broken()

    def order_round(self) -> None:
        self.rounds += 1
        if self.transport is not None:
            self.transport.write(ROUND)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.closeStdin()

    def kill(self) -> None:
        self.silence = Silence()  # of one that is to end
        try:
            if self.transport is not None:
                self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.silence.broken()
        *lines, self._lines[childFD] = (self._lines[childFD] + data).split(b"\n")
        for line in lines:
            if childFD == 1:
                self._indexing.heard(line)
            else:
                take_up(line)

    def processEnded(self, reason: Failure) -> None:
        if self._lines[2]:
            take_up(self._lines[2])
        failed = getattr(reason.value, "exitCode", None) != 0
        self._indexing.ended(self, str(reason.value).rstrip(".") if failed else None)
