r"""What clients call mailboxes, and how mailboxes are told to them (RFC 9051 §5.1, §6.3.9.7; RFC 5198).

Theory     Names that are made here in UTF-8 are in Unicode's normal form C. A client that knows UTF-8 may write a name
           in any form, in every command: a mailbox of just that name, which other programs may have made, is what it
           means, or else the one in form C. Names in modified UTF-7 are left as they are (RFC 9051, Appendix A.1).
Promises   Who speaks IMAP4rev2 is told the mailbox's name where it is not the one that was written (OLDNAME).
On failure As the store says.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, TypeVar

from mailserver.imap import Name, responses
from mailserver.imap.commands import Append, Command, MultiSearch, Notify
from mailserver.imap.commands.filters import Filter
from mailserver.sessions.imap.core import Core
from mailserver.store import AccountStore, Folder, StoreError

log = logging.getLogger(__name__)

C = TypeVar("C", bound=Command | Append)


async def meant(core: Core, command: C) -> C:
    """The command with the names of the mailboxes that it means."""
    if not core.engine.utf8:
        return command
    named = [(each.name, getattr(command, each.name)) for each in fields(command)]
    changes: dict[str, Any] = {}
    for field, name in named:
        if isinstance(name, Name) and not unicodedata.is_normalized("NFC", name):
            changes[field] = Name(await core.workers.run(core.account.meant, name), name)
    if isinstance(command, MultiSearch):
        changes["sources"] = tuple([await _meant_by(core, source) for source in command.sources])
    elif isinstance(command, Notify):
        groups = [replace(group, mailboxes=await _meant_by(core, group.mailboxes)) for group in command.groups]
        changes["groups"] = tuple(groups)
    return replace(command, **changes) if changes else command


async def _meant_by(core: Core, wanted: Filter) -> Filter:
    """With the names of the mailboxes that it means."""
    other = [name for name in wanted.names if not unicodedata.is_normalized("NFC", name)]
    if not other:
        return wanted
    found = await core.workers.run(lambda: [core.account.meant(name) for name in other])
    return replace(wanted, names=wanted.names.difference(other).union(found))


def spellings(core: Core, *patterns: str) -> list[str]:
    """The patterns of LIST, and what they are in form C."""
    return [*patterns, *(unicodedata.normalize("NFC", text) for text in patterns if core.engine.utf8)]


def separator(core: Core) -> bytes:
    return responses.string(core.engine.separator.encode())


def list_response(
    core: Core, folder: Folder, attributes: Iterable[bytes], *, subscribed: bool = False, item: bytes = b""
) -> bytes:
    """`attributes` come first; `item` is the extended data item."""
    words = [*attributes, b"\\HasChildren" if folder.has_children else b"\\HasNoChildren"]
    words += [use.encode() for use in sorted(folder.special_use)]
    if subscribed:
        words.append(b"\\Subscribed")
    told = b"LIST (%b) %b %b" % (b" ".join(words), separator(core), core.engine.mailbox(folder.name))
    return told + b" " + item if item else told


async def announcement(core: Core, name: str, old: str = "") -> bytes:
    """A LIST response, as the mailbox is now. `old`: what the client called it, if not so."""
    folder, subscribed = await core.workers.run(_look_up, core.account, name)
    attributes = [] if folder.selectable else [b"\\NonExistent"]
    item = b'("OLDNAME" (%b))' % core.engine.mailbox(old) if old else b""
    return list_response(core, folder, attributes, subscribed=subscribed, item=item)


async def correct_name(core: Core, written: str, name: str) -> None:
    """After a command about a mailbox of the name `written`, which is `name` now: tells so where either was not written
    so. The command is done, so what hinders this is no failure.
    """
    if core.rev2 and (spelled(written) or spelled(name)):
        try:
            core.engine.untagged(await announcement(core, name, spelled(written) or written))
        except StoreError as error:
            log.info("session=%s the name of a mailbox: %s", core.channel.id, error)


def spelled(name: str) -> str:
    """How the client wrote the name, where that differs."""
    return name.written if isinstance(name, Name) else ""


def _look_up(account: AccountStore, name: str) -> tuple[Folder, bool]:
    """Blocking. And whether it is subscribed."""
    known = {folder.name: folder for folder in account.folders()}
    folder = known.get(name) or Folder(name, selectable=False, has_children=False)
    return folder, name in account.subscriptions()
