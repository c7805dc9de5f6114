"""STORE (RFC 3501 §6.4.6).

Promises   An answer tells the flags that the messages have after the change, durably; .SILENT leaves out what the
           client can work out itself, but not what others changed meanwhile.
"""

from __future__ import annotations

from mailserver.imap import responses
from mailserver.imap.commands import FlagAction, Store
from mailserver.sessions.imap.core import Core

BATCH = 1000


async def store(core: Core, tag: str, command: Store) -> None:
    selected = core.writable
    view, mailbox = selected.view, selected.mailbox
    core.catch_up()
    picked = selected.pick(command.messages, by_uid=command.by_uid)
    for start in range(0, len(picked), BATCH):
        batch = {message.uid: number for number, message in picked[start : start + BATCH]}
        updated = await core.workers.run(mailbox.update_flags, list(batch), command.action, command.flags)
        lines = []
        for message in updated:
            number = batch[message.uid]
            before = view.messages[number - 1].flags
            view.told(message)
            if not command.silent or message.flags != applied(before, command.action, command.flags):
                flags = responses.flag_list(message.flags, view.is_recent(message.uid))
                uid = b"UID %d " % message.uid if command.by_uid else b""
                lines.append(b"%d FETCH (%bFLAGS %b)" % (number, uid, flags))
        core.untagged(view.keyword_news(updated))
        core.untagged(lines)
        await core.drain_if_much()
    core.take_changes()
    gone = any(message.uid in view.gone for _, message in picked)
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
