"""What IMAP URLs point at, for CATENATE and URLFETCH (RFC 4469, RFC 4467).

Promises   A mailbox's name may be written in any normal form of Unicode, as in commands (`names`), whatever is enabled.
           Memory: of a whole message a chunk, else the message while the part of it is looked for, as FETCH.
           Nothing is marked as seen.
On failure BadURL where the URL points at nothing; StoreError where the disk refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mailserver.imap.commands import Text
from mailserver.imap.urls import BadURL, MessageURL
from mailserver.mail import Content
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.reading import octets_at
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.sections import Source, clipped
from mailserver.store import (
    AccountStore,
    InvalidName,
    Mailbox,
    MessageGone,
    NoSuchMailbox,
    Unavailable,
)


def is_here(core: Core, host: str) -> bool:
    """Whether a URL's server is this one: by its own name or by that of the user's mail domain."""
    assert core.user is not None
    return host.lower() in (core.hostname.lower(), core.user.domain)


def code(text: str) -> str:
    """The response code for a URL that failed (RFC 4469 §4.1); no "]" can stand in it."""
    return "BADURL " + (text.replace("]", "%5D") or '""')


def copy(account: AccountStore, url: MessageURL, content: Content, most: int) -> None:
    """Writes what the URL points at, at most so many octets. Blocking.

    Raises BadURL, Refused with TOOBIG, StoreError.
    """
    with opened(account, url) as mailbox:
        try:
            for chunk in _octets(mailbox, url, most):
                content.write(chunk)
        except MessageGone:
            raise BadURL("there is no such message") from None
        except OSError as error:
            raise Unavailable("The message cannot be copied now", error.errno) from error


@contextmanager
def opened(account: AccountStore, url: MessageURL) -> Iterator[Mailbox]:
    """The mailbox of a URL's message, which is there. Blocking. Raises BadURL, StoreError."""
    try:
        mailbox = account.open(account.meant(url.mailbox))
    except (NoSuchMailbox, InvalidName):
        raise BadURL("there is no such mailbox") from None
    try:
        if url.uidvalidity not in (None, mailbox.uidvalidity):
            raise BadURL("the mailbox is not the one of that UIDVALIDITY")
        if not mailbox.get([url.uid]):
            raise BadURL("there is no such message")
        yield mailbox
    except NoSuchMailbox:
        raise BadURL("there is no such mailbox any more") from None
    finally:
        mailbox.close()


def _octets(mailbox: Mailbox, url: MessageURL, most: int) -> Iterator[bytes]:
    section = url.section
    if section.part or section.text is not Text.ALL:
        octets = Source(mailbox.read(url.uid)).octets(section)
        if octets is None:
            raise BadURL("there is no such part")
        _bound(len(octets), most)
        yield octets
        return
    for message in mailbox.get([url.uid]):
        start, end = clipped((0, message.size), section.partial)
        _bound(end - start, most)
        yield from octets_at(mailbox, url.uid, (start, end))


def _bound(size: int, most: int) -> None:
    if size > most:
        raise Refused("the message would be too big", "TOOBIG")
