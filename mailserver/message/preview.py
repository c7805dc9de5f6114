"""The first words of a message, as a list of messages shows them (RFC 8970).

Promises   At most `PREVIEW_LENGTH` characters in one line, without control characters; not more than `_WINDOWS[-1]`
           octets of a part, and not more than `_TRIES` parts, are looked at. Never raises.
On failure Empty where there is no text, or none that is meant for a reader.
"""

from __future__ import annotations

import re
from html import unescape
from itertools import islice

from mailserver.message.decode import part_beginning
from mailserver.message.structure import Part

PREVIEW_LENGTH = 200

_WINDOWS = (2048, 64 * 1024)
_TRIES = 3
_READABLE = frozenset((b"plain", b"html", b"enriched", b"x-markdown", b"markdown"))
_UNSEEN_ELEMENTS = re.compile(r"<(script|style|head|title)\b", re.IGNORECASE | re.ASCII)
_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE | re.ASCII) for name in ("script", "style", "head", "title")}
_MARKUP = re.compile(r"<(?:!--.*?(?:-->|\Z)|(?:[!?/a-zA-Z][^>]*+)(?:>|\Z))", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff]+")
_INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060"
_HIDDEN = "\x1c\x1d\x1e\x1f\x85\u034f"
"""What `_joined` leaves out and `str.isprintable` does not see: control characters that are spaces, and one joiner."""
_ARMOUR = "-----BEGIN PGP MESSAGE-----"


def preview(message: Part) -> str:
    """Of the first text that says something."""
    readable = (part for part in message.leaves() if part.type == b"text" and part.subtype in _READABLE)
    for part in islice(readable, _TRIES):
        disposition = part.disposition
        if disposition is not None and disposition[0] == b"attachment":
            continue
        for window in _WINDOWS:
            words = _words(part_beginning(part, window), html=part.subtype == b"html")
            if len(words) >= PREVIEW_LENGTH or part.body[1] - part.body[0] <= window:
                break
        if words:
            return words[:PREVIEW_LENGTH].rstrip()
    return ""


def _words(text: str, *, html: bool) -> str:
    if html:
        return _joined(unescape(_MARKUP.sub(" ", _without_unseen(text))))
    if text.startswith(_ARMOUR):
        return ""
    own: list[str] = []
    length = 0
    lines = text.split("\n")
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith(">") or (after.startswith(">") and line.rstrip().endswith(":")):
            continue  # quoted, or telling who is quoted
        if line.startswith("-- ") and line.rstrip() == "--":
            break
        own.append(line)
        length += len(line)
        if length > 2 * PREVIEW_LENGTH:
            break
    return _joined(" ".join(own)) or _joined(text)


def _without_unseen(text: str) -> str:
    """Without what a browser would not show of these elements; one that is not closed reaches to the end."""
    kept, position = [], 0
    while begin := _UNSEEN_ELEMENTS.search(text, position):
        kept.append(text[position : begin.start()])
        end = _ENDS[begin[1].lower()].search(text, begin.end())
        if end is None:
            return " ".join(kept)
        position = end.start()  # the tag itself is markup
    return " ".join([*kept, text[position:]])


def _joined(text: str) -> str:
    words = text.split()
    joined = " ".join(words)
    if joined.isprintable() and not any(map(text.__contains__, _HIDDEN)):  # nearly always
        return joined
    words = _CONTROL.sub("", text).split()
    return " ".join([word for word in words if word.strip(_INVISIBLE)])
