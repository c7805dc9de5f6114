"""Everything is wired together here, and nowhere else: `twistd mailserver` calls `Options` and `makeService`.

Promises   The configuration is checked as a whole before anything starts. Ports are bound first; data is opened in
           `startService`, after twistd has dropped privileges.
On failure A problem that the user can mend is told on standard error, and the exit status is 1, without a traceback.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.python import usage

from mailserver import __version__, demo, metrics, telling
from mailserver.accounts import (
    Directory,
    FileSource,
    LastUses,
    Mailbox,
    Tokens,
    TokensUnavailable,
    load_secret,
    open_sources,
)
from mailserver.config.loader import ConfigurationError, load, text_of
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
from mailserver.net.clock import ReactorClock, use_monotonic_time
from mailserver.net.connection import Service, Session, stop_connections
from mailserver.net.connector import ReactorConnector
from mailserver.net.expiry import ExpiryWatch
from mailserver.net.exporter import Exporter, ExporterUnavailable, serve
from mailserver.net.fairness import FairThreads
from mailserver.net.handshake import ALPN
from mailserver.net.indexing import Indexing
from mailserver.net.jsonlog import JSONObserver, Observed, output
from mailserver.net.listeners import Binding, check_endpoint, listen
from mailserver.net.logs import bridge
from mailserver.net.own import LocalAddresses
from mailserver.net.repeating import Repeating
from mailserver.net.resolver import ThreadResolver
from mailserver.net.shared import AdoptedSocket
from mailserver.net.signals import ignore_hangup, on_hangup, stop_once
from mailserver.net.textlog import TextObserver
from mailserver.net.tls import CertificateError, CertificateStore
from mailserver.net.versions import versions
from mailserver.net.workers import ThreadWorkers
from mailserver.policy.connections import ConnectionLimits
from mailserver.policy.failures import Failures
from mailserver.policy.guard import Guard
from mailserver.policy.ledger import Ledger, LedgerError
from mailserver.policy.networks import Networks
from mailserver.policy.sending import SendingLimits
from mailserver.policy.shared import SharedCounts, SharedFailures, SharedRates, SharedTable
from mailserver.policy.space import FreeSpace
from mailserver.ports import Channel
from mailserver.queue import NO_HISTORY, History, Queue, QueueError
from mailserver.sessions import imap, pop3, smtp
from mailserver.sessions.imap.appends import Appends
from mailserver.sessions.login import Authenticator
from mailserver.store import AccountStore, Store
from mailserver.store.arrivals import Arrivals
from mailserver.supervisor import Supervisor

log = logging.getLogger(__name__)

DELIVERY_THREADS = 4
MAILBOX_THREADS = 8  # for POP3 and IMAP: however much they read, delivery does not wait for them
PASSWORD_THREADS = 2  # argon2id takes 64 MiB for each
DNS_THREADS = 20
LOOKUP_THREADS = 8  # of addresses in databases; an answer may take seconds to fail
TELL_EVERY = 1.0  # seconds; what was counted since is lost when the process crashes
RELEASE_GRACE = 10.0  # seconds, at the stop, for what sessions do when they have ended


class Options(usage.Options):
    """What stands behind `twistd mailserver`."""

    synopsis = "[--config FILE | --demo DIRECTORY]"
    longdesc = "Serves mail as FILE says (see etc/mailserver.toml), or tries everything out on this machine's loopback."
    optParameters = [  # noqa: RUF012 - Twisted's own form
        ["config", "c", os.environ.get("MAILSERVER_CONFIG"), "The configuration, as etc/mailserver.toml"],
        ["demo", None, None, "A complete server for example.test on loopback, with all its data in this directory"],
    ]
    optFlags = [  # noqa: RUF012
        ["allow-root", None, "Serve as root all the same, where there is no other user"],
    ]


def makeService(options: Options) -> MultiService:
    """The whole server as one Twisted service."""
    from twisted.internet import reactor

    ignore_hangup()
    stop_once(reactor)
    use_monotonic_time(reactor)
    bridge()
    path = _configuration_path(options)
    try:
        text = text_of(path)
        configuration = load(path, text=text, check_endpoint=check_endpoint)
        json_log = configuration.log.format == "json" and not _logs_elsewhere(options)
        count = (os.cpu_count() or 1) if configuration.workers == "auto" else configuration.workers
        guard = _anybody if options["demo"] or options["allow-root"] else _refuse_root
        if count == 1:
            server: MultiService = MailServer(configuration, reactor, guard=guard, path=path, text=text)
        else:
            _check_files(configuration)
            server = Supervisor(
                configuration,
                path.absolute(),
                text,
                reactor,
                count=count,
                own_log=_log_file(options) is None,
                json_log=json_log,
                prepare=partial(_prepare, configuration, count, guard),
            )
        if _logs_elsewhere(options):
            return server
        out = output(reactor, _log_file(options))
        return Observed(server, JSONObserver(out) if json_log else TextObserver(out))
    except ConfigurationError as error:
        _refuse(*error.problems)
    except (CertificateError, ExporterUnavailable, TokensUnavailable) as error:
        _refuse(str(error))


def _logs_elsewhere(options: Options) -> bool:
    """twistd was asked for a log that is none of lines in a file, or refuses to have it: on a daemon's output."""
    asked: Mapping[str, Any] = options.parent or {}
    refused = asked.get("logfile") == "-" and not asked.get("nodaemon")
    return refused or any(asked.get(name) for name in ("syslog", "logger"))


def _log_file(options: Options) -> str | None:
    """As twistd has it; None: standard output."""
    asked: Mapping[str, Any] = options.parent or {}
    path = asked.get("logfile") or ("-" if asked.get("nodaemon") else "twistd.log")
    return None if path == "-" else str(path)


def _configuration_path(options: Options) -> Path:
    if options["demo"] and options["config"] and "MAILSERVER_CONFIG" not in os.environ:
        _refuse("name either --config or --demo, not both")
    if options["demo"]:
        directory = Path(options["demo"])
        try:
            notes = demo.prepare(directory)
        except OSError as error:
            _refuse(f"{directory}: the demo cannot be set up there: {error.strerror}")
        print(notes.text, file=sys.stderr, flush=True)
        return notes.configuration
    if not options["config"]:
        _refuse(
            "name the configuration with --config FILE (etc/mailserver.toml is an example to start from), "
            "or try the server out with --demo DIRECTORY"
        )
    return Path(options["config"])


def _refuse(*problems: str) -> NoReturn:
    for problem in problems:
        print(f"mailserver: {problem}", file=sys.stderr)
    raise SystemExit(1)


def _check_files(configuration: Configuration) -> None:
    """What each worker reads at its start: a fault is told at once and once. Raises CertificateError and others."""
    if configuration.tls:
        CertificateStore(configuration.tls)
    open_sources(configuration.directory)
    if configuration.auth.oauth:
        Tokens(configuration.auth.oauth)


def _prepare(configuration: Configuration, count: int, guard: Callable[[], None]) -> None:
    """The data directory, before several processes use it."""
    guard()
    try:
        _check_files(configuration)  # again, as the user that the workers are
    except (CertificateError, TokensUnavailable) as error:
        _refuse(f"{error}; the workers, as user {os.geteuid()}, must read it")
    data = _prepared(configuration)
    _open_queue(data, NO_HISTORY).close()
    _open_ledger(data).close()
    try:
        SharedTable.make(data.connections, count, SharedCounts.COLUMNS)
        SharedTable.make(data.failures, count, SharedFailures.COLUMNS)
        SharedTable.make(data.rates, count, SharedRates.COLUMNS)
    except OSError as error:
        _refuse(unusable(error, data.path))


def _prepared(configuration: Configuration) -> DataDirectory:
    data = DataDirectory(configuration.data)
    try:
        data.prepare()
    except DataError as error:
        _refuse(str(error))
    return data


def _open_queue(data: DataDirectory, history: History) -> Queue:
    try:
        return Queue(data.queue, history)
    except OSError as error:
        _refuse(unusable(error, data.path))
    except QueueError as error:
        _refuse(str(error))


def _open_ledger(data: DataDirectory) -> Ledger:
    try:
        return Ledger(data.bans)
    except LedgerError as error:
        _refuse(str(error))


def _read(path: Path) -> str | None:
    try:
        return text_of(path)
    except ConfigurationError:
        return None


def _anybody() -> None:
    """The demo is for this machine alone; and the user may know why."""


def _refuse_root() -> None:
    """What reads mail from strangers has no need of root's rights, nor of the harm that these can do."""
    if os.geteuid() == 0:
        _refuse(
            "does not serve as root: start it as a user of its own (etc/mailserver.service), or let it bind as root "
            "and go on as that user: twistd --uid mailserver --gid mailserver mailserver ...; where there is only "
            "root, as in some containers, add --allow-root behind the word mailserver"
        )


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
        data = _prepared(self._configuration)
        self._history = History(data.history, self._configuration.relay.history)
        self._queue = _open_queue(data, self._history)
        try:
            self._authenticator.secret = secret = load_secret(data.secret)
        except OSError as error:
            _refuse(unusable(error, data.path))
        for workers in self._workers:
            workers.start()
        ledger = _open_ledger(data)
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
