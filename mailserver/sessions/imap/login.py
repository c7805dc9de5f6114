"""CAPABILITY, LOGIN, AUTHENTICATE, UNAUTHENTICATE, STARTTLS, COMPRESS, ID, NOOP, LOGOUT (RFC 3501 §6.1, §6.2; RFC 4978;
RFC 8437).

Promises   A password is taken only where the authenticator offers it; LOGINDISABLED tells so (§6.2.3, RFC 2595).
           CAPABILITY names what works on this connection now, and nothing else.
On failure A refused login is answered with AUTHENTICATIONFAILED, AUTHORIZATIONFAILED or UNAVAILABLE (RFC 5530).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mailserver.imap import AuthResponse, Event
from mailserver.imap.commands import (
    Authenticate,
    Capability,
    Compress,
    Identify,
    Login,
    Logout,
    Noop,
    StartTLS,
    Unauthenticate,
)
from mailserver.mail import Address
from mailserver.sessions.imap import messagelimit
from mailserver.sessions.imap.core import Core
from mailserver.sessions.imap.refusals import Refused
from mailserver.sessions.login import Exchange, LoginRefused
from mailserver.store import StoreError

log = logging.getLogger(__name__)

_ALWAYS = ("IMAP4rev1", "IMAP4rev2", "LITERAL+", "SASL-IR", "ID")
_AFTER_LOGIN = (
    "ENABLE",
    "CONDSTORE",
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "QRESYNC",
    "UIDONLY",
    "UIDBATCHES",
    "I18NLEVEL=2",
    "IDLE",
    "INPROGRESS",
    "NAMESPACE",
    "NOTIFY",
    "UIDPLUS",
    "MULTIAPPEND",
    "CATENATE",
    "URLAUTH",
    "URL-PARTIAL",
    "URLFETCH=BINARY",
    "BINARY",
    "PREVIEW",
    "SAVEDATE",
    "REPLACE",
    "UNSELECT",
    "UTF8=ACCEPT",
    "CHILDREN",
    "MOVE",
    "STATUS=SIZE",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "ESEARCH",
    "ESORT",
    "MULTISEARCH",
    "PARTIAL",
    "SEARCHRES",
    "SEARCH=FUZZY",
    "SORT",
    "SORT=DISPLAY",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "THREAD=REFS",
    "WITHIN",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "METADATA",
    "LIST-METADATA",
    "OBJECTID",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
)


def capabilities(core: Core) -> str:
    names = list(_ALWAYS)
    if core.user is not None:
        names += [*_AFTER_LOGIN, f"APPENDLIMIT={core.append_limit}"]
        if core.policy.unauthenticate:
            names.append("UNAUTHENTICATE")
        if (limited := messagelimit.capability(core)) is not None:
            names.append(limited)
        if not core.channel.compressed:
            names.append("COMPRESS=DEFLATE")
    else:
        if core.tls_available and core.channel.tls is None:
            names.append("STARTTLS")
        if core.authenticator.offered(core.channel):
            names += [f"AUTH={name}" for name in core.authenticator.mechanisms(core.channel)]
        else:
            names.append("LOGINDISABLED")
    return " ".join(names)


def capability_code(core: Core) -> str:
    return f"CAPABILITY {capabilities(core)}"


async def capability(core: Core, tag: str, _command: Capability) -> None:
    core.engine.untagged(capability_code(core).encode())
    core.engine.done(tag, "OK", "Capabilities listed")


async def noop(core: Core, tag: str, _command: Noop) -> None:
    await core.look()
    core.tell_news(expunges=True)
    core.engine.done(tag, "OK", "Done")


async def logout(core: Core, tag: str, _command: Logout) -> None:
    core.engine.untagged(b"BYE Logging out")
    core.engine.done(tag, "OK", "Goodbye")
    core.channel.close()


async def starttls(core: Core, tag: str, _command: StartTLS) -> None:
    if core.channel.tls is not None:
        raise Refused("TLS is active already", status="BAD")
    if not core.tls_available:
        raise Refused("TLS is not available here", status="BAD")
    core.engine.done(tag, "OK", "Begin TLS now")
    core.channel.start_tls()


async def compress(core: Core, tag: str, _command: Compress) -> None:
    if core.channel.compressed:
        raise Refused("DEFLATE is active already", "COMPRESSIONACTIVE", status="BAD")
    core.engine.done(tag, "OK", "DEFLATE active")
    core.channel.start_compression()


async def unauthenticate(core: Core, tag: str, _command: Unauthenticate) -> None:
    """There is no NO: a client need not wait for the answer (RFC 8437 §3)."""
    if not core.policy.unauthenticate:
        raise Refused("unknown command", status="BAD")
    log.info("session=%s user=%s logged out, the connection stays", core.channel.id, core.user)
    try:
        await core.log_out()
    except StoreError as error:
        log.error("session=%s the selected mailbox cannot be closed: %s", core.channel.id, error)
        core.engine.bye("The mailbox cannot be closed now", "UNAVAILABLE")
        core.channel.close()
        return
    if core.channel.compressed:
        core.engine.done(tag, "OK", "Logged out; no compression from here on")
        core.channel.stop_compression()
    else:
        core.engine.done(tag, "OK", "Logged out")


async def identify(core: Core, tag: str, command: Identify) -> None:
    client = {name.lower(): value for name, value in command.fields if value}
    log.info(
        "session=%s client=%r version=%r",
        core.channel.id,
        client.get("name", "")[:100],
        client.get("version", "")[:100],
    )
    core.engine.untagged(b'ID ("name" "mailserver")')
    core.engine.done(tag, "OK", "Nice to meet you")


async def login(core: Core, tag: str, command: Login) -> None:
    _require_privacy(core)
    with _refusing():
        user = await core.authenticator.login(core.channel, command.user, command.password, "imap")
    await _enter(core, tag, user)


class Authentication:
    """An AUTHENTICATE under way."""

    listens = False

    def __init__(self, core: Core, tag: str, exchange: Exchange) -> None:
        self._core = core
        self._tag = tag
        self._exchange = exchange

    async def go_on(self, event: Event) -> None:
        assert isinstance(event, AuthResponse)
        await self.step(event.data)

    async def step(self, response: bytes | None) -> None:
        with _refusing():
            outcome = await self._exchange.step(response)
        if isinstance(outcome, bytes):
            self._core.engine.challenge(outcome)
        else:
            self._core.end()
            await _enter(self._core, self._tag, outcome)

    def close(self) -> None:
        """Nothing is held."""


async def authenticate(core: Core, tag: str, command: Authenticate) -> None:
    _require_privacy(core)
    exchange = core.authenticator.begin(core.channel, command.mechanism, "imap")
    if exchange is None:
        raise Refused("no such mechanism", "CANNOT")
    authentication = Authentication(core, tag, exchange)
    core.begin(authentication)
    await authentication.step(command.initial)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except LoginRefused as refused:
        failed = "AUTHORIZATIONFAILED" if refused.authorization else "AUTHENTICATIONFAILED"
        raise Refused(str(refused), "UNAVAILABLE" if refused.temporary else failed) from refused


def _require_privacy(core: Core) -> None:
    if not core.authenticator.offered(core.channel):
        raise Refused("encryption is required before a password is sent", "PRIVACYREQUIRED")


async def _enter(core: Core, tag: str, user: Address) -> None:
    try:
        account = await core.workers.run(core.open_account, user)
    except (StoreError, OSError) as error:
        log.error("session=%s user=%s the account cannot be opened: %s", core.channel.id, user, error)
        raise Refused("the mailbox cannot be opened now", "UNAVAILABLE") from error
    core.log_in(user, account)
    core.engine.done(tag, "OK", "Logged in", capability_code(core))
