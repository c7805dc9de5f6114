"""Addresses as text, to sort and to show messages by (RFC 5256 §3, RFC 5957 §3)."""

from __future__ import annotations

from mailserver.message.addresses import MailAddress
from mailserver.message.decode import charset_text, header_text


def local_part(found: list[MailAddress]) -> str:
    """Of the first address; of a group that is its name. Empty if there is none."""
    return charset_text(found[0].mailbox or b"") if found else ""


def display(found: list[MailAddress]) -> str:
    """The name of the first address, its encoded words decoded, or else the address. Empty if there is none."""
    if not found:
        return ""
    first = found[0]
    name = header_text(first.name) if first.name else ""
    if name:
        return name
    mailbox = charset_text(first.mailbox or b"")
    return f"{mailbox}@{charset_text(first.host)}" if first.host else mailbox
