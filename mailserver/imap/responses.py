"""How values are written in responses (RFC 3501 §9).

Promises   What these functions give never breaks out of the response it stands in: text that a quoted string cannot
           carry becomes a literal; control characters never reach a response's text.
On failure Nothing here fails.
"""

from __future__ import annotations

import datetime
import re
from functools import lru_cache

from mailserver.mail import utf7

_ASTRING = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]{0,1024}")
_QUOTABLE_UTF8 = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\xff]{0,1024}")
_SPECIAL = re.compile(rb'(["\\])')
_NOT_TEXT = re.compile(r"[^\x20-\x7e]")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SYSTEM_FLAGS = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")
_FIRST_DATE, _LAST_DATE = -62135596800, 253402300799  # years 1 to 9999: `date-year` has four digits
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_MINUTES = tuple(b"%02d:%02d:" % divmod(minute, 60) for minute in range(24 * 60))
_SECONDS = tuple(b"%02d " % second for second in range(60))


def string(value: bytes, *, utf8: bool = False) -> bytes:
    """`utf8`: the value is UTF-8, and a client reads it that may be told it in quotes."""
    if (_QUOTABLE_UTF8 if utf8 else _QUOTABLE).fullmatch(value):
        return b'"' + _SPECIAL.sub(rb"\\\1", value) + b'"'
    return literal(value)


def nstring(value: bytes | None) -> bytes:
    return b"NIL" if value is None else string(value)


def literal(value: bytes) -> bytes:
    return b"{%d}\r\n" % len(value) + value


def astring(value: bytes) -> bytes:
    return value if _ASTRING.fullmatch(value) else string(value)


def mailbox(name: str, *, utf8: bool = False) -> bytes:
    """Always quoted, as most servers do: clients trip over less. In modified UTF-7 or in UTF-8."""
    return string(name.encode(errors="replace"), utf8=True) if utf8 else string(utf7.encode(name).encode("ascii"))


@lru_cache(maxsize=512)  # there are few different ones; one may have 200 long keywords
def flag_list(flags: frozenset[str], recent: bool = False) -> bytes:
    r"""System flags first, then keywords in order, then `\Recent`."""
    listed = [flag for flag in SYSTEM_FLAGS if flag in flags]
    listed += sorted(flags.difference(SYSTEM_FLAGS))
    if recent:
        listed.append("\\Recent")
    return ("(" + " ".join(listed) + ")").encode("ascii", errors="replace")


def date_time(seconds: float, zone: int = 0) -> bytes:
    """`date-time` with its quotes: `"17-Jul-1996 02:44:25 +0000"`. `zone` is minutes east of Greenwich.

    Put together from pieces: many are sent.
    """
    seconds += zone * 60
    if not _FIRST_DATE <= seconds <= _LAST_DATE:
        seconds = _FIRST_DATE if seconds < _FIRST_DATE else _LAST_DATE
    days, second = divmod(int(seconds), 86400)
    return _date(days) + _MINUTES[second // 60] + _SECONDS[second % 60] + _zone(zone)


@lru_cache(maxsize=4096)
def _zone(minutes: int) -> bytes:
    return b'%c%02d%02d"' % (b"+-"[minutes < 0], *divmod(abs(minutes), 60))


@lru_cache(maxsize=4096)
def _date(days: int) -> bytes:
    """`date` of so many days since the epoch, and what stands around it."""
    date = datetime.date.fromordinal(_EPOCH + days)
    return f'"{date.day:2d}-{_MONTHS[date.month - 1]}-{date.year:04d} '.encode()


def status_line(tag: str, status: str, text: str, code: str | None) -> bytes:
    """`tag SP resp-cond-state`. `tag` is `*` for an untagged one."""
    bracketed = f"[{_NOT_TEXT.sub('?', code)}] " if code else ""
    return f"{tag} {status} {bracketed}{_NOT_TEXT.sub('?', text) or status}\r\n".encode()
