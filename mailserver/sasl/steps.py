"""What a step of a server's mechanism may come to.

Promises   Plain values; no password or token stands in a `repr`.
On failure What a client did wrong is a value too, `Malformed` or `Failed`, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LIMIT = 1024  # octets of a user name or password; RFC 4616 §2 asks for 255 at the least


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
class Lookup:
    """The keys of this user are needed; `Scram.supply` takes them."""

    user: str
    authorize_as: str


@dataclass(frozen=True, slots=True)
class Token:
    """What somebody else issued for a user, empty where the client named none; `OAuth.refuse` if it is not good."""

    user: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Vouched:
    """Who the client is, the connection knows. `authorize_as`: whom it wants to be; empty: whom that leads to."""

    authorize_as: str


@dataclass(frozen=True, slots=True)
class Proven:
    """The client is who it claimed to be when it was looked up."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The client is not who it claimed to be."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The response is not of the mechanism; the text says why, without repeating it."""

    reason: str


Step = Challenge | Credentials | Lookup | Token | Vouched | Proven | Failed | Malformed

OVER = Malformed("the exchange is over")
