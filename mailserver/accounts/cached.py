"""Remembers for some seconds what a source answered.

Promises   Also that somebody is not there is remembered. The number of answers is bounded; those used last stay.
           Threads that ask the same at the same time ask the source once. While the source is down, what it said
           before goes on to hold for a longer time, so that a database that is away for an hour keeps no mail out; but
           only what says that somebody is there: that somebody is not there is never said for a source that is down,
           since a wrong answer of that kind loses mail, and one of the other delivers it as an hour ago.
           Passwords are not remembered, in no form: logging in asks the source.
On failure SourceDown, to each thread that asked.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mailserver.accounts.model import Account, Alias, Domain, Key, Source, SourceDown
from mailserver.mail import Address

K = TypeVar("K")
V = TypeVar("V")


class FurtherSource(Source, Protocol):
    """One that is configured beside the accounts file."""

    def try_out(self) -> list[str]:
        """Asks what it can be asked; gives what is wrong with single entries. Raises SourceDown."""


@dataclass(frozen=True, slots=True)
class _Answer(Generic[V]):
    value: V | None
    at: float


class Answers(Generic[K, V]):
    """Of one kind of question. `fresh`, `stale`: seconds for which an answer holds, and while `ask` fails."""

    def __init__(
        self,
        ask: Callable[[K], V | None],
        *,
        fresh: float,
        stale: float,
        most: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._fresh = fresh
        self._stale = stale
        self._most = most
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._expired = -math.inf  # what was answered up to then is not fresh
        self._known: OrderedDict[K, _Answer[V]] = OrderedDict()
        self._asking: dict[K, Future[V | None]] = {}

    def get(self, key: K) -> V | None:
        """Raises SourceDown."""
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                if known.at > max(self._expired, self._monotonic() - self._fresh):
                    return known.value
            asking = self._asking.get(key)
            mine = asking is None
            if asking is None:
                asking = self._asking[key] = Future()
        if mine:
            self._ask_for(key, asking)
        try:
            return asking.result()
        except SourceDown:
            if known is not None and known.value is not None and self._monotonic() - known.at < self._stale:
                return known.value
            raise

    def expire(self) -> None:
        """Nothing is fresh any more."""
        with self._lock:
            self._expired = self._monotonic()

    def _ask_for(self, key: K, asking: Future[V | None]) -> None:
        at = self._monotonic()
        try:
            value = self._ask(key)
        except BaseException as error:  # noqa: BLE001 - it belongs to all who wait
            with self._lock:
                del self._asking[key]
            asking.set_exception(error)
            return
        with self._lock:
            del self._asking[key]
            self._known[key] = _Answer(value, at)
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        asking.set_result(value)


class Cached:
    """A source that asks another one."""

    def __init__(
        self,
        source: FurtherSource,
        *,
        fresh: float,
        stale: float,
        most: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = source.name
        self.blocking = source.blocking
        self._source = source
        self._domains: Answers[str, Domain] = Answers(
            source.domain, fresh=fresh, stale=stale, most=most, monotonic=monotonic
        )
        self._found: Answers[Key, Account | Alias] = Answers(
            source.find, fresh=fresh, stale=stale, most=most, monotonic=monotonic
        )

    def domain(self, name: str) -> Domain | None:
        return self._domains.get(name)

    def find(self, key: Key) -> Account | Alias | None:
        return self._found.get(key)

    def caretaker(self, domain: str) -> Address | None:
        found = self.domain(domain) if domain else None
        return found.caretaker if found is not None else None

    def verify(self, account: Account, password: str) -> bool:
        return self._source.verify(account, password)

    def reload(self) -> None:
        """What was remembered holds on while the source is down, and no longer."""
        self._domains.expire()
        self._found.expire()
        self._source.reload()

    def refuse(self, key: Key, password: str) -> None:
        self._source.refuse(key, password)

    def try_out(self) -> list[str]:
        return self._source.try_out()
