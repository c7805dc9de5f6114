"""The AUTHORIZATION state (RFC 1939 §4): CAPA, STLS, UTF8, LANG, USER and PASS, AUTH.

Promises   No password is asked for in clear where the configuration forbids it. What CAPA tells holds on this
           connection now; login changes nothing of it (RFC 2449 §5).
On failure A login is refused with [AUTH], [SYS/TEMP], [SYS/PERM], [IN-USE] or [LOGIN-DELAY]. The last two are told only
           to those who know the password.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailserver.mail import Address
from mailserver.pop3.events import UTF8, Auth, AuthResponse, Event, Lang, Mechanisms, Pass, StartTLS, User
from mailserver.sessions.login import Exchange, LoginRefused
from mailserver.sessions.pop3.core import AUTH, IN_USE, LOGIN_DELAY, TEMPORARY, Core
from mailserver.sessions.pop3.maildrop import Maildrop
from mailserver.store import InUse, StoreError, TooSoon

LANGUAGES = {"en": "English"}
"""In which answers are written (RFC 6856 §3)."""


def capabilities(core: Core) -> Iterator[str]:
    """The lines of CAPA (RFC 2449 §6, RFC 2595 §4, RFC 3206 §5, RFC 5034 §3, RFC 6856)."""
    yield from ("TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING")
    if mechanisms := core.rooms.authenticator.mechanisms(core.channel):
        yield "USER"
        yield "SASL " + " ".join(mechanisms)
    if core.tls_available and core.channel.tls is None:
        yield "STLS"
    yield from ("UTF8 USER", "LANG", "EXPIRE NEVER")
    if core.rooms.policy.login_delay:
        yield f"LOGIN-DELAY {core.rooms.policy.login_delay:.0f}"
    yield "IMPLEMENTATION mailserver"


async def choose_language(core: Core, event: Lang) -> None:
    """Basic filtering (RFC 4647 §3.3.1): a range matches a tag that is equal, or begins with it and a hyphen."""
    if event.wanted is None:
        lines = "".join(f"{tag} {name}\r\n" for tag, name in LANGUAGES.items())
        await core.answer_list([lines.encode()], "languages follow")
        return
    wanted = event.wanted.lower()
    for tag in LANGUAGES:
        if wanted == "*" or f"{tag}-".startswith(f"{wanted}-"):
            core.engine.ok(f"{tag} answers are in {LANGUAGES[tag]}")
            return
    core.engine.error("that language is not known here; LANG lists those that are")


class Authorization:
    """`handle` gives the maildrop once the client has logged in."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._user = ""
        self._exchange: Exchange | None = None

    async def handle(self, event: Event) -> Maildrop | None:
        core = self._core
        match event:
            case StartTLS():
                await self._start_tls()
            case UTF8():
                core.utf8 = True
                core.engine.ok("UTF-8 it is")
            case Mechanisms():
                names = core.rooms.authenticator.mechanisms(core.channel)
                await core.answer_list([f"{name}\r\n".encode() for name in names], "mechanisms follow")
            case User(name):
                if await self._may_log_in():
                    self._user = name
                    core.engine.ok("send the password")
            case Pass(password):
                return await self._by_password(password)
            case Auth(name, initial):
                if await self._may_log_in():
                    self._exchange = core.rooms.authenticator.begin(core.channel, name, "pop3")
                    if self._exchange is not None:
                        return await self._step(self._exchange, initial)
                    await core.refuse("unknown authentication mechanism; CAPA lists those that there are")
            case AuthResponse(data):
                assert self._exchange is not None, "a response follows AUTH"
                return await self._step(self._exchange, data)
        return None

    async def _start_tls(self) -> None:
        core = self._core
        if core.channel.tls is not None:
            await core.refuse("TLS is active already")
        elif not core.tls_available:
            await core.refuse("TLS is not available here")
        elif core.utf8:
            await core.refuse("STLS comes before UTF8")  # RFC 6856 §2.1
        else:
            core.engine.ok("begin TLS negotiation")
            core.channel.start_tls()

    async def _may_log_in(self) -> bool:
        if self._core.rooms.authenticator.offered(self._core.channel):
            return True
        await self._core.refuse("encryption is required before a password is sent", AUTH)
        return False

    async def _by_password(self, password: str) -> Maildrop | None:
        core = self._core
        try:
            return await self._enter(await core.rooms.authenticator.login(core.channel, self._user, password, "pop3"))
        except LoginRefused as refusal:
            await self._refuse(refusal)
            return None

    async def _step(self, exchange: Exchange, response: bytes | None) -> Maildrop | None:
        try:
            outcome = await exchange.step(response)
        except LoginRefused as refusal:
            await self._refuse(refusal)
            return None
        if isinstance(outcome, Address):
            return await self._enter(outcome)
        self._core.engine.continuation(outcome)
        return None

    async def _refuse(self, refusal: LoginRefused) -> None:
        if refusal.temporary:
            self._core.engine.error(str(refusal), TEMPORARY)
        else:
            await self._core.refuse(str(refusal), None if refusal.malformed else AUTH)

    async def _enter(self, account: Address) -> Maildrop | None:
        core, rooms = self._core, self._core.rooms
        try:
            maildrop = await rooms.workers.run(lambda: Maildrop.open(rooms.open_account(account), rooms.policy))
        except InUse:
            await core.refuse("another session has the mailbox; try again when it has ended", IN_USE)
        except TooSoon:
            await core.refuse("you were here a moment ago; try again later", LOGIN_DELAY)
        except (StoreError, OSError) as error:
            core.failed("the mailbox cannot be opened now", error)
        else:
            core.engine.ok(maildrop.summary)
            return maildrop
        return None
