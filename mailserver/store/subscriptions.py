r"""The list of subscribed mailboxes, in the account's `subscriptions`.

Layout     As Dovecot writes it: the line "V\t2", an empty line, then a name a line, its parts in modified UTF-7 and
           split by tabs. The older form (no such line, parts split by dots) is understood. Where there is no such
           file yet, Courier's list counts.
Promises   The file is replaced as a whole, synced. Names of mailboxes that do not exist may stand in it (RFC 9051
           §6.3.7).
On failure OSError; lines that are no mailbox names are passed over, and dropped at the next change.
"""

from __future__ import annotations

from pathlib import Path

from mailserver.mail import utf7
from mailserver.store import folders, foreign
from mailserver.store.model import InvalidName
from mailserver.store.syncing import replace_file

SUBSCRIPTIONS_FILE = "subscriptions"
_VERSION = "V\t2"


def read(account: Path) -> list[str]:
    """The names, sorted."""
    separator = "."
    try:
        lines = (account / SUBSCRIPTIONS_FILE).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        lines = foreign.courier_subscriptions(account)
    if lines[:1] == [_VERSION]:
        separator, lines = "\t", lines[1:]
    found = set()
    for line in filter(None, lines):
        try:
            found.add(folders.normalise(folders.SEPARATOR.join(map(folders.decode, line.split(separator)))))
        except InvalidName:
            continue
    return sorted(found)


def write(account: Path, names: list[str]) -> None:
    lines = ("\t".join(map(utf7.encode, name.split(folders.SEPARATOR))) for name in sorted(names))
    replace_file(account / SUBSCRIPTIONS_FILE, "".join([_VERSION, "\n\n", *(f"{line}\n" for line in lines)]).encode())
