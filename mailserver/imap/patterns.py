"""The hierarchy of mailbox names, and the patterns of LIST and LSUB (RFC 3501 §6.3.8).

All code knows names with "/" between their parts. A client may know them with another separator: then "/" and that
character change places, in what it writes (`Reader`) and in what it is told (`ServerConnection.mailbox`). So each name
has one form there and one here. With "." a client that writes "a/b" means a part with a dot in it, and is refused.

Promises   Matching takes time linear in the name, whatever the pattern: all places where a match may stand are
           followed at once, as bits of one number; there is no backtracking to blow up.
On failure Nothing here fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SEPARATOR = "/"
_WILDCARDS = re.compile(r"[*%]+")


def exchanged(name: str, separator: str) -> str:
    """A name as a client with that separator knows it; the same again gives the name back."""
    return name if separator == SEPARATOR else name.translate({ord(SEPARATOR): separator, ord(separator): SEPARATOR})


@dataclass(slots=True)
class Pattern:
    """`*` matches anything, `%` anything but the hierarchy separator. INBOX matches without regard to case."""

    text: str
    _length: int = field(init=False)
    _literal: dict[str, int] = field(init=False, default_factory=dict)
    _stars: int = field(init=False, default=0)
    _percents: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        # neighbouring wildcards are one: the widest of them
        text = _WILDCARDS.sub(lambda run: "*" if "*" in run[0] else "%", self.text)
        self._length = len(text)
        for position, character in enumerate(text):
            bit = 1 << position
            if character == "*":
                self._stars |= bit
            elif character == "%":
                self._percents |= bit
            else:
                self._literal[character] = self._literal.get(character, 0) | bit

    def matches(self, name: str) -> bool:
        if self._run(name):
            return True
        if name == "INBOX":
            return Pattern(self.text.upper())._run(name)
        return False

    def _run(self, name: str) -> bool:
        stars, percents, literal = self._stars, self._percents, self._literal
        wild = stars | percents
        # bit i: what was read so far fits the first i characters of the pattern
        places = 1 | ((1 & wild) << 1)
        for character in name:
            stay = stars if character == SEPARATOR else wild
            places = (places & stay) | ((places & literal.get(character, 0)) << 1)
            places |= (places & wild) << 1
            if not places:
                return False
        return bool(places >> self._length & 1)
