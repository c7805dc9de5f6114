"""RETURN of SEARCH and its kin: what of the result is to be told (RFC 4731, RFC 4466, RFC 5182)."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.syntax import Fault, Reader

_OPTIONS = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE"})


@dataclass(frozen=True, slots=True)
class Returns:
    """`options` of MIN, MAX, ALL, COUNT, SAVE."""

    options: frozenset[str] = frozenset({"ALL"})

    @property
    def saves(self) -> bool:
        return "SAVE" in self.options

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
    return Returns(frozenset(listed)) if listed else Returns()  # RFC 4731 §3.1: nothing asked for means ALL


def _option(reader: Reader) -> str:
    name = reader.keyword("result").decode()
    if name not in _OPTIONS:
        raise Fault("unknown result")
    return name
