"""Listeners from Twisted's server endpoint strings.

Promises   A port that cannot be bound stops the start. `check_endpoint` tells beforehand what Twisted would not take.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.application import strports
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.internet import endpoints
from twisted.internet.error import CannotListenError

from mailserver.net.connection import Service
from mailserver.net.factory import ServiceFactory


def listen(reactor: Any, endpoint: str, service: Service) -> StreamServerEndpointService:
    """A Twisted service that binds when it is started, before privileges are dropped."""
    return strports.service(endpoint, ServiceFactory(service), reactor=reactor)


class Binding(MultiService):
    """Binds as it starts, before privileges are dropped. A port that cannot be bound ends the program with a line."""

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except CannotListenError as error:
            raise SystemExit(f"mailserver: {unbound(error)}") from None


def unbound(error: CannotListenError) -> str:
    """Why a port, or a socket in the file system, could not be bound, and what to do."""
    remedy = "end the program that has it, or give the [[listener]] another endpoint"
    if error.socketError.errno == errno.EACCES and isinstance(error.port, int):
        remedy = (
            "ports below 1024 need the right to bind them: start the server by etc/mailserver.service, or as root with "
            "twistd --uid mailserver --gid mailserver mailserver ..."
        )
    return f"port {error.port} cannot be bound: {error.socketError.strerror}; {remedy}"


def check_endpoint(endpoint: str) -> str | None:
    """What is wrong with the string, or None."""
    from twisted.internet import reactor

    try:
        endpoints.serverFromString(reactor, endpoint)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        return f"Twisted cannot make an endpoint of it: {error}"
    return None
