"""The unique-ids of POP3's UIDL, in the notation of Dovecot's `pop3_uidl_format`.

    %08Xu%08Xv   UID and UIDVALIDITY in hexadecimal, eight digits each: Dovecot's default
    %v.%u        both in decimal: Cyrus's
    %f, %g       the name of the file without its flags: Courier's, where that has not %v-%u

Promises   A client that knows a message by the id that another server gave it fetches it once only. An id is 1 to 70
           visible ASCII characters (RFC 1939 §7, UIDL), but for names of files, which may be longer; where a name
           is not visible ASCII a digest stands for it.
On failure ValueError from `UniqueIds.parse`, with the remedy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST = 70
_PIECE = re.compile(r"%(?:0(?P<width>[1-9][0-9]?))?(?P<hex>X?)(?P<what>[uvfg])|(?P<text>[!-$&-~]+)|(?P<percent>%%)")
_VISIBLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class UniqueIds:
    """`of` gives the ids of one mailbox's messages."""

    template: str
    """For the % operator, with the keys u, v and f."""
    named: bool
    """Whether the file's name stands in it."""

    @classmethod
    def parse(cls, notation: str) -> UniqueIds:
        """Raises ValueError."""
        pieces, position, told = [], 0, set()
        while position < len(notation):
            match = _PIECE.match(notation, position)
            if match is None:
                raise ValueError(f"has {notation[position:]!r}, which is none of %u, %v, %f, %g; {_EXAMPLE}")
            pieces.append(_field(match))
            told.add(match["what"])
            position = match.end()
        if not told & {"u", "f", "g"}:
            raise ValueError(f"gives all messages the same id; {_EXAMPLE}")
        made = cls("".join(pieces), bool(told & {"f", "g"}))
        if len(made.template % {"u": 2**32 - 1, "v": 2**32 - 1, "f": ""}) > _LONGEST:
            raise ValueError(f"makes ids of more than {_LONGEST} characters; {_EXAMPLE}")
        return made

    def of(self, uidvalidity: int, uids: Sequence[int], names: Sequence[str] = ()) -> list[str]:
        """In the order of `uids`; `names` are those of the files, where they are needed."""
        template = self.template
        if self.named:
            rows = zip(uids, names, strict=True)
            return [_visible(template % {"u": uid, "v": uidvalidity, "f": name}) for uid, name in rows]
        return [template % {"u": uid, "v": uidvalidity} for uid in uids]


def _visible(text: str) -> str:
    return text if _VISIBLE.fullmatch(text) else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


_EXAMPLE = 'write "%08Xu%08Xv", which is the default of Dovecot\'s pop3_uidl_format, or another of its forms'


def _field(match: re.Match[str]) -> str:
    if match["percent"]:
        return "%%"
    if match["text"]:
        return match["text"]
    if match["what"] in "fg":
        if match["width"] or match["hex"]:
            raise ValueError(f"{match[0]} has digits or X, which are for numbers; write %f")
        return "%(f)s"
    padding = f"0{match['width']}" if match["width"] else ""
    return f"%({match['what']}){padding}{'x' if match['hex'] else 'd'}"
