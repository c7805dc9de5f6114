"""Processes that help when much is to be made of many messages: computation holds up all threads of a process.

Theory     A helper reads the files itself and sends back what it made (`helper`). Helpers are started when they are
           first needed, as many as there are processors, up to `HELPERS`. They end when nothing was asked of them for
           a while, or when this process ends, however that happens.
Promises   Any thread may ask. Who asks for much lets go of the helpers after every `TURN` portions, so that others get
           some. A helper works at one portion while another one waits in its pipe.
On failure Logged. What helpers did not make is None; the caller makes it by itself.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from multiprocessing import Pipe
from typing import Any

log = logging.getLogger(__name__)

HELPERS = 4
PORTION = 50  # files; their names are far less than a pipe holds
DEPTH = 2
TURN = 40
IDLE = 60.0  # seconds
ANSWER_TIMEOUT = 60.0  # seconds for one portion
RETRY = 60.0  # seconds after one could not be started

_PATIENCE = 5.0  # seconds for a helper to end by itself


class _Helper:
    """One process. Raises OSError, EOFError when it is gone."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-P", "-m", "mailserver.store.helper", str(theirs.fileno())]
            # In a session of its own, so that Control-C at a terminal leaves its end to us.
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)  # noqa: S603

    def ask(self, name: str, paths: Sequence[str]) -> None:
        self._pipe.send((name, paths))

    def answer(self, count: int) -> list[Any]:
        if not self._pipe.poll(ANSWER_TIMEOUT):
            raise TimeoutError("no answer")
        made = self._pipe.recv()
        if not isinstance(made, list) or len(made) != count:
            raise OSError("not as many answers as files")
        return made

    def close(self) -> None:
        self._pipe.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.wait()


class Helpers:
    """`limit` processes at most."""

    def __init__(self, limit: int) -> None:
        self._slots = threading.BoundedSemaphore(limit)
        self._limit = limit
        self._lock = threading.Lock()
        self._free: list[_Helper] = []
        self._used = 0.0
        self._barred = 0.0  # nothing is started before this moment
        self._closing: threading.Timer | None = None

    def made(self, name: str, portions: Iterable[Sequence[str]]) -> Generator[list[Any], None, None]:
        """What the digest of that name makes of the files of each portion, in order; None: it was not made.

        Helpers are at the next ones while the caller does something with these.
        """
        left = iter(portions)
        while some := list(islice(left, TURN)):
            yield from self._made(name, some)

    def _made(self, name: str, portions: Sequence[Sequence[str]]) -> Iterator[list[Any]]:
        helpers = self._take(min(len(portions), self._limit))
        asked: deque[_Helper] = deque()  # whose answers were not taken yet
        done = 0
        try:
            for number, portion in enumerate(portions if helpers else ()):
                if len(asked) == DEPTH * len(helpers):
                    yield _answer(asked, portions[done])
                    done += 1
                asked.append(helpers[number % len(helpers)])
                asked[-1].ask(name, portion)
            while asked:
                yield _answer(asked, portions[done])
                done += 1
        except GeneratorExit:  # nobody wants the other answers, but to wait for them takes less than to start helpers
            with suppress(Exception):
                for portion in portions[done + 1 : done + 1 + len(asked)]:
                    _answer(asked, portion)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, a helper does not do what it should
            log.error("store=helpers error=%r", error)
        finally:
            self._give_back(helpers, broken=bool(asked))
        yield from ([None] * len(portion) for portion in portions[done:])

    def do_without(self) -> None:
        """From now on none is started."""
        self._barred = math.inf

    def close(self) -> None:
        """Those that nobody uses end."""
        with self._lock:
            free, self._free = self._free, []
        for helper in free:
            helper.close()

    def _take(self, wanted: int) -> list[_Helper]:
        """Waits for one, and has more of those that nobody uses. None when no process can be started."""
        if time.monotonic() < self._barred:
            return []
        self._slots.acquire()
        slots = 1
        while slots < wanted and self._slots.acquire(blocking=False):
            slots += 1
        helpers: list[_Helper] = []
        try:
            for _ in range(slots):
                with self._lock:
                    helper = self._free.pop() if self._free else None
                helpers.append(helper or _Helper())
        except Exception as error:  # noqa: BLE001 - it is done without
            log.error("store=helpers error=%r", error)
            self._barred = time.monotonic() + RETRY
        finally:
            for _ in range(slots - len(helpers)):
                self._slots.release()
        return helpers

    def _give_back(self, helpers: list[_Helper], *, broken: bool = False) -> None:
        for helper in helpers:
            if broken:
                helper.kill()
            else:
                with self._lock:
                    self._free.append(helper)
            self._slots.release()
        with self._lock:
            self._used = time.monotonic()
            if self._closing is None:
                self._close_later(IDLE)

    def _close_later(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._close_if_idle)
        timer.daemon = True
        self._closing = None
        with suppress(RuntimeError):  # there can be no more threads: who uses helpers next tries again
            timer.start()
            self._closing = timer

    def _close_if_idle(self) -> None:
        with self._lock:
            left = self._used + IDLE - time.monotonic()
            if left > 0:
                self._close_later(left)
                return
            self._closing = None
        self.close()


def _answer(asked: deque[_Helper], portion: Sequence[str]) -> list[Any]:
    made = asked[0].answer(len(portion))
    asked.popleft()
    return made


helpers = Helpers(max(1, min(os.cpu_count() or 1, HELPERS)))
"""Those of this process."""
