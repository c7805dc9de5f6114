"""APPEND and REPLACE (RFC 3501 §6.3.11, RFC 3502, RFC 3516, RFC 6855 §4; RFC 4469 CATENATE; RFC 8508).

Their message literals are not read here: they pass by the grammar. What stands before the first of them, between two,
and behind the last is a stretch. Literals that are only the value of a word (a mailbox's name, a URL) are part of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mailserver.imap.commands.urlauth import text_of
from mailserver.imap.sequence import SequenceSet
from mailserver.imap.syntax import Fault, Reader

_UTF8 = re.compile(rb"UTF8 \((?=~)", re.IGNORECASE)
_NUMBER = re.compile(rb"[1-9]\d{0,9}|\*")
_CATENATE = re.compile(rb"CATENATE \(", re.IGNORECASE)
_URL_LITERAL = re.compile(rb"[( ]URL \{\d{1,20}\+?\}\r?\n\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Append:
    """One message of an APPEND.

    `internal_date` in seconds since the epoch; None: now. It was told in `zone`, minutes east of Greenwich.
    `size` in octets, of its literal, which follows; None: it is put together of parts, which follow (CATENATE).
    `binary`: it comes as `literal8`.
    `replaced`: the one message that goes when this one is there (REPLACE), by its number or, with `by_uid`, its UID.
    """

    mailbox: str
    flags: frozenset[str]
    internal_date: float | None
    size: int | None
    binary: bool = False
    replaced: SequenceSet | None = None
    by_uid: bool = False
    zone: int = 0


@dataclass(frozen=True, slots=True)
class CatPart:
    """What a URL points at, or, without one, the literal of `size` octets that follows."""

    size: int = 0
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Messages and parts of them, in order. `inside`: the last message has not all its parts yet.

    `bracketed`: the literal that follows is that of `UTF8 (literal8)`, so a bracket follows it.
    """

    steps: tuple[Append | CatPart, ...]
    inside: bool = False
    bracketed: bool = False


def append_head(reader: Reader, size: int | None) -> Stretch | None:
    """The first stretch. `size`: a literal of so many octets follows; None: it is the whole command.

    None: it is no message that comes in the literal, but the mailbox's name or a URL.
    """
    reader.space()
    if size is not None and reader.at_end:
        return None
    return _messages(reader, reader.mailbox(), size)


def replace_head(reader: Reader, size: int | None, *, by_uid: bool = False) -> Stretch | None:
    """As `append_head`."""
    reader.space()
    replaced = reader.parse_sequence_set(reader.match(_NUMBER, "number")[0])
    head = append_head(reader, size)
    if head is None:
        return None
    first, *rest = head.steps
    assert isinstance(first, Append)
    if any(isinstance(step, Append) for step in rest):
        raise Fault("REPLACE takes one message")
    return replace(head, steps=(replace(first, replaced=replaced, by_uid=by_uid), *rest))


def append_onward(reader: Reader, command: Append, before: Stretch, size: int | None) -> Stretch:
    """The stretch behind the message literal that ended `before`; `command` is its message.

    As `append_head` but for the literals of URLs.

    Those are known by `ends_in_url` before, so that what is read already is not read again for each of them.
    """
    steps: list[Append | CatPart] = []
    if before.bracketed:
        reader.expect(b")")
    if before.inside and not reader.accept(b")"):
        reader.space()
        parts = _parts(reader, steps, size)
        assert parts is not None, "such literals are known before"
        if parts.inside:
            return parts
    if size is None and reader.at_end:
        return Stretch(tuple(steps))
    if command.replaced is not None:
        raise Fault("unexpected text after the message")
    if reader.looking_at(b"  "):
        reader.space()  # imapclient puts two between messages
    following = _messages(reader, command.mailbox, size)
    assert following is not None
    return replace(following, steps=(*steps, *following.steps))


def ends_in_url(line: bytes) -> bool:
    """The line ends in the literal of a URL, if its command is right at all."""
    return _URL_LITERAL.search(line) is not None


def append_whole(reader: Reader) -> Stretch:
    """An APPEND without a message literal."""
    return _whole(append_head(reader, None))


def replace_whole(reader: Reader, *, by_uid: bool = False) -> Stretch:
    """As `append_whole`."""
    return _whole(replace_head(reader, None, by_uid=by_uid))


def _whole(stretch: Stretch | None) -> Stretch:
    assert stretch is not None, "no literal follows"
    return stretch


def _messages(reader: Reader, mailbox: str, size: int | None) -> Stretch | None:
    """`append-message` of RFC 3502, and further ones."""
    steps: list[Append | CatPart] = []
    while True:
        reader.space()
        flags: frozenset[str] = frozenset()
        internal_date, zone = None, 0
        if reader.looking_at(b"("):
            flags = reader.flag_list()
            reader.space()
        if reader.looking_at(b'"'):
            internal_date, zone = reader.date_time()
            reader.space()
        if not reader.optional(_CATENATE):
            if size is None:
                raise Fault("message literal expected")
            bracketed = reader.optional(_UTF8) is not None
            steps.append(Append(mailbox, flags, internal_date, size, binary=reader.accept(b"~"), zone=zone))
            return Stretch(tuple(steps), bracketed=bracketed)
        steps.append(Append(mailbox, flags, internal_date, None, zone=zone))
        parts = _parts(reader, steps, size)
        if parts is None or parts.inside or (size is None and reader.at_end):
            return parts


def _parts(reader: Reader, steps: list[Append | CatPart], size: int | None) -> Stretch | None:
    """`cat-part`s up to the literal of one, or to their end, added to `steps`. None: the literal is a URL's."""
    while True:
        if reader.optional(_UTF8):
            reader.expect(b"~")
            return _literal(reader, steps, size, bracketed=True)
        word = reader.keyword("URL or TEXT")
        reader.space()
        if word == b"TEXT":
            return _literal(reader, steps, size, bracketed=False)
        if word != b"URL":
            raise Fault("URL or TEXT expected")
        if size is not None and reader.at_end:
            return None
        steps.append(CatPart(url=text_of(reader.astring())))
        if reader.accept(b")"):
            return Stretch(tuple(steps))
        reader.space()


def _literal(reader: Reader, steps: list[Append | CatPart], size: int | None, *, bracketed: bool) -> Stretch:
    """Of a `cat-part`."""
    if size is None or not reader.at_end:
        raise Fault("literal expected")
    steps.append(CatPart(size))
    return Stretch(tuple(steps), inside=True, bracketed=bracketed)
