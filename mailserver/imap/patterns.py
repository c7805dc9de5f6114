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

SEPARATOR = "/"
INBOX = "INBOX"
_BELOW_INBOX = "INBOX/"
_WILDCARDS = re.compile(r"[*%]+")


def exchanged(name: str, separator: str) -> str:
    """A name as a client with that separator knows it; the same again gives the name back."""
    return name if separator == SEPARATOR else name.translate({ord(SEPARATOR): separator, ord(separator): SEPARATOR})


def with_inbox(name: str) -> str:
    """INBOX in any case as it is known here."""
    return INBOX if _upper(name) == INBOX else name


def _upper(text: str) -> str:
    """There are letters elsewhere that become an I: what has them is not INBOX."""
    return text.upper() if text.isascii() else text


def _with_upper_start(text: str) -> str:
    """What stands for the first part of a name in upper case."""
    first, separator, rest = text.partition(SEPARATOR)
    return _upper(first) + separator + rest


class Pattern:
    """`*` matches anything, `%` anything but the hierarchy separator. INBOX matches without regard to case, and so does
    that part of the names below it.

    Of several texts one must match: they stand side by side in the number, a place for the end of each between them.
    """

    __slots__ = ("_ends", "_literal", "_of_inbox", "_stars", "_starts", "_texts", "_wild")

    def __init__(self, *texts: str) -> None:
        self._texts = texts
        self._of_inbox: Pattern | None = None
        self._literal: dict[str, int] = {}
        stars = percents = starts = ends = place = 0
        for text in dict.fromkeys(texts):
            starts |= 1 << place
            # neighbouring wildcards are one: the widest of them
            for character in _WILDCARDS.sub(lambda run: "*" if "*" in run[0] else "%", text):
                bit = 1 << place
                if character == "*":
                    stars |= bit
                elif character == "%":
                    percents |= bit
                else:
                    self._literal[character] = self._literal.get(character, 0) | bit
                place += 1
            ends |= 1 << place
            place += 1
        self._stars, self._wild, self._starts, self._ends = stars, stars | percents, starts, ends

    def matches(self, name: str) -> bool:
        if self._run(name):
            return True
        if name != INBOX and not name.startswith(_BELOW_INBOX):
            return False
        if self._of_inbox is None:
            self._of_inbox = Pattern(*map(_with_upper_start, self._texts))
        return self._of_inbox._run(name)

    def _run(self, name: str) -> bool:
        stars, wild, literal = self._stars, self._wild, self._literal
        # a bit for each place up to which the name so far fits
        places = self._starts | ((self._starts & wild) << 1)
        for character in name:
            stay = stars if character == SEPARATOR else wild
            places = (places & stay) | ((places & literal.get(character, 0)) << 1)
            places |= (places & wild) << 1
            if not places:
                return False
        return bool(places & self._ends)
