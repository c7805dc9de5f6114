"""How the processes of one server wake each other: a datagram without content, to a UNIX socket of each.

Promises   Ringing waits for nobody. What is lost costs a second: who delivers looks for itself that often.
On failure Nothing: a bell that cannot be hung up or rung is done without, and that is logged.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

log = logging.getLogger(__name__)


class Bells:
    """Those in one directory; each process has its own, named by its id."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self._reactor = reactor
        self._directory = directory
        self._own = directory / str(os.getpid())
        self._port: Any = None

    def hang_up(self, rung: Callable[[], object]) -> None:
        """From now on `rung` is called when another process rings."""
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._own.unlink(missing_ok=True)
            self._port = self._reactor.listenUNIXDatagram(str(self._own), _Bell(rung), mode=0o600)
        except (OSError, CannotListenError) as error:
            log.warning("mail that another process took waits for a second: %s", error)

    def ring(self) -> None:
        """All but our own. Those that nobody hears any more are removed."""
        try:
            others = [path for path in self._directory.iterdir() if path != self._own]
        except OSError:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for path in others:
                try:
                    sender.sendto(b"", str(path))
                except ConnectionRefusedError:
                    path.unlink(missing_ok=True)
                except OSError:
                    pass  # it rings already

    def take_down(self) -> None:
        if self._port is not None:
            self._port.stopListening()
            self._own.unlink(missing_ok=True)


class _Bell(DatagramProtocol):
    def __init__(self, rung: Callable[[], object]) -> None:
        self._rung = rung

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._rung()
