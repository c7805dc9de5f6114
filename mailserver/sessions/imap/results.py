"""The answers to SEARCH and its kin: SEARCH, and ESEARCH where RETURN was used (RFC 4731, RFC 4466 §2.6).

Promises   What is told of no messages is left out, as an empty set cannot be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mailserver.imap import compress
from mailserver.imap.commands import Returns
from mailserver.imap.responses import string

Items = list[tuple[str, str]]
"""What an ESEARCH response tells: names and values."""


def results(returns: Returns, numbers: Sequence[int]) -> Items:
    """`numbers` in the order in which they are found or sorted; they may be UIDs."""
    items: Items = []
    if numbers:
        if "MIN" in returns.options:
            items.append(("MIN", str(numbers[0])))
        if "MAX" in returns.options:
            items.append(("MAX", str(numbers[-1])))
        if "ALL" in returns.options:
            items.append(("ALL", compress(numbers)))
    if "COUNT" in returns.options:
        items.append(("COUNT", str(len(numbers))))
    return items


def extended(tag: str, items: Items, *, by_uid: bool) -> bytes:
    """The ESEARCH response."""
    head = b"ESEARCH (TAG %b)%b" % (string(tag.encode()), b" UID" if by_uid else b"")
    return b" ".join([head, *(f"{name} {value}".encode() for name, value in items)])


def plain(name: str, numbers: Iterable[int]) -> bytes:
    """As without RETURN: SEARCH or SORT."""
    return " ".join([name, *map(str, numbers)]).encode()
