"""TCP connections that write at once.

Twisted's own keep what is written until the reactor's next turn: it asks the system to be told when the socket takes
octets, is told, writes, and asks not to be told any more. For a short answer that costs more than to make it.

Promises   What the socket does not take at once, and all with TLS, goes the way of Twisted. A connection that is broken
           is found there too, and told as ever.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import interfaces, tcp
from twisted.internet.defer import Deferred
from zope.interface import implementer


class PromptServer(tcp.Server):
    """The server's end of a connection."""

    def write(self, data: bytes) -> None:
        waiting = self.dataBuffer or self._tempDataLen
        if data and not (waiting or self.TLS or self._writeDisconnected) and self.connected:
            sent = self.writeSomeData(data)
            if isinstance(sent, int):
                data = data[sent:]
        super().write(data)  # type: ignore[no-untyped-call]


def prompt(port: Any) -> Any:
    """A listening port whose connections do; one that is not of TCP stays as it is."""
    if getattr(port, "transport", None) is tcp.Server:
        port.transport = PromptServer
    return port


@implementer(interfaces.IStreamServerEndpoint)
class PromptEndpoint:
    """Another endpoint, whose port does."""

    def __init__(self, endpoint: interfaces.IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, factory: interfaces.IProtocolFactory) -> Deferred[Any]:
        return self._endpoint.listen(factory).addCallback(prompt)
