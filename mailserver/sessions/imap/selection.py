"""SELECT, EXAMINE, CHECK, CLOSE, UNSELECT, EXPUNGE (RFC 3501 §6.3.1, §6.4; RFC 3691; RFC 4315; RFC 7162 §3.1.8,
§3.2; RFC 8474).

Promises   CLOSE expunges without a word, EXPUNGE tells of each message; neither touches a mailbox opened by EXAMINE.
           UID EXPUNGE removes what is both named and deleted, nothing else.
"""

from __future__ import annotations

from mailserver.imap import responses
from mailserver.imap.commands import Check, Close, Expunge, Select, Unselect
from mailserver.sessions.imap.core import Core, Selected
from mailserver.sessions.imap.resync import resynchronize
from mailserver.sessions.imap.view import View
from mailserver.store import AccountStore, Mailbox


def _open(account: AccountStore, name: str, read_only: bool, previous: Mailbox | None) -> tuple[Mailbox, View]:
    """Blocking. `previous` is closed, also when this fails (§6.3.1)."""
    try:
        mailbox = account.open(name)
    finally:
        if previous is not None:
            previous.close()
    try:
        view = View(mailbox.listing())
        view.add_recent(mailbox.peek_recent() if read_only else mailbox.claim_recent())
    except BaseException:
        mailbox.close()
        raise
    return mailbox, view


async def select(core: Core, tag: str, command: Select) -> None:
    previous = core.leave()
    if previous is not None:
        core.engine.status("OK", "The mailbox from before is closed", "CLOSED")
    if command.resync is not None and "QRESYNC" not in core.enabled:
        if previous is not None:
            await core.workers.run(previous.close)
        core.require_qresync()
    if command.condstore:
        core.enable_condstore()
    mailbox, view = await core.workers.run(_open, core.account, command.mailbox, command.read_only, previous)
    selected = Selected(mailbox, view, command.read_only)
    core.select(selected)
    engine = core.engine
    core.untagged(view.greeting())
    unseen = view.first_unseen()
    if unseen is not None:
        engine.status("OK", "First unseen", f"UNSEEN {unseen}")
    engine.status("OK", "UIDs are valid", f"UIDVALIDITY {mailbox.uidvalidity}")
    engine.status("OK", "Next UID", f"UIDNEXT {mailbox.uidnext}")
    engine.status("OK", "Where it goes this stays", f"MAILBOXID ({mailbox.mailbox_id})")
    engine.status("OK", "Changes are known", core.modseq_code)
    if command.read_only:
        engine.status("OK", "No flags can be changed", "PERMANENTFLAGS ()")
    else:
        lasting = responses.flag_list(frozenset(responses.SYSTEM_FLAGS) | view.keywords | {"\\*"}).decode()
        engine.status("OK", "Flags that last", f"PERMANENTFLAGS {lasting}")
    if command.resync is not None:
        await resynchronize(core, selected, command.resync)
    if command.read_only:
        engine.done(tag, "OK", "Examined", "READ-ONLY")
    else:
        engine.done(tag, "OK", "Selected", "READ-WRITE")


async def check(core: Core, tag: str, _command: Check) -> None:
    await core.look()
    core.tell_news(expunges=True)
    core.engine.done(tag, "OK", "Checked")


async def close(core: Core, tag: str, _command: Close) -> None:
    selected = core.selected
    if not selected.read_only:
        await core.look()
        await core.workers.run(selected.mailbox.expunge, _deleted(selected))
    await core.release()
    core.engine.done(tag, "OK", "Closed")


async def unselect(core: Core, tag: str, _command: Unselect) -> None:
    await core.release()
    core.engine.done(tag, "OK", "Unselected")


async def expunge(core: Core, tag: str, command: Expunge) -> None:
    selected = core.writable
    await core.look()
    uids = _deleted(selected)
    if command.messages is not None:
        named = set(selected.view.uids_of(selected.pick(command.messages, by_uid=True)))
        uids = [uid for uid in uids if uid in named]
    gone = await core.workers.run(selected.mailbox.expunge, uids)
    core.take_changes()
    core.tell_news(expunges=True)
    core.engine.done(tag, "OK", "Expunged", core.modseq_code if gone else None)


def _deleted(selected: Selected) -> list[int]:
    view = selected.view
    return [uid for uid, flags in zip(view.uids, view.flags, strict=True) if "\\Deleted" in flags]
