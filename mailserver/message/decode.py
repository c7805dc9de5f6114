"""From octets to text: transfer encodings, charsets, encoded words (RFC 2045 §6, RFC 2047). For search.

Promises   Nothing here raises. What cannot be decoded as declared is decoded as UTF-8 if it is that, else as
           windows-1252, which gives every octet some character. Only charsets of a fixed list are ever looked up:
           some of Python's codecs take quadratic time, and each unknown name would stay in its cache.
           Of one value, `WORD_LIMIT` encoded words are decoded; further ones stay as they are.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from encodings.aliases import aliases
from itertools import islice

from mailserver.message.header import unfold
from mailserver.message.structure import Part

WORD_LIMIT = 10_000

# Names that mail uses for less than it sends: the superset decodes what the name promises and more.
_SUPERSETS = {
    "ascii": "utf_8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "latin_1": "cp1252",
    "iso8859_9": "cp1254",
    "tis_620": "cp874",
    "iso2022_jp": "iso2022_jp_2",
}
_NO_CHARSETS = re.compile(r".*_codec|rot_13|mbcs|oem|idna|punycode|(raw_)?unicode_escape|undefined")
_CHARSETS = {name: codec for name, codec in aliases.items() if not _NO_CHARSETS.fullmatch(codec)}
_CHARSETS |= {codec: codec for codec in _CHARSETS.values()} | {
    "ansi_x3_4_1986": "ascii",
    "koi8_u": "koi8_u",
    "cp874": "cp874",
    "windows_874": "cp874",
    "iso8859_11": "iso8859_11",
    "ks_c_5601_1987": "cp949",
    "x_sjis": "cp932",
    "x_gbk": "gb18030",
    "x_mac_roman": "mac_roman",
    "unicode_1_1_utf_7": "utf_7",
}
_NOT_IN_CHARSET = re.compile(r"[^a-z0-9]+")
_ENCODED_WORD = re.compile(rb"=\?([^?\s]{1,64})\?([BbQq])\?([^?]*+)\?=")
_NOT_BASE64 = bytes(
    octet for octet in range(256) if octet not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


def charset_text(data: bytes, charset: str = "") -> str:
    """`data` as text in a charset named by anyone."""
    name = _NOT_IN_CHARSET.sub("_", charset[:64].lower()).strip("_")
    codec = _CHARSETS.get(name, "utf_8")
    for attempt in (_SUPERSETS.get(codec, codec), "utf_8"):
        try:
            return data.decode(attempt)
        except UnicodeError:
            continue
    return _windows_1252(data)


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
        return binascii.a2b_qp(data)
    return data


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
        name = match[1].partition(b"*")[0].decode("latin_1").lower()  # RFC 2231 §5: a language may follow
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
    start, end = part.body
    data = transfer_decoded(part.content[start:end], part.encoding)
    return charset_text(data, (part.parameter(b"charset") or b"").decode("latin_1"))


def body_texts(message: Part) -> Iterator[str]:
    """The text of each text part, those of enclosed messages too."""
    for part in message.leaves():
        if part.type == b"text":
            yield part_text(part)
