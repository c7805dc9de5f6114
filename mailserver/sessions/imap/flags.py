"""STORE (RFC 3501 §6.4.6, RFC 7162 §3.1.3).

Promises   An answer tells the flags that the messages have after the change, durably; .SILENT leaves out what the
           client can work out itself, but not what others changed meanwhile. With UNCHANGEDSINCE nothing that others
           changed is changed here, also in the same moment; what was left alone is told as it is now.
"""

from __future__ import annotations

from array import array

from mailserver.imap import compress
from mailserver.imap.commands import FlagAction, Store
from mailserver.sessions.imap import messagelimit
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.view import Flags, View
from mailserver.store import TooManyKeywords

BATCH = 5000


async def store(core: Core, tag: str, command: Store) -> None:
    selected = core.writable
    view, mailbox = selected.view, selected.mailbox
    with_uids = command.by_uid or core.rev2
    since, bound = command.unchanged_since, None
    known = None
    if since is not None:
        core.enable_condstore()
        known = Known(view)
    core.catch_up()
    picked, cut = messagelimit.newest(core, selected.pick(command.messages, by_uid=command.by_uid))
    if cut is not None:
        picked = picked[::-1]
    allowed = picked
    if known is not None and since is not None:
        allowed = array("I", (number for number in picked if known.allows(number, command, since)))
        bound = max(since, view.modseq)  # up to here it is known that nothing hinders
    done: set[int] = set()
    for start in range(0, len(allowed), BATCH):
        batch = allowed[start : start + BATCH]
        uids = view.uids_of(batch)
        expected = {flags: applied(flags, command.action, command.flags) for flags in set(view.flags_of(batch))}
        try:
            updated = await core.workers.run(mailbox.update_flags, uids, command.action, command.flags, bound)
        except TooManyKeywords:
            core.engine.status("OK", "There is room for no more", view.lasting_code(new=False))  # RFC 9051 §7.1
            raise
        done.update(message.uid for message in updated)
        told = view.told(updated)
        if cut is not None:
            told.reverse()
        telling = [number for number, before, flags in told if not command.silent or flags != expected[before]]
        core.untagged(view.keyword_news(message.flags for message in updated))
        core.untagged(view.flag_answers(telling, with_uids=with_uids))
        if view.condstore and command.silent:
            spoken = set(telling)
            core.untagged(view.modseq_answers([number for number, _, _ in told if number not in spoken]))
        await core.drain_if_much()
    core.take_changes()
    gone = view.gone.intersection(view.uids_of(picked))
    modified = [
        number
        for number, uid in zip(picked, view.uids_of(picked), strict=True)
        if since is not None and uid not in done and uid not in gone
    ]
    core.untagged(view.keyword_news(view.flags_of(modified)))
    core.untagged(view.flag_answers(modified, with_uids=with_uids))
    code = "EXPUNGEISSUED" if gone else None
    if modified:
        code = f"MODIFIED {compress(sorted(view.uids_of(modified) if command.by_uid else modified))}"
    core.tell_news(expunges=command.by_uid)
    messagelimit.done(core, tag, "Stored but for what was modified" if modified else "Stored", code, cut)


class Known:
    """What the client knew before it was told what others did."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._flags = view.flags[:]
        self._modseqs = view.modseqs[:]

    def allows(self, number: int, command: Store, since: int) -> bool:
        """Whether the message is unchanged, or only in flags that do not matter to the command (RFC 7162 §3.1.12)."""
        place = number - 1
        if self._view.modseqs[place] <= since:
            return True
        if command.action == "set" or place >= len(self._modseqs) or self._modseqs[place] > since:
            return False
        return not _lower(self._flags[place] ^ self._view.flags[place]) & _lower(command.flags)


def _lower(flags: Flags) -> set[str]:
    return {flag.lower() for flag in flags}


def applied(flags: frozenset[str], action: FlagAction, change: frozenset[str]) -> frozenset[str]:
    """What a client that knew `flags` expects after the change."""
    match action:
        case "add":
            return flags | change
        case "remove":
            return flags - change
        case "set":
            return change
