"""What twistd starts: `twistd mailserver` calls `Options` and `makeService`, for one `MailServer` or several workers.

Promises   The configuration is checked as a whole before anything starts. What several processes would make at the same
           time is made before they begin.
On failure A problem that the user can mend is told on standard error, and the exit status is 1, without a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.python import usage

from mailserver import demo
from mailserver.accounts import Tokens, TokensUnavailable, open_sources
from mailserver.config.loader import ConfigurationError, load, text_of
from mailserver.config.model import Configuration
from mailserver.datadir import unusable
from mailserver.net.clock import use_monotonic_time
from mailserver.net.exporter import ExporterUnavailable
from mailserver.net.jsonlog import JSONObserver, Observed, output
from mailserver.net.listeners import check_endpoint
from mailserver.net.logs import bridge
from mailserver.net.signals import ignore_hangup, stop_once
from mailserver.net.textlog import TextObserver
from mailserver.net.tls import CertificateError, CertificateStore
from mailserver.policy.shared import SharedCounts, SharedFailures, SharedRates, SharedTable
from mailserver.queue import NO_HISTORY
from mailserver.server import MailServer, open_ledger, open_queue, prepared, refuse
from mailserver.supervisor import Supervisor


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
        refuse(*error.problems)
    except (CertificateError, ExporterUnavailable, TokensUnavailable) as error:
        refuse(str(error))


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
        refuse("name either --config or --demo, not both")
    if options["demo"]:
        directory = Path(options["demo"])
        try:
            notes = demo.prepare(directory)
        except OSError as error:
            refuse(f"{directory}: the demo cannot be set up there: {error.strerror}")
        print(notes.text, file=sys.stderr, flush=True)
        return notes.configuration
    if not options["config"]:
        refuse(
            "name the configuration with --config FILE (etc/mailserver.toml is an example to start from), "
            "or try the server out with --demo DIRECTORY"
        )
    return Path(options["config"])


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
        refuse(f"{error}; the workers, as user {os.geteuid()}, must read it")
    data = prepared(configuration)
    open_queue(data, NO_HISTORY).close()
    open_ledger(data).close()
    try:
        SharedTable.make(data.connections, count, SharedCounts.COLUMNS)
        SharedTable.make(data.failures, count, SharedFailures.COLUMNS)
        SharedTable.make(data.rates, count, SharedRates.COLUMNS)
    except OSError as error:
        refuse(unusable(error, data.path))


def _anybody() -> None:
    """The demo is for this machine alone; and the user may know why."""


def _refuse_root() -> None:
    """What reads mail from strangers has no need of root's rights, nor of the harm that these can do."""
    if os.geteuid() == 0:
        refuse(
            "does not serve as root: start it as a user of its own (etc/mailserver.service), or let it bind as root "
            "and go on as that user: twistd --uid mailserver --gid mailserver mailserver ...; where there is only "
            "root, as in some containers, add --allow-root behind the word mailserver"
        )
