"""Commands about mailboxes by name (RFC 3501 §6.3; RFC 2342 NAMESPACE; RFC 6154 SPECIAL-USE; RFC 8438 STATUS=SIZE;
RFC 7162 CONDSTORE, QRESYNC).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailserver.imap.commands.resync import Resync, resync
from mailserver.imap.patterns import SEPARATOR
from mailserver.imap.syntax import Fault, Name, Reader

# RFC 6154 §6. Which of them a mailbox can have is for the store to say.
_USES = {f"\\{name.lower()}": f"\\{name}" for name in ("All", "Archive", "Drafts", "Flagged", "Junk", "Sent", "Trash")}
_USE = re.compile(rb'\\[^\x00-\x20\x7f-\xff(){%*"\\\]]+')

STATUS_ITEMS = (
    b"MESSAGES",
    b"RECENT",
    b"UIDNEXT",
    b"UIDVALIDITY",
    b"UNSEEN",
    b"SIZE",
    b"DELETED",
    b"DELETED-STORAGE",
    b"APPENDLIMIT",
    b"MAILBOXID",
    b"HIGHESTMODSEQ",
)


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT, or EXAMINE when `read_only`. `condstore`: the client knows MODSEQs. `resync`: it was here before."""

    mailbox: str
    read_only: bool
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create:
    r"""`special_use`: as `\Sent`."""

    mailbox: str
    special_use: frozenset[str] = frozenset()


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
class Status:
    """`items` as asked for, in upper case."""

    mailbox: str
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Namespace:
    pass


def _mailbox(reader: Reader) -> Name:
    reader.space()
    return reader.mailbox()


def _new_mailbox(reader: Reader) -> Name:
    """A separator at its end only declares that children will follow (§6.3.3)."""
    name = _mailbox(reader)
    return Name(name.removesuffix(SEPARATOR), name.written.removesuffix(SEPARATOR))


def select(reader: Reader) -> Select:
    return _select(reader, read_only=False)


def examine(reader: Reader) -> Select:
    return _select(reader, read_only=True)


def _select(reader: Reader, *, read_only: bool) -> Select:
    mailbox = _mailbox(reader)
    parameters: dict[bytes, Resync | None] = {}
    if reader.accept(b" "):
        parameters = reader.modifiers(lambda: _select_parameter(reader))
    return Select(mailbox, read_only, b"CONDSTORE" in parameters, parameters.get(b"QRESYNC"))


def _select_parameter(reader: Reader) -> tuple[bytes, Resync | None]:
    name = reader.keyword("parameter")
    if name == b"QRESYNC":
        reader.space()
        return name, resync(reader)
    if name != b"CONDSTORE":
        raise Fault("unknown parameter")
    return name, None


def create(reader: Reader) -> Create:
    mailbox = _new_mailbox(reader)
    uses: frozenset[str] = frozenset()
    if reader.accept(b" "):
        uses = frozenset[str]().union(*reader.listed(lambda: _create_parameter(reader), "list of parameters"))
    return Create(mailbox, uses)


def _create_parameter(reader: Reader) -> tuple[str, ...]:
    if reader.keyword("parameter") != b"USE":
        raise Fault("unknown parameter")
    reader.space()
    return reader.listed(lambda: _use(reader), "list of uses", empty=True)


def _use(reader: Reader) -> str:
    text = reader.match(_USE, "special use")[0].decode()
    use = _USES.get(text.lower())
    if use is None:
        raise Fault("no mailbox can have that use", status="NO", code="USEATTR")
    return use


def delete(reader: Reader) -> Delete:
    return Delete(_mailbox(reader))


def rename(reader: Reader) -> Rename:
    return Rename(_mailbox(reader), _new_mailbox(reader))


def subscribe(reader: Reader) -> Subscribe:
    return Subscribe(_mailbox(reader), on=True)


def unsubscribe(reader: Reader) -> Subscribe:
    return Subscribe(_mailbox(reader), on=False)


def status(reader: Reader) -> Status:
    mailbox = _mailbox(reader)
    reader.space()
    return Status(mailbox, status_items(reader))


def status_items(reader: Reader) -> tuple[bytes, ...]:
    """Each of them once."""

    def item() -> bytes:
        name = reader.keyword("status item")
        if name not in STATUS_ITEMS:
            raise Fault("unknown status item")
        return name

    return tuple(dict.fromkeys(reader.listed(item, "status list")))


def namespace(_reader: Reader) -> Namespace:
    return Namespace()
