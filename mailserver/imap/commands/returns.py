"""RETURN of SEARCH and its kin: what of the result is to be told (RFC 4731, RFC 4466, RFC 5182, RFC 5267, RFC 5465 §7,
RFC 6203, RFC 9394).
"""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.commands.fetch import Item, fetch_items
from mailserver.imap.commands.parts import Partial, partial
from mailserver.imap.syntax import Fault, Reader

_OPTIONS = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE", "RELEVANCY", "CONTEXT"})
_PARTIAL = "PARTIAL"
_UPDATE = "UPDATE"


@dataclass(frozen=True, slots=True)
class Returns:
    """`options` of MIN, MAX, ALL, COUNT, SAVE, RELEVANCY, CONTEXT, PARTIAL, UPDATE.

    With PARTIAL there is `partial`; with UPDATE perhaps `items`, to be fetched of messages that are found when they
    come.
    """

    options: frozenset[str] = frozenset({"ALL"})
    partial: Partial | None = None
    items: tuple[Item, ...] = ()

    @property
    def updates(self) -> bool:
        """The result is to be kept up to date."""
        return _UPDATE in self.options

    @property
    def saves(self) -> bool:
        return "SAVE" in self.options

    @property
    def rates(self) -> bool:
        return "RELEVANCY" in self.options

    @property
    def tells(self) -> bool:
        """There is to be an ESEARCH response: something else is asked for than to save."""
        return self.options != {"SAVE"}


def returns(reader: Reader) -> Returns | None:
    """` RETURN (...)`, when that comes next; None when something else does."""
    start = reader.position
    if not reader.accept(b" ") or reader.keyword_or_empty() != b"RETURN":
        reader.position = start
        return None
    reader.space()
    listed = reader.listed(lambda: _option(reader), "list of results", empty=True)
    if not listed:
        return Returns()  # RFC 4731 §3.1: nothing asked for means ALL
    options = frozenset(name for name, _ in listed)
    ranges = [value for _, value in listed if isinstance(value, Partial)]
    items = [value for _, value in listed if isinstance(value, tuple)]
    if len(ranges) > 1 or (ranges and "ALL" in options):
        raise Fault("only one of PARTIAL and ALL is allowed")
    if len(items) > 1:
        raise Fault("only one UPDATE is allowed")
    return Returns(options, ranges[0] if ranges else None, items[0] if items else ())


def _option(reader: Reader) -> tuple[str, Partial | tuple[Item, ...] | None]:
    name = reader.keyword("result").decode()
    if name == _PARTIAL:
        return name, partial(reader)
    if name == _UPDATE:
        if reader.looking_at(b" ("):
            reader.space()  # the grammar has none, its example has one
        return name, fetch_items(reader) if reader.looking_at(b"(") else ()
    if name not in _OPTIONS:
        raise Fault("unknown result")
    return name, None
