"""How many connections there may be, in all and from one network, and who is let in at all.

Promises   The counts are exact as long as every admitted connection is released once. Of several processes that admit
           at the same moment each may take one too many.
On failure Nothing here fails.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Protocol

from mailserver.policy.networks import network_of
from mailserver.policy.shared import SharedCounts


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is not served; `value` may be shown to the client. `counted`: whoever refuses tells the log once
    a minute how many there were, so that nobody fills the disk by coming again and again.
    """

    name: str
    value: str
    counted: bool = False

    TOTAL: ClassVar[Refusal]
    ADDRESS: ClassVar[Refusal]
    STOPPING: ClassVar[Refusal]


Refusal.TOTAL = Refusal("TOTAL", "too many connections, try again later")
Refusal.ADDRESS = Refusal("ADDRESS", "too many connections from your address, close some first")
Refusal.STOPPING = Refusal("STOPPING", "the server stops, try again later")


class Gate(Protocol):
    """Who else may not come in, and who always may. It is asked for each connection."""

    def refusal(self, address: str) -> Refusal | None:
        """A ban, or too many connections in a short time; what is not refused counts."""

    def is_allowed(self, address: str) -> bool:
        """No limit of its own holds for this address."""


class ConnectionLimits:
    """One for each process, over all ports. `shared`: what other processes of the server serve counts as well."""

    def __init__(
        self, total: int, per_address: int, shared: SharedCounts | None = None, gate: Gate | None = None
    ) -> None:
        self._shared = shared
        self._gate = gate
        self._total = total
        self._per_address = per_address
        self._by_source: Counter[str] = Counter()
        self._open = 0

    def admit(self, address: str) -> Refusal | None:
        """Counts the connection, unless it is refused."""
        source = network_of(address)
        here, open_here = self._by_source[source], self._open
        elsewhere, open_elsewhere = self._shared.others(source) if self._shared is not None else (0, 0)
        if open_here + open_elsewhere >= self._total:
            return Refusal.TOTAL
        if here + elsewhere >= self._per_address and not (self._gate and self._gate.is_allowed(address)):
            return Refusal.ADDRESS
        if self._gate is not None and (refusal := self._gate.refusal(address)) is not None:
            return refusal
        self._count(source, 1)
        return None

    def release(self, address: str) -> None:
        self._count(network_of(address), -1)

    def _count(self, source: str, change: int) -> None:
        self._open += change
        self._by_source[source] += change
        if self._shared is not None:
            self._shared.put(source, self._by_source[source], self._open)
        if not self._by_source[source]:
            del self._by_source[source]
