"""Handing mail to other servers by SMTP: to the exchangers of a domain, or all of it to a smarthost.

Promises   The addresses of a next hop are tried in order until one of them takes or refuses the message; then each
           recipient has the answer that it got there. Encryption is used wherever it is offered, and where it fails the
           message goes in clear, but never a password. A password goes only to a smarthost whose certificate holds.
On failure A temporary status when no server could be asked. OSError when the content cannot be read: nothing was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mailserver.config.model import Relay as Settings
from mailserver.config.network import parse_host_port
from mailserver.delivery.conversation import Conversation, Outgoing, SessionFailed, TLSFailed
from mailserver.delivery.dsn import HEAD_LIMIT
from mailserver.delivery.nexthop import Target, Unroutable, find_addresses, find_targets
from mailserver.mail import Address, Body, Content, DeliveryStatus, Envelope, Recipient, Reply
from mailserver.message.header import header_end
from mailserver.ports import Clock, ConnectFailure, Connection, Connector, Resolver, Workers

log = logging.getLogger(__name__)

IMPLICIT_TLS_PORT = 465  # RFC 8314 §3.3

STOPPED = Reply.of(451, "4.3.2", "There was no time to ask further servers")

PATIENCE = 900.0  # seconds; after that no further address is tried


class Relay:
    """One for the whole server."""

    def __init__(
        self,
        settings: Settings,
        *,
        hostname: str,
        resolver: Resolver,
        connector: Connector,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._hostname = hostname
        self._resolver = resolver
        self._connector = connector
        self._workers = workers
        self._clock = clock
        self._smarthost = parse_host_port(settings.smarthost) if settings.smarthost else None
        self._open: set[Connection] = set()
        self._stopped = False

    def next_hop(self, domain: str) -> str:
        """What `deliver` is to be called with: recipients of the same next hop share one transaction."""
        return self._settings.smarthost or domain

    def abort(self) -> None:
        """Closes all connections; what is under way ends with temporary statuses. For the stop of the server."""
        self._stopped = True
        for connection in tuple(self._open):
            connection.close()

    async def deliver(self, next_hop: str, envelope: Envelope, header: bytes, content: Content) -> list[DeliveryStatus]:
        """One status for each recipient, in order; `header` goes on top of the content. `host` is set in a status
        when a remote server gave the reply."""
        once: dict[Address, Recipient] = {}
        for recipient in envelope.recipients:  # the second answer to the same address is not the one that counts
            once.setdefault(recipient.address, recipient)
        body, utf8 = await self._workers.run(_needs, header, content)
        mail = Outgoing(envelope, header, content, body, utf8 and envelope.parameters.smtputf8)
        done = await self._deliver(next_hop, list(once.values()), mail)
        statuses = {status.recipient: status for status in done}
        return [statuses[recipient.address] for recipient in envelope.recipients]

    async def _deliver(self, next_hop: str, recipients: Sequence[Recipient], mail: Outgoing) -> list[DeliveryStatus]:
        try:
            targets = await self._targets(next_hop)
        except Unroutable as error:
            return [DeliveryStatus.of_reply(recipient.address, error.reply, None) for recipient in recipients]
        failures: list[tuple[Reply, str | None]] = []
        deadline = self._clock.monotonic() + PATIENCE
        for target in targets:
            if self._stopped or self._clock.monotonic() > deadline:
                failures.append((STOPPED, None))
                break
            try:
                return await self._attempt(target, mail, recipients)
            except SessionFailed as failure:
                log.info("next-hop=%s host=%s address=%s: %r", next_hop, target.host, target.address, str(failure))
                failures.append((failure.reply, target.host if failure.said else None))
        reply, host = next((failure for failure in failures if failure[0].temporary), failures[0])
        return [DeliveryStatus.of_reply(recipient.address, reply, host) for recipient in recipients]

    async def _targets(self, next_hop: str) -> list[Target]:
        if self._smarthost is None:
            return await find_targets(self._resolver, next_hop, port=self._settings.port, hostname=self._hostname)
        host, port = self._smarthost
        try:
            return await find_addresses(self._resolver, [host], port=port)
        except Unroutable as error:  # a misspelled smarthost must not return all mail
            raise Unroutable(Reply.of(451, "4.4.3", f"The smarthost {host} cannot be found: {error}")) from error

    async def _attempt(self, target: Target, mail: Outgoing, recipients: Sequence[Recipient]) -> list[DeliveryStatus]:
        try:
            return await self._session(target, mail, recipients, encrypt=True)
        except TLSFailed as failure:
            if self._login_required or self._implicit_tls or mail.envelope.parameters.requiretls:
                raise
            log.warning("host=%s address=%s sending in clear: %r", target.host, target.address, str(failure))
            return await self._session(target, mail, recipients, encrypt=False)

    @property
    def _login_required(self) -> bool:
        return self._smarthost is not None and self._settings.smarthost_user is not None

    @property
    def _implicit_tls(self) -> bool:
        return self._smarthost is not None and self._smarthost[1] == IMPLICIT_TLS_PORT

    async def _session(
        self, target: Target, mail: Outgoing, recipients: Sequence[Recipient], *, encrypt: bool
    ) -> list[DeliveryStatus]:
        timeout = self._settings.connect_timeout
        try:
            connection = await self._connector.connect(target.address, target.port, timeout)
        except ConnectFailure as error:
            raise SessionFailed(Reply.of(451, "4.4.1", f"{target.host}: {error}")) from error
        self._open.add(connection)
        try:
            if self._stopped:
                raise SessionFailed(STOPPED)
            conversation = Conversation(connection, target.host, self._workers, self._clock)
            verify = self._login_required or mail.envelope.parameters.requiretls
            if self._implicit_tls:
                await conversation.handshake(verify=verify)
            await conversation.greet(self._hostname)
            if encrypt and not self._implicit_tls and conversation.offers_tls:
                await conversation.start_tls(self._hostname, verify=verify)
            if mail.envelope.parameters.requiretls and not (connection.tls and conversation.offers_requiretls):
                text = f"{target.host} cannot promise that the message is never sent in clear"
                raise SessionFailed(Reply.of(550, "5.7.30", text))
            if self._login_required:
                await self._log_in(connection, conversation)
            statuses = await conversation.send(mail, recipients)
            await conversation.quit()
            return statuses
        finally:
            self._open.discard(connection)
            connection.close()

    async def _log_in(self, connection: Connection, conversation: Conversation) -> None:
        user, file = self._settings.smarthost_user, self._settings.smarthost_password_file
        if connection.tls is None:
            raise SessionFailed(Reply.of(454, "4.7.0", "The smarthost offers no encryption: no password is sent to it"))
        try:
            password = (await self._workers.run(file.read_text)).strip("\r\n") if file is not None else ""
        except (OSError, UnicodeError) as error:
            log.error("the password of the smarthost cannot be read: %s", error)
            raise SessionFailed(Reply.of(454, "4.7.0", "The login at the smarthost is not set up")) from error
        await conversation.log_in(user or "", password)


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
