"""CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, NAMESPACE (RFC 3501 §6.3; RFC 2342, 6154, 7889, 8438, 8474, 9208).

Promises   Names reach the store decoded and leave encoded. Who speaks IMAP4rev2 is told a name that is not as it was
           written.
On failure What the store refuses is answered with the codes of RFC 5530.
"""

from __future__ import annotations

from collections.abc import Iterable

from mailserver.imap.commands import Create, Delete, Namespace, Rename, Status, Subscribe
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.names import correct_name, separator
from mailserver.sessions.imap.refusals import Refused
from mailserver.store import Status as Numbers


async def create(core: Core, tag: str, command: Create) -> None:
    mailbox_id = await core.workers.run(core.account.create, command.mailbox, command.special_use)
    core.did("created", command.mailbox)
    await correct_name(core, command.mailbox, command.mailbox)
    core.engine.done(tag, "OK", "Created", f"MAILBOXID ({mailbox_id})")


async def delete(core: Core, tag: str, command: Delete) -> None:
    if command.mailbox == "INBOX":
        raise Refused("INBOX cannot be deleted", "CANNOT")
    await core.workers.run(core.account.delete, command.mailbox)
    core.did("deleted", command.mailbox)
    await correct_name(core, command.mailbox, command.mailbox)
    core.engine.done(tag, "OK", "Deleted")


async def rename(core: Core, tag: str, command: Rename) -> None:
    await core.workers.run(core.account.rename, command.mailbox, command.new_name)
    if command.mailbox == "INBOX":
        core.did("created", command.new_name)
    else:
        core.did("renamed", command.mailbox, command.new_name)
    # INBOX is still there
    await correct_name(core, command.new_name if command.mailbox == "INBOX" else command.mailbox, command.new_name)
    core.engine.done(tag, "OK", "Renamed")


async def subscribe(core: Core, tag: str, command: Subscribe) -> None:
    change = core.account.subscribe if command.on else core.account.unsubscribe
    await core.workers.run(change, command.mailbox)
    core.did("subscribed" if command.on else "unsubscribed", command.mailbox)
    core.engine.done(tag, "OK", "Subscribed" if command.on else "Unsubscribed")


async def namespace(core: Core, tag: str, _command: Namespace) -> None:
    core.engine.untagged(b'NAMESPACE (("" ' + separator(core) + b")) NIL NIL")
    core.engine.done(tag, "OK", "Namespaces listed")


async def status(core: Core, tag: str, command: Status) -> None:
    core.engine.untagged(await status_data(core, command.mailbox, command.items))
    core.engine.done(tag, "OK", "Status given")


async def status_data(core: Core, mailbox: str, items: tuple[bytes, ...]) -> bytes:
    """The untagged answer, for STATUS and for LIST with the return option STATUS."""
    if b"HIGHESTMODSEQ" in items:
        core.enable_condstore()
    return status_answer(core, mailbox, await core.workers.run(core.account.status, mailbox), items)


def status_answer(core: Core, mailbox: str, numbers: Numbers, items: Iterable[bytes]) -> bytes:
    values: dict[bytes, int | str] = {
        b"MESSAGES": numbers.messages,
        b"RECENT": numbers.recent,
        b"UIDNEXT": numbers.uidnext,
        b"UIDVALIDITY": numbers.uidvalidity,
        b"UNSEEN": numbers.unseen,
        b"SIZE": numbers.size,
        b"DELETED": numbers.deleted,
        b"DELETED-STORAGE": numbers.deleted_octets,
        b"APPENDLIMIT": core.append_limit,
        b"MAILBOXID": f"({numbers.mailbox_id})",
        b"HIGHESTMODSEQ": numbers.highest_modseq,
    }
    given = b" ".join(b"%b %b" % (item, str(values[item]).encode()) for item in items)
    return b"STATUS %b (%b)" % (core.engine.mailbox(mailbox), given)
