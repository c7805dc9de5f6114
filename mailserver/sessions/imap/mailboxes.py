"""CREATE, DELETE, RENAME, SUBSCRIBE, LIST, LSUB, STATUS, NAMESPACE (RFC 3501 §6.3; RFC 2342, 3348, 6154, 8438).

Promises   Names reach the store decoded and leave encoded. Reference and pattern are simply joined, as by most servers.
On failure What the store refuses is answered with the codes of RFC 5530.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailserver.imap import SEPARATOR, Pattern, ServerConnection, responses
from mailserver.imap.commands import Create, Delete, List, Namespace, Rename, Status, Subscribe
from mailserver.sessions.imap.core import Core, Refused
from mailserver.store import Folder


async def create(core: Core, tag: str, command: Create) -> None:
    await core.workers.run(core.account.create, command.mailbox, command.special_use)
    core.engine.done(tag, "OK", "Created")


async def delete(core: Core, tag: str, command: Delete) -> None:
    if command.mailbox == "INBOX":
        raise Refused("INBOX cannot be deleted", "CANNOT")
    await core.workers.run(core.account.delete, command.mailbox)
    core.engine.done(tag, "OK", "Deleted")


async def rename(core: Core, tag: str, command: Rename) -> None:
    await core.workers.run(core.account.rename, command.mailbox, command.new_name)
    core.engine.done(tag, "OK", "Renamed")


async def subscribe(core: Core, tag: str, command: Subscribe) -> None:
    change = core.account.subscribe if command.on else core.account.unsubscribe
    await core.workers.run(change, command.mailbox)
    core.engine.done(tag, "OK", "Subscribed" if command.on else "Unsubscribed")


async def namespace(core: Core, tag: str, _command: Namespace) -> None:
    core.engine.untagged(b'NAMESPACE (("" ' + _separator(core.engine) + b")) NIL NIL")
    core.engine.done(tag, "OK", "Namespaces listed")


def _separator(engine: ServerConnection) -> bytes:
    return responses.string(engine.separator.encode())


async def list_(core: Core, tag: str, command: List) -> None:
    name, separator = b"LSUB" if command.subscribed else b"LIST", _separator(core.engine)
    if not command.pattern and not command.subscribed:
        core.engine.untagged(b"LIST (\\Noselect) " + separator + b' ""')
    else:
        pattern = Pattern(command.reference + command.pattern)
        if command.subscribed:
            found = _subscribed(await core.workers.run(core.account.subscriptions), pattern)
        else:
            folders = await core.workers.run(core.account.folders)
            found = _folders([each for each in folders if each.special_use or not command.special_use], pattern)
        for mailbox, attributes in found:
            line = (name, b"(" + b" ".join(attributes) + b")", separator, core.engine.mailbox(mailbox))
            core.engine.untagged(b" ".join(line))
            await core.drain_if_much()
    core.engine.done(tag, "OK", "Listed")


def _folders(folders: list[Folder], pattern: Pattern) -> Iterator[tuple[str, list[bytes]]]:
    for folder in folders:
        if pattern.matches(folder.name):
            attributes = [] if folder.selectable else [b"\\Noselect"]
            attributes.append(b"\\HasChildren" if folder.has_children else b"\\HasNoChildren")
            attributes += [use.encode() for use in sorted(folder.special_use)]
            yield folder.name, attributes


def _subscribed(names: list[str], pattern: Pattern) -> Iterator[tuple[str, list[bytes]]]:
    r"""Subscribed names; for a pattern with `%` also parents of those, as \Noselect (§6.3.9)."""
    found: dict[str, list[bytes]] = {name: [] for name in names if pattern.matches(name)}
    if pattern.text.endswith("%"):
        for name in names:
            parts = name.split(SEPARATOR)
            for depth in range(1, len(parts)):
                parent = SEPARATOR.join(parts[:depth])
                if parent not in found and pattern.matches(parent):
                    found[parent] = [b"\\Noselect"]
    yield from sorted(found.items())


async def status(core: Core, tag: str, command: Status) -> None:
    if b"HIGHESTMODSEQ" in command.items:
        core.enable_condstore()
    numbers = await core.workers.run(core.account.status, command.mailbox)
    values = {
        b"MESSAGES": numbers.messages,
        b"RECENT": numbers.recent,
        b"UIDNEXT": numbers.uidnext,
        b"UIDVALIDITY": numbers.uidvalidity,
        b"UNSEEN": numbers.unseen,
        b"SIZE": numbers.size,
        b"HIGHESTMODSEQ": numbers.highest_modseq,
    }
    items = b" ".join(b"%b %d" % (item, values[item]) for item in command.items)
    core.engine.untagged(b"STATUS %b (%b)" % (core.engine.mailbox(command.mailbox), items))
    core.engine.done(tag, "OK", "Status given")
