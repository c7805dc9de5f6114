r"""LIST and LSUB (RFC 3501 §6.3.8, §6.3.9; RFC 3348, 5258, 5819, 6154, 9590).

Theory     A plain LIST shows every name that matches, also one that is only the parent of others. The extended one
           first finds the names that satisfy the selection options, whatever the patterns say. It shows those of them
           that match, and their parents where a name itself cannot be shown: with CHILDINFO if RECURSIVEMATCH asks for
           it, or, when nothing was selected by, as \NonExistent \HasChildren (RFC 5258 §3.3, §3.5).
Promises   Names leave encoded. Reference and pattern are simply joined, as by most servers. Time grows with the names
           and the octets of the patterns, not with the number of patterns. A mailbox has its STATUS and METADATA behind
           its LIST, or is told to be gone.
On failure A mailbox whose STATUS or METADATA the disk refuses is listed without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from mailserver.imap import SEPARATOR, Pattern
from mailserver.imap.commands import GetMetadata, List, ListSubscribed
from mailserver.imap.commands.listing import RECURSIVE, SPECIAL_USE, SUBSCRIBED
from mailserver.sessions.imap import metadata
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.mailboxes import status_data
from mailserver.sessions.imap.names import list_response, separator, spellings
from mailserver.store import AccountStore, Folder, NoSuchMailbox, StoreError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Line:
    """`chosen`: it satisfies the selection options itself. `below`: what CHILDINFO names."""

    folder: Folder
    chosen: bool = True
    subscribed: bool = False
    below: tuple[bytes, ...] = ()


async def list_(core: Core, tag: str, command: List) -> None:
    if not command.extended and command.patterns == ("",):
        core.engine.untagged(b"LIST (\\Noselect) " + separator(core) + b' ""')
    else:
        pattern = Pattern(*spellings(core, *(command.reference + text for text in command.patterns if text)))
        for line in await core.workers.run(_found, core.account, command, pattern):
            await _tell(core, command, line)
            await core.drain_if_much()
    core.engine.done(tag, "OK", "Listed")


def _found(account: AccountStore, command: List, pattern: Pattern) -> list[_Line]:
    """Blocking, also by what there is to compare. Subscriptions are read only when they matter."""
    folders = account.folders()
    if not command.extended:
        return [_Line(folder) for folder in folders if pattern.matches(folder.name)]
    wanted = SUBSCRIBED in command.selecting | command.returning
    return list(_extended(command, pattern, folders, frozenset(account.subscriptions() if wanted else ())))


def _extended(command: List, pattern: Pattern, folders: list[Folder], subscribed: Set[str]) -> Iterator[_Line]:
    options = command.selecting
    chosen = {folder.name for folder in folders if folder.selectable}
    criteria = options & {SUBSCRIBED, SPECIAL_USE}
    if SUBSCRIBED in options:
        chosen = set(subscribed)
    if SPECIAL_USE in options:
        chosen &= {folder.name for folder in folders if folder.special_use}
    parents: set[str] = set()
    unseen: set[str] = set()  # parents of a name that is chosen and does not match
    if RECURSIVE in options or not criteria:
        for name in chosen:
            above = _parents(name)
            parents.update(above)
            if not pattern.matches(name):
                unseen.update(above)
    below = tuple(sorted(criteria)) if RECURSIVE in options else ()
    known = {folder.name: folder for folder in folders}
    for name in sorted(chosen | unseen, key=lambda name: (name != "INBOX", name)):
        if pattern.matches(name):
            folder = known.get(name) or Folder(name, selectable=False, has_children=False)
            yield _Line(folder, name in chosen, name in subscribed, below if name in parents else ())


async def _tell(core: Core, command: List, line: _Line) -> None:
    folder, status, notes = line.folder, None, None
    missing = not folder.selectable
    if line.chosen and not missing:
        try:
            if command.status:
                status = await status_data(core, folder.name, command.status)
            if command.metadata:
                notes = await core.workers.run(metadata.known_of, core.account, folder.name, folder.special_use)
        except NoSuchMailbox:
            missing = True
            status = None
        except StoreError as error:
            log.info("session=%s what is asked for about a mailbox: %s", core.channel.id, error)
    attributes = [b"\\NonExistent" if command.extended else b"\\Noselect"] if missing else []
    item = b'("CHILDINFO" ("' + b'" "'.join(line.below) + b'"))' if line.below else b""
    core.engine.untagged(list_response(core, folder, attributes, subscribed=line.subscribed, item=item))
    if status is not None:
        core.engine.untagged(status)
    if notes is not None:
        await metadata.tell(core, GetMetadata(folder.name, command.metadata), notes)


def list_answer(core: Core, folder: Folder, *, subscribed: bool, old_name: str = "") -> bytes:
    """What is told unasked, in the extended form; `old_name` was the mailbox's before a rename (RFC 5465 §5.4)."""
    attributes = [] if folder.selectable else [b"\\NonExistent"]
    item = b'("OLDNAME" (%b))' % core.engine.mailbox(old_name) if old_name else b""
    return list_response(core, folder, attributes, subscribed=subscribed, item=item)


def _parents(name: str) -> list[str]:
    parts = name.split(SEPARATOR)
    return [SEPARATOR.join(parts[:depth]) for depth in range(1, len(parts))]


async def list_subscribed(core: Core, tag: str, command: ListSubscribed) -> None:
    texts = spellings(core, command.reference + command.pattern)
    for name, attributes in await core.workers.run(_subscribed, core.account, texts):
        line = b"LSUB (%b) %b %b" % (attributes, separator(core), core.engine.mailbox(name))
        core.engine.untagged(line)
        await core.drain_if_much()
    core.engine.done(tag, "OK", "Listed")


def _subscribed(account: AccountStore, texts: Sequence[str]) -> list[tuple[str, bytes]]:
    r"""Subscribed names; for a pattern with `%` also parents of those, as \Noselect (§6.3.9). Blocking."""
    names, pattern = account.subscriptions(), Pattern(*texts)
    found = {name: b"" for name in names if pattern.matches(name)}
    if texts[0].endswith("%"):
        for name in names:
            for parent in _parents(name):
                if parent not in found and pattern.matches(parent):
                    found[parent] = b"\\Noselect"
    return sorted(found.items())
