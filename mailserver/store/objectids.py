"""What mailboxes, messages and threads are called by clients that follow them around (RFC 8474).

Theory     Nothing is given out and remembered: each identifier follows from what is there, so it is the same after a
           restart, without the index, and in a restored copy. A mailbox is called by its key (see `uids`), which moves
           with the folder. A message is called by its octets and its internal date, all that never changes of it; a
           thread by the message that began it, as the first of the References tells.
Promises   Copies of a message have its identifiers, in whatever mailbox. What two messages have in common as to content
           and date is all that they need to have the same one. An identifier begins with a letter for its kind, so no
           two kinds have one in common, and has lower-case hexadecimal digits behind it (RFC 8474 §8.1).
On failure Nothing here fails. A message that neither has a Message-ID nor refers to one is a thread of its own.
"""

from __future__ import annotations

import hashlib

from mailserver.store.model import Identity, ObjectIds, SortKeys

_DIGITS = 40


def mailbox_id(key: int) -> str:
    return f"F{key:x}"


def identity(message: bytes, keys: SortKeys) -> Identity:
    """Of a whole message in CRLF form."""
    content = hashlib.sha256(message).digest()
    root = keys.references[0] if keys.references else keys.message_id
    thread = hashlib.sha256(root.encode("utf-8", "surrogatepass")).digest() if root else content
    return Identity(content, thread)


def object_ids(identity: Identity, internal_date: float) -> ObjectIds:
    email = hashlib.sha256(b"%d " % int(internal_date) + identity.content).hexdigest()
    return ObjectIds("M" + email[:_DIGITS], "T" + identity.thread.hex()[:_DIGITS])
