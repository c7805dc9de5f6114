"""The pieces of FETCH that a message's content decides, made ready to send (RFC 9051 §7.5.2)."""

from __future__ import annotations

from mailserver.message.imapdata import bodystructure, envelope
from mailserver.message.structure import parse
from mailserver.store.model import Prepared


def prepare(message: bytes) -> Prepared:
    """`message` is whole and in CRLF form. Never fails: what cannot be understood is described as text."""
    part = parse(message)
    return Prepared(
        envelope=envelope(message[: part.header[1]]),
        body=bodystructure(part, extended=False),
        bodystructure=bodystructure(part, extended=True),
    )
