"""GETMETADATA, SETMETADATA (RFC 5464; RFC 6154 §4), also for LIST (RFC 9590).

Theory     Mailboxes belong to one user, so what is shared and what is private of them lies together. Of the server a
           user has private entries only: what is shared there is the administrator's. Two entries are computed: the
           server's /shared/admin, and a mailbox's /private/specialuse, by which its special use can also be changed.
Promises   An entry that is asked for by its name, and has no value, is told as NIL.
On failure What cannot be set leaves all others of the command as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from mailserver.imap import responses
from mailserver.imap.commands import GetMetadata, SetMetadata
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.refusals import Refused
from mailserver.store import AccountStore, AnnotationRefused

_ADMIN = "/shared/admin"
_SPECIAL_USE = "/private/specialuse"


async def get_metadata(core: Core, tag: str, command: GetMetadata) -> None:
    known = await core.workers.run(_known, core.account, command.mailbox)
    if not command.mailbox:
        assert core.user is not None
        known[_ADMIN] = b"mailto:postmaster@" + quote(core.user.domain).encode()
    longest = await tell(core, command, known)
    core.engine.done(tag, "OK", "Metadata given", f"METADATA LONGENTRIES {longest}" if longest else None)


async def tell(core: Core, command: GetMetadata, known: Mapping[str, bytes]) -> int:
    """The untagged answer, for GETMETADATA and LIST; returns how long the longest value is that is too long."""
    longest = 0
    begun = False
    for name, value in _wanted(command, known):
        if value is not None and command.max_size is not None and len(value) > command.max_size:
            longest = max(longest, len(value))
            continue
        core.engine.send(b" " if begun else b"* METADATA %b (" % core.engine.mailbox(command.mailbox))
        core.engine.send(b"%b %b" % (responses.astring(name.encode()), _value(value)))
        begun = True
        await core.drain_if_much()
    if begun:
        core.engine.send(b")\r\n")
    return longest


def _known(account: AccountStore, mailbox: str) -> dict[str, bytes]:
    """Blocking."""
    folders = account.folders() if mailbox else []
    uses = next((folder.special_use for folder in folders if folder.name == mailbox), frozenset[str]())
    return known_of(account, mailbox, uses)


def known_of(account: AccountStore, mailbox: str, uses: frozenset[str]) -> dict[str, bytes]:
    """What is noted about a mailbox that has these special uses; an empty name is the account's. Blocking."""
    known = account.metadata(mailbox or None)
    if uses:
        known[_SPECIAL_USE] = " ".join(sorted(uses)).encode()
    return known


def _wanted(command: GetMetadata, known: Mapping[str, bytes]) -> Iterator[tuple[str, bytes | None]]:
    """Each entry once, those that were named under the name as it was written."""
    told: set[str] = set()
    for written in command.entries:
        name = written.lower()
        if name not in told and (name in known or not command.depth):
            told.add(name)
            yield written, known.get(name)
        if command.depth:
            for below in sorted(known):
                levels = below.removeprefix(name).count("/") if below.startswith(name + "/") else 0
                if 0 < levels <= command.depth and below not in told:
                    told.add(below)
                    yield below, known[below]


def _value(value: bytes | None) -> bytes:
    if value is not None and 0 in value:
        return b"~" + responses.literal(value)
    return responses.nstring(value)


async def set_metadata(core: Core, tag: str, command: SetMetadata) -> None:
    values = dict(command.values)
    if not command.mailbox and any(name.startswith("/shared/") for name in values):
        raise Refused("what is shared of the server is the administrator's", "NOPERM")
    if command.mailbox and _SPECIAL_USE in values:
        if len(values) > 1:
            raise Refused("the special use is set alone", "CANNOT")
        uses = (values[_SPECIAL_USE] or b"").decode("ascii", "replace").split()
        await core.workers.run(core.account.set_special_use, command.mailbox, uses)
    else:
        try:
            await core.workers.run(core.account.set_metadata, command.mailbox or None, values)
        except AnnotationRefused as error:
            code = "METADATA TOOMANY" if error.largest is None else f"METADATA MAXSIZE {error.largest}"
            raise Refused(str(error), code) from error
    if core.notices is not None:
        core.notices.noted(command.mailbox or None, values)
    core.engine.done(tag, "OK", "Metadata set")
