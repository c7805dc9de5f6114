"""GENURLAUTH, RESETKEY, URLFETCH (RFC 4467 §9; RFC 5524 §5)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mailserver.imap.syntax import LIST_LIMIT, Fault, Reader

_PARAMETERS = frozenset({b"BODY", b"BINARY", b"BODYPARTSTRUCTURE"})
_MECHANISM = re.compile(rb"[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class GenerateURLs:
    """GENURLAUTH: URLs without a token, each with a mechanism in upper case."""

    wanted: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ResetKey:
    """`mailbox` None: all keys go. `mechanisms` in upper case."""

    mailbox: str | None = None
    mechanisms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WantedURL:
    """The URL is a secret. `parameters` in upper case; without any it is fetched as RFC 4467 has it."""

    url: bytes = field(repr=False)
    parameters: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class FetchURLs:
    """URLFETCH."""

    wanted: tuple[WantedURL, ...]


def generate(reader: Reader) -> GenerateURLs:
    wanted: list[tuple[str, str]] = []
    reader.space()
    while True:
        url = text_of(reader.astring())
        reader.space()
        wanted.append((url, _mechanism(reader)))
        if not _more(reader, len(wanted)):
            return GenerateURLs(tuple(wanted))


def reset_key(reader: Reader) -> ResetKey:
    if not reader.accept(b" "):
        return ResetKey()
    mailbox = reader.mailbox()
    mechanisms: list[str] = []
    while _more(reader, len(mechanisms)):
        mechanisms.append(_mechanism(reader))
    return ResetKey(mailbox, tuple(mechanisms))


def fetch_urls(reader: Reader) -> FetchURLs:
    reader.space()
    wanted = [_wanted(reader)]
    while _more(reader, len(wanted)):
        wanted.append(_wanted(reader))
    return FetchURLs(tuple(wanted))


def _wanted(reader: Reader) -> WantedURL:
    if not reader.accept(b"("):
        return WantedURL(reader.astring())
    url = reader.astring()
    parameters: list[bytes] = []
    while not reader.accept(b")"):
        reader.space()
        parameters.append(reader.keyword("parameter"))
        if parameters[-1] not in _PARAMETERS:
            raise Fault("unknown parameter")
    found = frozenset(parameters)
    if len(found) < len(parameters) or {b"BODY", b"BINARY"} <= found:
        raise Fault("the parameters are too many")
    return WantedURL(url, found)


def text_of(url: bytes) -> str:
    """As `imap.urls` takes it: what is not ASCII makes it malformed."""
    return url.decode("ascii", "replace")


def _mechanism(reader: Reader) -> str:
    return reader.match(_MECHANISM, "mechanism")[0].decode().upper()


def _more(reader: Reader, count: int) -> bool:
    if count > LIST_LIMIT:
        raise Fault("too many at once", status="NO", code="LIMIT")
    return reader.accept(b" ")
