"""The envelope of a message: who sends it to whom, and how (RFC 5321 §2.3.1, RFC 3461, RFC 6152, RFC 6531)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mailserver.mail.address import Address


class Body(StrEnum):
    """The BODY parameter of MAIL (RFC 6152 §2, RFC 3030 §3)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"
    """RFC 3030 §3: octets that are no lines."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path. `original` is what the sender wrote, when an alias led to another address."""

    address: Address
    original: Address | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """`sender` None is the null reverse-path: such mail is never answered by a report (RFC 5321 §6.1)."""

    sender: Address | None
    recipients: tuple[Recipient, ...]
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
