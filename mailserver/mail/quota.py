"""How much an account may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of an account; None: there is none of that kind."""

    octets: int | None = None
    messages: int | None = None

    def allows(self, octets: int, messages: int) -> bool:
        """Whether so much in all is within the limits."""
        return (self.octets is None or octets <= self.octets) and (self.messages is None or messages <= self.messages)


UNLIMITED = Quota()
