"""Handing mail to other servers by SMTP or LMTP: to the exchangers of a domain, a smarthost, a server of one's own.

Promises   The hosts of a site are tried in order until one of them takes or refuses the message; then each recipient
           has the answer that it got there. A connection that is open is used again for the next message to the site.
           An exchanger at an address of this server ends the search: mail makes no circle.
           Encryption is used wherever it is offered, and where it fails the message goes in clear if it may, but never
           a password. A password goes only to a smarthost whose certificate holds, unless the route says otherwise.
On failure A temporary status when no server could be asked. OSError when the content cannot be read: nothing was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from mailserver.config.relay import Relay as Settings
from mailserver.delivery.conversation import Conversation, Outgoing, SessionFailed, TLSFailed
from mailserver.delivery.dsn import HEAD_LIMIT
from mailserver.delivery.nexthop import LOOP, NO_ADDRESS, Deliverable, Host, Site, Unroutable, addresses, exchangers
from mailserver.delivery.pool import Pool, Session
from mailserver.delivery.routes import ByMX, Encryption, LMTPServer, LMTPSocket, Smarthost
from mailserver.mail import Address, Body, Content, DeliveryStatus, Envelope, Recipient, Reply
from mailserver.message.header import header_end
from mailserver.ports import Clock, ConnectFailure, Connection, Connector, Resolver, Workers

log = logging.getLogger(__name__)

STOPPED = Reply.of(451, "4.3.2", "There was no time to ask further servers")

PATIENCE = 900.0  # seconds; after that no further address is tried
SESSIONS_PER_HOST = 2  # addresses of one host at which a session is tried


class Relay:
    """One for the whole server. `is_own`: the address is of this machine. `may_send`: the queue is still ours."""

    def __init__(
        self,
        settings: Settings,
        *,
        hostname: str,
        resolver: Resolver,
        connector: Connector,
        is_own: Callable[[str], bool],
        may_send: Callable[[], bool],
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._hostname = hostname
        self._resolver = resolver
        self._connector = connector
        self._is_own = is_own
        self._may_send = may_send
        self._workers = workers
        self._clock = clock
        self._pool = Pool(
            idle=settings.idle_connection,
            messages=settings.messages_per_connection,
            close=self._close,
            workers=workers,
            clock=clock,
        )
        self._open: set[Connection] = set()
        self._stopped = False

    def abort(self) -> None:
        """Closes all connections; what is under way ends with temporary statuses. For the stop of the server."""
        self._stopped = True
        self._pool.close()
        for connection in tuple(self._open):
            connection.close()

    async def locate(self, transport: Deliverable, domain: str) -> Site:
        """The servers of a way to go; `domain` counts where that is by MX. Raises Unroutable."""
        match transport:
            case ByMX():
                hosts = await exchangers(self._resolver, domain, hostname=self._hostname)
                return Site(",".join(sorted(host.name for host in hosts)), transport, hosts)
            case Smarthost(host=host) | LMTPServer(host=host):
                return Site(str(transport), transport, (Host(host),))
            case LMTPSocket():
                return Site(str(transport), transport)

    async def deliver(self, site: Site, envelope: Envelope, header: bytes, content: Content) -> list[DeliveryStatus]:
        """One status for each recipient, in order; `header` goes on top of the content. `host` is set in a status
        when a remote server gave the reply."""
        once: dict[Address, Recipient] = {}
        for recipient in envelope.recipients:  # the second answer to the same address is not the one that counts
            once.setdefault(recipient.address, recipient)
        if content.in_memory:
            body, utf8 = _needs(header, content)
        else:
            body, utf8 = await self._workers.run(_needs, header, content)
        mail = Outgoing(envelope, header, content, body, utf8 and envelope.parameters.smtputf8)
        done = await self._deliver(site, list(once.values()), mail)
        statuses = {status.recipient: status for status in done}
        return [statuses[recipient.address] for recipient in envelope.recipients]

    async def _deliver(self, site: Site, recipients: Sequence[Recipient], mail: Outgoing) -> list[DeliveryStatus]:
        work = _Work(site, mail, recipients, self._clock.monotonic() + PATIENCE)
        statuses = await self._by_open_session(work) or await self._by_new_session(work)
        if statuses is None:
            reply, said_by = work.most_hopeful()
            statuses = [DeliveryStatus.of_reply(recipient.address, reply, said_by) for recipient in recipients]
        return statuses

    async def _by_open_session(self, work: _Work) -> list[DeliveryStatus] | None:
        session = self._pool.take(work.key)
        if session is None:
            return None
        try:
            return await self._transact(work, session)
        except SessionFailed as failure:
            if session.conversation.answered:  # else it was closed before this message came, which says nothing
                work.failed(failure, session.host)
            return None

    async def _by_new_session(self, work: _Work) -> list[DeliveryStatus] | None:
        """None when all hosts failed."""
        if isinstance(work.site.transport, LMTPSocket):
            return await self._at(work, "localhost", [], work.site.transport.path)
        for hosts in work.site.by_preference():
            found = [(host, await self._addresses(work, host)) for host in hosts]
            if work.by_mx and any(self._is_own(address) for _, known in found for address in known):
                if not work.failures:
                    work.failures.append((LOOP, None))
                return None  # nor is what stands behind this server to be tried (RFC 5321 §5.1)
            for host, known in found:
                statuses = await self._at(work, host, known) if known else None
                if statuses is not None:
                    return statuses
        return None

    async def _addresses(self, work: _Work, host: str) -> Sequence[str]:
        try:
            found = await addresses(self._resolver, host)
        except Unroutable as error:
            work.failures.append((error.reply, None))
            return []
        if not found and not work.by_mx:  # a misspelled smarthost must not return all mail
            text = f"The server {host}, which the configuration names, has no address"
            work.failures.append((Reply.of(451, "4.4.3", text), None))
        return found

    async def _at(
        self, work: _Work, host: str, known: Sequence[str], path: str | None = None
    ) -> list[DeliveryStatus] | None:
        """At one host: None when no session there got to an answer. `path` is that of a UNIX socket."""
        left = list(known)
        for _ in range(SESSIONS_PER_HOST):
            if self._stopped or self._clock.monotonic() > work.deadline:
                work.failures.append((STOPPED, None))
                return None
            peer = ""
            try:
                connection = await self._connect(work, host, left, path)
                peer = connection.peer
                return await self._transact(work, await self._open_session(work, host, connection, path))
            except SessionFailed as failure:
                log.info("site=%s host=%s address=%s: %r", work.site.key, host, peer or left, str(failure))
                work.failed(failure, host)
            left = [address for address in left if address != peer]
            if not peer or not left:
                return None
        return None

    async def _connect(self, work: _Work, host: str, known: Sequence[str], path: str | None) -> Connection:
        timeout = self._settings.connect_timeout
        try:
            if path is not None:
                return await self._connector.connect_unix(path, timeout)
            return await self._connector.connect_any(known, work.port(self._settings.port), timeout)
        except ConnectFailure as error:
            raise SessionFailed(Reply.of(451, "4.4.1", f"{host}: {error}")) from error

    async def _open_session(self, work: _Work, host: str, connection: Connection, path: str | None) -> Session:
        """Up to where a transaction may begin; again without encryption where that failed and may be missing."""
        try:
            return await self._begin(work, host, connection, encrypt=path is None)
        except TLSFailed as failure:
            if work.encryption is not Encryption.OPPORTUNISTIC:
                raise
            log.warning("host=%s address=%s sending in clear: %r", host, connection.peer, str(failure))
            again = await self._connect(work, host, [connection.peer], path)
            return await self._begin(work, host, again, encrypt=False)

    async def _begin(self, work: _Work, host: str, connection: Connection, *, encrypt: bool) -> Session:
        self._open.add(connection)
        conversation = Conversation(
            connection, host, self._workers, self._clock, may_send=self._may_send, lmtp=work.lmtp
        )
        session = Session(connection, conversation, host)
        try:
            if self._stopped:
                raise SessionFailed(STOPPED)
            verify = work.encryption is Encryption.VERIFIED
            if work.implicit_tls:
                await conversation.handshake(verify=verify)
            await conversation.greet(self._hostname)
            if encrypt and not work.implicit_tls and conversation.offers_tls:
                await conversation.start_tls(self._hostname, verify=verify)
            if connection.tls is not None:
                log.info("host=%s tls=%s certificate=%s", host, connection.tls, connection.certificate or "-")
            if work.requiretls and not (connection.tls and conversation.offers_requiretls):
                text = f"{host} cannot promise that the message is never sent in clear"
                raise SessionFailed(Reply.of(550, "5.7.30", text))
            if work.encryption is not Encryption.OPPORTUNISTIC and connection.tls is None:
                raise SessionFailed(Reply.of(454, "4.7.0", f"{host} offers no encryption, which its route demands"))
            if isinstance(work.site.transport, Smarthost) and work.site.transport.user is not None:
                await self._log_in(conversation, work.site.transport)
            return session
        except SessionFailed:
            self._pool.leave(session)
            raise
        except BaseException:
            self._close(connection)
            raise

    async def _transact(self, work: _Work, session: Session) -> list[DeliveryStatus]:
        try:
            statuses = await session.conversation.send(work.mail, work.recipients)
        except SessionFailed:
            self._pool.leave(session)
            raise
        except BaseException:
            self._close(session.connection)
            raise
        if self._stopped or session.conversation.broken:
            self._close(session.connection)
        else:
            self._pool.put(work.key, session)
        return statuses

    def _close(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.close()

    async def _log_in(self, conversation: Conversation, smarthost: Smarthost) -> None:
        file = smarthost.password_file
        try:
            password = (await self._workers.run(file.read_text)).strip("\r\n") if file is not None else ""
        except (OSError, UnicodeError) as error:
            log.error("the password of the smarthost cannot be read: %s", error)
            raise SessionFailed(Reply.of(454, "4.7.0", "The login at the smarthost is not set up")) from error
        await conversation.log_in(smarthost.user or "", password)


@dataclass(slots=True, eq=False)
class _Work:
    """One message for one site, and how the servers that were asked failed: their replies, and who said them."""

    site: Site
    mail: Outgoing
    recipients: Sequence[Recipient]
    deadline: float
    failures: list[tuple[Reply, str | None]] = field(default_factory=list)

    @property
    def by_mx(self) -> bool:
        return isinstance(self.site.transport, ByMX)

    @property
    def lmtp(self) -> bool:
        return isinstance(self.site.transport, LMTPServer | LMTPSocket)

    @property
    def requiretls(self) -> bool:
        return self.mail.envelope.parameters.requiretls

    @property
    def encryption(self) -> Encryption:
        if self.requiretls:
            return Encryption.VERIFIED
        return self.site.transport.tls if isinstance(self.site.transport, Smarthost) else Encryption.OPPORTUNISTIC

    @property
    def implicit_tls(self) -> bool:
        return isinstance(self.site.transport, Smarthost) and self.site.transport.implicit_tls

    @property
    def key(self) -> Hashable:
        """What a connection is as good as another for."""
        return self.site.key, self.site.transport, self.requiretls

    def port(self, usual: int) -> int:
        return self.site.transport.port if isinstance(self.site.transport, Smarthost | LMTPServer) else usual

    def failed(self, failure: SessionFailed, host: str) -> None:
        self.failures.append((failure.reply, host if failure.said else None))

    def most_hopeful(self) -> tuple[Reply, str | None]:
        """A temporary failure is one that may pass."""
        failures = self.failures or [(NO_ADDRESS, None)]
        return next((failure for failure in failures if failure[0].temporary), failures[0])


def _needs(header: bytes, content: Content) -> tuple[Body, bool]:
    """What the content asks of a transport, and whether the message's own header has octets above 127."""
    head = content.head(HEAD_LIMIT)
    utf8 = not head[: header_end(head)].isascii()
    eight_bit, pairs, returns, feeds, last = not header.isascii(), 0, 0, 0, b""
    for chunk in content.chunks():
        if b"\0" in chunk:
            return Body.BINARY, utf8
        eight_bit = eight_bit or not chunk.isascii()
        pairs += chunk.count(b"\r\n") + (last == b"\r" and chunk.startswith(b"\n"))
        returns += chunk.count(b"\r")
        feeds += chunk.count(b"\n")
        last = chunk[-1:]
    if not pairs == returns == feeds:
        return Body.BINARY, utf8
    return Body.EIGHT_BIT if eight_bit else Body.SEVEN_BIT, utf8
