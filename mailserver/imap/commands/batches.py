"""UIDBATCHES (RFC 10022)."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.syntax import Fault, Reader

SMALLEST = 500
"""Messages of a batch: smaller ones would give a client the message numbers back that UIDONLY takes (§3.1.3.2)."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The UIDs between which every `size` messages lie, the newest first.

    `first` and `last` of the batches that are wanted, counted from 1; None: up to the last one that there is.
    """

    size: int
    first: int = 1
    last: int | None = None


def batches(reader: Reader) -> Batches:
    reader.space()
    size = reader.positive()
    if size < SMALLEST:
        raise Fault(f"a batch must have at least {SMALLEST} messages", status="NO", code="TOOFEW")
    if not reader.accept(b" "):
        return Batches(size)
    first = reader.positive()
    reader.expect(b":")
    last = reader.positive()
    if last < first:
        raise Fault("the batches must ascend", code="CLIENTBUG")
    return Batches(size, first, last)
