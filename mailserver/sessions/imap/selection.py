"""SELECT, EXAMINE, CHECK, CLOSE, UNSELECT, EXPUNGE (RFC 3501 §6.3.1, §6.4; RFC 3691; RFC 4315; RFC 7162 §3.1.8,
§3.2; RFC 8474; RFC 9051 §6.3.2; RFC 9586 §3.4).

Promises   CLOSE expunges without a word, EXPUNGE tells of each message; neither touches a mailbox opened by EXAMINE.
           UID EXPUNGE removes what is both named and deleted, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailserver.imap.commands import Check, Close, Expunge, Select, Unselect
from mailserver.sessions.imap import messagelimit
from mailserver.sessions.imap.core import MECHANISMS, Core
from mailserver.sessions.imap.names import announcement, meant, spelled
from mailserver.sessions.imap.progress import Progress
from mailserver.sessions.imap.resync import resynchronize
from mailserver.sessions.imap.selected import Selected
from mailserver.sessions.imap.view import View
from mailserver.store import AccountStore, Mailbox


def opened(
    account: AccountStore, name: str, read_only: bool, *, rev2: bool, previous: Selected | None = None
) -> tuple[Mailbox, View]:
    """The caller closes the mailbox. `previous` is closed, also when this fails (§6.3.1). Blocking."""
    try:
        mailbox = account.open(name)
    finally:
        if previous is not None:
            previous.close()
    try:
        view = View(mailbox.listing())
        if rev2:
            view.speak_rev2()
        else:
            view.add_recent(mailbox.recent.peek() if read_only else mailbox.recent.join())
    except BaseException:
        mailbox.close()
        raise
    return mailbox, view


async def select(core: Core, tag: str, command: Select) -> None:
    previous = core.leave()
    if previous is not None:
        core.engine.status("OK", "The mailbox from before is closed", "CLOSED")
    try:
        command = await meant(core, command)
        listed = await _begun(core, command)
    except BaseException:
        if previous is not None:
            await core.workers.run(previous.close)
        raise
    work = core.workers.run(opened, core.account, command.mailbox, command.read_only, rev2=core.rev2, previous=previous)
    mailbox, view = await Progress(core, tag).during(work)  # one that was not opened before is read as a whole
    selected = Selected(mailbox, view, command.read_only)
    core.select(selected)
    engine = core.engine
    core.untagged(view.greeting())
    if listed is not None:
        engine.untagged(listed)
    elif not view.uid_only and (unseen := view.first_unseen()) is not None:
        engine.status("OK", "First unseen", f"UNSEEN {unseen}")
    engine.status("OK", "UIDs are valid", f"UIDVALIDITY {mailbox.uidvalidity}")
    engine.status("OK", "Next UID", f"UIDNEXT {mailbox.uidnext}")
    engine.status("OK", "Where it goes this stays", f"MAILBOXID ({mailbox.mailbox_id})")
    engine.status("OK", "Changes are known", core.modseq_code)
    engine.status("OK", "URLs can be authorised", MECHANISMS)
    if command.read_only:
        engine.status("OK", "No flags can be changed", "PERMANENTFLAGS ()")
    else:
        engine.status("OK", "Flags that last", view.lasting_code(new=True))
    if command.resync is not None:
        await resynchronize(core, selected, command.resync)
    if command.read_only:
        engine.done(tag, "OK", "Examined", "READ-ONLY")
    else:
        engine.done(tag, "OK", "Selected", "READ-WRITE")


async def _begun(core: Core, command: Select) -> bytes | None:
    """What is told of the mailbox's name. Raises Refused, StoreError."""
    if command.resync is not None:
        core.require_qresync()
    if command.condstore:
        core.enable_condstore()
    return await announcement(core, command.mailbox, spelled(command.mailbox)) if core.rev2 else None


async def check(core: Core, tag: str, _command: Check) -> None:
    await core.look()
    core.tell_news(expunges=True)
    core.engine.done(tag, "OK", "Checked")


async def close(core: Core, tag: str, _command: Close) -> None:
    selected = core.selected
    if not selected.read_only:
        await core.look()
        await core.workers.run(selected.mailbox.expunge, selected.view.uids_of(_deleted(selected.view)))
    await core.release()
    core.engine.done(tag, "OK", "Closed")


async def unselect(core: Core, tag: str, _command: Unselect) -> None:
    await core.release()
    core.engine.done(tag, "OK", "Unselected")


async def expunge(core: Core, tag: str, command: Expunge) -> None:
    selected = core.writable
    await core.look()
    view, cut = selected.view, None
    deleted: Sequence[int] = _deleted(view)
    if command.messages is not None:
        named = set(selected.pick(command.messages, by_uid=True))
        deleted, cut = messagelimit.newest(core, [number for number in deleted if number in named])
    work = core.workers.run(selected.mailbox.expunge, view.uids_of(deleted))
    gone = await Progress(core, tag).during(work)
    core.take_changes()
    core.tell_expunged(gone)
    core.tell_news(expunges=True)
    messagelimit.done(core, tag, "Expunged", core.modseq_code if gone else None, cut, warns=False)


def _deleted(view: View) -> list[int]:
    return [number for number, flags in enumerate(view.flags, 1) if "\\Deleted" in flags]
