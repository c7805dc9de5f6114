"""The envelope of a message: who sends it to whom, and what is asked for it (RFC 5321 §2.3.1)."""

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


class Notify(StrEnum):
    """What a sender wants to be told of a recipient (RFC 3461 §4.1). NEVER stands alone."""

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


class Return(StrEnum):
    """How much of a message that failed is to come back (RFC 3461 §4.3)."""

    FULL = "FULL"
    HEADERS = "HDRS"


_USUAL = frozenset({Notify.FAILURE, Notify.DELAY})
"""What is told to a sender who said nothing (RFC 3461 §4.1)."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path. `original` is what the sender wrote, when an alias led to another address.

    `notify` and `orcpt` are those of RFC 3461; `orcpt`, an address type and an address, is decoded and may be anything.
    `final`: aliases were followed already; a mailbox here is the account's own, and its forwarding is done.
    """

    address: Address
    original: Address | None = None
    notify: frozenset[Notify] | None = None
    orcpt: str | None = None
    final: bool = False

    def wants(self, notice: Notify) -> bool:
        """Is the sender to be told of this?"""
        return notice in (_USUAL if self.notify is None else self.notify)


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """When a message is to have arrived at the latest (RFC 2852).

    `time` is wall time. `returned`: after it the message goes back to its sender; else it is only told to be late.
    `trace`: the sender wants to hear of each server that hands it on.
    """

    time: float
    returned: bool
    trace: bool = False

    def gives_up(self, now: float) -> bool:
        """No further attempt is to be made (RFC 2852 §4.1.3)."""
        return self.returned and now >= self.time


@dataclass(frozen=True, slots=True, kw_only=True)
class MailParameters:
    """What MAIL asks for a message, of every server on its way unless something else is said."""

    body: Body = Body.SEVEN_BIT
    """RFC 6152, RFC 3030."""
    smtputf8: bool = False
    """RFC 6531: addresses and header fields may be in UTF-8."""
    ret: Return | None = None
    envid: str | None = None
    """The sender's own name for the message (RFC 3461 §4.4), decoded."""
    requiretls: bool = False
    """Never in clear, nor to a server that cannot be told so (RFC 8689)."""
    release: float | None = None
    """Not delivered to anybody before this wall time (RFC 4865); for this server alone."""
    hold: str | None = None
    """What `release` was made of, in the words of a report: "for;" and seconds, or "until;" and a time."""
    deliver_by: DeliverBy | None = None
    priority: int = 0
    """From -9 to 9, the most urgent (RFC 6710)."""


NOTHING_ASKED = MailParameters()


@dataclass(frozen=True, slots=True)
class Envelope:
    """`sender` None is the null reverse-path: such mail is never answered by a report (RFC 5321 §6.1)."""

    sender: Address | None
    recipients: tuple[Recipient, ...]
    parameters: MailParameters = NOTHING_ASKED
