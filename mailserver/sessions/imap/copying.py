"""COPY and MOVE (RFC 3501 §6.4.7, RFC 4315 §3, RFC 6851, RFC 7162).

Promises   COPYUID names sources and copies in the same order. MOVE removes a message only after its copy is durable.
On failure Nothing was copied; a target that does not exist is told with TRYCREATE. By sequence numbers it is a failure
           when another session has expunged a message: who goes on to delete what was copied must know.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailserver.imap import compress
from mailserver.imap.commands import Copy
from mailserver.sessions.imap import messagelimit
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.progress import Progress
from mailserver.sessions.imap.refusals import Refused
from mailserver.store import AccountStore, Mailbox, NoSuchMailbox


def _transfer(
    source: Mailbox, uids: Sequence[int], account: AccountStore, name: str, move: bool, by_uid: bool
) -> tuple[int, list[tuple[int, int]]]:
    """Blocking. Returns the target's UIDVALIDITY, and source and target UIDs."""
    if not by_uid and len(source.get(uids)) < len(uids):
        raise Refused("some of the messages no longer exist", "EXPUNGEISSUED")
    target = account.open(name)
    try:
        return target.uidvalidity, source.move(uids, target) if move else source.copy(uids, target)
    finally:
        target.close()


async def copy(core: Core, tag: str, command: Copy) -> None:
    selected = core.writable if command.move else core.selected
    core.catch_up()
    picked: Sequence[int] = selected.pick(command.messages, by_uid=command.by_uid)
    cut = code = None
    if command.move:
        picked, cut = messagelimit.newest(core, picked)
    uids = selected.view.uids_of(picked)
    if not command.move:
        messagelimit.require_few_saved(core, uids)
    if uids:
        try:
            work = core.workers.run(
                _transfer, selected.mailbox, uids, core.account, command.mailbox, command.move, command.by_uid
            )
            validity, pairs = await Progress(core, tag).during(work)
        except NoSuchMailbox as error:
            raise Refused(str(error), "TRYCREATE") from error
        if pairs:
            sources, targets = zip(*pairs, strict=True)
            code = f"COPYUID {validity} {compress(sources)} {compress(targets)}"
            core.brought(command.mailbox, validity, targets)
    moved = command.move and code is not None
    if moved:
        core.engine.status("OK", "Moving", code)  # RFC 6851 §4.3: it stands before the expunges
    await core.glance()
    if moved:
        core.tell_expunged(uids)
    core.tell_news(expunges=True)
    if moved:
        code = core.modseq_code  # §4.4
    messagelimit.done(core, tag, "Moved" if command.move else "Copied", code, cut, warns=False)
