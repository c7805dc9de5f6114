"""UIDBATCHES (RFC 10022): where to cut a mailbox into pieces of so many messages.

Theory     A batch takes two looks into the column of UIDs, so a command costs as much as its answer is long, and there
           is nothing to save by refusing a client that asks too often or for too many (§3.1.1, §3.1.7).
Promises   Batches meet without a gap, begin at the highest UID of the mailbox that the client knows, and end at 1. Each
           has exactly as many messages as it was asked for, but for the last one.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailserver.imap import responses
from mailserver.imap.commands import Batches
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.view import View


async def batches(core: Core, tag: str, command: Batches) -> None:
    core.catch_up()
    cut = ",".join(f"{high}:{low}" for high, low in _cut(core.selected.view, command)).encode()
    head = b"UIDBATCHES (TAG %b)" % responses.string(tag.encode())
    core.engine.untagged(b" ".join(filter(None, [head, cut])))
    core.tell_news(expunges=True)
    core.engine.done(tag, "OK", "Batched")


def _cut(view: View, command: Batches) -> Iterator[tuple[int, int]]:
    """Highest and lowest UID of each batch."""
    count, size = len(view), command.size
    there = -(-count // size)
    last = there if command.last is None else min(command.last, there)
    for batch in range(command.first, last + 1):
        newer = (batch - 1) * size  # messages in the batches before
        high = view.uids[count - newer] - 1 if newer else view.highest_uid
        yield high, view.uids[count - newer - size] if batch < there else 1
