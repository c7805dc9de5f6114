"""NOTIFY (RFC 5465): the command. What is told by it: `attention` of the selected mailbox, `notices` of others.

Promises   NOTIFY SET implies NOOP, and tells what has gathered also to a client that wanted to hear of nothing until
           then. When it fails, what was asked for before stays.
"""

from __future__ import annotations

from collections.abc import Iterable

from mailserver.imap.commands import Attribute, Notify
from mailserver.imap.commands.filters import Scope
from mailserver.imap.commands.notify import Group, Happening
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.notices import Overflow, Watching
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.selected import ALL_EARS, DEAF, Ears


async def notify(core: Core, tag: str, command: Notify) -> None:
    ears = _ears(command.groups)
    watching = None
    if not all(group.mailboxes.of_selected for group in command.groups):
        watching = Watching(core, command.groups)
        try:
            await watching.begin()
        except Overflow:
            watching.close()
            raise Refused("there are too many mailboxes to watch", "NOTIFICATIONOVERFLOW") from None
        except BaseException:
            watching.close()
            raise
    if core.notices is not None:
        core.notices.close()
    if command.groups:
        core.ears = ALL_EARS
        await core.glance()
        core.tell_news(expunges=True)
    core.ears, core.notices = ears, watching
    if Attribute.MODSEQ in ears.items:
        core.enable_condstore()
    core.listen()
    if watching is not None and command.status:
        await watching.tell_status()
    core.engine.done(tag, "OK", "You will hear" if command.groups else "You will hear nothing")


def _ears(groups: Iterable[Group]) -> Ears:
    for group in groups:
        if group.mailboxes.of_selected and group.events:
            return Ears(
                flags=Happening.FLAG_CHANGE in group.events,
                at_once=True,
                expunges_at_once=group.mailboxes.scope is Scope.SELECTED,
                items=group.items,
            )
    return DEAF
