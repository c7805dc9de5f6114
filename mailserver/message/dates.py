"""The Date field as a moment (RFC 5322 §3.3 and §4.3, RFC 5256 §2.2).

Promises   Never raises, and looks at the first `DATE_LIMIT` octets. A zone that is missing or unknown counts as UTC, a
           time that is missing or impossible as midnight. Also understood: what C's `asctime`, ISO 8601, and mailers
           with a loose grasp of the standard write.
On failure None where there is no day in it.
"""

from __future__ import annotations

import re
from datetime import date

from mailserver.message.header import unfold
from mailserver.message.parameters import without_comments

DATE_LIMIT = 200

_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), 1
    )
}
# Hours east of Greenwich (RFC 5322 §4.3); the letters of the military tell nothing certain, and count as UTC.
_ZONES = {b"EDT": -4, b"EST": -5, b"CDT": -5, b"CST": -6, b"MDT": -6, b"MST": -7, b"PDT": -7, b"PST": -8}
_ZONES |= {b"CET": 1, b"CEST": 2, b"MET": 1, b"MEST": 2, b"BST": 1, b"JST": 9}  # which many write nevertheless

_USUAL = re.compile(
    rb"(?:[A-Za-z]{3}, ?)?(\d\d?) ([A-Za-z]{3}) (\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)(?: ?\([^()\\]*\))?"
)
_DAYS = (
    re.compile(rb"(?<!\d)(?P<day>\d{1,2})[ \t.-]*(?P<month>[A-Za-z]{3})[A-Za-z]*+[ \t.,-]*(?P<year>\d{2,4})(?![\d:])"),
    re.compile(
        rb"(?P<month>[A-Za-z]{3})[A-Za-z]*+[ \t.]*(?P<day>\d{1,2})(?![\d:])[^\n]*?[ \t,](?P<year>\d{4})(?![\d:])"
    ),
    re.compile(rb"(?<!\d)(?P<year>\d{4})[-/](?P<month>\d{1,2})[-/](?P<day>\d{1,2})(?!\d)"),
)
_TIME = re.compile(rb"(?<![\d:+-])(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2}))?(?:[.,]\d+)?[ \t]*+([AaPp][Mm])?")
_ZONE = re.compile(rb"([+-])[ \t]*+(\d{2}):?+(\d{2})(?!\d)|\b([A-Za-z]{3,4})\b(?!-)")


def sent_date(value: bytes) -> int | None:
    """Seconds since the epoch (below zero before 1970), of the raw value of a Date field."""
    found = _day_and_time(value)
    return sum(found) if found is not None else None


def sent_day(value: bytes) -> int | None:
    """As `sent_date`, the midnight of the day as it stands there: neither time nor zone counts."""
    found = _day_and_time(value)
    return found[0] if found is not None else None


def _day_and_time(value: bytes) -> tuple[int, int] | None:
    """The seconds up to the day's midnight, and from there to the moment, which may be before it."""
    value = unfold(value[:DATE_LIMIT])
    usual = _USUAL.fullmatch(value)
    if usual is not None:
        day, month, year, hour, minute, second, sign, east_hours, east_minutes = usual.groups()
        days = _days(int(year), _MONTHS.get(month.lower(), 0), int(day))
        if days is None:
            return None
        return days, _seconds(hour, minute, second) - _offset(sign, east_hours, east_minutes)
    return _unusual(without_comments(value))


def _unusual(value: bytes) -> tuple[int, int] | None:
    days = None
    for form in _DAYS:
        for match in form.finditer(value):
            month = match["month"].lower()
            number = int(month) if month.isdigit() else _MONTHS.get(month, 0)
            days = _days(_full_year(match["year"]), number, int(match["day"]))
            if days is not None:
                break
        if days is not None:
            break
    if days is None:
        return None
    time = _TIME.search(value)
    if time is None:
        return days, 0
    hour, minute, second, half = time.groups()
    if half and 1 <= int(hour) <= 12:
        hour = b"%d" % (int(hour) % 12 + (12 if half in (b"PM", b"pm", b"Pm", b"pM") else 0))
    return days, _seconds(hour, minute, second) - _zone(value[time.end() :])


def _full_year(digits: bytes) -> int:
    """RFC 5322 §4.3."""
    year = int(digits)
    if len(digits) == 4:
        return year
    return year + (2000 if len(digits) == 2 and year < 50 else 1900)


def _days(year: int, month: int, day: int) -> int | None:
    """The seconds up to a day's midnight."""
    try:
        return (date(year, month, day).toordinal() - 719_163) * 86_400
    except ValueError:
        return None


def _seconds(hour: bytes, minute: bytes, second: bytes | None) -> int:
    """Within the day; an impossible time is midnight."""
    hours, minutes, seconds = int(hour), int(minute), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 60:  # a leap second is the one before
        return 0
    return hours * 3600 + minutes * 60 + min(seconds, 59)


def _offset(sign: bytes, hours: bytes, minutes: bytes) -> int:
    if int(minutes) > 59:
        return 0
    seconds = int(hours) * 3600 + int(minutes) * 60
    return -seconds if sign == b"-" else seconds


def _zone(rest: bytes) -> int:
    """Seconds east of Greenwich, from what follows the time."""
    for sign, hours, minutes, name in _ZONE.findall(rest):
        if sign:
            return _offset(sign, hours, minutes)
        if name.upper() in _ZONES:
            return _ZONES[name.upper()] * 3600
    return 0
