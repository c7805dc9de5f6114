"""MESSAGELIMIT and SAVELIMIT (RFC 9738): how many messages one command may be about.

Theory     Nothing here needs such a limit: whatever a command is about, it is done in batches. It is for servers whose
           users share a slow disk. A client that does not know of it sees the newest messages of a large mailbox and
           no others, so there is none unless the configuration says so; see docs/design.md.
Promises   What is left out are the messages with the lowest UIDs, and the client is told where to go on. What copies
           messages or appends them does all or nothing. EXPUNGE, CLOSE, STATUS and SORT are never cut.
On failure `Refused` where there is no doing a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailserver.imap.commands import And, InSet, Key
from mailserver.imap.sequence import Range
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.view import View


def capability(core: Core) -> str | None:
    limits = core.limits
    if limits.imap_messages:
        return f"MESSAGELIMIT={limits.imap_messages}"
    return f"SAVELIMIT={limits.imap_saved}" if limits.imap_saved else None


def newest(core: Core, picked: Sequence[int]) -> tuple[Sequence[int], str | None]:
    """Of messages that ascend by number, those that one command may be about, and a code where these are not all.

    Who does something with one after the other must then begin with the last one (RFC 9738 §3.1).
    """
    limit = core.limits.imap_messages
    if not limit or len(picked) <= limit:
        return picked, None
    kept = picked[-limit:]
    return kept, _code(limit, core.selected.view.uids[kept[0] - 1])


def require_few(core: Core, count: int) -> None:
    """For what cannot be done by halves. Raises Refused."""
    limit = core.limits.imap_messages
    if limit and count > limit:
        raise Refused("too many messages for one command", _code(limit))


def require_few_saved(core: Core, uids: Sequence[int]) -> None:
    """As `require_few`, for messages that are copied: the UIDs ascend."""
    limit = _save_limit(core)
    if limit and len(uids) > limit:
        raise Refused("too many messages to copy at once", _code(limit, uids[-limit]))


def require_few_appended(core: Core, count: int) -> None:
    """As `require_few`, for messages that are appended."""
    limit = _save_limit(core)
    if limit and count > limit:
        raise Refused("too many messages to append at once", _code(limit))


def _save_limit(core: Core) -> int:
    """0: none."""
    return core.limits.imap_messages or core.limits.imap_saved


def done(core: Core, tag: str, text: str, code: str | None, cut: str | None, *, warns: bool = True) -> None:
    """The positive answer, which has one code; `cut` is that of `newest`.

    `warns`: the other one says what went wrong, and comes first (§3.1).
    """
    if cut is not None:
        text = f"{text}, but only the newest messages"
        if code is not None and warns:
            core.engine.status("NO", "Only the newest messages", cut)
            cut = None
        elif code is not None:
            core.engine.status("OK", "Done so far", code)
            code = None
    core.engine.done(tag, "OK", text, code or cut)


def _code(limit: int, lowest: int | None = None) -> str:
    return f"MESSAGELIMIT {limit}" if lowest is None else f"MESSAGELIMIT {limit} {lowest}"


def scope(key: Key, view: View) -> Sequence[int]:
    """The messages that a search has to look at, ascending: those in all sets that all of them must be in."""
    ranges = [(1, len(view))] if len(view) else []
    for named in _sets(key):
        ranges = list(_common(ranges, view.ranges(named.messages, by_uid=named.by_uid)))
    if len(ranges) == 1:
        first, last = ranges[0]
        return range(first, last + 1)
    return [number for first, last in ranges for number in range(first, last + 1)]


def _sets(key: Key) -> Iterator[InSet]:
    match key:
        case InSet():
            yield key
        case And(keys):
            for each in keys:
                yield from _sets(each)


def _common(some: Sequence[Range], others: Sequence[Range]) -> Iterator[Range]:
    """What is in both; both ascend."""
    left, right = 0, 0
    while left < len(some) and right < len(others):
        first, last = max(some[left][0], others[right][0]), min(some[left][1], others[right][1])
        if first <= last:
            yield first, last
        if some[left][1] < others[right][1]:
            left += 1
        else:
            right += 1
