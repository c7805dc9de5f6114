"""What the store hands out and what it raises.

Promises   Values are immutable and may be shared between threads. The text of an error may be shown to the client: it
           names no path of this machine.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mailserver.mail import UNLIMITED, Address, Content, Piece, Quota, Reply
from mailserver.store import names

FlagAction = Literal["add", "remove", "set"]


class Message(NamedTuple):
    """One message of a mailbox as it was at one moment.

    A named tuple because tens of thousands are made when a mailbox is opened, straight from the index's rows.
    """

    uid: int
    flags: frozenset[str]
    r"""System flags spelled `\Seen \Answered \Flagged \Deleted \Draft`, keywords as first written; never `\Recent`."""
    modseq: int
    internal_date: float
    """Seconds since the epoch."""
    size: int
    """Octets in CRLF form, as on the wire."""
    born: int = 0
    """The MODSEQ with which it appeared here."""
    name: str = ""
    """The file's name in cur/."""

    @property
    def saved(self) -> float:
        """When it came into this mailbox (RFC 8514): its file got a name then that keeps the time of it.

        A file that another program brought from elsewhere, under its old name, has the time of that; one whose name
        tells none has its internal date. It never changes.
        """
        seconds = names.seconds_of(self.name)
        return self.internal_date if seconds is None else seconds

    @property
    def zone(self) -> int:
        """The zone that the internal date was told in, minutes east of Greenwich."""
        return names.zone_of(self.name)


class Flagged(NamedTuple):
    """The flags of a message, as in `Message`."""

    uid: int
    flags: frozenset[str]
    modseq: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different since a MODSEQ; `modseq` is what to ask with next time. Lists ascend by UID."""

    appeared: list[Flagged]
    changed: list[Flagged]
    vanished: list[int]
    modseq: int
    complete: bool = True
    """False: how far back the expunges are known does not reach; compare with the UIDs that exist."""


@dataclass(frozen=True, slots=True)
class Status:
    """The numbers of STATUS (RFC 9051 §6.3.11). `size` sums the messages' octets on the wire.

    `deleted_octets` is what an expunge would free, as quotas count it (RFC 9208 §4.1.4).
    """

    messages: int
    recent: int
    unseen: int
    deleted: int
    deleted_octets: int
    uidnext: int
    uidvalidity: int
    size: int
    highest_modseq: int
    mailbox_id: str
    """MAILBOXID (RFC 8474)."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A mailbox name, "/" between its parts. Not selectable: it is only the parent of others."""

    name: str
    selectable: bool
    has_children: bool
    special_use: frozenset[str] = frozenset()
    r"""What it is for (RFC 6154), as `\Sent`."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account's folders hold; octets as stored."""

    messages: int
    octets: int

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.messages + other.messages, self.octets + other.octets)

    def __neg__(self) -> Usage:
        return Usage(-self.messages, -self.octets)


class Prepared(NamedTuple):
    """Ready pieces of a FETCH answer (RFC 9051 §7.5.2)."""

    envelope: bytes
    body: bytes
    bodystructure: bytes
    preview: str
    """The first words of the text (RFC 8970)."""


class SortKeys(NamedTuple):
    """What a message is sorted and threaded by (RFC 5256, RFC 5957)."""

    sent: int | None
    """The Date field, seconds since the epoch; None: there is none that can be understood."""
    subject: str
    """The base subject (RFC 5256 §2.1)."""
    reply: bool
    """Whether something was taken off the subject that tells of a reply or forward."""
    sender: str
    """The local part of the first address in From, as `to` and `cc` of theirs."""
    to: str
    cc: str
    display_from: str
    display_to: str
    message_id: str
    references: tuple[str, ...]
    """The field References, else the first identifier in In-Reply-To (RFC 5256 §3)."""


class Identity(NamedTuple):
    """Digests of a message's content, and of what its thread is known by (see `objectids`)."""

    content: bytes
    thread: bytes


class ObjectIds(NamedTuple):
    """EMAILID and THREADID (RFC 8474)."""

    email: str
    thread: str


class Pieces(NamedTuple):
    """All that is prepared of one message. `header` is its summary (CRLF form, with the final empty line)."""

    prepared: Prepared
    keys: SortKeys
    header: bytes
    identity: Identity


@dataclass(frozen=True, slots=True)
class Listing:
    """All messages of a mailbox in short, ascending by UID; the columns are as long. Nobody changes them: they are
    shared by all who ask.
    """

    uids: array[int]
    flags: list[frozenset[str]]
    modseqs: array[int]
    modseq: int
    kinds: frozenset[frozenset[str]]
    """The different ones of `flags`."""


@dataclass(frozen=True, slots=True)
class Drop:
    """All messages of a mailbox as POP3 counts them, ascending by UID; the columns are as long."""

    uids: array[int]
    sizes: array[int]
    names: list[str]
    """What the files were called before they got their UIDs; empty unless asked for."""


@dataclass(frozen=True, slots=True)
class Measured:
    """All messages by size and internal date, as in `Message`, ascending by UID; the columns are as long."""

    uids: array[int]
    sizes: array[int]
    dates: array[float]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One copy of one message. `header` (CRLF form) is put on top of the content."""

    account: Address
    header: bytes
    content: Content
    folder: str = "INBOX"
    quota: Quota = UNLIMITED


@dataclass(frozen=True, slots=True)
class Addition:
    """A message to append (RFC 9051 §6.3.12, RFC 3502). `internal_date` None: now. `zone` as in `Message`."""

    content: Content | Piece
    flags: frozenset[str] = frozenset()
    internal_date: float | None = None
    zone: int = 0


class StoreError(Exception):
    """The base of what the store raises."""


class InvalidName(StoreError):
    """A mailbox name that cannot be, here."""


class NoSuchMailbox(StoreError):
    """The mailbox does not exist, or no longer."""


class MailboxExists(StoreError):
    """The name is taken."""


class SpecialUseRefused(StoreError):
    """A use that no mailbox can have, or that another has already."""


class AnnotationRefused(StoreError):
    """A value that is larger than `largest` octets, or, where that is None, one entry too many."""

    def __init__(self, text: str, largest: int | None = None) -> None:
        super().__init__(text)
        self.largest = largest


class MailboxHasChildren(StoreError):
    """Not a mailbox itself, and other mailboxes lie below it."""


class InvalidFlag(StoreError):
    """Not a flag that can be kept."""


class TooManyKeywords(InvalidFlag):
    """No further keyword can be kept in this mailbox."""


class MessageGone(StoreError):
    """The message was expunged."""


class OverQuota(StoreError):
    """The account has no room for it."""


class Unavailable(StoreError):
    """The disk refused. `errno` tells why; trying later may help."""

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class InUse(StoreError):
    """Another session has the maildrop for itself."""


class TooSoon(StoreError):
    """The account was logged in a moment ago."""


class DeliveryError(StoreError):
    """A message was not delivered, and no trace of it is left. `reply` is the answer it deserves."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply
