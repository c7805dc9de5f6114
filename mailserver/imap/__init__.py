"""The server's side of IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) without I/O.

Promises   `ServerConnection` turns octets into events and answers into octets; the same input in other pieces gives the
           same events. What a command means is left to `sessions.imap`.
On failure A malformed command is an event that carries the answer it deserves.
"""

from mailserver.imap.events import (
    AppendEnded,
    AppendNext,
    AppendPart,
    AppendStarted,
    AuthResponse,
    Event,
    IdleEnded,
    LiteralChunk,
    Rejected,
    Request,
    Woken,
)
from mailserver.imap.limits import Limits
from mailserver.imap.patterns import SEPARATOR, Pattern
from mailserver.imap.sequence import SequenceSet, compress, contains
from mailserver.imap.server import ServerConnection
from mailserver.imap.states import State
from mailserver.imap.syntax import Name

__all__ = [
    "SEPARATOR",
    "AppendEnded",
    "AppendNext",
    "AppendPart",
    "AppendStarted",
    "AuthResponse",
    "Event",
    "IdleEnded",
    "Limits",
    "LiteralChunk",
    "Name",
    "Pattern",
    "Rejected",
    "Request",
    "SequenceSet",
    "ServerConnection",
    "State",
    "Woken",
    "compress",
    "contains",
]
