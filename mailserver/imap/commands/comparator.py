"""COMPARATOR (RFC 5255 §4.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailserver.imap.syntax import LIST_LIMIT, Fault, Reader

# `collation-order` of RFC 4790: a name with wildcards, a direction before it
_ORDER = re.compile(r"[+-]?[A-Za-z0-9*;=.-]{1,255}")


@dataclass(frozen=True, slots=True)
class Comparator:
    """`wanted` in lower case, best first; nothing: which one is active is asked."""

    wanted: tuple[str, ...]


def comparator(reader: Reader) -> Comparator:
    wanted = []
    while reader.accept(b" "):
        wanted.append(_order(reader))
        if len(wanted) > LIST_LIMIT:
            raise Fault("there are too many comparators")
    return Comparator(tuple(wanted))


def _order(reader: Reader) -> str:
    # a wildcard makes it no atom, so that it is quoted
    text = reader.astring().decode("latin-1")
    if not _ORDER.fullmatch(text):
        raise Fault("comparator expected")
    return text.lower()
