"""Reading the headers of messages, for FETCH and SEARCH."""

from __future__ import annotations

from mailserver.store import Mailbox, Message, Unavailable

_WHOLE = 64 * 1024
"""Octets up to which a message is read at once."""


def read_header(mailbox: Mailbox, message: Message) -> bytes:
    """The message as far as its header goes, and perhaps some more. Blocking. Raises MessageGone, Unavailable."""
    if message.size <= _WHOLE:
        return mailbox.read(message.uid)
    pieces = []
    tail = b"\n"  # the blank line may be the first
    try:
        for chunk in mailbox.chunks(message.uid):
            pieces.append(chunk)
            joint = tail + chunk
            if b"\n\r\n" in joint or b"\n\n" in joint:
                break
            tail = joint[-2:]
    except OSError as error:
        raise Unavailable("The message cannot be read now", error.errno) from error
    return b"".join(pieces)
