"""Ports of loopback for servers that are about to start, here and in the tests.

They are from below the range that the system gives to outgoing connections: a port that `bind` chooses may be taken by
one of those before its server listens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import count


def _numbers() -> Iterator[int]:
    """Round and round. Of tests that run side by side each process has a part of them for itself."""
    parts = max(8, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % parts
    size = (32_000 - 15_000) // parts
    first = os.getpid() % size
    return (15_000 + part * size + (first + number) % size for number in count())


_ports = _numbers()


def free_ports(wanted: int, host: str = "127.0.0.1") -> list[int]:
    """TCP ports that nobody listens on now, and that were not given before, for a long time."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < wanted:
            try:
                sockets.append(socket.create_server((host, next(_ports))))
            except OSError:
                continue
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()
