"""From octets to text: transfer encodings, charsets, encoded words (RFC 2045 §6, RFC 2047). For search.

Promises   Nothing here raises. What cannot be decoded as declared is decoded as UTF-8 if it is that, else as
           windows-1252, which gives every octet some character. No text has surrogates in it. Of one value,
           `WORD_LIMIT` encoded words are decoded; further ones stay as they are.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from itertools import islice

from mailserver.message.charsets import codec
from mailserver.message.header import unfold
from mailserver.message.structure import Part

WORD_LIMIT = 10_000
_CHUNK = 256 * 1024
_IDENTITIES = frozenset((b"7bit", b"8bit", b"binary"))
_CHARACTER_LIMIT = 8  # octets of one character, in any charset, with what shifts to it

# Some mailers leave a few question marks in the text as they are.
_ENCODED_WORD = re.compile(rb"=\?([^?\s]{1,64})\?([BbQq])\?([^?]*+(?:(?<!=)\?(?!=)[^?]*+){0,8}+)\?=")
_SPACE_AT_END = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_TAB_AS_SPACE = bytes.maketrans(b"\t", b" ")
_NOT_BASE64 = bytes(
    octet for octet in range(256) if octet not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


def charset_text(data: bytes, charset: str = "", *, cut: bool = False) -> str:
    """`data` as text in a charset named by anyone. Cut: what it ends with may be half a character, then left out."""
    if not charset and data.isascii():
        return data.decode("ascii")
    for attempt in ((codec(charset) if charset else None) or "utf_8", "utf_8"):
        try:
            text = data.decode(attempt)
        except UnicodeDecodeError as error:
            if cut and error.start >= len(data) - _CHARACTER_LIMIT:
                return charset_text(data[: error.start], charset)
        except UnicodeError:
            continue
        else:
            return _without_surrogates(text) if attempt == "utf_7" else text
    return _windows_1252(data)


def _without_surrogates(text: str) -> str:
    """UTF-7 lets halves of a pair through, which nothing could store."""
    return text.encode("utf_16_le", "surrogatepass").decode("utf_16_le", "replace")


def _windows_1252(data: bytes) -> str:
    """As browsers do: the five octets that it leaves open are control characters."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin_1")


def transfer_decoded(data: bytes, encoding: bytes) -> bytes:
    """Undoes a Content-Transfer-Encoding as far as it can be undone."""
    if encoding == b"base64":
        return _base64(data)
    if encoding == b"quoted-printable":
        return _quoted_printable(data)
    return data


def transfer_chunks(data: bytes, span: tuple[int, int], encoding: bytes) -> Iterator[bytes]:
    """As `transfer_decoded`, of a part of `data`, in pieces. Raises LookupError for an encoding that is not known."""
    if encoding == b"base64":
        return _base64_chunks(data, span)
    if encoding == b"quoted-printable":
        return _quoted_chunks(data, span)
    if encoding in _IDENTITIES:
        return (data[start : min(start + _CHUNK, span[1])] for start in range(*span, _CHUNK))
    raise LookupError(encoding)


def _base64_chunks(data: bytes, span: tuple[int, int]) -> Iterator[bytes]:
    rest = b""
    for start in range(*span, _CHUNK):
        digits = rest + data[start : min(start + _CHUNK, span[1])].translate(None, _NOT_BASE64)
        whole = len(digits) - len(digits) % 4
        rest = digits[whole:]
        yield binascii.a2b_base64(digits[:whole])
    yield _base64(rest)


def _quoted_chunks(data: bytes, span: tuple[int, int]) -> Iterator[bytes]:
    """Cut behind line ends: what an equals sign means may depend on all the rest of its line."""
    start, stop = span
    while start < stop:
        end = data.find(b"\n", min(start + _CHUNK, stop), stop) + 1 or stop
        yield _quoted_printable(data[start:end])
        start = end


def _quoted_printable(data: bytes) -> bytes:
    """Whole lines. Space at their ends was put there on the way (RFC 2045 §6.7), which is seldom."""
    spaced = data.translate(_TAB_AS_SPACE, b"\r")
    if b" \n" in spaced or spaced.endswith(b" "):
        data = _SPACE_AT_END.sub(b"", data)
    return binascii.a2b_qp(data)


def _base64(data: bytes) -> bytes:
    data = data.translate(None, _NOT_BASE64)
    if len(data) % 4 == 1:
        data = data[:-1]
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def header_text(value: bytes) -> str:
    """A raw field value in one line, its encoded words decoded."""
    value = unfold(value)
    if b"=?" not in value:
        return charset_text(value)
    pieces: list[str] = []
    pending: list[bytes] = []  # neighbours in one charset are joined first: some mailers divide a character
    charset, position = "", 0
    for match in islice(_ENCODED_WORD.finditer(value), WORD_LIMIT):
        between = value[position : match.start()]
        name = match[1].decode("latin_1").lower()
        if between.strip(b" \t") or name != charset:
            pieces.append(charset_text(b"".join(pending), charset))
            pending.clear()
            charset = name
        if between.strip(b" \t") or position == 0:  # space between two encoded words is not shown
            pieces.append(charset_text(between))
        text = match[3].replace(b" ", b"_")
        pending.append(_base64(text) if match[2] in b"Bb" else binascii.a2b_qp(text, header=True))
        position = match.end()
    pieces += (charset_text(b"".join(pending), charset), charset_text(value[position:]))
    return "".join(pieces)


def part_text(part: Part) -> str:
    """The body of a part, decoded."""
    return part_beginning(part, part.body[1] - part.body[0])


def part_beginning(part: Part, octets: int) -> str:
    """What the first octets of a part's body say, decoded."""
    start, end = part.body
    stop = min(end, start + octets)
    data = transfer_decoded(part.content[start:stop], part.encoding)
    return charset_text(data, (part.parameter(b"charset") or b"").decode("latin_1"), cut=stop < end)


def body_texts(message: Part) -> Iterator[str]:
    """The text of each part that is one, as reports of delivery are; those of enclosed messages too."""
    for part in message.leaves():
        if part.type in (b"text", b"message"):
            yield part_text(part)
