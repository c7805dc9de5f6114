"""The server of one process: everything is wired together here, and nowhere else.

Promises   Ports are bound first; data is opened in `startService`, after privileges were dropped. A stop lets what is
           at work come to its end, within limits.
On failure A problem that the user can mend is told on standard error, and the exit status is 1, without a traceback.
"""

from __future__ import annotations

import logging
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred

from mailserver import __version__, metrics, telling
from mailserver.accounts import (
    Directory,
    FileSource,
    LastUses,
    Mailbox,
    Tokens,
    load_secret,
    open_sources,
)
from mailserver.config.loader import ConfigurationError, text_of
from mailserver.config.model import Configuration, Listener
from mailserver.config.network import parse_endpoint
from mailserver.datadir import DataDirectory, DataError, unusable
from mailserver.delivery.intake import Intake
from mailserver.delivery.levels import Levels
from mailserver.delivery.manager import QueueManager
from mailserver.delivery.relay import Relay
from mailserver.delivery.router import Router
from mailserver.delivery.routes import Routes
from mailserver.garbage import look_rarely
from mailserver.mail import UNLIMITED, Address, parse_mailbox
from mailserver.mail.srs import SRS
from mailserver.net.bells import Bells
from mailserver.net.clock import ReactorClock
from mailserver.net.connection import Service, Session, stop_connections
from mailserver.net.connector import ReactorConnector
from mailserver.net.expiry import ExpiryWatch
from mailserver.net.exporter import Exporter, serve
from mailserver.net.fairness import FairThreads
from mailserver.net.handshake import ALPN
from mailserver.net.indexing import Indexing
from mailserver.net.listeners import Binding, listen
from mailserver.net.own import LocalAddresses
from mailserver.net.repeating import Repeating
from mailserver.net.resolver import ThreadResolver
from mailserver.net.shared import AdoptedSocket
from mailserver.net.signals import on_hangup
from mailserver.net.tls import CertificateStore
from mailserver.net.versions import versions
from mailserver.net.workers import ThreadWorkers
from mailserver.policy.connections import ConnectionLimits
from mailserver.policy.failures import Failures
from mailserver.policy.guard import Guard
from mailserver.policy.ledger import Ledger, LedgerError
from mailserver.policy.networks import Networks
from mailserver.policy.sending import SendingLimits
from mailserver.policy.shared import SharedCounts, SharedFailures, SharedRates
from mailserver.policy.space import FreeSpace
from mailserver.ports import Channel
from mailserver.queue import History, Queue, QueueError
from mailserver.sessions import imap, pop3, smtp
from mailserver.sessions.imap.appends import Appends
from mailserver.sessions.login import Authenticator
from mailserver.store import AccountStore, Store
from mailserver.store.arrivals import Arrivals

log = logging.getLogger(__name__)

DELIVERY_THREADS = 4
MAILBOX_THREADS = 8  # for POP3 and IMAP: however much they read, delivery does not wait for them
PASSWORD_THREADS = 2  # argon2id takes 64 MiB for each
DNS_THREADS = 20
LOOKUP_THREADS = 8  # of addresses in databases; an answer may take seconds to fail
TELL_EVERY = 1.0  # seconds; what was counted since is lost when the process crashes
RELEASE_GRACE = 10.0  # seconds, at the stop, for what sessions do when they have ended


class MailServer(Binding):
    """The listeners, and the rooms behind them. `sockets` were bound by another process, for the worker `number`.

    `guard` is asked before anything is opened, when privileges are dropped. `path`: where the configuration was read,
    which held `text`.
    """

    def __init__(
        self,
        configuration: Configuration,
        reactor: Any,
        *,
        guard: Callable[[], None],
        path: Path,
        text: str,
        sockets: Sequence[tuple[int, socket.AddressFamily]] | None = None,
        number: int | None = None,
    ) -> None:
        super().__init__()
        self._guard = guard
        self._path, self._text = path, text
        self._data = DataDirectory(configuration.data)
        self._configuration = configuration
        self._reactor = reactor
        self._clock = ReactorClock(reactor)
        self._delivery = ThreadWorkers(reactor, DELIVERY_THREADS, "delivery")
        self._mailboxes = ThreadWorkers(reactor, MAILBOX_THREADS, "mailboxes")
        self._appends = Appends(self._mailboxes)
        self._passwords = ThreadWorkers(reactor, PASSWORD_THREADS, "passwords")
        self._lookups = ThreadWorkers(reactor, LOOKUP_THREADS, "lookups", abandon=True)
        self._dns = ThreadWorkers(reactor, DNS_THREADS, "dns", abandon=True)
        self._notes = ThreadWorkers(reactor, 1, "bans")  # of its own: guessing keeps the threads for passwords busy
        self._workers = (self._mailboxes, self._passwords, self._dns, self._lookups, self._delivery, self._notes)
        limits = configuration.limits
        shared = None if number is None else SharedCounts(self._data.connections, number)
        failures = None if number is None else SharedFailures(self._data.failures, number)
        rates = None if number is None else SharedRates(self._data.rates, number)
        proxies = configuration.proxies.networks
        self._gate = Guard(configuration.abuse, self._clock, self._notes, proxies=proxies, rates=rates)
        self._sending = SendingLimits(configuration.abuse, self._clock, self._notes, self._gate, rates)
        self._connections = ConnectionLimits(limits.connections, limits.connections_per_address, shared, self._gate)
        self._bells = None if number is None else Bells(reactor, self._data.bells)
        self._certificates = CertificateStore(configuration.tls) if configuration.tls else None
        self._expiry = ExpiryWatch(self._certificates, self._clock, tells=not number) if self._certificates else None
        oauth = configuration.auth.oauth
        self._directory = Directory(
            FileSource(configuration.accounts, scram=configuration.auth.scram),
            others=open_sources(configuration.directory),
            tokens=Tokens(oauth) if oauth else None,
            uses=LastUses(self._data.app_passwords),
            separator=configuration.smtp.subaddress,
        )
        self._authenticator = Authenticator(
            self._directory,
            FairThreads(self._passwords, self._clock, PASSWORD_THREADS),
            self._clock,
            Failures(failures, self._gate.exempt),
            configuration.auth.without_tls,
            openid_configuration=oauth.configuration if oauth else None,
            guard=self._gate,
        )
        arrivals = Arrivals(self._data.indexing) if configuration.indexing.background else None
        self._store = Store(self._data.mail, hostname=configuration.hostname, arrivals=arrivals)
        self._proxies = Networks(proxies)
        self._pop3_rooms = pop3.POP3Rooms(
            hostname=configuration.hostname,
            limits=configuration.limits,
            policy=configuration.pop3,
            authenticator=self._authenticator,
            open_account=self._open_account,
            workers=self._mailboxes,
            clock=self._clock,
        )
        self._services = [self._service(listener) for listener in configuration.listener]
        self._name = telling.SERVER if number is None else str(number)
        if number is None and configuration.metrics is not None:
            exporter = Exporter(lambda: [metrics.told()], seconds=self._clock.monotonic)
            serve(reactor, configuration.metrics.endpoint, exporter).setServiceParent(self)
        for number, (listener, service) in enumerate(zip(configuration.listener, self._services, strict=True)):
            if sockets is None:
                listen(reactor, listener.endpoint, service).setServiceParent(self)
            else:
                AdoptedSocket(reactor, *sockets[number], service).setServiceParent(self)

    # Starting and stopping

    def startService(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the usual 1024 is below what connections need
        self._guard()
        if self._certificates is not None:
            self._certificates.warn_of_unreadable()
        data = prepared(self._configuration)
        self._history = History(data.history, self._configuration.relay.history)
        self._queue = open_queue(data, self._history)
        try:
            self._authenticator.secret = secret = load_secret(data.secret)
        except OSError as error:
            refuse(unusable(error, data.path))
        for workers in self._workers:
            workers.start()
        ledger = open_ledger(data)
        self._gate.open(ledger)
        self._sending.open(ledger)
        self._wire(self._queue, secret)
        self._indexing = self._background()
        super().startService()
        self._manager.start()
        self._observe(data)
        if self._indexing is not None:
            self._indexing.start()
        if self._bells is not None:
            self._bells.hang_up(self._manager.wake)
        if self._expiry is not None:
            self._expiry.start()
        on_hangup(self._reactor, self.reload)
        look_rarely()
        log.info("ready, as %s", self._configuration.hostname)

    def _observe(self, data: DataDirectory) -> None:
        if self._name == telling.SERVER:
            telling.prepare(data.status)
        metrics.PROCESSES.put(1, __version__)
        self._telling = telling.Telling(data.status, self._name, versions())
        levels = Levels(self._queue, data.mail, workers=self._delivery, clock=self._clock)
        works = (self._tell, levels.look_at_queue, levels.look_at_indexes)
        self._repeating = [Repeating(work, workers=self._delivery, clock=self._clock) for work in works]
        for each in self._repeating:
            each.start()

    async def _tell(self) -> float:
        if self._certificates is not None:
            leaves = [certificate for _, certificate in self._certificates.leaves()]
            metrics.CERTIFICATES_END.put(min(leaf.not_valid_after_utc.timestamp() for leaf in leaves))
        try:
            await self._delivery.run(self._telling.tell)
        except OSError as error:
            log.warning("status: cannot be written: %s", error)
            return telling.AT_LEAST_EVERY  # not a line a second for as long as the disk is full
        return TELL_EVERY

    def reload(self) -> None:
        """SIGHUP. What is read while the server runs is read now; the rest is told to wait for a start."""
        log.info("reading accounts and certificates again")
        if self._certificates is not None:
            self._certificates.reload()
        self._delivery.spawn(self._read_accounts())
        if _read(self._path) != self._text:
            log.warning("%s was changed: that is taken over when the server is started again", self._path)

    async def _read_accounts(self) -> None:
        await self._delivery.run(self._directory.reload)

    async def _stop(self) -> None:
        if self._expiry is not None:
            self._expiry.stop()
        await MultiService.stopService(self)
        await stop_connections(self._services, self._clock)
        deadline = self._clock.monotonic() + RELEASE_GRACE
        while self._mailboxes.spawned and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.02)  # flags that sessions set at their end
        await self._manager.stop()
        if self._indexing is not None:
            await self._indexing.stop()
        for each in self._repeating:
            await each.stop()
        await self._tell()
        if self._bells is not None:
            self._bells.take_down()
        self._gate.close()
        for workers in self._workers:
            workers.stop()
        self._queue.close()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def _wire(self, queue: Queue, secret: bytes) -> None:
        self._addresses = LocalAddresses()
        configuration, outbox = self._configuration, self._configuration.demo and self._configuration.demo.outbox
        deliver = self._delivery.grouped(self._store.deliver)
        routes = Routes.of(configuration.route, configuration.relay)
        router = Router(
            self._directory,
            configuration.hostname,
            parse_mailbox(outbox) if outbox else None,
            routes=routes,
            srs=SRS(secret),
            workers=self._lookups,
            clock=self._clock,
        )
        relay = Relay(
            configuration.relay,
            hostname=configuration.hostname,
            resolver=ThreadResolver(self._dns, configuration.relay.resolver),
            connector=ReactorConnector(self._reactor),
            is_own=self._is_own,
            may_send=lambda: queue.leads,
            workers=self._delivery,
            clock=self._clock,
        )
        self._manager = QueueManager(
            queue,
            configuration.relay,
            hostname=configuration.hostname,
            router=router,
            routes=routes,
            relay=relay,
            history=self._history,
            ring=self._bells.ring if self._bells is not None else None,
            deliver=deliver,
            workers=self._delivery,
            clock=self._clock,
        )
        self._smtp_rooms = smtp.SMTPRooms(
            hostname=configuration.hostname,
            limits=configuration.limits,
            policy=configuration.smtp,
            spool=self._data.spool,
            router=router,
            intake=Intake(
                hostname=configuration.hostname,
                router=router,
                deliver=deliver,
                enqueue=self._manager.enqueue,
                clock=self._clock,
                history=self._history,
                queued=self._manager.queued,
            ),
            senders=self._directory,
            authenticator=self._authenticator,
            proxies=self._proxies,
            guard=self._gate,
            sending=self._sending,
            flush=self._flush,
            has_room=self._store.has_room,
            space=FreeSpace(configuration.data),
            workers=self._delivery,
            clock=self._clock,
        )

    def _background(self) -> Indexing | None:
        settings = self._configuration.indexing
        if not settings.background:
            return None
        return Indexing(
            self._reactor,
            mail=self._data.mail,
            directory=self._data.indexing,
            hostname=self._configuration.hostname,
            round_every=settings.round,
            workers=self._delivery,
            clock=self._clock,
        )

    def _is_own(self, address: str) -> bool:
        """Mail that the relay sends to this address comes back to this server."""
        port = self._configuration.relay.port
        taking = [parse_endpoint(each.endpoint) for each in self._configuration.listener if each.protocol == "smtp"]
        ours = any(endpoint.port == port or endpoint.kind == "systemd" for endpoint in taking)
        return ours and self._addresses.is_own(address)

    async def _flush(self, domain: str, subdomains: bool) -> int:
        count = await self._delivery.run(self._queue.flush_domain, domain, subdomains=subdomains)
        self._manager.wake()
        return count

    # What each listener serves

    def _service(self, listener: Listener) -> Service:
        open_session, refuse = {
            "smtp": (self._smtp(smtp.SMTPSession), smtp.refuse),
            "submission": (self._smtp(smtp.SubmissionSession), smtp.refuse),
            "lmtp": (self._smtp(smtp.LMTPSession), smtp.refuse),
            "pop3": (self._pop3, pop3.refuse),
            "imap": (self._imap, imap.refuse),
        }[listener.protocol]
        tls_available = listener.tls == "starttls"
        return Service(
            name=f"{listener.protocol} {listener.endpoint}",
            open_session=lambda channel: open_session(channel, tls_available),
            refuse=lambda refusal: refuse(self._configuration.hostname, refusal),
            connections=self._connections,
            clock=self._clock,
            login_timeout=self._configuration.limits.login_timeout,
            certificates=self._certificates,
            implicit_tls=listener.tls == "implicit",
            alpn=ALPN[listener.protocol],
            asks_certificate=listener.protocol in ("submission", "pop3", "imap"),
            proxies=self._proxies if listener.proxy else None,
        )

    def _smtp(self, session: type[smtp.SMTPSession]) -> Callable[[Channel, bool], Session]:
        return lambda channel, tls_available: session(channel, self._smtp_rooms, tls_available=tls_available)

    def _pop3(self, channel: Channel, tls_available: bool) -> Session:
        return pop3.POP3Session(channel, self._pop3_rooms, tls_available=tls_available)

    def _imap(self, channel: Channel, tls_available: bool) -> Session:
        return imap.IMAPSession(
            channel,
            hostname=self._configuration.hostname,
            limits=self._configuration.limits,
            spool=self._data.spool,
            authenticator=self._authenticator,
            open_account=self._open_account,
            workers=self._mailboxes,
            clock=self._clock,
            tls_available=tls_available,
            appends=self._appends,
            policy=self._configuration.imap,
        )

    def _open_account(self, address: Address) -> AccountStore:
        """Blocking."""
        account = self._store.account(address)
        found = self._directory.resolve(address)
        account.space.quota = found.quota if isinstance(found, Mailbox) else UNLIMITED
        return account


def prepared(configuration: Configuration) -> DataDirectory:
    """The data directory, made where it is missing; or the end, as with the two below."""
    data = DataDirectory(configuration.data)
    try:
        data.prepare()
    except DataError as error:
        refuse(str(error))
    return data


def open_queue(data: DataDirectory, history: History) -> Queue:
    try:
        return Queue(data.queue, history)
    except OSError as error:
        refuse(unusable(error, data.path))
    except QueueError as error:
        refuse(str(error))


def open_ledger(data: DataDirectory) -> Ledger:
    try:
        return Ledger(data.bans)
    except LedgerError as error:
        refuse(str(error))


def _read(path: Path) -> str | None:
    try:
        return text_of(path)
    except ConfigurationError:
        return None


def refuse(*problems: str) -> NoReturn:
    """Tells each in a line, and ends the program."""
    for problem in problems:
        print(f"mailserver: {problem}", file=sys.stderr)
    raise SystemExit(1)
