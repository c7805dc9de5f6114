"""Durations and sizes as people write them: "5 min", "4 h", "50 MiB"."""

from __future__ import annotations

import re

SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "hours": 3600, "day": 86400, "days": 86400}
OCTETS = {"B": 1, "KB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def _parse(value: object, units: dict[str, int], what: str) -> float:
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())) and match[2] in units:
        return float(match[1]) * units[match[2]]
    raise ValueError(f'write a {what} as "NUMBER UNIT" with one of the units {", ".join(units)}')


def parse_duration(value: object) -> float:
    """Seconds. Raises ValueError with the remedy."""
    return _parse(value, SECONDS, "duration")


def parse_size(value: object) -> int:
    """Octets. Raises ValueError with the remedy."""
    return int(_parse(value, OCTETS, "size"))
