"""Durations and sizes as people write them: "5 min", "4 h", "50 MiB"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

SECONDS: Mapping[str, int] = {
    "s": 1,
    "sec": 1,
    "min": 60,
    "h": 3600,
    "hour": 3600,
    "hours": 3600,
    "day": 86400,
    "days": 86400,
}
OCTETS: Mapping[str, int] = {
    "B": 1,
    "KB": 10**3,
    "KiB": 2**10,
    "MB": 10**6,
    "MiB": 2**20,
    "GB": 10**9,
    "GiB": 2**30,
    "TB": 10**12,
    "TiB": 2**40,
}

# The units that `format_duration` and `format_size` write, the largest first.
_SHOWN_SECONDS = ("days", "h", "min")
_SHOWN_OCTETS = ("TiB", "GiB", "MiB", "KiB")

_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]+)")


def _parse(value: object, units: Mapping[str, int], what: str) -> float:
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match and match[2] in units:
        return float(match[1]) * units[match[2]]
    near = match and _near(match[2], units)
    hint = f'did you mean "{match[1]} {near}"? Write' if match and near else "write"
    raise ValueError(f'is not a {what}; {hint} "NUMBER UNIT" with one of the units {", ".join(units)}')


def _near(written: str, units: Iterable[str]) -> str | None:
    """The unit that was meant, when that is likely: "MIB", "m", "minutes"."""
    known = {unit.casefold(): unit for unit in units}
    begun = [unit for folded, unit in known.items() if folded.startswith(written.casefold())]
    close = difflib.get_close_matches(written.casefold(), known, n=1)
    return next(iter(begun or [known[folded] for folded in close]), None)


def parse_duration(value: object) -> float:
    """Seconds. Raises ValueError with the remedy."""
    return _parse(value, SECONDS, "duration")


def parse_size(value: object) -> int:
    """Octets. Raises ValueError with the remedy."""
    return int(_parse(value, OCTETS, "size"))


def format_duration(seconds: float) -> str:
    """In the largest unit that needs no fraction; `parse_duration` reads it back."""
    for unit in _SHOWN_SECONDS:
        if seconds >= SECONDS[unit] and seconds % SECONDS[unit] == 0:
            count = int(seconds) // SECONDS[unit]
            return f"{count} {'day' if unit == 'days' and count == 1 else unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + " s"


def format_size(octets: int) -> str:
    """In the largest binary unit that needs no fraction; `parse_size` reads it back."""
    for unit in _SHOWN_OCTETS:
        if octets >= OCTETS[unit] and octets % OCTETS[unit] == 0:
            return f"{octets // OCTETS[unit]} {unit}"
    return f"{octets} B"
