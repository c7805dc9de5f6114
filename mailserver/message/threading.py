"""Message identifiers: what a message is called and what it refers to (RFC 5322 §3.6.4, RFC 5256 §3).

Promises   Never raises. An identifier is given without its angle brackets and the quotes and white space in it, so that
           those that are the same are equal; one beyond `ID_LIMIT` octets is none. A message has at most
           `REFERENCE_LIMIT` references: the first, which began the thread, and the last.
"""

from __future__ import annotations

import re

from mailserver.message.addresses import VALUE_LIMIT
from mailserver.message.decode import charset_text

ID_LIMIT = 998
REFERENCE_LIMIT = 100

_IN_BRACKETS = re.compile(rb"<([^<>]++)>")
_QUOTED_LOCAL_PART = re.compile(rb'"((?:[^"\\]++|\\.)*+)"(?=@)', re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


def message_ids(value: bytes) -> list[str]:
    """The identifiers in a raw field value, in order, each once.

    Where there is not one angle bracket, and every word has an "@", the words are the identifiers.
    """
    value = value[:VALUE_LIMIT]
    found = _IN_BRACKETS.findall(value)
    if not found and b"<" not in value:
        words = value.split()
        found = words if all(b"@" in word for word in words) else []
    return list(dict.fromkeys(name for written in found if (name := _normal(written))))


def ancestors(references: bytes | None, in_reply_to: bytes | None) -> tuple[str, ...]:
    """What a message refers to, the message that it answers last, from the raw values of References and In-Reply-To."""
    found = message_ids(references) if references is not None else []
    if not found and in_reply_to is not None:
        found = message_ids(in_reply_to)[:1]
    if len(found) > REFERENCE_LIMIT:
        found = [found[0], *found[1 - REFERENCE_LIMIT :]]
    return tuple(found)


def _normal(written: bytes) -> str:
    name = b"".join(written.replace(b"\0", b"").split())
    if len(name) > ID_LIMIT:
        return ""
    if b'"' in name:
        name = _QUOTED_LOCAL_PART.sub(lambda match: _QUOTED_PAIR.sub(rb"\1", match[1]), name, count=1)
    return charset_text(name)
