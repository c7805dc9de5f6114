"""What a client is answered whose command fails.

Promises   Each error of the store has its code.
On failure Nothing here fails.
"""

from __future__ import annotations

from mailserver.store import (
    InvalidFlag,
    InvalidName,
    MailboxExists,
    MailboxHasChildren,
    NoSuchMailbox,
    OverQuota,
    SpecialUseRefused,
    StoreError,
    TooManyKeywords,
)


class Refused(Exception):
    """The command fails: the tagged answer."""

    def __init__(self, text: str, code: str | None = None, *, status: str = "NO") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.status = status


# RFC 5530 §3, RFC 6154 §3, RFC 9051 §7.1. The more special comes first.
_CODES: tuple[tuple[type[StoreError], str], ...] = (
    (NoSuchMailbox, "NONEXISTENT"),
    (MailboxExists, "ALREADYEXISTS"),
    (MailboxHasChildren, "HASCHILDREN"),
    (SpecialUseRefused, "USEATTR"),
    (InvalidName, "CANNOT"),
    (TooManyKeywords, "LIMIT"),
    (InvalidFlag, "CANNOT"),
    (OverQuota, "OVERQUOTA"),
    (StoreError, "UNAVAILABLE"),
)


def failure(error: StoreError) -> Refused:
    """The answer to what the store cannot do."""
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    return Refused(str(error) or "Not possible now", code)
