"""The common grammar of IMAP commands (RFC 3501 §9), read from one whole command.

A command lies in memory in its wire form, literals included: `a LOGIN {3}\\r\\nbob secret`. The receiver has seen to it
that a line end stands only behind the announcement of a literal that is all there, or inside one.

Promises   A `Reader` goes through the octets once; nothing here recurses; numbers are bounded before they are made.
On failure `Fault`, which carries the answer that the client deserves.
"""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from mailserver.imap.patterns import SEPARATOR, exchanged, with_inbox
from mailserver.imap.sequence import LARGEST, SequenceSet
from mailserver.mail import utf7

T = TypeVar("T")

NAME_LIMIT = 1024
"""Octets of a mailbox name on the wire."""
KEYWORD_LIMIT = 128
MODSEQ_LIMIT = 2**63 - 1
LARGEST_64 = 2**63 - 1
LIST_LIMIT = 1000
"""Elements of one parenthesised list."""

SYSTEM_FLAGS = {f"\\{name.lower()}": f"\\{name}" for name in ("Answered", "Flagged", "Deleted", "Seen", "Draft")}

_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_LIST_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){"\\]+')
_QUOTED = re.compile(rb'"((?:[^\x00\r\n"\\]|\\["\\])*)"')
_QUOTED_PAIR = re.compile(rb'\\(["\\])')
_LITERAL = re.compile(rb"\{(\d{1,10})\+?\}\r?\n")
_NUMBER = re.compile(rb"\d{1,10}")
_NUMBER64 = re.compile(rb"\d{1,19}")
_MODSEQ = re.compile(rb"\d{1,19}")
SEQUENCE = re.compile(rb"[\d*:,]+|\$")
_FLAG = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_DATE = re.compile(rb'("?)(\d{1,2})-([A-Za-z]{3})-(\d{4})\1')
_DATE_TIME = re.compile(rb'"([ \d]\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"')
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Fault(Exception):
    """The command cannot be taken. `status` is BAD, or NO where the grammar is right and the value is not.

    `loses_saved`: what a search has saved is forgotten by that (RFC 5182).
    """

    def __init__(self, text: str, *, status: str = "BAD", code: str | None = None, loses_saved: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.code = code
        self.loses_saved = loses_saved


class Name(str):
    """A mailbox's name, decoded. `written`: how the client spelled it, where that differs."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, name: str, written: str = "") -> Name:
        made = super().__new__(cls, name)
        made.written = "" if written == name else written
        return made


class DateTime(NamedTuple):
    """A moment, seconds since the epoch, and the zone that it was told in, minutes east of Greenwich."""

    seconds: float
    zone: int


class Reader:
    """A cursor over one command. `separator` is what the client writes between the parts of a mailbox name.

    `utf8`: the client has said that it writes strings and mailbox names in UTF-8 (RFC 6855, RFC 9051).
    """

    __slots__ = ("_data", "_separator", "_utf8", "position")

    def __init__(self, data: bytes, position: int = 0, separator: str = SEPARATOR, *, utf8: bool = False) -> None:
        self._data = data
        self._separator = separator
        self._utf8 = utf8
        self.position = position

    @property
    def at_end(self) -> bool:
        return self.position >= len(self._data)

    @property
    def left(self) -> int:
        """Octets not read yet."""
        return len(self._data) - self.position

    def end(self) -> None:
        if not self.at_end:
            raise Fault("unexpected text after the command")

    def accept(self, octets: bytes) -> bool:
        """Takes `octets` when they come next."""
        if self._data.startswith(octets, self.position):
            self.position += len(octets)
            return True
        return False

    def expect(self, octets: bytes) -> None:
        if not self.accept(octets):
            raise Fault(f"{octets.decode()!r} expected" if octets != b" " else "space expected")

    def space(self) -> None:
        self.expect(b" ")

    def looking_at(self, octets: bytes) -> bool:
        return self._data.startswith(octets, self.position)

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        match = pattern.match(self._data, self.position)
        if match is None:
            raise Fault(f"{what} expected")
        self.position = match.end()
        return match

    def optional(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        match = pattern.match(self._data, self.position)
        if match is not None:
            self.position = match.end()
        return match

    # words

    def atom(self, what: str = "atom") -> bytes:
        return self.match(_ATOM, what)[0]

    def keyword(self, what: str) -> bytes:
        """An atom that is compared without regard to case: given in upper case."""
        return self.atom(what).upper()

    def keyword_or_empty(self) -> bytes:
        """As `keyword`; nothing where no atom comes next."""
        match = self.optional(_ATOM)
        return match[0].upper() if match is not None else b""

    def number(self) -> int:
        number = int(self.match(_NUMBER, "number")[0])
        if number > LARGEST:
            raise Fault("number out of range")
        return number

    def number64(self) -> int:
        """`number64` (RFC 9051 §9): of 63 bits."""
        number = int(self.match(_NUMBER64, "number")[0])
        if number > LARGEST_64:
            raise Fault("number out of range")
        return number

    def positive(self) -> int:
        number = self.number()
        if number == 0:
            raise Fault("the number must not be zero")
        return number

    def modseq(self, *, zero: bool = False) -> int:
        """`mod-sequence-value` (RFC 7162 §7), or `mod-sequence-valzer`."""
        number = int(self.match(_MODSEQ, "mod-sequence")[0])
        if number > MODSEQ_LIMIT or not (number or zero):
            raise Fault("mod-sequence out of range")
        return number

    def string(self) -> bytes:
        """`quoted / literal`. NUL is in neither. 8-bit octets in a quoted string must be UTF-8 once that was enabled
        (RFC 6855 §3); before, they are let through.
        """
        if self.looking_at(b"{"):
            value = self._literal()
            if 0 in value:
                raise Fault("a string must not have NUL")
            return value
        quoted = self.match(_QUOTED, "string")[1]
        if self._utf8 and not quoted.isascii():
            try:
                quoted.decode()
            except UnicodeDecodeError:
                raise Fault("the string is not UTF-8") from None
        return _QUOTED_PAIR.sub(rb"\1", quoted) if b"\\" in quoted else quoted

    def _literal(self) -> bytes:
        size = int(self.match(_LITERAL, "literal")[1])
        start = self.position
        self.position = start + size
        value = self._data[start : self.position]
        if len(value) < size:
            raise Fault("literal expected")
        return value

    def nstring8(self) -> bytes | None:
        """`nstring / literal8`: only the last may have NUL (RFC 4466 §6)."""
        return self._literal() if self.accept(b"~") else self.nstring()

    def astring(self) -> bytes:
        return (
            self.string() if self.looking_at(b'"') or self.looking_at(b"{") else self.match(_ASTRING_ATOM, "string")[0]
        )

    def nstring(self) -> bytes | None:
        if self._data[self.position : self.position + 3].upper() == b"NIL":
            self.position += 3
            return None
        return self.string()

    def listed(
        self, element: Callable[[], T], what: str = "list", *, empty: bool = False, most: int = LIST_LIMIT
    ) -> tuple[T, ...]:
        """`"(" element *(SP element) ")"`."""
        self.expect(b"(")
        if empty and self.accept(b")"):
            return ()
        elements = [element()]
        while not self.accept(b")"):
            self.space()
            elements.append(element())
            if len(elements) > most:
                raise Fault(f"the {what} is too long")
        return tuple(elements)

    def modifiers(self, element: Callable[[], tuple[bytes, T]]) -> dict[bytes, T]:
        """A list of names, each with what it has as its value, and none twice (RFC 4466 §2.1)."""
        listed = self.listed(element, "list of modifiers")
        found = dict(listed)
        if len(found) < len(listed):
            raise Fault("a modifier comes twice")
        return found

    # values of the field

    def mailbox(self) -> Name:
        """A mailbox name, decoded; INBOX in upper case (RFC 3501 §5.1)."""
        name = self._mailbox_text(self.astring())
        return Name(with_inbox(name), name)

    def pattern(self) -> str:
        """`list-mailbox`: a mailbox name with wildcards."""
        if self.looking_at(b'"') or self.looking_at(b"{"):
            return self._mailbox_text(self.string())
        return self._mailbox_text(self.match(_LIST_ATOM, "mailbox pattern")[0])

    def _mailbox_text(self, wire: bytes) -> str:
        if len(wire) > NAME_LIMIT:
            raise Fault("the mailbox name is too long", status="NO", code="CANNOT")
        try:
            # RFC 6855 §3: UTF-8 is understood at any time; where it is not enabled, ASCII is modified UTF-7
            name = wire.decode() if self._utf8 or not wire.isascii() else utf7.decode(wire.decode())
        except ValueError:
            form = "modified UTF-7" if wire.isascii() else "UTF-8"
            raise Fault(f"the mailbox name is not {form}", status="NO", code="CANNOT") from None
        if _CONTROL.search(name):
            raise Fault("the mailbox name has a control character", status="NO", code="CANNOT")
        return exchanged(name, self._separator)

    def sequence_set(self) -> SequenceSet:
        return self.parse_sequence_set(self.match(SEQUENCE, "sequence set")[0])

    @staticmethod
    def parse_sequence_set(text: bytes) -> SequenceSet:
        try:
            return SequenceSet.parse(text.decode())
        except ValueError as error:
            raise Fault(str(error)) from None

    def flag(self) -> str:
        r"""A system flag in its canonical spelling, or a keyword. `\Recent` cannot be set by a client."""
        text = self.match(_FLAG, "flag")[0].decode()
        if text.startswith("\\"):
            canonical = SYSTEM_FLAGS.get(text.lower())
            if canonical is None:
                raise Fault("no such system flag, or not one to be set")
            return canonical
        if len(text) > KEYWORD_LIMIT:
            raise Fault("the keyword is too long", status="NO", code="LIMIT")
        return text

    def flag_list(self) -> frozenset[str]:
        return frozenset(self.listed(self.flag, "flag list", empty=True))

    def date(self) -> datetime.date:
        """`date`, quoted or not."""
        _, day, month, year = self.match(_DATE, "date").groups()
        return _date(day, month, year)

    def date_time(self) -> DateTime:
        """`date-time`."""
        match = self.match(_DATE_TIME, "date and time")
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
        date = _date(day.strip(), month, year)
        if int(hour) > 23 or int(minute) > 59 or int(second) > 60 or int(zone_minutes) > 59:
            raise Fault("the time is out of range")
        zone = (int(zone_hours) * 60 + int(zone_minutes)) * (-1 if sign == b"-" else 1)
        local = calendar.timegm((date.year, date.month, date.day, int(hour), int(minute), int(second)))
        return DateTime(float(local - zone * 60), zone)


def _date(day: bytes, month: bytes, year: bytes) -> datetime.date:
    try:
        return datetime.date(int(year), _MONTHS.index(month.decode().lower()) + 1, int(day))
    except ValueError:
        raise Fault("there is no such date") from None
