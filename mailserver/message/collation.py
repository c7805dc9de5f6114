"""How texts are compared: i;unicode-casemap (RFC 5051), as RFC 5256 §7 and RFC 5255 §4.2 ask for.

Promises   Texts that are equal to it become the same text, and the order of these is that of their code points. A text
           is part of another exactly when what it becomes is part of what the other becomes. Linear.
"""

from __future__ import annotations

import unicodedata

_KEPT = 10_000  # mappings that are remembered; there are more than a million characters
_HANGUL = range(0xAC00, 0xD7A4)
"""Syllables: their decomposition is arithmetic, it does not stand in Unicode's table, where RFC 5051 takes it from."""


class _Mapping(dict[int, str]):
    """A character becomes its title case (of one character), and that is decomposed."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        title = character.title()
        mapped = character
        if code not in _HANGUL:
            mapped = unicodedata.normalize("NFKD", title if len(title) == 1 else character)
        if len(self) < _KEPT:
            self[code] = mapped
        return mapped


_MAPPING = _Mapping()


def casemapped(text: str) -> str:
    """What stands for the text when it is compared."""
    return text.upper() if text.isascii() else text.translate(_MAPPING)
