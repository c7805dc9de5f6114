"""Mailbox names in IMAP and in the names of directories: modified UTF-7 (RFC 3501 §5.1.3).

Promises   `decode` takes only the one form that `encode` gives for a name, so that each name has one spelling.
On failure ValueError from `decode`.
"""

from __future__ import annotations

import binascii
import re

_PRINTABLE = re.compile(r"[\x20-\x25\x27-\x7e]+")
_PIECES = re.compile(r"(&)|([\x20-\x25\x27-\x7e]+)|([^\x20-\x7e]+)")
_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")


def encode(name: str) -> str:
    """ASCII. Lone surrogates, which no mailbox name should have, become question marks."""
    return name if _PRINTABLE.fullmatch(name) else _PIECES.sub(_encode_piece, name)


def _encode_piece(match: re.Match[str]) -> str:
    ampersand, plain, other = match.groups()
    if ampersand:
        return "&-"
    if plain:
        return str(plain)
    octets = other.encode("utf-16-be", errors="replace")
    return "&" + binascii.b2a_base64(octets, newline=False).decode().rstrip("=").replace("/", ",") + "-"


def decode(text: str) -> str:
    """Raises ValueError when the text is not what `encode` would give."""
    name = _SHIFTED.sub(_decode_piece, text)
    if encode(name) != text:
        raise ValueError("not modified UTF-7")
    return name


def _decode_piece(match: re.Match[str]) -> str:
    shifted = match[1]
    if not shifted:
        return "&"
    padding = "=" * (-len(shifted) % 4)
    return binascii.a2b_base64(shifted.replace(",", "/") + padding).decode("utf-16-be")
