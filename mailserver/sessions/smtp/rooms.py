"""What all SMTP, submission and LMTP sessions of the server share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mailserver.accounts import Sending
from mailserver.config.model import SMTP, Limits
from mailserver.delivery.intake import Intake
from mailserver.delivery.router import Router
from mailserver.mail import Address, Quota
from mailserver.policy.guard import Guard
from mailserver.policy.networks import Networks
from mailserver.policy.sending import SendingLimits
from mailserver.ports import Clock, Workers
from mailserver.sessions.login import Authenticator


class Senders(Protocol):
    """The part of the directory that knows who may send as whom. Raises SourceDown."""

    @property
    def blocking(self) -> bool: ...

    def may_send_as(self, account: Address, sender: Address) -> bool: ...

    def sending(self, account: Address) -> Sending: ...


class Space(Protocol):
    """Octets that are free on the disk: known from a moment ago, or found by a look, which blocks. Raises OSError."""

    def recent(self) -> int | None: ...

    def look(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SMTPRooms:
    """`flush` starts the queue for a domain, and those below it, and counts what it started. Raises QueueError.

    `has_room`, whether an account may hold so many octets more, blocks.
    """

    hostname: str
    limits: Limits
    policy: SMTP
    spool: Path  # large bodies lie there, nameless, while they arrive
    router: Router
    intake: Intake
    senders: Senders
    authenticator: Authenticator
    proxies: Networks
    guard: Guard
    sending: SendingLimits
    flush: Callable[[str, bool], Awaitable[int]]
    has_room: Callable[[Address, Quota, int], bool]
    space: Space
    workers: Workers
    clock: Clock
