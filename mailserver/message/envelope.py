"""The envelope structure of a message, out of its header (RFC 3501 §7.4.2).

Promises   Never raises. Of a field, or of all fields of one name that hold addresses, what lies past `VALUE_LIMIT`
           octets is left out.
"""

from __future__ import annotations

from typing import NamedTuple

from mailserver.message.addresses import VALUE_LIMIT, MailAddress, addresses
from mailserver.message.header import unfold
from mailserver.message.structure import Part


class Envelope(NamedTuple):
    """Texts are in one line, encoded words as they are; None: there is no such field. `author` is From."""

    date: bytes | None
    subject: bytes | None
    author: list[MailAddress]
    sender: list[MailAddress]
    reply_to: list[MailAddress]
    to: list[MailAddress]
    cc: list[MailAddress]
    bcc: list[MailAddress]
    in_reply_to: bytes | None
    message_id: bytes | None


def read_envelope(message: Part) -> Envelope:
    """Fields of the same name count as one list of addresses; of texts the first counts."""
    fields = message.fields

    def text(name: bytes) -> bytes | None:
        return unfold(fields[name][0][:VALUE_LIMIT]) if name in fields else None

    def listed(name: bytes) -> list[MailAddress]:
        return _addresses(fields[name]) if name in fields else []

    return Envelope(
        date=text(b"date"),
        subject=text(b"subject"),
        author=listed(b"from"),
        sender=listed(b"sender"),
        reply_to=listed(b"reply-to"),
        to=listed(b"to"),
        cc=listed(b"cc"),
        bcc=listed(b"bcc"),
        in_reply_to=text(b"in-reply-to"),
        message_id=text(b"message-id"),
    )


def _addresses(values: list[bytes]) -> list[MailAddress]:
    if len(values) == 1:
        return addresses(values[0])
    found: list[MailAddress] = []
    left = VALUE_LIMIT
    for value in values:
        if left > 0:
            found += addresses(value)
        left -= len(value)
    return found
