"""The order of texts: i;unicode-casemap, which RFC 5256 §7 asks for.

Promises   Texts that are equal to it become the same text, and the order of these is that of their code points. Linear.
"""

from __future__ import annotations

import unicodedata

_KEPT = 10_000  # mappings that are remembered; there are more than a million characters


class _Mapping(dict[int, str]):
    """A character becomes its title case (of one character), and that is decomposed."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        title = character.title()
        mapped = unicodedata.normalize("NFKD", title if len(title) == 1 else character)
        if len(self) < _KEPT:
            self[code] = mapped
        return mapped


_MAPPING = _Mapping()


def casemapped(text: str) -> str:
    """What stands for the text when it is compared."""
    return text.upper() if text.isascii() else text.translate(_MAPPING)
