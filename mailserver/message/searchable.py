r"""A message as text to search in (RFC 3501 §6.4.4): decoded, as it is compared (RFC 5255 §4.6), runs of
spaces as one.

Layout     UTF-8. Header: the octet FF, then each field as `name: value` and FF. Body: each text part and FF. FF stands
           in no UTF-8, so that nothing is found across the borders of fields and parts.
Promises   Nothing here raises, whatever the message. A text is in a field or part exactly when its octets are in there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from mailserver.message.collation import casemapped
from mailserver.message.decode import body_texts, header_text
from mailserver.message.header import fields, header_end
from mailserver.message.structure import parse

BORDER = b"\xff"

_FIELD_NAME = re.compile(r"[^\x00-\x20:\x7f]+")  # as in `header`


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
        return _encoded(folded(self.text))

    @cached_property
    def anchor(self) -> bytes | None:
        """What stands ahead of the value of a field of this name; None: no field can have it."""
        if self.field is None or not _FIELD_NAME.fullmatch(self.field):
            return None
        return BORDER + _name(self.field.encode()) + b": "


def folded(text: str) -> str:
    """As i;unicode-casemap has it; how space is written does not count either."""
    words = text.split()
    if not words:
        return text and " "
    start = " " if text[0].isspace() else ""
    end = " " if text[-1].isspace() else ""
    return casemapped(f"{start}{' '.join(words)}{end}")


def searchable(message: bytes) -> Searchable:
    """`message` is whole."""
    lines = [
        b"%b: %b" % (_name(field.name), _encoded(folded(header_text(field.value))))
        for field in fields(message[: header_end(message)])
    ]
    header = BORDER.join([b"", *lines, b""]) if lines else b""
    return Searchable(header, b"".join(_encoded(folded(text)) + BORDER for text in body_texts(parse(message))))


def _name(octets: bytes) -> bytes:
    return _encoded(casemapped(octets.decode("latin-1").lower()))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
