r"""A message as text to search in (RFC 3501 §6.4.4, RFC 9051 §6.4.4): decoded, as it is compared (RFC 5255 §4.6), runs
of spaces as one.

Layout     UTF-8. Header: the octet FF, then each field as `name: value` and FF; then those of parts and of enclosed
           messages, each with a space before it, so that none is taken for a field of the message. Body: each text
           part and FF. FF stands in no UTF-8, so that nothing is found across the borders of fields and parts.
Promises   Nothing here raises, whatever the message. A text is in a field or part exactly when its octets are in there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from mailserver.message.collation import casemapped
from mailserver.message.decode import body_texts, header_text
from mailserver.message.header import FIELD_LIMIT, fields, header_end
from mailserver.message.structure import parse

BORDER = b"\xff"

_FIELD_NAME = re.compile(r"[^\x00-\x20:\x7f]+")  # as in `header`
_UPPER = bytes(range(256)).upper()
_FOLDED = bytes(ord(" ") if octet < 128 and chr(octet).isspace() else _UPPER[octet] for octet in range(256))
_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n"
_PLAIN_FIELD = re.compile(r"^([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.MULTILINE)


_ASCII = bytes(range(128))
_FEW = 20  # different characters of a text, which are replaced one by one
_KEPT = 10_000  # characters that are remembered


class Searchable(NamedTuple):
    """Either may be empty."""

    header: bytes
    body: bytes


@dataclass(frozen=True)
class Phrase:
    """What is looked for: `text` in the header, in the body, or in either.

    With `field` (lower case) only fields of that name count; an empty text then asks for the field alone.
    """

    text: str
    header: bool = True
    body: bool = True
    field: str | None = None

    @cached_property
    def octets(self) -> bytes:
        return _folded(self.text)

    @cached_property
    def anchor(self) -> bytes | None:
        """What stands ahead of the value of a field of this name; None: no field can have it."""
        if self.field is None or not _FIELD_NAME.fullmatch(self.field):
            return None
        return BORDER + _encoded(casemapped(self.field.encode().decode("latin-1"))) + b": "


def folded(text: str) -> str:
    """As i;unicode-casemap has it; how space is written does not count either."""
    return casemapped(spaced(text))


def spaced(text: str) -> str:
    """With each run of spaces, of whatever kind, as one."""
    words = " ".join(text.split())
    if not words:
        return text and " "
    start = " " if text[0].isspace() else ""
    end = " " if text[-1].isspace() else ""
    return f"{start}{words}{end}"


def searchable(message: bytes) -> Searchable:
    """`message` is whole."""
    whole = parse(message)
    texts = _texts(message[: header_end(message)])
    inner = b"\n".join(message[slice(*part.header)] for part in whole.inner())
    texts += [f" {text}" for text in _texts(inner)]
    lines = "\n".join(["", *texts, ""]) if texts else ""  # no text has a line end in it
    octets = _casemapped(lines, _UPPER)
    if octets is None:
        octets = _encoded(casemapped(lines))
    body = [_folded(text) + BORDER for text in body_texts(whole)]
    return Searchable(octets.replace(b"\n", BORDER), b"".join(body))


def _texts(header: bytes) -> list[str]:
    return _plain_fields(header) if _is_plain(header) else _any_fields(header)


def _is_plain(header: bytes) -> bool:
    """Nothing but visible ASCII, space, tab and line ends, as nearly always."""
    return not header.replace(b"\r\n", b"\n").translate(None, _PLAIN)


def _plain_fields(header: bytes) -> list[str]:
    """Each field, without line ends in it."""
    return [
        f"{name}: {' '.join(value.split()) if '=?' not in value else spaced(header_text(value.encode()))}"
        for name, value in _PLAIN_FIELD.findall(header.decode("ascii"))[:FIELD_LIMIT]
    ]


def _any_fields(header: bytes) -> list[str]:
    return [f"{field.name.decode('latin-1')}: {spaced(header_text(field.value))}" for field in fields(header)]


class _Others(dict[str, str | None]):
    """What stands for a character that is not ASCII. None: spaces come or go by that, or there is more to it."""

    def __missing__(self, character: str) -> str | None:
        mapped = casemapped(character)
        simple = not character.isspace() and " " not in mapped and casemapped(mapped) == mapped
        if len(self) < _KEPT:
            self[character] = mapped if simple else None
        return mapped if simple else None


_others = _Others()


def _folded(text: str) -> bytes:
    """What `folded` gives, in UTF-8."""
    octets = _casemapped(text.replace("\r\n", "\n"), _FOLDED)
    if octets is None:
        return _encoded(folded(text))
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets


def _casemapped(text: str, table: bytes) -> bytes | None:
    """In UTF-8, ASCII by the table; None: it is not as simple as that. Most are ASCII but for a few characters."""
    octets = _encoded(text)
    if not text.isascii():
        others = set(octets.translate(None, _ASCII).decode("utf-8", "surrogatepass"))
        if len(others) > _FEW:
            return None
        for character in others:
            mapped = _others[character]
            if mapped is None:
                return None
            text = text.replace(character, mapped)
        octets = _encoded(text)
    return octets.translate(table)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
