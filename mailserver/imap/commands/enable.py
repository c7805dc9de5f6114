"""ENABLE (RFC 5161)."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.syntax import Reader


@dataclass(frozen=True, slots=True)
class Enable:
    """Capabilities in upper case, each once; there may be some that nobody knows."""

    capabilities: tuple[str, ...]


def enable(reader: Reader) -> Enable:
    names: dict[str, None] = {}
    reader.space()
    names[reader.keyword("capability").decode()] = None
    while reader.accept(b" "):
        names[reader.keyword("capability").decode()] = None
    return Enable(tuple(names))
