"""SEARCH (RFC 3501 §6.4.4, RFC 4731, RFC 5032, RFC 7162 §3.1.5, RFC 8474 §6; RFC 8514 SAVEDATE; RFC 9738 UIDAFTER and
UIDBEFORE; RFC 6203 FUZZY): its keys as a tree of values.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from mailserver.imap.commands.returns import Returns, returns
from mailserver.imap.sequence import LARGEST, SequenceSet
from mailserver.imap.syntax import SEQUENCE, Fault, Reader

NESTING = 50
KEY_LIMIT = 1000
FUZZY_LIMIT = 16
"""Texts that are not spelled exactly: for each, all different words of a mailbox are judged and remembered."""
Relation = Literal["before", "on", "since"]
CHARSETS = {b"US-ASCII": "ascii", b"UTF-8": "utf-8"}

_ENTRY_TYPES = (b"PRIV", b"SHARED", b"ALL")
_WORD = re.compile(rb"[A-Za-z]+")
_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}(?![A-Za-z0-9_-])")


@dataclass(frozen=True, slots=True)
class HasFlag:
    r"""A system flag, a keyword, or `\Recent`."""

    flag: str


@dataclass(frozen=True, slots=True)
class InSet:
    messages: SequenceSet
    by_uid: bool


@dataclass(frozen=True, slots=True)
class Dated:
    """`sent`: the Date field counts, not the internal date."""

    relation: Relation
    date: datetime.date
    sent: bool


@dataclass(frozen=True, slots=True)
class Aged:
    """By the internal date, `seconds` ago or longer (`older`), or not longer (RFC 5032)."""

    older: bool
    seconds: int


@dataclass(frozen=True, slots=True)
class Saved:
    """When the message came into the mailbox."""

    relation: Relation
    date: datetime.date


@dataclass(frozen=True, slots=True)
class Sized:
    """Larger or smaller than `size` octets."""

    larger: bool
    size: int


@dataclass(frozen=True, slots=True)
class InHeader:
    """A field `name` (lower case) whose decoded value has `text`; an empty text asks for the field alone."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class InText:
    """`text` in the body; with `header` in the header too."""

    text: str
    header: bool


@dataclass(frozen=True, slots=True)
class HasId:
    """EMAILID, or THREADID where `thread`."""

    id: str
    thread: bool


@dataclass(frozen=True, slots=True)
class Modified:
    """Of this MODSEQ or a greater one. Which flag was modified is not remembered, so the key does not tell."""

    modseq: int


@dataclass(frozen=True, slots=True)
class Not:
    key: Key


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """What is near to the key passes too (RFC 6203)."""

    key: Key


@dataclass(frozen=True, slots=True)
class Or:
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class And:
    """Of no keys: all messages."""

    keys: tuple[Key, ...]


Key = HasFlag | InSet | Dated | Saved | Aged | Sized | InHeader | InText | HasId | Modified | Not | Fuzzy | Or | And


def leaves(key: Key) -> Iterator[Key]:
    """The keys that are not made of others. As deep as the grammar lets it be."""
    match key:
        case Not(inner) | Fuzzy(inner):
            yield from leaves(inner)
        case And(keys) | Or(keys):
            for each in keys:
                yield from leaves(each)
        case _:
            yield key


def is_fuzzy(key: Key) -> bool:
    """There is something fuzzy in it, so that what is found can be rated."""
    match key:
        case Fuzzy():
            return True
        case Not(inner):
            return is_fuzzy(inner)
        case And(keys) | Or(keys):
            return any(map(is_fuzzy, keys))
        case _:
            return False


def names_by_number(leaf: Key) -> bool:
    """`$` stands for messages, not for numbers."""
    return isinstance(leaf, InSet) and not leaf.by_uid and not leaf.messages.saved


@dataclass(frozen=True, slots=True)
class Search:
    """`returns` None: the answer is SEARCH, not ESEARCH. `codec`: of the charset that was named, if one was."""

    key: Key
    by_uid: bool
    returns: Returns | None = None
    codec: str = ""


_RECENT = HasFlag("\\Recent")
_FIXED: dict[bytes, Key] = {
    b"ALL": And(()),
    b"SAVEDATESUPPORTED": And(()),
    b"RECENT": _RECENT,
    b"OLD": Not(_RECENT),
    b"NEW": And((_RECENT, Not(HasFlag("\\Seen")))),
}
for _flag in ("\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "\\Seen"):
    _FIXED[_flag[1:].upper().encode()] = HasFlag(_flag)
    _FIXED[b"UN" + _flag[1:].upper().encode()] = Not(HasFlag(_flag))


def search(reader: Reader, *, by_uid: bool = False) -> Search:
    wanted = returns(reader)
    key, codec = program(reader, wanted)
    return Search(key, by_uid, wanted, codec)


def program(reader: Reader, wanted: Returns | None) -> tuple[Key, str]:
    """` search-program`: the keys, and the codec of the charset of the texts, if it is told."""
    reader.space()
    codec = ""
    start = reader.position
    if (word := reader.optional(_WORD)) and word[0].upper() == b"CHARSET":
        reader.space()
        codec = charset(reader, wanted)
        reader.space()
    else:
        reader.position = start
    key = criteria(reader, codec or "utf-8")  # 8-bit text without CHARSET is taken when it is UTF-8
    if wanted is not None and wanted.rates:
        require_fuzzy(key)
    return key, codec


def require_fuzzy(key: Key) -> None:
    """Where relevancy is asked for (RFC 6203 §4)."""
    if not is_fuzzy(key):
        raise Fault("RELEVANCY goes with FUZZY")


def charset(reader: Reader, returns: Returns | None = None) -> str:
    """The codec for a charset's name. Raises Fault with BADCHARSET."""
    name = reader.astring().upper()
    if name not in CHARSETS:
        loses = returns is not None and returns.saves
        code = "BADCHARSET (US-ASCII UTF-8)"
        raise Fault("the charset is not known", status="NO", code=code, loses_saved=loses)
    return CHARSETS[name]


def criteria(reader: Reader, codec: str) -> Key:
    """`search-key *(SP search-key)`, with texts of a codec."""
    return _Keys(reader, codec).conjunction(0)


class _Keys:
    """Reads keys and their arguments; counts them, and those that are costly."""

    def __init__(self, reader: Reader, charset: str) -> None:
        self._reader = reader
        self._charset = charset
        self._count = 0
        self._near = False  # within FUZZY
        self._near_count = 0

    def conjunction(self, depth: int) -> Key:
        keys = [self._key(depth)]
        while self._reader.accept(b" "):
            keys.append(self._key(depth))
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def _key(self, depth: int) -> Key:
        reader = self._reader
        self._count += 1
        if depth > NESTING or self._count > KEY_LIMIT:
            raise Fault("the search is too complex")
        if reader.accept(b"("):
            key = self.conjunction(depth + 1)
            reader.expect(b")")
            return key
        if (numbers := reader.optional(SEQUENCE)) is not None:
            return InSet(reader.parse_sequence_set(numbers[0]), by_uid=False)
        name = reader.match(_WORD, "search key")[0].upper()
        if name in _FIXED:
            return _FIXED[name]
        if name in (b"NOT", b"FUZZY"):
            reader.space()
            if name == b"NOT":
                return Not(self._key(depth + 1))
            outer, self._near = self._near, True
            inner = self._key(depth + 1)
            self._near = outer
            return Fuzzy(inner)
        if name == b"OR":
            reader.space()
            first = self._key(depth + 1)
            reader.space()
            return Or((first, self._key(depth + 1)))
        argument = _WITH_ARGUMENT.get(name)
        if argument is None:
            raise Fault("unknown search key")
        reader.space()
        key = argument(self)
        if self._near and isinstance(key, InHeader | InText):
            self._near_count += 1
            if self._near_count > FUZZY_LIMIT:
                raise Fault("the search is too complex")
        return key

    def text(self) -> str:
        try:
            return self._reader.astring().decode(self._charset)
        except UnicodeDecodeError:
            raise Fault("the text is not of the charset") from None

    def header(self) -> Key:
        name = self.text()
        self._reader.space()
        return InHeader(name.lower(), self.text())

    def keyword(self) -> Key:
        return HasFlag(self._reader.atom("keyword").decode())

    def dated(self, relation: Relation, *, sent: bool) -> Key:
        return Dated(relation, self._reader.date(), sent)

    def aged(self, *, older: bool) -> Key:
        return Aged(older, self._reader.positive())

    def saved(self, relation: Relation) -> Key:
        return Saved(relation, self._reader.date())

    def sized(self, *, larger: bool) -> Key:
        return Sized(larger, self._reader.number64())

    def object_id(self, *, thread: bool) -> Key:
        return HasId(self._reader.match(_OBJECT_ID, "object identifier")[0].decode(), thread)

    def modified(self) -> Key:
        if self._reader.looking_at(b'"'):
            if not self._reader.string().lower().startswith(b"/flags/"):
                raise Fault("unknown metadata entry")
            self._reader.space()
            if self._reader.keyword("type of entry") not in _ENTRY_TYPES:
                raise Fault("unknown type of entry")
            self._reader.space()
        return Modified(self._reader.modseq(zero=True))

    def beyond(self, *, above: bool) -> Key:
        """UIDs that are greater, or smaller (RFC 9738 §3.2). Unlike `*`, none where there is no such message."""
        uid = self._reader.positive()
        first, last = (uid + 1, LARGEST) if above else (1, uid - 1)
        return InSet(SequenceSet(((first, last),) if first <= last else ()), by_uid=True)

    def uids(self) -> Key:
        return InSet(self._reader.sequence_set(), by_uid=True)


_WITH_ARGUMENT: dict[bytes, Callable[[_Keys], Key]] = {
    b"BCC": lambda keys: InHeader("bcc", keys.text()),
    b"CC": lambda keys: InHeader("cc", keys.text()),
    b"FROM": lambda keys: InHeader("from", keys.text()),
    b"SUBJECT": lambda keys: InHeader("subject", keys.text()),
    b"TO": lambda keys: InHeader("to", keys.text()),
    b"HEADER": _Keys.header,
    b"BODY": lambda keys: InText(keys.text(), header=False),
    b"TEXT": lambda keys: InText(keys.text(), header=True),
    b"KEYWORD": _Keys.keyword,
    b"UNKEYWORD": lambda keys: Not(keys.keyword()),
    b"BEFORE": lambda keys: keys.dated("before", sent=False),
    b"ON": lambda keys: keys.dated("on", sent=False),
    b"SINCE": lambda keys: keys.dated("since", sent=False),
    b"SENTBEFORE": lambda keys: keys.dated("before", sent=True),
    b"SENTON": lambda keys: keys.dated("on", sent=True),
    b"SENTSINCE": lambda keys: keys.dated("since", sent=True),
    b"OLDER": lambda keys: keys.aged(older=True),
    b"YOUNGER": lambda keys: keys.aged(older=False),
    b"SAVEDBEFORE": lambda keys: keys.saved("before"),
    b"SAVEDON": lambda keys: keys.saved("on"),
    b"SAVEDSINCE": lambda keys: keys.saved("since"),
    b"LARGER": lambda keys: keys.sized(larger=True),
    b"SMALLER": lambda keys: keys.sized(larger=False),
    b"MODSEQ": _Keys.modified,
    b"UID": _Keys.uids,
    b"UIDAFTER": lambda keys: keys.beyond(above=True),
    b"UIDBEFORE": lambda keys: keys.beyond(above=False),
    b"EMAILID": lambda keys: keys.object_id(thread=False),
    b"THREADID": lambda keys: keys.object_id(thread=True),
}
