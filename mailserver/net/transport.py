"""Writing to a connection at once.

Twisted keeps what is written until the reactor's next turn: it asks the system to be told when the socket takes octets,
is told, writes, and asks not to be told any more. For a short answer that costs more than to make it.

Promises   The octets leave in order. What the socket does not take now, and all with TLS, goes the way of Twisted. A
           connection that is broken is found there too, and told as ever.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp


def write(transport: Any, data: bytes) -> None:
    """As `transport.write(data)`."""
    if isinstance(transport, tcp.Connection) and transport.connected and not transport.TLS:
        waiting = transport.dataBuffer or transport._tempDataLen or transport._writeDisconnected
        sent = transport.writeSomeData(data) if data and not waiting else 0
        if isinstance(sent, int):
            data = data[sent:]
    if data:
        transport.write(data)
