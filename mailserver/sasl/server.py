"""The server's end of PLAIN and LOGIN.

A mechanism serves one exchange. The first `step` gets the client's initial response, or None when it sent none; each
later one gets the answer to the challenge before. The exchange ends with `Credentials`, which somebody else has to
check, or with `Malformed`; after its end every step is `Malformed`.

Promises   User and password are valid UTF-8, not empty, without NUL and at most `LIMIT` octets each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

LIMIT = 1024  # RFC 4616 §2 asks for 255 octets at the least


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send this and step again with the response. Empty: the client is to begin (RFC 4422 §5, 2b)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client claims. `authorize_as` is the authorisation identity; empty means: the user's own."""

    user: str
    password: str = field(repr=False)
    authorize_as: str = ""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The response is not of the mechanism; the text says why, without repeating it."""

    reason: str


Step = Challenge | Credentials | Malformed

_OVER = Malformed("the exchange is over")


class Mechanism(Protocol):
    """One exchange, seen by the server."""

    def step(self, response: bytes | None) -> Step:
        """None only at the first step: the client sent no initial response. Never raises."""


class _Plain:
    """RFC 4616: `[authzid] NUL authcid NUL passwd` in one message."""

    def __init__(self) -> None:
        self._over = False

    def step(self, response: bytes | None) -> Step:
        if self._over:
            return _OVER
        if response is None:
            return Challenge(b"")
        self._over = True
        parts = response.split(b"\0")
        if len(parts) != 3:
            return Malformed("three fields are expected")
        authorize_as, user, password = parts
        return _credentials(user, password, authorize_as)


class _Login:
    """LOGIN: two prompts, two answers. Never standardised, but the only one that some clients know."""

    def __init__(self) -> None:
        self._user: bytes | None = None
        self._over = False

    def step(self, response: bytes | None) -> Step:
        if self._over:
            return _OVER
        if response is None:
            return Challenge(b"Username:")
        if self._user is None:
            self._user = response
            return Challenge(b"Password:")
        self._over = True
        return _credentials(self._user, response, b"")


def _credentials(user: bytes, password: bytes, authorize_as: bytes) -> Credentials | Malformed:
    fields = (user, password, authorize_as)
    if not user or not password:
        return Malformed("user and password must not be empty")
    if any(len(part) > LIMIT for part in fields):
        return Malformed(f"a field is longer than {LIMIT} octets")
    if any(b"\0" in part for part in fields):
        return Malformed("a field holds NUL")
    try:
        return Credentials(*(part.decode() for part in fields))
    except UnicodeDecodeError:
        return Malformed("a field is not UTF-8")


_MECHANISMS: dict[str, type[_Plain] | type[_Login]] = {"PLAIN": _Plain, "LOGIN": _Login}

SERVER_MECHANISMS = tuple(_MECHANISMS)


def mechanism(name: str) -> Mechanism | None:
    """A new exchange, or None when there is no such mechanism. Case does not count."""
    kind = _MECHANISMS.get(name.upper())
    return kind() if kind else None
