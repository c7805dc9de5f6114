"""What a POP3 client may do: log in, read its INBOX, delete from it.

Promises   No password is asked for in clear where the configuration forbids it. Messages are deleted by QUIT alone: a
           connection that is lost or falls silent deletes nothing (RFC 1939 §3, §6). A message of any size goes out in
           batches, as fast as the client reads.
On failure What the store cannot do now is answered with `-ERR [SYS/TEMP]`. When a message breaks off in the middle the
           connection does too, so that the client does not take the part for the whole. Too many bad commands end it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from mailserver.config.model import Limits
from mailserver.mail import Address
from mailserver.policy.connections import Refusal
from mailserver.pop3 import ServerConnection
from mailserver.pop3.events import (
    Auth,
    AuthResponse,
    Capa,
    Dele,
    Event,
    List,
    Noop,
    Pass,
    Quit,
    Rejected,
    Retr,
    Rset,
    StartTLS,
    Stat,
    Top,
    Uidl,
    User,
)
from mailserver.ports import Channel, Clock, Workers
from mailserver.sasl import SERVER_MECHANISMS, Challenge, Credentials, Mechanism, mechanism
from mailserver.sessions.login import Authenticator, LoginRefused
from mailserver.sessions.maildrop import BATCH, Maildrop, read_batch, top
from mailserver.store import AccountStore, Message, MessageGone, StoreError

log = logging.getLogger(__name__)

UNSENT_LIMIT = 64 * 1024  # octets of answers that may wait while more commands are at hand

# Response codes: RFC 2449 §8, RFC 3206.
AUTH = "AUTH"
TEMPORARY = "SYS/TEMP"


def refuse(hostname: str, refusal: Refusal) -> bytes:
    """The greeting of a client that is turned away."""
    return f"-ERR [{TEMPORARY}] {hostname} {refusal.value}\r\n".encode()


class POP3Session:
    """One connection. `open_account` may block."""

    def __init__(
        self,
        channel: Channel,
        *,
        hostname: str,
        limits: Limits,
        authenticator: Authenticator,
        open_account: Callable[[Address], AccountStore],
        workers: Workers,
        clock: Clock,
        tls_available: bool,
    ) -> None:
        self.engine = ServerConnection(line_limit=limits.command_line)
        self._channel = channel
        self._hostname = hostname
        self._limits = limits
        self._authenticator = authenticator
        self._open_account = open_account
        self._workers = workers
        self._clock = clock
        self._tls_available = tls_available
        self._opened_at = clock.monotonic()
        self._errors = 0
        self._retrieved = 0
        self._removed = 0
        self._user = ""
        self._mechanism: Mechanism | None = None
        self._maildrop: Maildrop | None = None

    # The pump's side

    @property
    def idle_timeout(self) -> float:
        return self._limits.login_timeout if self.awaits_login else self._limits.pop3_timeout

    @property
    def awaits_login(self) -> bool:
        return self._maildrop is None

    async def opened(self) -> None:
        self.engine.greet(f"{self._hostname} POP3 ready")

    async def handle(self, event: Event) -> None:
        match event:
            case Rejected():
                self._refuse(event.text)
            case Capa():
                self._list(self._capabilities())
            case StartTLS():
                self._start_tls()
            case User():
                self._take_user(event.name)
            case Pass():
                await self._log_in(self._user, event.password)
            case Auth():
                await self._begin_exchange(event)
            case AuthResponse():
                await self._step(event.data)
            case Quit():
                await self._quit()
            case _:
                assert self._maildrop is not None, "the engine gives all other commands only after login"
                await self._transact(event, self._maildrop)
        if self.engine.unsent > UNSENT_LIMIT:
            await self._channel.drain()

    def timed_out(self) -> None:
        """RFC 1939 §3: the connection is closed without a word."""

    def lost(self) -> None:
        maildrop, self._maildrop = self._maildrop, None
        if maildrop is not None:
            self._workers.spawn(self._release(maildrop))

    async def _release(self, maildrop: Maildrop) -> None:
        log.info(
            "session=%s pop3 retrieved=%d removed=%d seconds=%.1f",
            self._channel.id,
            self._retrieved,
            self._removed,
            self._clock.monotonic() - self._opened_at,
        )
        await self._workers.run(maildrop.close)

    # Before login

    def _capabilities(self) -> Iterator[str]:
        if self._authenticator.offered(self._channel):
            yield "USER"
            yield "SASL " + " ".join(SERVER_MECHANISMS)
        if self._tls_available and self._channel.tls is None and self._maildrop is None:
            yield "STLS"
        yield from ("TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER")
        yield "IMPLEMENTATION mailserver"

    def _start_tls(self) -> None:
        if self._channel.tls is not None:
            self._refuse("TLS is active already")
        elif not self._tls_available:
            self._refuse("TLS is not available here")
        else:
            self.engine.ok("begin TLS negotiation")
            self._channel.start_tls()

    def _may_log_in(self) -> bool:
        if self._authenticator.offered(self._channel):
            return True
        self._refuse("encryption is required before a password is sent", AUTH)
        return False

    def _take_user(self, user: str) -> None:
        if self._may_log_in():
            self._user = user
            self.engine.ok("send the password")

    async def _begin_exchange(self, event: Auth) -> None:
        if self._may_log_in():
            self._mechanism = mechanism(event.mechanism)
            if self._mechanism is None:
                self._refuse("unknown authentication mechanism")
            else:
                await self._step(event.initial)

    async def _step(self, response: bytes | None) -> None:
        assert self._mechanism is not None, "a response follows AUTH"
        outcome = self._mechanism.step(response)
        if isinstance(outcome, Challenge):
            self.engine.continuation(outcome.data)
        elif isinstance(outcome, Credentials):
            await self._log_in(outcome.user, outcome.password, outcome.authorize_as)
        else:
            self._refuse(f"the response is malformed: {outcome.reason}")

    async def _log_in(self, user: str, password: str, authorize_as: str = "") -> None:
        try:
            account = await self._authenticator.login(self._channel, user, password, authorize_as)
        except LoginRefused as refusal:
            if refusal.temporary:
                self.engine.error(str(refusal), TEMPORARY)
            else:
                self._refuse(str(refusal), AUTH)
            return
        try:
            maildrop = await self._workers.run(lambda: Maildrop.open(self._open_account(account)))
        except (StoreError, OSError) as error:
            log.error("session=%s user=%s the mailbox cannot be opened: %s", self._channel.id, account, error)
            self.engine.error("the mailbox cannot be opened now", TEMPORARY)
            return
        self._maildrop = maildrop
        self.engine.ok(_summary(maildrop))

    # After login

    async def _transact(self, event: Event, maildrop: Maildrop) -> None:
        match event:
            case Stat():
                self.engine.ok(f"{maildrop.count} {maildrop.size}")
            case Noop():
                self.engine.ok()
            case Rset():
                maildrop.reset()
                self.engine.ok(_summary(maildrop))
            case List(None):
                self._list((f"{n} {m.size}" for n, m in maildrop.numbered()), _summary(maildrop))
            case Uidl(None):
                self._list(f"{n} {maildrop.unique_id(m)}" for n, m in maildrop.numbered())
            case List(int(number)) | Uidl(int(number)) | Dele(number) | Retr(number) | Top(number):
                if (message := maildrop.get(number)) is None:
                    self.engine.error("no such message")
                else:
                    await self._about(event, number, message, maildrop)

    async def _about(self, event: Event, number: int, message: Message, maildrop: Maildrop) -> None:
        """The commands that name one message."""
        match event:
            case List():
                self.engine.ok(f"{number} {message.size}")
            case Uidl():
                self.engine.ok(f"{number} {maildrop.unique_id(message)}")
            case Dele():
                maildrop.delete(number)
                self.engine.ok(f"message {number} deleted")
            case Retr():
                await self._send(f"{message.size} octets", maildrop.content(message))
            case Top():
                await self._send("top of message follows", top(maildrop.content(message), event.lines))

    async def _send(self, text: str, content: Iterator[bytes]) -> None:
        try:
            batch = await self._workers.run(read_batch, content)
        except MessageGone:
            self.engine.error("another session has removed the message")
            return
        except (StoreError, OSError) as error:
            log.error("session=%s a message cannot be read: %s", self._channel.id, error)
            self.engine.error("the message cannot be read now", TEMPORARY)
            return
        self._retrieved += 1
        self.engine.multiline(text)
        self.engine.send_content(batch)
        while len(batch) >= BATCH:
            await self._channel.drain()
            batch = await self._workers.run(read_batch, content)
            self.engine.send_content(batch)
        self.engine.end_content()

    async def _quit(self) -> None:
        await self._channel.drain()  # what the client asked for has left before anything is removed or closed
        farewell = f"{self._hostname} signs off"
        if self._maildrop is None:
            self.engine.ok(farewell)
        elif await self._update(self._maildrop):
            self.engine.ok(f"{farewell} ({self._maildrop.count} messages left)")
        else:
            self.engine.error("some deleted messages not removed", TEMPORARY)
        self._channel.close()

    async def _update(self, maildrop: Maildrop) -> bool:
        """Whether all that was deleted is gone."""
        if maildrop.deleted == 0:
            return True
        try:
            left = await self._workers.run(maildrop.update)
        except (StoreError, OSError) as error:
            log.error("session=%s messages cannot be removed: %s", self._channel.id, error)
            return False
        self._removed = maildrop.deleted - left
        return left == 0

    # Answers

    def _list(self, lines: Iterator[str], text: str = "") -> None:
        self.engine.multiline(text)
        self.engine.send_content("".join(f"{line}\r\n" for line in lines).encode())
        self.engine.end_content()

    def _refuse(self, text: str, code: str | None = None) -> None:
        """The client's own fault: counted."""
        self._errors += 1
        if self._errors <= self._limits.errors:
            self.engine.error(text, code)
        else:
            self.engine.error("too many errors")
            self._channel.close()


def _summary(maildrop: Maildrop) -> str:
    return f"{maildrop.count} messages ({maildrop.size} octets)"
