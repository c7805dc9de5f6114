"""COMPRESS (RFC 4978). The octets are compressed below the engine, which knows of it no more than of TLS."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.syntax import Fault, Reader


@dataclass(frozen=True, slots=True)
class Compress:
    """With DEFLATE: there is no other mechanism."""


def compress(reader: Reader) -> Compress:
    reader.space()
    if reader.keyword("mechanism") != b"DEFLATE":
        raise Fault("no such mechanism")
    return Compress()
