"""The parts of a message with their transfer encoding undone, for BINARY (RFC 3516 §4).

Promises   Decoded in pieces; what is much lies in a nameless file. Each part of a message is decoded once, however
           many times it is asked for. A section that has no encoding of its own (all of the message, a multipart) is
           given as it is.
On failure Refused with UNKNOWN-CTE where the encoding is not known, and with LIMIT where parts that lie in each other
           are many times as large as the message; Unavailable when the spool cannot be written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mailserver.mail import Content, Piece
from mailserver.message import Part
from mailserver.message.decode import transfer_chunks
from mailserver.sessions.imap.refusals import Refused
from mailserver.store import Unavailable

TIMES = 4
"""The message's size: so much is decoded of it for one answer."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """`nul`: it has NUL, which only `literal8` may carry."""

    octets: Piece
    nul: bool

    def clipped(self, partial: tuple[int, int] | None) -> Decoded:
        if partial is None:
            return self
        first, count = partial
        start = min(first, self.octets.size)
        size = min(count, self.octets.size - start)
        return Decoded(self.octets.content.piece(self.octets.start + start, size), self.nul)

    @property
    def announcement(self) -> bytes:
        return (b"~{%d}\r\n" if self.nul else b"{%d}\r\n") % self.octets.size


class Decoder:
    """Of one message."""

    def __init__(self, message: bytes, spool: Path) -> None:
        self._message = message
        self._content = Content(directory=spool)
        self._known: dict[tuple[int, int], Decoded] = {}

    def decode(self, part: Part | None) -> Decoded:
        """None: the whole message."""
        span = part.body if part is not None else (0, len(self._message))
        if span not in self._known:
            encoding = part.encoding if part is not None and not part.parts else b"binary"
            self._known[span] = self._decode(span, encoding)
        return self._known[span]

    def _decode(self, span: tuple[int, int], encoding: bytes) -> Decoded:
        content, start, nul = self._content, self._content.size, False
        if start + span[1] - span[0] > TIMES * len(self._message):
            raise Refused("too much of the message is asked for at once", "LIMIT")
        try:
            for chunk in transfer_chunks(self._message, span, encoding):
                nul = nul or 0 in chunk
                content.write(chunk)
        except LookupError:
            raise Refused("the transfer encoding is not known", "UNKNOWN-CTE") from None
        except OSError as error:
            raise Unavailable("The part cannot be decoded now", error.errno) from error
        return Decoded(content.piece(start, content.size - start), nul)
