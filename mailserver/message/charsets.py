"""Which of Python's codecs decodes a charset that mail names.

Promises   Only codecs of a fixed list are ever looked up: some of Python's take quadratic time, and each unknown name
           would stay in its cache. Signs other than letters and digits, and an "x-" before the name, do not count.
"""

from __future__ import annotations

import pkgutil
import re
from encodings import __path__ as _CODEC_PATH
from encodings.aliases import aliases
from functools import lru_cache

NAME_LIMIT = 64

_NOT_IN_NAME = re.compile(r"[^a-z0-9]+")
_NO_CHARSETS = re.compile(
    r".*_codec|aliases|charmap|idna|mbcs|oem|palmos|punycode|(raw_)?unicode_escape|rot_13|undefined"
)

# Names that mail uses for less than it sends: the superset decodes what the name promises and more.
_SUPERSETS = {
    "ascii": "utf_8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "latin_1": "cp1252",
    "iso8859_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "iso2022_jp": "iso2022_jp_2",
}

# What the standard library does not know, by what it does.
_FURTHER = {
    "utf_8": "utf8mb3 utf8mb4 unicode-1-1-utf-8 unicode-2-0-utf-8 windows-65001",
    "utf_7": "unicode-2-0-utf-7 csunicode11utf7",
    "utf_16": "unicode iso-10646-ucs-2 csunicode ucs-2",
    "utf_16_be": "ucs-2be unicodefffe",
    "utf_16_le": "ucs-2le",
    "utf_32": "iso-10646-ucs-4 csucs4 ucs-4",
    "latin_1": "8859-1 iso-8859-1-windows-3.1-latin-1",
    "cp1252": "ansi cswindows1252",
    "iso8859_6": "iso-8859-6-i iso-8859-6-e csiso88596i csiso88596e",
    "iso8859_8": "iso-8859-8-i iso-8859-8-e csiso88598i csiso88598e logical visual",
    "cp874": "windows-874 dos-874",
    "gb18030": "gb-2312 csgb2312 cn-gb euc-gb cp54936",
    "hz": "cp52936",
    "big5": "cn-big5 x-x-big5",
    "cp932": "windows-31j windows-932 cswindows31j cp943 sjis-win shift-jis-ms",
    "euc_jp": "eucjp-ms eucjp-win eucjp-open cp51932 extended-unix-code-packed-format-for-japanese",
    "iso2022_jp_ext": "iso-2022-jp-ms cp50220 cp50221 cp50222",
    "cp949": "windows-949 ks-c-5601-1989 cp51949",
    "koi8_r": "koi8",
    "koi8_u": "koi8-ru",
    "cp866": "dos-866",
    "mac_cyrillic": "x-mac-ukrainian",
}


def _key(name: str) -> str:
    return _NOT_IN_NAME.sub("", name.lower())


def _table() -> dict[str, str]:
    codecs = {module.name for module in pkgutil.iter_modules(_CODEC_PATH)} | {"latin_1"}
    codecs = {codec for codec in codecs if not _NO_CHARSETS.fullmatch(codec)}
    found = {_key(name): codec for name, codec in aliases.items() if codec in codecs}
    found |= {_key(codec): codec for codec in codecs}
    found |= {
        spelled + codec[2:]: codec for codec in codecs if codec.startswith("cp125") for spelled in ("windows", "win")
    }
    found |= {_key(name): codec for codec, names in _FURTHER.items() for name in names.split()}
    return {name: _SUPERSETS.get(codec, codec) for name, codec in found.items()}


_CODECS = _table()


def codec(charset: str) -> str | None:
    """The name of the codec, or None. A language after an asterisk (RFC 2231 §5) does not count."""
    return _codec(charset[:NAME_LIMIT])


@lru_cache(maxsize=1024)
def _codec(charset: str) -> str | None:
    name = _key(charset.partition("*")[0])
    return _CODECS.get(name) or _CODECS.get(name.removeprefix("x"))
