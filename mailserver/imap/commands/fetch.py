"""FETCH (RFC 3501 §6.4.5, RFC 7162 §3.1.4, §3.2.6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from mailserver.imap.responses import astring
from mailserver.imap.sequence import SequenceSet
from mailserver.imap.syntax import Fault, Reader

ITEM_LIMIT = 256
PART_DEPTH = 100

_NAME = re.compile(rb"[A-Za-z0-9.]+")
_SECTION_PART = re.compile(rb"[1-9]\d{0,9}(?:\.[1-9]\d{0,9})*")
_SECTION_TEXT = re.compile(rb"[A-Za-z.]+")


class Attribute(Enum):
    """Data items without arguments."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"


class Text(Enum):
    """Which text of a part a section means. `ALL` is the whole: `BODY[]`, `BODY[1.2]`."""

    ALL = b""
    HEADER = b"HEADER"
    FIELDS = b"HEADER.FIELDS"
    FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"


@dataclass(frozen=True, slots=True)
class Section:
    """`BODY[...]` and its old names. `part` are the part numbers; `fields` the names of HEADER.FIELDS.

    `partial` is the first octet and the greatest number of octets. `label` is the name that the answer bears.
    """

    label: bytes
    part: tuple[int, ...] = ()
    text: Text = Text.ALL
    fields: tuple[bytes, ...] = ()
    peek: bool = False
    partial: tuple[int, int] | None = None


Item = Attribute | Section

_MACROS: dict[bytes, tuple[Item, ...]] = {
    b"FAST": (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE),
    b"ALL": (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE, Attribute.ENVELOPE),
    b"FULL": (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE, Attribute.ENVELOPE, Attribute.BODY),
}
_ITEMS: dict[bytes, Item] = {
    **{attribute.value: attribute for attribute in Attribute},
    b"RFC822": Section(b"RFC822"),
    b"RFC822.HEADER": Section(b"RFC822.HEADER", text=Text.HEADER, peek=True),
    b"RFC822.TEXT": Section(b"RFC822.TEXT", text=Text.TEXT),
}


@dataclass(frozen=True, slots=True)
class Fetch:
    """`items` without repetition, in the order asked for. `changed_since`: only those with a greater MODSEQ.

    `vanished`: those expunged since are told as well.
    """

    messages: SequenceSet
    by_uid: bool
    items: tuple[Item, ...]
    changed_since: int | None = None
    vanished: bool = False


def fetch(reader: Reader, *, by_uid: bool = False) -> Fetch:
    reader.space()
    messages = reader.sequence_set()
    reader.space()
    listed = reader.looking_at(b"(")
    items = reader.listed(lambda: _item(reader), "list of items") if listed else _macro_or_item(reader)
    if by_uid and Attribute.UID not in items:
        items = (Attribute.UID, *items)
    modifiers: dict[bytes, int] = {}
    if reader.accept(b" "):
        modifiers = reader.modifiers(lambda: _modifier(reader))
        if b"CHANGEDSINCE" not in modifiers or (b"VANISHED" in modifiers and not by_uid):
            raise Fault("VANISHED goes with CHANGEDSINCE and UID FETCH")
        items = (*items, Attribute.MODSEQ)
    items = tuple(dict.fromkeys(items))
    if len(items) > ITEM_LIMIT:
        raise Fault("too many items")
    return Fetch(messages, by_uid, items, modifiers.get(b"CHANGEDSINCE"), b"VANISHED" in modifiers)


def _modifier(reader: Reader) -> tuple[bytes, int]:
    name = reader.keyword("modifier")
    if name == b"CHANGEDSINCE":
        reader.space()
        return name, reader.modseq()
    if name != b"VANISHED":
        raise Fault("unknown modifier")
    return name, 0


def _macro_or_item(reader: Reader) -> tuple[Item, ...]:
    start = reader.position
    macro = _MACROS.get(reader.match(_NAME, "item")[0].upper())
    if macro is not None:
        return macro
    reader.position = start
    return (_item(reader),)


def _item(reader: Reader) -> Item:
    name = reader.match(_NAME, "item")[0].upper()
    if name in (b"BODY", b"BODY.PEEK") and reader.accept(b"["):
        return _section(reader, peek=name == b"BODY.PEEK")
    item = _ITEMS.get(name)
    if item is None:
        raise Fault("unknown item")
    return item


def _section(reader: Reader, *, peek: bool) -> Section:
    part: tuple[int, ...] = ()
    text = Text.ALL
    fields: tuple[bytes, ...] = ()
    dot = True
    if not reader.looking_at(b"]"):
        if numbers := reader.optional(_SECTION_PART):
            part = tuple(map(int, numbers[0].split(b".")))
            dot = reader.accept(b".")
        if dot:
            text = _section_text(reader, inside_part=bool(part))
        if text in (Text.FIELDS, Text.FIELDS_NOT):
            reader.space()
            fields = reader.listed(reader.astring, "list of fields")
    reader.expect(b"]")
    if len(part) > PART_DEPTH:
        raise Fault("the section is too deep")
    label = b"BODY[" + section_spec(part, text, fields) + b"]"
    partial = None
    if reader.accept(b"<"):
        first = reader.number()
        reader.expect(b".")
        partial = (first, reader.positive())
        reader.expect(b">")
        label += b"<%d>" % first
    return Section(label, part, text, fields, peek, partial)


def _section_text(reader: Reader, *, inside_part: bool) -> Text:
    try:
        text = Text(reader.match(_SECTION_TEXT, "section")[0].upper())
    except ValueError:
        raise Fault("unknown section") from None
    if text is Text.MIME and not inside_part:
        raise Fault("MIME needs a part number")
    return text


def section_spec(part: tuple[int, ...], text: Text, fields: tuple[bytes, ...]) -> bytes:
    """`section-spec` as the answer repeats it."""
    pieces = [str(number).encode() for number in part]
    if text is not Text.ALL:
        pieces.append(text.value)
    spec = b".".join(pieces)
    return spec + b" (" + b" ".join(map(astring, fields)) + b")" if fields else spec
