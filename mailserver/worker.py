"""One of several worker processes, as `supervisor` starts it: `python -m mailserver.worker`. Not for the command line.

Theory     On standard input it gets the configuration, and the end of that when the other process has gone.
Promises   It serves the sockets that it was given until SIGTERM, or until the process that started it has gone. While
           it is able to serve it says so, once a second.
On failure Exit status 1 and a word in the log.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import ILogObserver, globalLogBeginner
from twisted.python.failure import Failure

from mailserver.config.loader import ConfigurationError, load
from mailserver.net.clock import use_monotonic_time
from mailserver.net.heartbeat import beat
from mailserver.net.jsonlog import JSONObserver
from mailserver.net.logs import bridge, hand_up
from mailserver.net.signals import ignore_hangup, stop_once
from mailserver.net.textlog import TextObserver
from mailserver.net.tls import CertificateError

if TYPE_CHECKING:
    from mailserver.server import MailServer


def main() -> None:
    ignore_hangup()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Control-C at a terminal is for who started this
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--number", type=int, required=True, help="which of the workers this is, from 0")
    parser.add_argument("--own-log", action="store_true", help="standard output is the log itself")
    parser.add_argument("--json-log", action="store_true", help="write the log as JSON")
    parser.add_argument("--heartbeat", type=int, required=True, help="descriptor for signs of life")
    parser.add_argument("--socket", action="append", default=[], help="descriptor and family, for each listener")
    options = parser.parse_args()
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    observer = TextObserver(sys.stdout) if options.own_log else cast(ILogObserver, hand_up)
    if options.json_log:
        observer = JSONObserver(sys.stdout, {"worker": options.number})
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=options.json_log)
    bridge()
    sockets = [_socket(text) for text in options.socket]
    from mailserver.server import MailServer
    from mailserver.supervisor import END_OF_TEXT

    text = _handed_over(END_OF_TEXT)
    try:
        server = MailServer(
            load(options.config, text=text),
            reactor,
            guard=lambda: None,  # asked by the process that started this one
            path=options.config,
            text=text,
            sockets=sockets,
            number=options.number,
        )
    except (ConfigurationError, CertificateError) as error:
        sys.exit(f"mailserver: {error}")
    _run(reactor, server, options.heartbeat)


def _handed_over(end: bytes) -> str:
    """The configuration as the first process has read it, and bound its sockets: the file may be another by now."""
    text = b""
    while not text.endswith(end):
        if not (more := os.read(0, 65536)):
            sys.exit(1)  # that process has gone
        text += more
    return text.removesuffix(end).decode()


def _socket(text: str) -> tuple[int, socket.AddressFamily]:
    fd, _, family = text.partition(":")
    return int(fd), socket.AddressFamily(int(family))


def _run(reactor: Any, server: MailServer, heartbeat: int) -> None:
    stop_once(reactor)
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    reactor.callWhenRunning(server.startService)
    reactor.callWhenRunning(beat, reactor, heartbeat)
    StandardIO(_Starter(reactor), reactor=reactor)
    reactor.run()


class _Starter(Protocol):
    """The process that started this one, at the other end of standard input."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._reactor.running:
            self._reactor.stop()


if __name__ == "__main__":
    main()
