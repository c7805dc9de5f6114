"""The values of the queue: entries and the state of each of their recipients. Plain data; times are wall time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mailserver.mail import Address, Content, Envelope, MailParameters, Notify, Recipient, Reply


class QueueError(Exception):
    """The queue could not do it (disk full, I/O error, ...), and nothing has changed."""


class NoSuchEntry(QueueError):
    """The entry is not there: delivered, removed, or never was."""


class EntryLost(QueueError):
    """The entry cannot be read and was set aside."""


class LeaseLost(QueueError):
    """Another process works on the entry now; of what came here only who was served was recorded."""


class State(StrEnum):
    QUEUED = "queued"  # tried when its time comes
    HELD = "held"  # not tried until it is released
    CORRUPT = "corrupt"  # could not be read; kept for a human


class Standing(StrEnum):
    """As an administrator sees an entry: its state, and whether it is being worked on."""

    QUEUED = "queued"
    ACTIVE = "active"  # queued, and being worked on
    HELD = "held"
    CORRUPT = "corrupt"


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
    final: bool = False

    @property
    def recipient(self) -> Recipient:
        """As the envelope has it."""
        return Recipient(self.address, self.original, self.notify, self.orcpt, self.final)


@dataclass(frozen=True, slots=True)
class Entry:
    """A queued message without its content. `size`: octets of header and content. `warned`: the delay was told.

    `active`: it is being worked on. `via`: the transport that an administrator chose for it.
    """

    id: str
    state: State
    sender: Address | None
    parameters: MailParameters
    created: float
    warned: bool
    size: int
    header: bytes
    recipients: tuple[QueuedRecipient, ...]
    active: bool = False
    via: str | None = None

    @property
    def standing(self) -> Standing:
        return Standing.ACTIVE if self.active and self.state is State.QUEUED else Standing(self.state)


@dataclass(frozen=True, slots=True)
class Taken:
    """A new entry, `active` when it is to be worked on at once. `inline`: its content, unless that lies in a file."""

    entry: Entry
    inline: bytes | None


@dataclass(frozen=True, slots=True)
class Attempted:
    """What an attempt at some recipients of an entry led to.

    `served`: numbers of recipients whose copy was taken. `told`: those that failed, as `reports` tell their sender.
    `keep`: those that stay, in their new state. `ended`: nothing more of the entry is under way; then it is not tried
    again before the wall time `not_before`, and with `hold` not until somebody releases it.
    """

    id: str
    served: Sequence[int] = ()
    told: Sequence[int] = ()
    keep: Sequence[QueuedRecipient] = ()
    warned: bool = False
    reports: Sequence[NewEntry] = ()
    ended: bool = True
    not_before: float = 0.0
    hold: bool = False
