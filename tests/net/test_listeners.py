from __future__ import annotations

import errno
import os

import pytest
from twisted.internet.error import CannotListenError

from mailserver.net.listeners import unbound


@pytest.mark.parametrize(
    ("port", "number", "remedy"),
    [
        (25, errno.EADDRINUSE, "end the program that has it"),
        (25, errno.EACCES, "ports below 1024 need the right to bind them"),
        ("/run/mailserver/imap", errno.EACCES, "give the [[listener]] another endpoint"),
    ],
)
def test_why_a_port_cannot_be_bound_and_what_to_do(port: int | str, number: int, remedy: str) -> None:
    told = unbound(CannotListenError("", port, OSError(number, os.strerror(number))))
    assert told.startswith(f"port {port} cannot be bound: {os.strerror(number)}; ")
    assert remedy in told
