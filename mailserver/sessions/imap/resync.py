"""What a client that comes back has missed (RFC 7162 §3.2.5, §3.2.6).

Theory     The view is the mailbox at one moment. What vanished is told of UIDs that are not in the view: those of the
           view leave it by VANISHED without (EARLIER). Where the store does not remember all that vanished, every UID
           that is not there may have; then it helps that the client knows some messages by number and UID: a message
           that still has its number has lost none before it, since messages come at the end only.
Promises   Who holds what it was told so, and what it knew before, has the mailbox's UIDs and flags. Sets are ranges
           that are never expanded.
On failure As the store says.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from mailserver.imap import SequenceSet
from mailserver.imap.commands import Fetch, Match, Resync
from mailserver.imap.sequence import Range, merge
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.selected import Selected
from mailserver.sessions.imap.view import View
from mailserver.store import Mailbox

BATCH = 1000
RANGES = 1000  # of one VANISHED: lines have bounds


async def resynchronize(core: Core, selected: Selected, resync: Resync) -> None:
    """For SELECT and EXAMINE."""
    view, mailbox = selected.view, selected.mailbox
    if resync.validity != mailbox.uidvalidity:
        return
    since = resync.modseq if mailbox.remembers(resync.modseq) else 0
    named = _named(resync.uids, mailbox)
    vanished = await core.workers.run(_vanished, view, mailbox, since, named, resync.matches)
    await _tell_vanished(core, vanished)
    picked = view.newer(_picked(view, named), since)
    for start in range(0, len(picked), BATCH):
        core.untagged(view.flag_answers(picked[start : start + BATCH], with_uids=True))
        await core.drain_if_much()


async def tell_vanished(core: Core, command: Fetch) -> None:
    """For UID FETCH with VANISHED."""
    view, mailbox = core.selected.view, core.selected.mailbox
    assert command.changed_since is not None
    since = command.changed_since if mailbox.remembers(command.changed_since) else 0
    vanished = await core.workers.run(_vanished, view, mailbox, since, _named(command.messages, mailbox), ())
    await _tell_vanished(core, vanished)


async def _tell_vanished(core: Core, vanished: Iterable[Range]) -> None:
    ranges = iter(vanished)
    while piece := list(islice(ranges, RANGES)):
        text = ",".join(str(first) if first == last else f"{first}:{last}" for first, last in piece)
        core.engine.untagged(b"VANISHED (EARLIER) " + text.encode())
        await core.drain_if_much()


def _named(uids: SequenceSet | None, mailbox: Mailbox) -> list[Range]:
    """`*` is the highest UID that was given, though that message may be gone."""
    last = mailbox.uidnext - 1
    if uids is None:
        return [(1, last)] if last else []
    return uids.resolve(last)


def _picked(view: View, named: Sequence[Range]) -> Iterator[int]:
    """Numbers of the messages in the view."""
    for first, last in named:
        start = bisect_left(view.uids, first)
        yield from range(start + 1, bisect_right(view.uids, last, lo=start) + 1)


def _vanished(
    view: View, mailbox: Mailbox, since: int, named: Sequence[Range], matches: Sequence[Match]
) -> list[Range]:
    """Blocking. UIDs of those named that are not in the view, and may have vanished since."""
    known = mailbox.vanished(since) if since else None
    if known is None:
        return list(_gaps(view.uids, _behind(named, _last_match(view.uids, matches)), mailbox.uidnext - 1))
    gone = sorted(known.difference(view.uids))
    return merge(
        (uid, uid) for first, last in named for uid in gone[bisect_left(gone, first) : bisect_right(gone, last)]
    )


def _gaps(uids: Sequence[int], named: Iterable[Range], highest: int) -> Iterator[Range]:
    """The parts of the ranges where no UID is, up to the highest that was given."""
    for first, last in named:
        last = min(last, highest)
        place = bisect_left(uids, first)
        while first <= last:
            here = uids[place] if place < len(uids) else last + 1
            if here > first:
                yield first, min(here - 1, last)
            first = here + 1
            place += 1


def _behind(named: Iterable[Range], uid: int) -> Iterator[Range]:
    """What is greater than `uid`."""
    return ((max(first, uid + 1), last) for first, last in named if last > uid)


def _last_match(uids: Sequence[int], matches: Sequence[Match]) -> int:
    """The greatest UID of a message that has the number that the client knew it by; 0: there is none."""
    for match in reversed(matches):
        first = match.number - 1
        stop = min(first + match.count, len(uids))
        # from one message to the next the UID grows by one at least, so what fits is a run
        found = bisect_right(range(first, stop), match.uid - first, key=lambda place: uids[place] - place) - 1
        if found >= 0 and uids[first + found] == match.uid + found:
            return match.uid + found
    return 0
