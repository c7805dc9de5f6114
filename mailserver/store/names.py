"""Names of message files: `secs.M<usec>P<pid>Q<n>.host,S=<size>,W=<crlf size>,U=<uid>:2,FLAGS`.

The internal date is the file's modification time. The zone in which a client told it stands behind the sizes, as
`Z=+0530`; where it does not, that is UTC.

Sizes that another program's name lacked stand behind the UID, so that the name that it had is known for ever: to some
POP3 clients a message is known by it.

Promises   `unique` never gives the same name twice, in no process of this host. Names made by other programs are
           understood as far as they say something, and never fail to parse.
Layout     maildir(5); `S=` and `W=` as in Maildir++ and Dovecot, `U=` as in isync; `Z=` is ours.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from dataclasses import dataclass
from functools import lru_cache

UID_LIMIT = 2**32 - 1  # RFC 9051 §9: nz-number

_PLAIN = re.compile(r"[!-.0-~][!-.0-~]*")
# What names without a UID of ours nearly all are: a base with nothing behind it but sizes, and flags.
_USUAL = re.compile(r"[^,:]*+(?:,S=([0-9]{1,18}))?+(?:,W=([0-9]{1,18}))?+(?::2,([^,:]*+))?+")
_UID = re.compile(r",U=([1-9][0-9]{0,9})(?=,|$)")
_SIZE = re.compile(r",S=([0-9]{1,18})(?=,|$)")
_WIRE_SIZE = re.compile(r",W=([0-9]{1,18})(?=,|$)")
_ZONE = re.compile(r",Z=([+-])([0-9]{2})([0-5][0-9])(?=,|$)")
_SECONDS = re.compile(r"[0-9]{1,12}(?=\.)")
_NOT_IN_HOST = re.compile(r"[^A-Za-z0-9.-]")

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class FileName:
    """`base` has neither the UID nor the flags. Sizes are None where the name does not tell."""

    base: str
    uid: int | None
    size: int | None
    wire_size: int | None
    letters: str

    @property
    def arrival(self) -> tuple[int, str]:
        """Sorts names by the moment of delivery as far as they tell it."""
        return (seconds_of(self.base) or 0, self.base)


def unique(host: str) -> str:
    """A new base name, without sizes."""
    now = time.time_ns()
    return f"{now // 10**9}.M{now % 10**9 // 1000:06d}P{os.getpid()}Q{next(_numbers)}.{_safe(host)}"


@lru_cache(maxsize=16)
def _safe(host: str) -> str:
    return _NOT_IN_HOST.sub("_", host)[:64]


def with_sizes(base: str, size: int, wire_size: int) -> str:
    """The base name with these sizes in place of those it tells."""
    return f"{_WIRE_SIZE.sub('', _SIZE.sub('', base))},S={size},W={wire_size}"


def with_zone(base: str, minutes: int) -> str:
    """The base name with the zone of the internal date, minutes east of Greenwich."""
    hours, rest = divmod(abs(minutes), 60)
    return f"{base},Z={'-' if minutes < 0 else '+'}{hours:02d}{rest:02d}" if minutes else base


def with_fields_of(base: str, name: str) -> str:
    """The base name with the sizes and the zone that another name tells, if it does."""
    found = (field.search(base_of(name)) for field in (_SIZE, _WIRE_SIZE, _ZONE))
    return base + "".join(match[0] for match in found if match)


def with_uid(base: str, uid: int, letters: str, sizes: str = "") -> str:
    """The name that a message has in cur/. `sizes` are those that the base name does not tell, as ",S=10,W=12"."""
    return f"{base},U={uid}{sizes}:2,{letters}"


def original(name: str) -> str:
    """The base name that the file had before it got its UID here: what we add stands behind that."""
    return _UID.split(base_of(name), maxsplit=1)[0]


def base_of(name: str) -> str:
    """What stays of a file's name when its flags change."""
    return name.partition(":")[0]


def info_of(name: str) -> str:
    """What follows the base name: a colon and the flags, or nothing."""
    return name[len(base_of(name)) :]


def bare(name: str) -> str:
    """What stays of a base name without sizes and UID."""
    return _UID.sub("", _WIRE_SIZE.sub("", _SIZE.sub("", base_of(name))))


def letters_of(name: str) -> str:
    info = name.partition(":")[2]
    return info[2:] if info.startswith("2,") else ""


def is_plain(name: str) -> bool:
    """Visible ASCII only. Other names get a new one together with their UID."""
    return _PLAIN.fullmatch(name) is not None


def uid_of(name: str) -> int | None:
    """The UID that the name carries; None for names that are not plain."""
    match = _UID.search(base_of(name)) if ",U=" in name else None
    if match is None or not is_plain(name):
        return None
    uid = int(match[1])
    return uid if uid <= UID_LIMIT else None


def seconds_of(name: str) -> int | None:
    """When the file was written, seconds since the epoch; None where the name does not tell."""
    seconds = _SECONDS.match(name)
    return int(seconds[0]) if seconds else None


def zone_of(name: str) -> int:
    """Minutes east of Greenwich; zero where the name does not tell."""
    if ",Z=" not in name:  # nearly all
        return 0
    zone = _ZONE.search(base_of(name))
    return int(f"{zone[1]}1") * (int(zone[2]) * 60 + int(zone[3])) if zone else 0


def size_of(name: str) -> int:
    """Octets of the file as its name tells them, as all names do that have a UID here; else 0."""
    size = _SIZE.search(base_of(name))
    return int(size[1]) if size else 0


def parse(name: str) -> FileName:
    base = base_of(name)
    usual = _USUAL.fullmatch(name)
    if usual is not None:
        size_told, wire_told, letters = usual.groups()
        return FileName(
            base, None, int(size_told) if size_told else None, int(wire_told) if wire_told else None, letters or ""
        )
    size, wire_size = _SIZE.search(base), _WIRE_SIZE.search(base)
    return FileName(
        base=_UID.sub("", base) if ",U=" in base else base,
        uid=uid_of(name),
        size=int(size[1]) if size else None,
        wire_size=int(wire_size[1]) if wire_size else None,
        letters=letters_of(name),
    )
