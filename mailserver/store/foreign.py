"""What Dovecot and Courier keep beside the messages: UIDs, keywords, subscriptions. Only read, never written.

Promises   Lines that cannot be understood are passed over; of two lines for one file the later counts, of two lines for
           one UID the earlier. Only regular files are read, and none through a symbolic link. What is no list is none.
On failure OSError, also when a file is there that may not be read: going on without it would lose the UIDs.
Layout     `dovecot-uidlist`: first "3 V<UIDVALIDITY> N<UIDNEXT> G<guid>", then lines "<UID> <fields> :<base name>".
           Older ones, and Courier's `courierimapuiddb`: "1 <UIDVALIDITY> <UIDNEXT>", then "<UID> <base name>".
           `courierimapkeywords/:list`: a keyword a line, an empty line, then "<base name>:<numbers of keywords>".
           A file `<base name>` or `.<number>.<base name>` beside it, with a keyword a line, replaces what it says.
           `courierimapsubscribed`: names such as "INBOX.Sent", in modified UTF-7.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mailserver.store import content, names

log = logging.getLogger(__name__)

DOVECOT_UIDS = "dovecot-uidlist"
COURIER_UIDS = "courierimapuiddb"
COURIER_KEYWORDS = "courierimapkeywords"
COURIER_SUBSCRIPTIONS = "courierimapsubscribed"
HIGHEST_UID = names.UID_LIMIT - 2**20
"""A mailbox whose UIDs go further could soon take no more mail: it must begin anew."""

_SIZE_LIMIT = 2**30  # octets
_PLAIN_HEADER = re.compile(rb"1 ([0-9]{1,20}) ([0-9]{1,20})\s*")
_PLAIN_LINE = re.compile(rb"([0-9]{1,20}) (.+)")
_FIELD_HEADER = re.compile(rb"3((?: +[A-Z][^ ]*)+) *")
_FIELD_LINE = re.compile(rb"([0-9]{1,20})(?: +[^: ][^ ]*)* +:(.+)")
_KEYWORDS_LINE = re.compile(r"(.+):([0-9 ]*)")
_NUMBERED = re.compile(r"\.([0-9]{1,18})\.(.+)")


@dataclass(frozen=True, slots=True)
class UidList:
    """The UIDs of a folder as another server gave them; names are without flags."""

    validity: int
    last: int
    """The highest UID given."""
    uids: Mapping[str, int]
    keywords: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Where they do not stand in the file names: Courier's."""


def uid_list(directory: Path) -> UidList | None:
    """The folder's, by Dovecot or else by Courier."""
    found = _parsed(directory / DOVECOT_UIDS)
    if found is not None:
        return found
    found = _parsed(directory / COURIER_UIDS)
    if found is not None:
        return UidList(found.validity, found.last, found.uids, _keywords(directory / COURIER_KEYWORDS))
    return None


def courier_subscriptions(account: Path) -> list[str]:
    """Lines with names below "INBOX.", and INBOX itself; the prefix is taken off."""
    lines = _text(account / COURIER_SUBSCRIPTIONS).split("\n")
    return [line.removeprefix("INBOX.") for line in lines if line == "INBOX" or line.startswith("INBOX.")]


def _parsed(path: Path) -> UidList | None:
    data = _read(path)
    if data is None:
        return None
    header, _, body = data.partition(b"\n")
    plain, fields = _PLAIN_HEADER.fullmatch(header), _FIELD_HEADER.fullmatch(header)
    if plain:
        validity, following = int(plain[1]), int(plain[2])
    elif fields:
        known = {each[:1]: each[1:] for each in fields[1].split()}
        validity, following = _number(known.get(b"V")), _number(known.get(b"N"))
    else:
        validity = following = 0
    if not 0 < validity <= names.UID_LIMIT or following > HIGHEST_UID:
        log.warning("store=adoption path=%r refused=%r", str(path), header[:200])
        return None
    uids: dict[str, int] = {}
    given: set[int] = set()
    for match in map((_PLAIN_LINE if plain else _FIELD_LINE).fullmatch, body.split(b"\n")):
        uid = int(match[1]) if match else 0
        if match and 0 < uid <= HIGHEST_UID and uid not in given:
            given.add(uid)
            uids[names.base_of(os.fsdecode(match[2]))] = uid
    return UidList(validity, max(following - 1, max(given, default=0)), uids)


def _number(text: bytes | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) <= 20 else 0


def _keywords(directory: Path) -> dict[str, frozenset[str]]:
    lines = iter(_text(directory / ":list").split("\n"))
    known = list(iter(lambda: next(lines, ""), ""))
    found = {}
    for match in map(_KEYWORDS_LINE.fullmatch, lines):
        if match:
            numbers = [int(number) for number in match[2].split() if len(number) <= 6]
            found[match[1]] = frozenset(known[number] for number in numbers if number < len(known))
    for name, path in _single_messages(directory):
        found[name] = frozenset(filter(None, _text(path).split("\n")))
    return {name: keywords for name, keywords in found.items() if keywords}


def _single_messages(directory: Path) -> Iterator[tuple[str, Path]]:
    """Base names and their files, the one that counts last."""
    try:
        entries = [entry.name for entry in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    numbered = [(int(match[1]), match[2], match[0]) for match in map(_NUMBERED.fullmatch, entries) if match]
    for _, name, file in sorted(numbered):
        yield name, directory / file
    for name in entries:
        if name[0] not in ".:":
            yield name, directory / name


def _text(path: Path) -> str:
    return os.fsdecode(_read(path) or b"")


def _read(path: Path) -> bytes | None:
    try:
        fd = content.open_message(str(path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise
    with os.fdopen(fd, "rb") as file:
        if os.fstat(fd).st_size > _SIZE_LIMIT:
            log.warning("store=adoption path=%r refused=too-large", str(path))
            return None
        return file.read(_SIZE_LIMIT)
