"""COMPARATOR (RFC 5255 §4.7 to §4.9): by what SEARCH, SORT and THREAD compare texts.

Theory     There is one comparator, i;unicode-casemap (`message.collation`), and it is always active: what texts become
           by it is kept on disk, so that they are found fast. A client may ask for it by a pattern.
On failure BADCOMPARATOR where no pattern is one of it; so is one with a minus, which would turn the order round.
"""

from __future__ import annotations

from mailserver.imap import Pattern
from mailserver.imap.commands import Comparator
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.refusals import Refused

NAME = "i;unicode-casemap"


async def comparator(core: Core, tag: str, command: Comparator) -> None:
    if command.wanted and not any(map(_matches, command.wanted)):
        raise Refused("only i;unicode-casemap is there", "BADCOMPARATOR")
    core.engine.untagged(b"COMPARATOR " + NAME.encode())
    core.engine.done(tag, "OK", "Texts are compared so")


def _matches(wanted: str) -> bool:
    return wanted == "default" or Pattern(wanted.removeprefix("+")).matches(NAME)
