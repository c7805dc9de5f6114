"""Replies as a client reads them (RFC 5321 §4.2, RFC 2034).

Promises   One reply takes at most `LINES_LIMIT` lines of `LINE_LIMIT` octets. Its text holds whatever a remote wrote,
           LF only between its lines; `Reply.lines` makes it printable.
On failure ProtocolError; then no more can be read from this connection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailserver.mail import EnhancedCode, Reply

LINE_LIMIT = 2048
LINES_LIMIT = 100

_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")


class ProtocolError(Exception):
    """The remote does not speak SMTP as it should. The text says how, without repeating what it sent."""


class ReplyReader:
    """Append what comes, take replies. A line may end in LF alone: a client loses nothing by that."""

    __slots__ = ("_code", "_data", "_lines")

    def __init__(self) -> None:
        self._data = bytearray()
        self._code = 0
        self._lines: list[str] = []

    def __len__(self) -> int:
        return len(self._data)

    def append(self, data: bytes) -> None:
        self._data += data

    def clear(self) -> None:
        self._data.clear()
        self._lines.clear()

    def next(self) -> Reply | None:
        """The next reply, its enhanced code still in its text; None until it is complete. Raises ProtocolError."""
        while (end := self._data.find(b"\n")) >= 0:
            line = bytes(self._data[:end])
            del self._data[: end + 1]
            if self._take(line.removesuffix(b"\r")):
                reply = Reply(self._code, "\n".join(self._lines))
                self._lines.clear()
                return reply
        if len(self._data) > LINE_LIMIT:
            raise ProtocolError("a line of a reply is too long")
        return None

    def _take(self, line: bytes) -> bool:
        """True when it was the last line."""
        if len(line) > LINE_LIMIT:
            raise ProtocolError("a line of a reply is too long")
        match = _REPLY_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError("a line that is no reply")
        code = int(match[1])
        if self._lines and code != self._code:
            raise ProtocolError("a reply with two codes")
        if len(self._lines) == LINES_LIMIT:
            raise ProtocolError("a reply of too many lines")
        self._code = code
        self._lines.append((match[3] or b"").decode(errors="replace"))
        return match[2] != b"-"


def with_enhanced(reply: Reply) -> Reply:
    """The same reply with the enhanced code, when it has a fitting one, taken out of its lines (RFC 2034 §4)."""
    lines = reply.text.split("\n")
    match = _ENHANCED.match(lines[0])
    if match is None or match[1][0] != str(reply.code)[0]:
        return reply
    code = match[1]
    text = "\n".join(line.removeprefix(code).removeprefix(" ") if line.startswith(code) else line for line in lines)
    return Reply(reply.code, text, EnhancedCode.parse(code))


def parse_extensions(lines: Sequence[str]) -> dict[str, str]:
    """What the lines of an EHLO reply after the first offer: keyword in upper case, and its parameters (§4.1.1.1).

    The "AUTH=" of very old servers counts as AUTH.
    """
    extensions: dict[str, str] = {}
    for line in lines:
        keyword, _, parameters = line.strip().partition(" ")
        keyword, equals, first = keyword.upper().partition("=")
        if equals:
            parameters = f"{first} {parameters}".strip()
        if keyword:
            extensions[keyword] = f"{extensions.get(keyword, '')} {parameters}".strip()
    return extensions
