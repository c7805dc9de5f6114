"""THREAD (RFC 5256): what SEARCH finds, as threads.

Promises   The work ends when the client is gone. However deep threads are, nothing recurses.
On failure As SEARCH.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from weakref import ref

from mailserver.imap.commands import Thread
from mailserver.imap.commands.sort import Algorithm
from mailserver.message import Forest, ordered_subject, references, refs
from mailserver.sessions.imap import messagelimit
from mailserver.sessions.imap.answers import Name, answers
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.progress import Progress
from mailserver.sessions.imap.search import Matches, asks_of, matches, only_utf8
from mailserver.sessions.imap.sort import learn
from mailserver.store import ColumnName, Mailbox

_COLUMNS: Mapping[Algorithm, tuple[ColumnName, ...]] = {
    "ORDEREDSUBJECT": ("subject", "sent"),
    "REFERENCES": ("subject", "sent", "links"),
    "REFS": ("sent", "links"),
}
"""By what messages are threaded."""

_CLOSE = -1


async def thread(core: Core, tag: str, command: Thread) -> None:
    only_utf8(core, command.codec)
    _, by_number = asks_of(core, command.key)
    core.catch_up()
    selected = core.selected
    among = messagelimit.scope(command.key, selected.view)
    messagelimit.require_few(core, len(among))
    names = _COLUMNS[command.algorithm]
    progress = Progress(core, tag, len(among) + len(selected.view) * len(names))
    found = await matches(core, command.key, among, progress=progress)
    name = Name(ref(selected.mailbox), ("THREAD", command.algorithm, command.by_uid))
    known = found.known(selected.mailbox)
    answer = answers.get(name, known)
    complete = found.complete
    if answer is None:
        await learn(core, names, found.uids, progress)
        work = core.workers.run(threaded, selected.mailbox, found.uids, command.algorithm)
        uids, forest = await progress.during(work)
        threads = written(forest, uids if command.by_uid else _numbers(found, uids))
        answer = b" ".join(filter(None, [b"THREAD", threads]))
        if len(uids) < len(found.uids):
            complete = False
        elif known == found.known(selected.mailbox):
            answers.put(name, known, answer)
    core.engine.untagged(answer)
    core.tell_news(expunges=command.by_uid and not by_number)
    core.engine.done(tag, "OK", "Threaded", None if complete else "EXPUNGEISSUED")


def _numbers(found: Matches, uids: Sequence[int]) -> Sequence[int]:
    """Sequence numbers of messages that were found."""
    if len(uids) == len(found.uids):
        return found.numbers
    numbers = dict(zip(found.uids, found.numbers, strict=True))
    return [numbers[uid] for uid in uids]


def threaded(mailbox: Mailbox, uids: Sequence[int], algorithm: Algorithm) -> tuple[list[int], Forest]:
    """Those that exist, and the threads of their places. Blocking."""
    keys = mailbox.sorting.threadable(uids, _COLUMNS[algorithm])
    match algorithm:
        case "ORDEREDSUBJECT":
            forest = ordered_subject(keys.subjects, keys.sent)
        case "REFERENCES":
            forest = references(keys.parents, keys.sent, keys.subjects, keys.replies)
        case "REFS":
            forest = refs(keys.parents, keys.sent)
    return keys.uids, forest


def written(forest: Forest, numbers: Sequence[int]) -> bytes:
    """`*thread-list`: a list for each thread; in it one message below the other, then a list for each of several."""
    children = forest.children
    names = list(map(str, numbers))
    pieces: list[str] = []
    for many, roots in groupby(forest.roots, children.__contains__):
        if not many:
            pieces.append(f"({')('.join(map(names.__getitem__, roots))})")
            continue
        for root in roots:
            _write(pieces, root, forest, names)
    return "".join(pieces).encode()


def _write(pieces: list[str], root: int, forest: Forest, names: Sequence[str]) -> None:
    """A thread of several messages."""
    size, children = forest.size, forest.children
    left = [root]
    while left:
        node = left.pop()
        if node == _CLOSE:
            pieces.append(")")
            continue
        pieces.append("(")
        below: Sequence[int] = [node] if node < size else children[node]
        separator = ""
        while len(below) == 1:
            (node,) = below
            pieces += (separator, names[node])
            separator = " "
            below = children.get(node, ())
        if below:
            pieces.append(separator)
        left.append(_CLOSE)
        left += reversed(below)
