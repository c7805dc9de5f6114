"""NOTIFY (RFC 5465): of what a client wants to hear unasked, and of which mailboxes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mailserver.imap.commands.fetch import Item, fetch_items
from mailserver.imap.commands.filters import Filter, mailbox_filter
from mailserver.imap.syntax import Fault, Reader

GROUP_LIMIT = 20


class Happening(Enum):
    """Events that can be told."""

    MESSAGE_NEW = b"MessageNew"
    MESSAGE_EXPUNGE = b"MessageExpunge"
    FLAG_CHANGE = b"FlagChange"
    MAILBOX_NAME = b"MailboxName"
    SUBSCRIPTION_CHANGE = b"SubscriptionChange"
    MAILBOX_METADATA_CHANGE = b"MailboxMetadataChange"
    SERVER_METADATA_CHANGE = b"ServerMetadataChange"


OF_MESSAGES = frozenset({Happening.MESSAGE_NEW, Happening.MESSAGE_EXPUNGE, Happening.FLAG_CHANGE})

_HAPPENINGS = {happening.value.upper(): happening for happening in Happening}
_PAIR = frozenset({Happening.MESSAGE_NEW, Happening.MESSAGE_EXPUNGE})
_ANNOTATION = b"ANNOTATIONCHANGE"
_OF_MESSAGES_BY_NAME = frozenset({_ANNOTATION, *(happening.value.upper() for happening in OF_MESSAGES)})


@dataclass(frozen=True, slots=True)
class Group:
    """No events: nothing is to be told of these mailboxes. `items`: what is fetched of new messages."""

    mailboxes: Filter
    events: frozenset[Happening] = frozenset()
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify:
    """`groups` empty: NOTIFY NONE. `status`: the state of the mailboxes is to be told first."""

    groups: tuple[Group, ...] = ()
    status: bool = False


def notify(reader: Reader) -> Notify:
    reader.space()
    form = reader.keyword("SET or NONE")
    if form == b"NONE":
        return Notify()
    if form != b"SET":
        raise Fault("SET or NONE expected")
    reader.space()
    status = not reader.looking_at(b"(")
    if status:
        if reader.keyword("STATUS") != b"STATUS":
            raise Fault("STATUS expected")
        reader.space()
    unknown: list[bytes] = []
    groups = [_group(reader, unknown)]
    while reader.accept(b" "):
        groups.append(_group(reader, unknown))
        if len(groups) > GROUP_LIMIT:
            raise Fault("too many groups")
    if sum(group.mailboxes.of_selected for group in groups) > 1:
        raise Fault("only one of SELECTED and SELECTED-DELAYED is allowed")
    reader.end()
    if unknown:
        known = b" ".join(happening.value for happening in Happening).decode()
        raise Fault("there are no such events", status="NO", code=f"BADEVENT ({known})")
    return Notify(tuple(groups), status)


def _group(reader: Reader, unknown: list[bytes]) -> Group:
    reader.expect(b"(")
    mailboxes = mailbox_filter(reader)
    reader.space()
    events: dict[bytes, tuple[Item, ...]] = {}
    if reader.looking_at(b"("):
        events = dict(reader.listed(lambda: _event(reader, mailboxes), "list of events"))
    elif reader.keyword("events") != b"NONE":
        raise Fault("a list of events, or NONE, expected")
    reader.expect(b")")
    unknown += events.keys() - _HAPPENINGS.keys()
    if mailboxes.of_selected and any(name in _HAPPENINGS for name in events.keys() - _OF_MESSAGES_BY_NAME):
        raise Fault("only events of messages go with the selected mailbox")
    happenings = frozenset(_HAPPENINGS[name] for name in events if name in _HAPPENINGS)
    of_messages = _OF_MESSAGES_BY_NAME & events.keys()
    if of_messages and not happenings >= _PAIR:
        raise Fault("events of messages need MessageNew and MessageExpunge")
    return Group(mailboxes, happenings, events.get(Happening.MESSAGE_NEW.value.upper(), ()))


def _event(reader: Reader, mailboxes: Filter) -> tuple[bytes, tuple[Item, ...]]:
    name = reader.keyword("event")
    items: tuple[Item, ...] = ()
    if name == Happening.MESSAGE_NEW.value.upper() and reader.looking_at(b" ("):
        if not mailboxes.of_selected:
            raise Fault("only of the selected mailbox can something be fetched")
        reader.space()
        items = fetch_items(reader)
    return name, items
