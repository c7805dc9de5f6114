"""The values of the queue: entries and the state of each of their recipients. Plain data; times are wall time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mailserver.mail import Address, Content, Envelope, MailParameters, Notify, Recipient, Reply


class QueueError(Exception):
    """The queue could not do it (disk full, I/O error, ...), and nothing has changed."""


class NoSuchEntry(QueueError):
    """The entry is not there: delivered, removed, or never was."""


class EntryLost(QueueError):
    """The entry cannot be read and was set aside."""


class State(StrEnum):
    QUEUED = "queued"  # tried when its time comes
    HELD = "held"  # not tried until it is released
    CORRUPT = "corrupt"  # could not be read; kept for a human


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A message to queue. `header` is put on top of `content`: trace fields in CRLF form."""

    envelope: Envelope
    content: Content
    header: bytes
    created: float


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """One recipient that still waits, and what is known of it.

    `waited` counts the seconds of waiting that were seen to pass; it, and not `created`, decides on warning and expiry,
    so that a clock that jumps returns no mail. `failed`: never to be tried again, but the sender has not been told yet.
    `reply` and `host` are of the last attempt.
    """

    number: int
    address: Address
    original: Address | None
    next_attempt: float
    last_attempt: float
    attempts: int = 0
    waited: float = 0.0
    failed: bool = False
    reply: Reply | None = None
    host: str | None = None
    notify: frozenset[Notify] | None = None
    orcpt: str | None = None

    @property
    def recipient(self) -> Recipient:
        """As the envelope has it."""
        return Recipient(self.address, self.original, self.notify, self.orcpt)


@dataclass(frozen=True, slots=True)
class Entry:
    """A queued message without its content. `size`: octets of header and content. `warned`: the delay was told."""

    id: str
    state: State
    sender: Address | None
    parameters: MailParameters
    created: float
    warned: bool
    size: int
    header: bytes
    recipients: tuple[QueuedRecipient, ...]
