"""The base subject: what a subject is without the marks of replies, forwards and lists (RFC 5256 §2.1).

Promises   The algorithm of the RFC to the letter, for the first `SUBJECT_LIMIT` characters. Never raises.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mailserver.message.decode import header_text

SUBJECT_LIMIT = 2000

_SPACES = re.compile(r"[ \t\r\n]+")
_BLOB = r"\[[^\[\]]*+\] *+"
_REFWD = rf"(?:re|fwd?) *+(?:{_BLOB})?+:"
_LEADERS = re.compile(rf" *+((?:(?:{_BLOB})*+{_REFWD} *+)*+)", re.IGNORECASE | re.ASCII)
_ONE_BLOB = re.compile(_BLOB)
_TRAILER = re.compile(r"\(fwd\)", re.IGNORECASE | re.ASCII)
_FORWARD = re.compile(r"\[fwd:", re.IGNORECASE | re.ASCII)


class BaseSubject(NamedTuple):
    """`reply`: marks of a reply or forward were taken off (RFC 5256 §3, REFERENCES). The case of letters is kept."""

    text: str
    reply: bool


def base_subject(value: bytes) -> BaseSubject:
    """Of the raw value of a Subject field."""
    text = _SPACES.sub(" ", header_text(value)[:SUBJECT_LIMIT])
    start, end, reply = 0, len(text), False
    while True:
        end, trailers = _without_trailers(text, start, end)  # step 2
        start, leaders = _without_leaders(text, start, end)  # steps 3 to 5
        reply = reply or trailers or leaders
        if not (text.endswith("]", start, end) and _FORWARD.match(text, start, end)):  # step 6
            return BaseSubject(text[start:end], reply)
        start, end, reply = start + len("[fwd:"), end - 1, True


def _without_trailers(text: str, start: int, end: int) -> tuple[int, bool]:
    found = False
    while end > start:
        if text[end - 1] == " ":
            end -= 1
        elif _TRAILER.match(text, max(start, end - len("(fwd)")), end):
            end -= len("(fwd)")
            found = True
        else:
            break
    return end, found


def _without_leaders(text: str, start: int, end: int) -> tuple[int, bool]:
    found = False
    while True:
        leaders = _LEADERS.match(text, start, end)
        assert leaders is not None  # it may match nothing at all
        found = found or bool(leaders[1])
        start = leaders.end()
        blob = _ONE_BLOB.match(text, start, end)
        if blob is None or blob.end() == end:  # what is left must not be empty
            return start, found
        start = blob.end()
