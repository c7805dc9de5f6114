"""The answers to SEARCH and its kin: SEARCH, and ESEARCH where RETURN was used (RFC 4731, RFC 4466 §2.6); and what is
saved of them (RFC 5182).

Promises   What is told of no messages is left out, as an empty set cannot be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from mailserver.imap import compress
from mailserver.imap.commands import Returns
from mailserver.message.fuzzy import FULL
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.kept import Items, extended
from mailserver.sessions.imap.refusals import Refused
from mailserver.store import StoreError


def results(returns: Returns, numbers: Sequence[int], scores: Sequence[int] = ()) -> Items:
    """`numbers` in the order in which they are found or sorted; they may be UIDs. `scores` are theirs (RFC 6203)."""
    items: Items = []
    if numbers:
        if "MIN" in returns.options:
            items.append(("MIN", str(numbers[0])))
        if "MAX" in returns.options:
            items.append(("MAX", str(numbers[-1])))
        if "ALL" in returns.options:
            items.append(("ALL", compress(numbers)))
    if returns.partial is not None:
        part = returns.partial.of(numbers)
        items.append(("PARTIAL", f"({returns.partial} {compress(part) or 'NIL'})"))
    if "COUNT" in returns.options:
        items.append(("COUNT", str(len(numbers))))
    if returns.rates:
        told = scores if returns.partial is None else returns.partial.of(scores)
        items.append(("RELEVANCY", f"({' '.join(map(str, told))})"))
    return items


def relevancies(uids: Iterable[int], scores: Mapping[int, int]) -> list[int]:
    """What was found by nothing fuzzy is as relevant as can be."""
    return [scores.get(uid, FULL) for uid in uids]


def plain(name: str, numbers: Iterable[int]) -> bytes:
    """As without RETURN: SEARCH or SORT."""
    written = repr(list(numbers))[1:-1].replace(",", "")  # in half the time of joining texts
    return f"{name} {written}".rstrip().encode()


def answer(
    core: Core,
    tag: str,
    name: str,
    returns: Returns | None,
    numbers: Sequence[int],
    uids: Sequence[int],
    *,
    by_uid: bool,
    with_modseq: bool = False,
    scores: Mapping[int, int],
) -> None:
    """Tells what was found, and saves it, as it was asked for. `name` is that of the plain answer.

    `with_modseq`: the highest MODSEQ of what is told as well (RFC 7162 §3.1.5, §3.1.6, §3.1.10). `scores` by UID.
    """
    if core.rev2 and name == "SEARCH":
        returns = returns or Returns()  # RFC 9051 §6.4.4 knows no SEARCH response
    found = uids if by_uid else numbers
    told = numbers if returns is None else kept(returns, numbers)
    highest = max(core.selected.view.modseqs_of(sorted(told)), default=0) if with_modseq else 0
    if returns is None:
        core.engine.untagged(plain(name, found) + (b" (MODSEQ %d)" % highest if highest else b""))
        return
    if returns.tells:
        items = results(returns, found, relevancies(uids, scores) if returns.rates else ())
        if highest:
            items.append(("MODSEQ", str(highest)))
        core.engine.untagged(extended(tag, items, by_uid=by_uid))
    if returns.saves:
        core.selected.view.save(kept(returns, uids))


def kept(returns: Returns, uids: Sequence[int]) -> Iterable[int]:
    """What is saved: all, unless only some are asked for (RFC 5182 §2.4, RFC 9394 §3.2)."""
    options = returns.options
    if not uids or options & {"ALL", "COUNT"} or not options & {"MIN", "MAX", "PARTIAL"}:
        return uids
    some = set(returns.partial.of(uids)) if returns.partial is not None else set()
    if "MIN" in options:
        some.add(uids[0])
    if "MAX" in options:
        some.add(uids[-1])
    return some


@contextmanager
def saving(core: Core, returns: Returns | None) -> Iterator[None]:
    """When the search fails that was to save something, nothing is saved any longer (RFC 5182 §2.1)."""
    try:
        yield
    except (StoreError, Refused):
        if returns is not None and returns.saves:
            core.selected.view.save(())
        raise
