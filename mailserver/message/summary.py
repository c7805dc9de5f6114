"""The header without the fields that make it large and that no list of messages shows.

Promises   Original octets and order. A field that `covers` admits is found in the summary as in the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Traces of transport, signatures and scanners: most of a header's octets. An asterisk stands for the rest of a name.
_BULKY = """
    ARC-*
    Authentication-Results
    DKIM-Signature
    DomainKey-Signature
    Received
    Received-SPF
    Return-Path
    X-AntiAbuse
    X-Authentication-Warning
    X-EOPAttributedMessage
    X-Exchange-*
    X-Forefront-*
    X-Forwarded-Encrypted
    X-GM-*
    X-Google-*
    X-Incoming-*
    X-Mailman-Rule-*
    X-Microsoft-*
    X-MS-*
    X-OriginalArrivalTime
    X-Received
    X-SG-*
    X-Spam-Checker-Version
    X-Spam-Report
    X-YMail-*
"""
_NAMES = b"|".join(
    re.escape(name.encode()).replace(rb"\*", rb"[^\x00-\x20:\x7f]*+") for name in sorted(_BULKY.split(), reverse=True)
)
_BULKY_NAME = re.compile(_NAMES, re.IGNORECASE)
_BULKY_FIELD = re.compile(
    rb"^(?:%b)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+(?:\n|\Z)" % _NAMES, re.IGNORECASE | re.MULTILINE
)


def summary(header: bytes) -> bytes:
    """The fields of a header (CRLF form) that `covers` admits, with the blank line at the end."""
    kept = _BULKY_FIELD.sub(b"", header)
    if kept.endswith((b"\n\r\n", b"\n\n")) or kept == b"\r\n":
        return kept
    return kept + (b"\r\n" if kept.endswith(b"\n") or not kept else b"\r\n\r\n")


def covers(names: Iterable[bytes]) -> bool:
    """A request for the fields of these names, in any case, can be answered from the summary."""
    return not any(map(_BULKY_NAME.fullmatch, names))
