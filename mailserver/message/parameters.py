"""Structured MIME values: `type/subtype; name=value`, with continuations (RFC 2045 §5.1, RFC 2183, RFC 2231 §3).

Promises   Linear time; at most `PARAMETER_LIMIT` parameters. A value that lacks its quotes reaches to the next
           semicolon, a quote that is not closed to the end. Of parameters with the same name the first counts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice

from mailserver.message.header import comment_end, unfold

Parameters = tuple[tuple[bytes, bytes], ...]

PARAMETER_LIMIT = 1000
_SHORT = 200  # octets of values that are remembered, since most messages have the same few

_VALUE = re.compile(rb"[ \t]*+([^\s;/\"]++)(?:[ \t]*+/[ \t]*+([^\s;/\"]++))?+")
_PARAMETER = re.compile(rb';[ \t]*+([^\s;="]++)[ \t]*+=[ \t]*+(?:"((?:[^"\\]++|\\.)*+)|([^;]*+))', re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_OUTSIDE_COMMENT = re.compile(rb'(?:"(?:[^"\\\\]++|\\\\.)*+["\\\\]?|[^"(])++', re.DOTALL)
_CONTINUATION = re.compile(rb"([^*]+)\*(?:(\d{1,4})(\*?))?")
_NOT_ATTRIBUTE_CHAR = re.compile(rb"[^A-Za-z0-9!#$&+\-.^_`{|}~]")  # RFC 2231 §7


def without_comments(value: bytes) -> bytes:
    """The value with each comment made a space (RFC 5322 §3.2.2); an open one reaches to the end."""
    if b"(" not in value:
        return value
    kept, position = [], 0
    while position < len(value):
        if value.startswith(b"(", position):
            kept.append(b" ")
            position = comment_end(value, position)
        elif match := _OUTSIDE_COMMENT.match(value, position):
            kept.append(match[0])
            position = match.end()
    return b"".join(kept)


def structured(value: bytes) -> tuple[bytes, bytes, Parameters]:
    """A Content-Type or Content-Disposition: the words before and after the slash in lower case, and the parameters.

    A word that is missing is empty.
    """
    return _recently(value) if len(value) <= _SHORT else _structured(value)


def _structured(value: bytes) -> tuple[bytes, bytes, Parameters]:
    value = without_comments(unfold(value))
    match = _VALUE.match(value)
    if match is None:
        return b"", b"", _parameters(value)
    return match[1].lower(), (match[2] or b"").lower(), _parameters(value) if match.end() < len(value) else ()


_recently = lru_cache(maxsize=256)(_structured)


def _parameters(value: bytes) -> Parameters:
    found: dict[bytes, bytes] = {}
    continued = False
    for match in islice(_PARAMETER.finditer(value), PARAMETER_LIMIT):
        name, quoted, plain = match.groups()
        name = name.lower()
        continued = continued or b"*" in name
        found.setdefault(name, plain.rstrip() if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted))
    return tuple((_joined(found) if continued else found).items())


def _joined(found: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Joins `name*0`, `name*1*` ... to `name`, or to `name*` with its charset and percent signs if a piece has them."""
    pieces: dict[bytes, dict[int, tuple[bool, bytes]]] = {}
    names: dict[bytes, bytes] = {}  # each name as written -> the name that it is a piece of
    for name, value in found.items():
        match = _CONTINUATION.fullmatch(name)
        if match and match[2]:
            pieces.setdefault(match[1], {}).setdefault(int(match[2]), (bool(match[3]), value))
            names[name] = match[1]
    result: dict[bytes, bytes] = {}
    for name, value in found.items():
        base = names.get(name)
        if base is None or 0 not in pieces[base]:
            result.setdefault(name, value)
            continue
        chain: list[tuple[bool, bytes]] = []
        while (piece := pieces[base].get(len(chain))) is not None:
            chain.append(piece)
        if any(extended for extended, _ in chain):
            text = b"".join(value if extended else _percent_encode(value) for extended, value in chain)
            result.setdefault(base + b"*", text)
        else:
            result.setdefault(base, b"".join(value for _, value in chain))
    return result


def _percent_encode(value: bytes) -> bytes:
    return _NOT_ATTRIBUTE_CHAR.sub(lambda match: b"%%%02X" % match[0][0], value)
