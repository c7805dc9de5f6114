"""CONTEXT=SEARCH and CONTEXT=SORT (RFC 5267): results that are kept up to date, by ADDTO and REMOVEFROM.

Theory     A context holds what its client has (`kept`); what is new is found by `updates`, when the client was told of
           it. Numbers in a key, and `$`, mean the messages that they meant when the command came.
Promises   `LIMIT` contexts a client; past that, and where ages are searched for, which change by themselves, or what
           is found is sorted by relevancies, which are not kept, NOUPDATE. Who uses UIDONLY is told UIDs alone, also of
           what was searched for before.
On failure As SEARCH and SORT.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from mailserver.imap import SequenceSet
from mailserver.imap.commands import Aged, And, CancelUpdate, Criterion, Fuzzy, InSet, Key, Not, Or, Returns, leaves
from mailserver.imap.responses import string
from mailserver.imap.sequence import LARGEST
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.kept import Context, Place
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.view import View

LIMIT = 16


def settled(core: Core, tag: str, returns: Returns | None, key: Key) -> Key:
    """What is to be searched for, from now on where it is to be kept up to date.

    Raises Refused when another context has the tag (§4.3).
    """
    if returns is None or not returns.updates:
        return key
    if tag in core.selected.contexts:
        raise Refused("the tag is that of a search that is kept up to date", status="BAD")
    return frozen(key, core.selected.view)


def frozen(key: Key, view: View) -> Key:
    """With the messages that numbers and `$` mean now."""
    match key:
        case InSet(messages, by_uid) if messages.saved or not by_uid:
            uids, size = view.uids, len(view)
            ranges = [(first, min(last, size)) for first, last in view.ranges(messages, by_uid=by_uid) if first <= size]
            return InSet(SequenceSet(tuple((uids[first - 1], uids[last - 1]) for first, last in ranges)), by_uid=True)
        case Not(inner):
            return Not(frozen(inner, view))
        case Fuzzy(inner):
            return Fuzzy(frozen(inner, view))
        case And(keys):
            return And(tuple(frozen(each, view) for each in keys))
        case Or(keys):
            return Or(tuple(frozen(each, view) for each in keys))
        case _:
            return key


def narrowed(key: Key, view: View, among: Sequence[int]) -> Key:
    """What is to be searched for where only the newest messages were looked at, `among`: in these, and in new ones."""
    lowest = view.uids[among[0] - 1] if among else view.highest_uid + 1
    return And((InSet(SequenceSet(((lowest, LARGEST),)), by_uid=True), key))


def begin(
    core: Core,
    tag: str,
    returns: Returns | None,
    key: Key,
    uids: Iterable[int],
    *,
    by_uid: bool,
    criteria: tuple[Criterion, ...] = (),
    mailbox: Place | None = None,
) -> None:
    """Keeps these results up to date where that is asked for. `key` is `settled`. `mailbox`: to be told with them."""
    if returns is None or not returns.updates:
        return
    selected = core.selected
    refusal = None
    if len(selected.contexts) >= LIMIT:
        refusal = "There are too many contexts"
    elif any(isinstance(each, Aged) for each in leaves(key)):
        refusal = "What is found changes by itself"
    elif any(each.by == "RELEVANCY" for each in criteria):
        refusal = "Relevancies are not kept"
    if refusal is not None:
        refuse(core, tag, refusal)
        return
    if not core.attentive:
        core.begin_listening()
    whole = any(isinstance(each, InSet) and each.messages.uses_star for each in leaves(key))
    selected.contexts[tag] = Context(tag, key, by_uid, criteria, returns.items, whole, array("I", uids), mailbox)
    if selected.view.touched is None:
        selected.view.touched = set()


def refuse(core: Core, tag: str, text: str) -> None:
    """The results are not kept up to date; the search goes on."""
    core.engine.status("NO", text, f"NOUPDATE {string(tag.encode()).decode()}")


async def cancel_update(core: Core, tag: str, command: CancelUpdate) -> None:
    contexts = core.selected.contexts
    if not contexts.keys() >= set(command.tags):
        raise Refused("there is no search with that tag that is kept up to date", status="BAD")
    for each in command.tags:
        del contexts[each]
    if not contexts:
        core.selected.view.touched = None
    core.engine.done(tag, "OK", "No further updates")
