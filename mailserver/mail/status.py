"""What became of one recipient at one attempt (RFC 3464 §2.3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mailserver.mail.address import Address
from mailserver.mail.reply import Reply


class Action(StrEnum):
    """The Action field of a delivery status notification."""

    DELIVERED = "delivered"  # into a mailbox of this server
    RELAYED = "relayed"  # another server has taken it
    EXPANDED = "expanded"  # it goes on to several others
    DELAYED = "delayed"  # not yet; it will be tried again
    FAILED = "failed"  # never


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """`reply` is the remote's own answer when `host` names a remote, else one that this server made."""

    recipient: Address
    action: Action
    reply: Reply
    host: str | None = None
    passed_on: bool = False
    """The server that took it knows what the sender wants to be told, and tells it (RFC 3461 §5.2.1)."""
    in_time: bool = False
    """The server that took it knows by when it is to arrive (RFC 2852 §4.1.4)."""

    @classmethod
    def of_reply(cls, recipient: Address, reply: Reply, host: str | None) -> DeliveryStatus:
        """A remote's answer: 2xx relayed, 4xx delayed, 5xx failed."""
        if reply.positive:
            return cls(recipient, Action.RELAYED, reply, host)
        return cls(recipient, Action.DELAYED if reply.temporary else Action.FAILED, reply, host)
