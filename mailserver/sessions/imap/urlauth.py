"""GENURLAUTH, RESETKEY, URLFETCH (RFC 4467, RFC 5524; RFC 5550 §5.7.1 for parts by octets).

Theory     A token is an HMAC of the URL as it was written, up to the mechanism, with the secret key of the mailbox. Two
           digits before it name the algorithm. Who holds such a URL, and is whom its access identifier names, reads
           what it points at as its owner would.
Promises   Only the owner of a mailbox makes URLs for it. Tokens are compared in constant time; one is computed also
           when there is no such user, mailbox or key. No answer tells whether a user exists. Nothing secret is logged.
           What is fetched lies in the spool when it is large, and goes out in pieces.
On failure A URL that cannot be fetched for any reason is answered with NIL, and the others are given; where the reason
           is the disk or the directory, and may pass, the command ends with NO. GENURLAUTH makes all or none.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import sys
from collections.abc import Iterator

from mailserver.imap import responses
from mailserver.imap.commands import FetchURLs, GenerateURLs, ResetKey, WantedURL, text_of
from mailserver.imap.urls import Authorisation, BadURL, MessageURL, parse
from mailserver.mail import Content
from mailserver.sessions.imap import urls
from mailserver.sessions.imap.core import MECHANISMS, Core
from mailserver.sessions.imap.reading import without_nul
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.imap.urlparts import find
from mailserver.store import AccountStore, InvalidName, NoSuchMailbox, StoreError

log = logging.getLogger(__name__)

INTERNAL = "INTERNAL"

_HMAC_SHA256 = "01"


async def reset_key(core: Core, tag: str, command: ResetKey) -> None:
    if any(mechanism != INTERNAL for mechanism in command.mechanisms):
        raise Refused("no such mechanism", "CANNOT")
    if command.mailbox is None:
        await core.workers.run(core.account.remove_access_keys)
        core.engine.done(tag, "OK", "All keys removed")
    else:
        await core.workers.run(core.account.renew_access_key, command.mailbox)
        if core.has_selected and core.selected.mailbox.name == command.mailbox:
            core.selected.key_changes = core.selected.mailbox.key_changes  # told by this answer
        core.engine.done(tag, "OK", "Key renewed", MECHANISMS)


async def generate(core: Core, tag: str, command: GenerateURLs) -> None:
    made = []
    for text, mechanism in command.wanted:
        if mechanism != INTERNAL:
            raise Refused("no such mechanism", "CANNOT")
        url, known = await _unauthorised(core, text)
        try:
            key = await core.workers.run(_key, core.account, url.mailbox)
        except (NoSuchMailbox, InvalidName) as error:
            raise Refused("the URL's mailbox does not exist", status="BAD") from error
        made.append(responses.string(f"{known.rump}:internal:{_token(key, known.rump)}".encode()))
    core.engine.untagged(b"GENURLAUTH " + b" ".join(made))
    core.engine.done(tag, "OK", "URLs authorised")


def _key(account: AccountStore, mailbox: str) -> bytes:
    return account.make_access_key(account.meant(mailbox))


async def _unauthorised(core: Core, text: str) -> tuple[MessageURL, Authorisation]:
    """A URL that the user may have authorised. Raises Refused: §7 wants BAD."""
    try:
        url = parse(text, separator=core.engine.separator)
        if not url.host:
            raise BadURL("the URL is not absolute")
        if not urls.is_here(core, url.host):
            raise BadURL("the URL is of another server")
        if not url.user or not await core.is_user(url.user):
            raise BadURL("the URL's user is missing, or not the one that is logged in")
        known = url.authorisation
        if known is None:
            raise BadURL("the URL has no access identifier")
        if known.mechanism:
            raise BadURL("the URL has a token already")
    except BadURL as error:
        raise Refused(str(error), status="BAD") from error
    return url, known


async def fetch_urls(core: Core, tag: str, command: FetchURLs) -> None:
    hindered: StoreError | Refused | None = None
    for wanted in command.wanted:
        with_url = b"* URLFETCH " + responses.astring(wanted.url)
        try:
            if wanted.parameters:
                await _tell_extended(core, wanted, with_url)
            else:
                await _tell(core, wanted, with_url + b" ")
        except (BadURL, StoreError, Refused) as error:
            if not isinstance(error, BadURL):
                log.warning("session=%s user=%s cannot fetch by URL now: %s", core.channel.id, core.user, error)
                hindered = error
            core.engine.send(with_url + b" NIL\r\n")
        await core.drain_if_much()
    if hindered is not None:
        raise hindered
    core.engine.done(tag, "OK", "URLs fetched")


async def _tell(core: Core, wanted: WantedURL, with_url: bytes) -> None:
    """Raises BadURL, StoreError, Refused; then nothing was sent."""
    account, url = await _validated(core, text_of(wanted.url))
    content = Content(directory=core.spool)
    await core.workers.run(urls.copy, account, url, content, sys.maxsize)
    core.engine.send(with_url + (b"{%d}\r\n" % content.size if content.size else b'""'))
    await _send(core, map(without_nul, content.chunks()))
    core.engine.send(b"\r\n")


async def _tell_extended(core: Core, wanted: WantedURL, with_url: bytes) -> None:
    """RFC 5524 §3.2. Raises as `_tell`."""
    account, url = await _validated(core, text_of(wanted.url))
    binary = b"BINARY" in wanted.parameters
    found = await core.workers.run(lambda: find(account, url, core.spool, binary=binary))
    core.engine.send(with_url)
    if b"BODYPARTSTRUCTURE" in wanted.parameters:
        core.engine.send(b" (BODYPARTSTRUCTURE " + found.structure + b")")
    for name in wanted.parameters & {b"BODY", b"BINARY"}:
        core.engine.send(b" (" + name + b" ")
        if found.octets is None:
            core.engine.send(b"NIL")
        elif not found.octets.octets.size:
            core.engine.send(b'""')
        else:
            core.engine.send(found.octets.announcement)
            await _send(core, found.octets.octets.chunks())
        core.engine.send(b")")
    core.engine.send(b"\r\n")


async def _send(core: Core, stream: Iterator[bytes]) -> None:
    while chunk := await core.workers.run(next, stream, b""):
        core.engine.send(chunk)
        await core.drain_if_much()


async def _validated(core: Core, text: str) -> tuple[AccountStore, MessageURL]:
    """The account of the URL's owner. Raises BadURL."""
    url = parse(text, separator=core.engine.separator)
    known = url.authorisation
    if known is None or not await _may_use(core, known):
        raise BadURL("not authorised")
    owner = await core.account_of(url.user) if urls.is_here(core, url.host) else None
    account = await core.workers.run(core.open_account, owner) if owner is not None else None
    await core.workers.run(_validate, account, url.mailbox, known)
    assert account is not None
    log.info("session=%s user=%s fetches by URL owner=%s access=%s", core.channel.id, core.user, owner, known.access)
    return account, url


async def _may_use(core: Core, known: Authorisation) -> bool:
    """Whether the access identifier allows it to this session, now (§3)."""
    if known.expires is not None and core.clock.wall() > known.expires:
        return False
    match known.access:
        case "user":
            return await core.is_user(known.user)
        case "submit":
            return core.user in core.submitters
        case _:
            return True  # nobody is anonymous here


def _validate(account: AccountStore | None, mailbox: str, known: Authorisation) -> None:
    """Blocking. Raises BadURL."""
    key = None
    if account is not None and known.mechanism == INTERNAL:
        try:
            key = account.access_key(account.meant(mailbox))
        except (NoSuchMailbox, InvalidName):
            key = None
    token = _token(key or secrets.token_bytes(32), known.rump)
    if not hmac.compare_digest(token, known.token.lower()) or key is None:
        raise BadURL("not authorised")


def _token(key: bytes, rump: str) -> str:
    return _HMAC_SHA256 + hmac.new(key, rump.encode(), hashlib.sha256).hexdigest()
