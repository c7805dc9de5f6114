"""The process that starts the workers of `workers = N`, and starts again what crashes. It serves nothing itself.

Promises   The sockets are bound before privileges are dropped and stay bound while a worker is started again. Each
           worker ends with this process, however that ends. At the stop workers have `GRACE` seconds.
           Connections are refused from the beginning of the stop. All workers, whenever they are started, have the
           configuration that this process has read.
On failure A worker that ends is started again after a second; when it ended soon, after twice as long as the last time.
           Clients that the system gives it wait at first; where it takes long they are closed, and may come to another.
           One that gives no sign of life for `worker_timeout` hangs: it is killed, and so it ends.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mailserver import metrics, telling
from mailserver.config.model import Configuration
from mailserver.datadir import DataDirectory
from mailserver.net.exporter import Exporter, serve
from mailserver.net.heartbeat import EVERY, Silence, waits_for_disk
from mailserver.net.listeners import Binding
from mailserver.net.logs import take_up
from mailserver.net.shared import BoundSockets
from mailserver.net.signals import on_hangup
from mailserver.net.versions import versions

log = logging.getLogger(__name__)

GRACE = 60.0  # seconds until a worker that does not stop is killed
DELAY_FIRST, DELAY_LONGEST = 1.0, 60.0
DELAY_TO_WAIT = 2.0  # seconds; nobody waits for a worker that is started after more
LONG_ENOUGH = 60.0  # a worker that ran so long did not fail at its start

HEARTBEAT, FIRST_SOCKET = 3, 10  # descriptors in the worker

END_OF_TEXT = b"\0"
"""Stands behind the configuration, on a worker's standard input; TOML has none."""


class Supervisor(Binding):
    """`path`: where the configuration was read, which held `text`. `prepare` makes what workers would make at the same
    time. `own_log`: the log is standard output, and the workers write into it by themselves; else this process writes
    what they say. `json_log`: what they say is JSON.
    """

    def __init__(
        self,
        configuration: Configuration,
        path: Path,
        text: str,
        reactor: Any,
        *,
        count: int,
        own_log: bool,
        json_log: bool,
        prepare: Callable[[], None],
    ) -> None:
        super().__init__()
        self._own_log = own_log
        self._json_log = json_log
        self._path, self._text = path, text
        self.patience = configuration.worker_timeout
        self._reactor = reactor
        self._prepare = prepare
        self._sockets = [BoundSockets(reactor, each.endpoint, count) for each in configuration.listener]
        self._workers = [_Worker(self, number) for number in range(count)]
        self.stopping = False
        self._data = DataDirectory(configuration.data)
        if configuration.metrics is not None:
            exporter = Exporter(self._counted, seconds=reactor.seconds)
            serve(reactor, configuration.metrics.endpoint, exporter).setServiceParent(self)
        for bound in self._sockets:
            bound.setServiceParent(self)

    def startService(self) -> None:
        self._prepare()
        telling.prepare(self._data.status)
        self._telling = telling.Telling(self._data.status, telling.SUPERVISOR, versions())
        super().startService()
        self._tell()
        for worker in self._workers:
            worker.start()
        self._look()
        on_hangup(self._reactor, self._hang_up)

    def _tell(self) -> None:
        try:
            self._telling.tell()
        except OSError as error:
            log.warning("status: cannot be written: %s", error)
        self.later(telling.AT_LEAST_EVERY, self._tell)

    def _look(self) -> None:
        for worker in self._workers:
            worker.look()
        self.later(EVERY, self._look)

    def ended(self, number: int) -> None:
        """A worker ended without being told to. What it had counted stays counted."""
        metrics.WORKERS_ENDED.add()
        try:
            telling.take_over(self._data.status, str(number))
            self._telling.tell()
        except OSError as error:
            log.warning("status: cannot be written: %s", error)

    def turn_away(self, number: int, away: bool) -> None:
        for bound in self._sockets:
            bound.turn_away(number, away)

    def _counted(self) -> list[metrics.Told]:
        others = (each for each in telling.processes(self._data.status) if each.name != telling.SUPERVISOR)
        return [metrics.told(), *(each.counted for each in others)]

    def _hang_up(self) -> None:
        """SIGHUP is for all."""
        for worker in self._workers:
            worker.hang_up()

    def spawn(self, number: int, protocol: ProcessProtocol) -> Any:
        handed = [bound.of(number) for bound in self._sockets]
        arguments = [sys.executable, "-m", "mailserver.worker", "--config", str(self._path)]
        arguments += ["--number", str(number), "--heartbeat", str(HEARTBEAT)]
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r", HEARTBEAT: "r"}
        if self._own_log:
            descriptors |= {1: 1, 2: 2}
            arguments.append("--own-log")
        if self._json_log:
            arguments.append("--json-log")
        for place, (fd, family) in enumerate(handed, FIRST_SOCKET):
            descriptors[place] = fd
            arguments += ["--socket", f"{place}:{family.value}"]
        process = self._reactor.spawnProcess(protocol, sys.executable, arguments, env=None, childFDs=descriptors)
        process.write(self._text.encode() + END_OF_TEXT)
        return process

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        self._reactor.callLater(seconds, call)

    def stopService(self) -> Deferred[Any]:
        self.stopping = True
        for bound in self._sockets:
            bound.stopService()  # what connects now would wait for nobody
        stopped = gatherResults([worker.stop() for worker in self._workers])
        return stopped.addCallback(lambda _: MultiService.stopService(self))


class _Worker:
    """One process after the other, in the same place."""

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self._supervisor = supervisor
        self._number = number
        self._process: Any = None
        self._ended: Deferred[None] | None = None
        self._begun = 0.0
        self._delay = DELAY_FIRST
        self._silence = Silence()
        self._hung_up = False

    def start(self) -> None:
        if self._supervisor.stopping:
            return
        self._begun = time.monotonic()
        self._hung_up = False
        self._silence = Silence(lambda: waits_for_disk(self._process.pid))
        self._supervisor.turn_away(self._number, False)
        try:
            self._process = self._supervisor.spawn(self._number, _Process(self.lives, self.ended))
        except OSError as error:
            self._start_again(f"cannot be started: {error}")
            return
        log.info("worker=%d pid=%d started", self._number, self._process.pid)

    def lives(self) -> None:
        """It gave a sign."""
        self._silence.broken()
        if self._hung_up:
            self.hang_up()

    def look(self) -> None:
        """Once a second. Where they all wait for whoever takes the log, the word halfway holds up this process too."""
        if self._process is None or self._supervisor.stopping:
            return
        silent, patience = self._silence.look(), self._supervisor.patience
        if silent >= patience:
            log.error("worker=%d pid=%d is killed: no sign of life for %.0f s", self._number, self._process.pid, silent)
            self._silence = Silence()  # said once
            self.signal("KILL")
        elif silent - EVERY < patience / 2 <= silent:
            text = "worker=%d pid=%d has given no sign of life for %.0f s; after %.0f s it is killed"
            log.warning(text, self._number, self._process.pid, silent, patience)

    def ended(self, reason: str) -> None:
        self._process = None
        if self._ended is not None:
            self._ended.callback(None)
            return
        if time.monotonic() - self._begun >= LONG_ENOUGH:
            self._delay = DELAY_FIRST
        self._supervisor.ended(self._number)
        self._start_again(f"ended: {reason}")

    def _start_again(self, why: str) -> None:
        log.error("worker=%d %s; started again in %.0f s", self._number, why, self._delay)
        self._supervisor.later(self._delay, self.start)
        self._supervisor.turn_away(self._number, self._delay > DELAY_TO_WAIT)
        self._delay = min(self._delay * 2.0, DELAY_LONGEST)

    def stop(self) -> Deferred[None]:
        self._ended = Deferred()
        if self._process is None:
            self._ended.callback(None)
        else:
            self.signal("TERM")
            self._supervisor.later(GRACE, lambda: self.signal("KILL"))
        return self._ended

    def hang_up(self) -> None:
        """One that has just begun would end by it, or miss it: it is told when it gives its first sign of life."""
        self._hung_up = self._silence.unbroken
        if not self._hung_up:
            self.signal("HUP")

    def signal(self, name: str) -> None:
        if self._process is not None:
            try:
                self._process.signalProcess(name)
            except ProcessExitedAlready:
                pass


class _Process(ProcessProtocol):
    """What the process writes is its log, and goes where that of this one goes."""

    def __init__(self, lives: Callable[[], None], ended: Callable[[str], None]) -> None:
        self._lives = lives
        self._ended = ended
        self._line = b""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == HEARTBEAT:
            self._lives()
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            take_up(line)

    def processEnded(self, reason: Failure) -> None:
        if self._line:
            take_up(self._line)
        self._ended(str(reason.value).rstrip("."))
