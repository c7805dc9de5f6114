"""STORE (RFC 3501 §6.4.6).

Promises   An answer tells the flags that the messages have after the change, durably; .SILENT leaves out what the
           client can work out itself, but not what others changed meanwhile.
"""

from __future__ import annotations

from mailserver.imap.commands import FlagAction, Store
from mailserver.sessions.imap.core import Core

BATCH = 5000


async def store(core: Core, tag: str, command: Store) -> None:
    selected = core.writable
    view, mailbox = selected.view, selected.mailbox
    core.catch_up()
    picked = selected.pick(command.messages, by_uid=command.by_uid)
    for start in range(0, len(picked), BATCH):
        batch = picked[start : start + BATCH]
        uids = view.uids_of(batch)
        updated = await core.workers.run(mailbox.update_flags, uids, command.action, command.flags)
        expected = {flags: applied(flags, command.action, command.flags) for flags in set(view.flags_of(batch))}
        telling = [
            number for number, before, flags in view.told(updated) if not command.silent or flags != expected[before]
        ]
        core.untagged(view.keyword_news(message.flags for message in updated))
        core.untagged(view.flag_answers(telling, with_uids=command.by_uid))
        await core.drain_if_much()
    core.take_changes()
    gone = not view.gone.isdisjoint(view.uids_of(picked))
    core.tell_news(expunges=command.by_uid)
    core.engine.done(tag, "OK", "Stored", "EXPUNGEISSUED" if gone else None)


def applied(flags: frozenset[str], action: FlagAction, change: frozenset[str]) -> frozenset[str]:
    """What a client that knew `flags` expects after the change."""
    match action:
        case "add":
            return flags | change
        case "remove":
            return flags - change
        case "set":
            return change
