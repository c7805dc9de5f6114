"""IMAP URLs of messages and their parts (RFC 5092, and RFC 2192 before it), with what RFC 4467 adds.

Theory     A URL may be absolute, with a scheme and a server, or relative to `imap://user@server/mailbox`, the mailbox
           being the selected one (RFC 4469 §3). RFC 3986 would cut that mailbox off before ";UID=1" is put behind, and
           leave none; so what begins with ";" is taken to be of the mailbox itself, as clients mean it.
Promises   Only URLs that name one message. Time linear in the URL. What is percent-encoded is decoded once, and must be
           UTF-8; the text that an authorisation covers stays as it came.
On failure BadURL, whose text can be shown to the client.
"""

from __future__ import annotations

import datetime
import re
import sys
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote_to_bytes

from mailserver.imap.commands import Section, section_of
from mailserver.imap.patterns import SEPARATOR, exchanged, with_inbox
from mailserver.imap.sequence import LARGEST
from mailserver.imap.syntax import Fault

URL_LIMIT = 8192
"""Octets of a URL."""

_ENCODED = r"(?:[A-Za-z0-9\-._~!$'()*+,&=]|%[0-9A-Fa-f]{2})"  # achar
_PATH = r"(?:[A-Za-z0-9\-._~!$'()*+,&=:@/]|%[0-9A-Fa-f]{2})"  # bchar
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_ABSOLUTE = re.compile(
    rf"imap://(?:(?P<user>{_ENCODED}*+)(?:;AUTH=(?:\*|{_ENCODED}++))?@)?"
    r"(?P<host>[A-Za-z0-9\-._~]++|\[[0-9A-Fa-f:.]++\])(?::\d{0,5})?(?P<path>/.*)",
    re.IGNORECASE | re.ASCII,
)
_MESSAGE = re.compile(
    rf"/(?P<mailbox>{_PATH}+?)(?:;UIDVALIDITY=(?P<validity>\d{{1,10}}))?/;UID=(?P<uid>\d{{1,10}})"
    rf"(?:/;SECTION=(?P<section>(?:(?!/;){_PATH})++))?(?:/;PARTIAL=(?P<first>\d{{1,19}})(?:\.(?P<count>\d{{1,19}}))?)?"
    r"(?P<rest>;.*)?",
    re.IGNORECASE | re.ASCII,
)
_AUTHORISED = re.compile(
    rf"(?:;EXPIRE=(?P<expire>[0-9T:.+\-Z]++))?;URLAUTH=(?P<access>(?:submit|user)\+(?P<user>{_ENCODED}++)|authuser|anonymous)"
    r"(?::(?P<mechanism>[A-Za-z0-9\-.]++):(?P<token>[0-9A-Fa-f]{32,1024}))?",
    re.IGNORECASE | re.ASCII,
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d++)?(?:Z|[+-]\d\d:\d\d)", re.IGNORECASE | re.ASCII)
_FRACTION = re.compile(r"\.\d+")
_SAFE = "!$'()*+,&=:@/"


class BadURL(ValueError):
    """Not a URL that means a message."""


@dataclass(frozen=True, slots=True)
class Authorisation:
    """What stands behind `;URLAUTH=`. `rump` is the URL up to the mechanism, which the token covers.

    `access` in lower case, without what follows "+", which is `user`. `mechanism` in upper case; it and the token are
    empty in a URL that is not authorised yet.
    """

    rump: str
    access: str
    user: str
    expires: float | None
    mechanism: str
    token: str


@dataclass(frozen=True, slots=True)
class MessageURL:
    """`user` and `host` are empty where the URL is relative or names none; without a section all of it."""

    user: str
    host: str
    mailbox: str
    uidvalidity: int | None
    uid: int
    section: Section
    authorisation: Authorisation | None = None


def parse(text: str, *, selected: str | None = None, separator: str = SEPARATOR) -> MessageURL:
    """`selected`: the mailbox that relative URLs belong to. Raises BadURL."""
    if len(text) > URL_LIMIT:
        raise BadURL("the URL is too long")
    path, user, host = text, "", ""
    if text.startswith("//") or _SCHEME.match(text):
        match = _ABSOLUTE.fullmatch(f"imap:{text}" if text.startswith("//") else text)
        if match is None:
            raise BadURL("the URL is malformed, or not of IMAP")
        user, host, path = _decoded(match["user"] or ""), match["host"], match["path"]
    match = _MESSAGE.fullmatch(_absolute_path(path, selected, separator))
    if match is None:
        raise BadURL("the URL does not name a message")
    return MessageURL(
        user,
        host,
        _mailbox(match["mailbox"], separator),
        _number(match["validity"]) if match["validity"] else None,
        _number(match["uid"]),
        _section(match),
        _authorisation(text, match["rest"]) if match["rest"] else None,
    )


def _absolute_path(path: str, selected: str | None, separator: str) -> str:
    """RFC 3986 §5.2, for paths."""
    if not path.startswith("/"):
        base = "/" + quote(exchanged(selected, separator), safe=_SAFE) if selected is not None else ""
        path = f"{base}/{path}" if path.startswith(";") else base[: base.rfind("/") + 1 or None] + path
        path = path if path.startswith("/") else f"/{path}"
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise BadURL("the URL is not encoded in UTF-8") from None


def _mailbox(text: str, separator: str) -> str:
    return with_inbox(exchanged(_decoded(text), separator))


def _number(text: str) -> int:
    number = int(text)
    if not 0 < number <= LARGEST:
        raise BadURL("a number in the URL is out of range")
    return number


def _section(match: re.Match[str]) -> Section:
    try:
        section = section_of(unquote_to_bytes(match["section"] or ""))
    except Fault as fault:
        raise BadURL(fault.text) from None
    if match["first"] is None:
        return section
    count = int(match["count"]) if match["count"] else sys.maxsize
    if not count:
        raise BadURL("a number in the URL is out of range")
    return replace(section, partial=(int(match["first"]), count))


def _authorisation(text: str, rest: str) -> Authorisation:
    match = _AUTHORISED.fullmatch(rest)
    if match is None:
        raise BadURL("the URL is malformed")
    token = match["token"] or ""
    mechanism = match["mechanism"] or ""
    rump = text[: -len(f":{mechanism}:{token}")] if mechanism else text
    access = match["access"].lower().partition("+")[0]
    expires = _time(match["expire"]) if match["expire"] else None
    return Authorisation(rump, access, _decoded(match["user"] or ""), expires, mechanism.upper(), token)


def _time(text: str) -> float:
    """RFC 3339, seconds since the epoch; parts of a second are left out."""
    if not _TIME.fullmatch(text):
        raise BadURL("the URL's time is malformed")
    try:
        return datetime.datetime.fromisoformat(_FRACTION.sub("", text.upper())).timestamp()
    except (ValueError, OverflowError):
        raise BadURL("the URL's time is malformed") from None
