"""FETCH (RFC 3501 §6.4.5; RFC 3516 BINARY; RFC 7162 §3.1.4, §3.2.6; RFC 8474 OBJECTID; RFC 8514 SAVEDATE; RFC 8970
PREVIEW; RFC 9394 PARTIAL).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from mailserver.imap.commands.parts import Partial, partial
from mailserver.imap.responses import astring
from mailserver.imap.sequence import SequenceSet
from mailserver.imap.syntax import Fault, Reader

ITEM_LIMIT = 256
PART_DEPTH = 100

_NAME = re.compile(rb"[A-Za-z0-9.]+")
_BINARY = (b"BINARY", b"BINARY.PEEK", b"BINARY.SIZE")
_LAZY = re.compile(rb" \(LAZY(?: LAZY)*\)", re.IGNORECASE)
_SECTION_PART = re.compile(rb"[1-9]\d{0,9}(?:\.[1-9]\d{0,9})*")
_SECTION_TEXT = re.compile(rb"[A-Za-z.]+")


class Attribute(Enum):
    """Data items without arguments, but for `PREVIEW_IF_READY`, which is PREVIEW with the modifier LAZY."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    SAVEDATE = b"SAVEDATE"
    PREVIEW = b"PREVIEW"
    PREVIEW_IF_READY = b"PREVIEW (LAZY)"
    EMAILID = b"EMAILID"
    THREADID = b"THREADID"
    MODSEQ = b"MODSEQ"


class Text(Enum):
    """Which text of a part a section means. `ALL` is the whole: `BODY[]`, `BODY[1.2]`.

    `DECODED` and `DECODED_SIZE` are those of BINARY and BINARY.SIZE: the whole, its transfer encoding undone.
    """

    ALL = b""
    HEADER = b"HEADER"
    FIELDS = b"HEADER.FIELDS"
    FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"
    DECODED = b"(decoded)"
    DECODED_SIZE = b"(size)"


@dataclass(frozen=True, slots=True)
class Section:
    """`BODY[...]` and its old names, `BINARY[...]` and `BINARY.SIZE[...]`.

    `part` are the part numbers; `fields` the names of HEADER.FIELDS.

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
    """`items` without repetition, in the order asked for; with `by_uid` the UID is told as well, be it named or not.

    `partial`: only this part of the messages.

    `changed_since`: only those with a greater MODSEQ. `vanished`: those expunged since are told as well.
    """

    messages: SequenceSet
    by_uid: bool
    items: tuple[Item, ...]
    partial: Partial | None = None
    changed_since: int | None = None
    vanished: bool = False


def fetch(reader: Reader, *, by_uid: bool = False) -> Fetch:
    reader.space()
    messages = reader.sequence_set()
    reader.space()
    listed = reader.looking_at(b"(")
    items = reader.listed(lambda: _item(reader), "list of items") if listed else _macro_or_item(reader)
    modifiers: dict[bytes, int | Partial] = {}
    if reader.accept(b" "):
        modifiers = reader.modifiers(lambda: _modifier(reader))
    part, since, vanished = (modifiers.get(name) for name in (b"PARTIAL", b"CHANGEDSINCE", b"VANISHED"))
    if part is not None and not by_uid:
        raise Fault("PARTIAL goes with UID FETCH")
    if vanished is not None and not (by_uid and since is not None):
        raise Fault("VANISHED goes with CHANGEDSINCE and UID FETCH")
    if since is not None:
        items = (*items, Attribute.MODSEQ)
    items = tuple(dict.fromkeys(items))
    if len(items) > ITEM_LIMIT:
        raise Fault("too many items")
    return Fetch(
        messages,
        by_uid,
        items,
        part if isinstance(part, Partial) else None,
        since if isinstance(since, int) else None,
        vanished is not None,
    )


def fetch_items(reader: Reader) -> tuple[Item, ...]:
    r"""`"(" fetch-att *(SP fetch-att) ")"`: what is told of new messages unasked (RFC 5465). Nothing sets `\Seen`."""
    listed = reader.listed(lambda: _item(reader), "list of items", most=ITEM_LIMIT)
    return tuple(dict.fromkeys(replace(item, peek=True) if isinstance(item, Section) else item for item in listed))


def _modifier(reader: Reader) -> tuple[bytes, int | Partial]:
    name = reader.keyword("modifier")
    match name:
        case b"CHANGEDSINCE":
            reader.space()
            return name, reader.modseq()
        case b"PARTIAL":
            return name, partial(reader)
        case b"VANISHED":
            return name, 0
        case _:
            raise Fault("unknown modifier")


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
    if name in _BINARY and reader.accept(b"["):
        return _binary(reader, name)
    item = _ITEMS.get(name)
    if item is None:
        raise Fault("unknown item")
    if item is Attribute.PREVIEW and reader.optional(_LAZY):
        return Attribute.PREVIEW_IF_READY
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
    return _with_partial(reader, Section(_label(b"BODY", part, text, fields), part, text, fields, peek))


def section_of(spec: bytes) -> Section:
    """`section-spec` where it stands alone. Raises Fault."""
    reader = Reader(spec + b"]")
    section = _section(reader, peek=True)
    reader.end()
    return section


def _binary(reader: Reader, name: bytes) -> Section:
    """`section-binary` and `partial` of RFC 3516 §7."""
    numbers = reader.optional(_SECTION_PART)
    part = tuple(map(int, numbers[0].split(b"."))) if numbers is not None else ()
    reader.expect(b"]")
    if name == b"BINARY.SIZE":
        return Section(_label(name, part), part, Text.DECODED_SIZE, peek=True)
    return _with_partial(reader, Section(_label(b"BINARY", part), part, Text.DECODED, (), name == b"BINARY.PEEK"))


def _label(name: bytes, part: tuple[int, ...], text: Text = Text.ALL, fields: tuple[bytes, ...] = ()) -> bytes:
    if len(part) > PART_DEPTH:
        raise Fault("the section is too deep")
    return name + b"[" + section_spec(part, text, fields) + b"]"


def _with_partial(reader: Reader, section: Section) -> Section:
    if not reader.accept(b"<"):
        return section
    first = reader.number64()
    reader.expect(b".")
    count = reader.number64()
    if count == 0:
        raise Fault("the number must not be zero")
    partial = (first, count)
    reader.expect(b">")
    return replace(section, label=section.label + b"<%d>" % first, partial=partial)


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
