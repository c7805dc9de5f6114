"""Names of mailboxes and their directories: Maildir++, modified UTF-7, and no way out of the account's directory.

`Work/2024` lies in `.Work.2024` beside `INBOX`, which is the account's directory itself. On disk names are in modified
UTF-7 (RFC 3501 §5.1.3), as Dovecot's by default. What clients see instead of "/" is a matter of the protocol's engine.

Promises   A name and its directory map to each other exactly; what does not survive the way there and back is refused
           (a name) or not seen (a directory). No part of a name can hold a dot, a slash, or a control character.
On failure InvalidName, whose text can be shown to the client.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mailserver.mail import Address, utf7
from mailserver.store.model import InvalidName

SEPARATOR = "/"
INBOX = "INBOX"
_NAME_LIMIT = 255  # octets of a directory's name, as file systems allow
_RESERVED = frozenset({".uidvalidity"})  # files of ours that stand where a folder's directory would

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_IN_PATH = re.compile(rb"\A\.|[^A-Za-z0-9!#$*+=@_{}~^.-]")


def decode(text: str) -> str:
    """From modified UTF-7. Raises InvalidName."""
    try:
        return utf7.decode(text)
    except ValueError:
        raise InvalidName("The name is not valid modified UTF-7") from None


def normalise(name: str) -> str:
    """The name as it is kept: `INBOX` in any case is INBOX. Raises InvalidName."""
    parts = name.split(SEPARATOR)
    if parts[0].isascii() and parts[0].upper() == INBOX:  # there are letters elsewhere that become an I
        parts[0] = INBOX
    for part in parts:
        if not part:
            raise InvalidName("A part of the name is empty")
        if "." in part:
            raise InvalidName("The name has a character that is not possible here")
    if _CONTROL.search(name):
        raise InvalidName("The name has a control character")
    return SEPARATOR.join(parts)


def directory_of(name: str) -> str:
    """The directory below the account's, empty for INBOX. Raises InvalidName."""
    name = normalise(name)
    if name == INBOX:
        return ""
    directory = "." + utf7.encode(name.replace(SEPARATOR, "."))
    if len(directory) > _NAME_LIMIT:
        raise InvalidName("The name is too long")
    if directory in _RESERVED:
        raise InvalidName("The name is reserved")
    return directory


def name_of(directory: str) -> str | None:
    """The mailbox that a directory in the account's holds; None when it is none of ours."""
    if not directory.startswith("."):
        return None
    try:
        name = decode(directory[1:]).replace(".", SEPARATOR)
        return name if name != INBOX and directory_of(name) == directory else None
    except InvalidName:
        return None


def utf8_name_of(directory: str) -> str | None:
    """The mailbox that a directory with such a name holds where names on disk are in UTF-8, as Courier's since 5."""
    if not directory.startswith(".") or directory.isascii():
        return None
    name = directory[1:].replace(".", SEPARATOR)
    try:
        return name if directory_of(name) else None
    except InvalidName:
        return None


@lru_cache(maxsize=4096)
def account_path(address: Address) -> str:
    """`<domain>/<localpart>` below the store's root; injective, and safe whatever the address holds.

    Raises InvalidName for an address without a local part or domain.
    """
    local, domain = address.key
    if not local or not domain:
        raise InvalidName("The address names no account")
    return f"{_escape(domain)}/{_escape(local)}"


def _escape(text: str) -> str:
    """Percent-encoded but for plain characters; dots are plain inside, not at the start."""
    octets = text.encode("utf-8", "surrogatepass")
    return _UNSAFE_IN_PATH.sub(lambda match: b"%%%02X" % match[0][0], octets).decode("ascii")
