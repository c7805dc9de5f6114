"""What URLFETCH gives with parameters (RFC 5524): a part decoded, and what is known about it.

Promises   What is told about a part is so of what is given: size and encoding are those after decoding, and of the
           octets that the URL leaves of it. What is large lies in the spool.
On failure BadURL where the URL points at nothing; StoreError where the disk refuses. A part whose encoding is not known
           is described as it is, and not given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mailserver.imap.commands import Section, Text
from mailserver.imap.urls import BadURL, MessageURL
from mailserver.mail import Content
from mailserver.message import Part, structures
from mailserver.sessions.imap.binary import Decoded
from mailserver.sessions.imap.reading import without_nul
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.sections import Source
from mailserver.sessions.imap.urls import opened
from mailserver.store import AccountStore, MessageGone, Unavailable


@dataclass(frozen=True, slots=True)
class Found:
    """`octets` None: they cannot be decoded."""

    structure: bytes
    octets: Decoded | None


def find(account: AccountStore, url: MessageURL, spool: Path, *, binary: bool) -> Found:
    """Blocking. Raises BadURL, StoreError."""
    section = url.section
    with opened(account, url) as mailbox:
        try:
            source = Source(mailbox.read(url.uid))
        except MessageGone:
            raise BadURL("there is no such message") from None
    octets = source.octets(section)
    if octets is None:
        raise BadURL("there is no such part")
    if not binary:
        plain = without_nul(octets)
        return Found(_structure(source, section, _Facts(len(plain), plain.count(b"\n"))), _spooled(plain, spool))
    try:
        decoded = _decoded(source, section, octets, spool)
    except Refused:
        return Found(_structure(source, section, _Facts(len(octets), octets.count(b"\n"))), None)
    lines = sum(chunk.count(b"\n") for chunk in decoded.octets.chunks())
    encoding = b"binary" if section.part and section.text is Text.ALL else None  # what else is given is as it lies
    return Found(_structure(source, section, _Facts(decoded.octets.size, lines, encoding)), decoded)


@dataclass(frozen=True, slots=True)
class _Facts:
    """`encoding` None: as the part has it."""

    size: int
    lines: int
    encoding: bytes | None = None


def _decoded(source: Source, section: Section, octets: bytes, spool: Path) -> Decoded:
    """Raises Refused."""
    whole = source.decoded(section, spool) if section.text is Text.ALL else None
    return whole.clipped(section.partial) if whole is not None else _spooled(octets, spool)


def _spooled(octets: bytes, spool: Path) -> Decoded:
    content = Content(directory=spool)
    try:
        content.write(octets)
    except OSError as error:
        raise Unavailable("The part cannot be given now", error.errno) from error
    return Decoded(content.piece(0, content.size), 0 in octets)


def _structure(source: Source, section: Section, facts: _Facts) -> bytes:
    """The `body` of what the section holds."""
    part = source.part(section)
    if part is not None and section.text is Text.TEXT and section.part:
        part = part.message
    if part is None or section.text not in (Text.ALL, Text.TEXT):
        return b'("text" "rfc822-headers" ("charset" "us-ascii") NIL NIL "%b" %d %d)' % (
            b"8bit", facts.size, facts.lines,
        )  # fmt: skip
    return structures(_as_given(part, section, facts)).bodystructure


def _as_given(part: Part, section: Section, facts: _Facts) -> Part:
    if part.parts or (facts.encoding is None and section.partial is None):
        return part
    fields = part.fields
    if facts.encoding is not None:
        fields = {**fields, b"content-transfer-encoding": [b" " + facts.encoding]}
    return replace(part, body=(0, facts.size), lines=facts.lines, fields=fields)
