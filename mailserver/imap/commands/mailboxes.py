"""Commands about mailboxes by name (RFC 3501 §6.3; RFC 2342 NAMESPACE; RFC 8438 STATUS=SIZE)."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.syntax import Fault, Reader

STATUS_ITEMS = (b"MESSAGES", b"RECENT", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN", b"SIZE")


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT, or EXAMINE when `read_only`."""

    mailbox: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Create:
    mailbox: str


@dataclass(frozen=True, slots=True)
class Delete:
    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    mailbox: str
    new_name: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE, or UNSUBSCRIBE when not `on`."""

    mailbox: str
    on: bool


@dataclass(frozen=True, slots=True)
class List:
    """LIST, or LSUB when `subscribed`."""

    reference: str
    pattern: str
    subscribed: bool


@dataclass(frozen=True, slots=True)
class Status:
    """`items` as asked for, in upper case."""

    mailbox: str
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Namespace:
    pass


def _mailbox(reader: Reader) -> str:
    reader.space()
    return reader.mailbox()


def select(reader: Reader) -> Select:
    return Select(_mailbox(reader), read_only=False)


def examine(reader: Reader) -> Select:
    return Select(_mailbox(reader), read_only=True)


def create(reader: Reader) -> Create:
    # a separator at the end only declares that children will follow (§6.3.3)
    return Create(_mailbox(reader).removesuffix("/"))


def delete(reader: Reader) -> Delete:
    return Delete(_mailbox(reader))


def rename(reader: Reader) -> Rename:
    return Rename(_mailbox(reader), _mailbox(reader).removesuffix("/"))


def subscribe(reader: Reader) -> Subscribe:
    return Subscribe(_mailbox(reader), on=True)


def unsubscribe(reader: Reader) -> Subscribe:
    return Subscribe(_mailbox(reader), on=False)


def list_(reader: Reader) -> List:
    return _list(reader, subscribed=False)


def lsub(reader: Reader) -> List:
    return _list(reader, subscribed=True)


def _list(reader: Reader, *, subscribed: bool) -> List:
    reader.space()
    reference = reader.mailbox()
    reader.space()
    return List(reference, reader.pattern(), subscribed)


def status(reader: Reader) -> Status:
    mailbox = _mailbox(reader)
    reader.space()

    def item() -> bytes:
        name = reader.keyword("status item")
        if name not in STATUS_ITEMS:
            raise Fault("unknown status item")
        return name

    return Status(mailbox, tuple(dict.fromkeys(reader.listed(item, "status list"))))


def namespace(_reader: Reader) -> Namespace:
    return Namespace()
