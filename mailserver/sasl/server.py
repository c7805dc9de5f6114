"""The server's end of all mechanisms; PLAIN and LOGIN themselves.

A mechanism serves one exchange. The first `step` gets the client's initial response, or None when it sent none; each
later one gets the answer to the challenge before. The exchange of PLAIN and LOGIN ends with `Credentials`, which
somebody else has to check, those of SCRAM and OAuth as told there, and each with `Malformed` where the client does not
speak it; after its end every step is `Malformed`.

Promises   User and password are valid UTF-8, not empty, without NUL and at most `LIMIT` octets each.
"""

from __future__ import annotations

from typing import Protocol

from mailserver.sasl.oauth import OAUTHBEARER, XOAUTH2, OAuth
from mailserver.sasl.scram import SCRAM, SCRAM_PLUS, Binding, Scram
from mailserver.sasl.steps import LIMIT, OVER, Challenge, Credentials, Malformed, Step, Vouched

EXTERNAL = "EXTERNAL"


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
            return OVER
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
            return OVER
        if response is None:
            return Challenge(b"Username:")
        if self._user is None:
            self._user = response
            return Challenge(b"Password:")
        self._over = True
        return _credentials(self._user, response, b"")


class _External:
    """EXTERNAL (RFC 4422 appendix A): the authorisation identity in one message, often empty."""

    def __init__(self) -> None:
        self._over = False

    def step(self, response: bytes | None) -> Step:
        if self._over:
            return OVER
        if response is None:
            return Challenge(b"")
        self._over = True
        if len(response) > LIMIT or b"\0" in response:
            return Malformed(f"an identity has at most {LIMIT} octets, and no NUL")
        try:
            return Vouched(response.decode())
        except UnicodeDecodeError:
            return Malformed("an identity is not UTF-8")


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


SERVER_MECHANISMS = (EXTERNAL, SCRAM_PLUS, SCRAM, OAUTHBEARER, XOAUTH2, "PLAIN", "LOGIN")
"""The best first."""


def mechanism(name: str, binding: Binding | None = None, *, configuration: str | None = None) -> Mechanism | None:
    """A new exchange, or None when there is no such mechanism. Case does not count.

    `binding` gives channel bindings, where the connection has any; SCRAM-SHA-256-PLUS needs them. `configuration`: a
    URL for those whose token is refused.
    """
    match name.upper():
        case "PLAIN":
            return _Plain()
        case "LOGIN":
            return _Login()
        case "EXTERNAL":
            return _External()
        case "SCRAM-SHA-256":
            return Scram(binding=None, plus_offered=binding is not None)
        case "SCRAM-SHA-256-PLUS" if binding is not None:
            return Scram(binding=binding, plus_offered=True)
        case "OAUTHBEARER" | "XOAUTH2":
            return OAuth(name.upper(), configuration)
    return None
