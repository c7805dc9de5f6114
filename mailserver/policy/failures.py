"""Failed logins slow what comes next: guessing costs time, and the owner is never locked out from elsewhere.

Promises   The delay depends on the client's source (IPv6: its /64), and on the account only for sources that are not
           known there: an attack on an account from one network does not touch its owner in another, and one from
           thousands makes unknown sources wait, but not those from which the owner logged in before. Many users share
           an exempt source, as a webmail is: there each account counts for itself. Memory is bounded: the oldest are
           forgotten first.
On failure Nothing here fails.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from mailserver.policy.networks import network_of
from mailserver.policy.shared import SharedFailures

FORGET_AFTER = 600.0
SOURCES = 10_000
LONGEST_DELAY = 10.0
SIEGE = 20
"""Failures to log in to one account, from wherever, that begin to slow unknown sources."""


class _Counts:
    """Failures over the last ten minutes, by what they count for."""

    def __init__(self, shared: SharedFailures | None) -> None:
        self._shared = shared
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def note(self, key: str, now: float) -> None:
        count = self._own(key, now) + 1
        self._known[key] = (count, now)
        self._known.move_to_end(key)
        if len(self._known) > SOURCES:
            self._known.popitem(last=False)
        if self._shared is not None:
            self._shared.failed(key, count, now)

    def forget(self, key: str, now: float) -> None:
        self._known.pop(key, None)
        if self._shared is not None:
            self._shared.succeeded(key, now)

    def count(self, key: str, now: float) -> int:
        elsewhere = 0 if self._shared is None else self._shared.others(key, now - FORGET_AFTER)[0]
        return self._own(key, now) + elsewhere

    def _own(self, key: str, now: float) -> int:
        count, last = self._known.get(key, (0, 0.0))
        succeeded = 0.0 if self._shared is None else self._shared.others(key, now)[1]
        return count if now - last < FORGET_AFTER and int(last) >= succeeded else 0


class Failures:
    """One for each process. `shared`: what other processes saw counts as well. `exempt`: sources that many users share.

    `name` is what the client wants to log in to, in a form that all spellings share.
    """

    def __init__(self, shared: SharedFailures | None = None, exempt: Container[str] = ()) -> None:
        self._exempt = exempt
        self._sources = _Counts(shared)
        self._accounts = _Counts(shared)

    def _source(self, address: str, name: str) -> str:
        source = network_of(address)
        return f"{source} {name}" if address in self._exempt else source

    def note(self, address: str, now: float, name: str = "") -> None:
        """Against the source alone."""
        self._sources.note(self._source(address, name), now)

    def note_account(self, name: str, now: float) -> None:
        """Somebody did not know its password."""
        self._accounts.note(f"to {name}", now)

    def forget(self, address: str, now: float, name: str = "") -> None:
        """A login succeeded. What others failed at the account stays."""
        self._sources.forget(self._source(address, name), now)

    def count(self, address: str, now: float, name: str = "") -> int:
        return self._sources.count(self._source(address, name), now)

    def delay(self, address: str, now: float, name: str = "") -> float:
        """Seconds that the answer to the next failure waits: 1, 2, 4, ... up to the longest."""
        return _delay(self.count(address, now, name))

    def siege(self, name: str, now: float) -> float:
        """Seconds that a login to this account waits if it comes from a source that is not known there."""
        return _delay(self._accounts.count(f"to {name}", now) - SIEGE)


def _delay(count: int) -> float:
    return 0.0 if count <= 0 else float(min(2.0 ** min(count - 1, 30), LONGEST_DELAY))
