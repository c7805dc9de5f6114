"""The client's end of PLAIN and LOGIN.

Promises   A password is sent only in answer to what the mechanism foresees; a server that asks for more gets nothing.
On failure ValueError from `respond`: the exchange is to be cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class ClientMechanism(Protocol):
    """One exchange, seen by the client; use a new one for each."""

    name: str

    @property
    def initial(self) -> bytes | None:
        """The initial response, or None when the server has to speak first."""

    def respond(self, challenge: bytes) -> bytes:
        """The answer to a challenge. Raises ValueError when the mechanism foresees none."""


class Plain:
    """RFC 4616. `authorize_as` empty: act as the user itself."""

    name = "PLAIN"

    def __init__(self, user: str, password: str, authorize_as: str = "") -> None:
        """Raises ValueError when a field holds NUL, or user or password are empty."""
        fields = (authorize_as, user, password)
        if not (user and password) or any("\0" in part for part in fields):
            raise ValueError("user and password must not be empty, nor hold NUL")
        self._message = "\0".join(fields).encode()

    @property
    def initial(self) -> bytes | None:
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        raise ValueError("PLAIN has no challenges")


class Login:
    """User, then password, whatever the prompts say."""

    name = "LOGIN"

    def __init__(self, user: str, password: str) -> None:
        self._answers = [password.encode(), user.encode()]

    @property
    def initial(self) -> bytes | None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise ValueError("LOGIN has two challenges only")
        return self._answers.pop()


def choose(offered: Iterable[str], user: str, password: str) -> ClientMechanism | None:
    """The best of the mechanisms that the server offers, or None. Raises ValueError as `Plain` does."""
    names = {name.upper() for name in offered}
    if "PLAIN" in names:
        return Plain(user, password)
    return Login(user, password) if "LOGIN" in names else None
