"""CANCELUPDATE (RFC 5267 §4.3.5)."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.syntax import LIST_LIMIT, Fault, Reader


@dataclass(frozen=True, slots=True)
class CancelUpdate:
    """`tags`: of the searches whose results are to be kept up to date no longer."""

    tags: tuple[str, ...]


def cancel_update(reader: Reader) -> CancelUpdate:
    tags: dict[str, None] = {}
    while not tags or not reader.at_end:
        reader.space()
        tags[reader.string().decode("latin-1")] = None
        if len(tags) > LIST_LIMIT:
            raise Fault("too many tags")
    return CancelUpdate(tuple(tags))
