"""What the engine tells its session.

Each event but `LiteralChunk` and `Woken` awaits an answer: `done(tag, ...)` where it has a tag, or what it says here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mailserver.imap.commands import Append, CatPart, Command


@dataclass(frozen=True, slots=True)
class Request:
    """A whole command, right in grammar and in place."""

    tag: str
    command: Command


@dataclass(frozen=True, slots=True)
class AppendStarted:
    """An APPEND whose message is still to come. Answer with `accept()`, or with `done` to have none of it.

    A message that is put together (RFC 4469) comes as `AppendPart`s.
    """

    tag: str
    command: Append


@dataclass(frozen=True, slots=True)
class AppendNext:
    """The message has come, and one more of the same APPEND is to come (RFC 3502). Answered as `AppendStarted`."""

    tag: str
    command: Append


@dataclass(frozen=True, slots=True)
class AppendPart:
    """A part of a message that is put together. Answered as `AppendStarted`; its literal, if it is one, comes then."""

    tag: str
    part: CatPart


@dataclass(frozen=True, slots=True)
class LiteralChunk:
    """Octets of the message being appended, or of a part of it; no answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AppendEnded:
    """The whole message has come, the last one."""

    tag: str


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The client's answer to a `challenge`, base64 taken off."""

    tag: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class IdleEnded:
    """The client has said DONE (RFC 2177)."""

    tag: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A command that is malformed or out of place, with the answer it deserves: `reject(event)`.

    `tag` None: the answer is untagged. `fatal`: the connection cannot go on. It also ends an AUTHENTICATE, an IDLE or
    an APPEND that has begun. `loses_saved`: what a search has saved is to be forgotten (RFC 5182).
    """

    tag: str | None
    text: str
    status: str = "BAD"
    code: str | None = None
    fatal: bool = False
    loses_saved: bool = False


@dataclass(frozen=True, slots=True)
class Woken:
    """There may be something to tell, and no command is waiting: what `wake` asked for. No answer."""


Answered = Request | AppendStarted | AppendNext | AppendPart | AppendEnded | AuthResponse | IdleEnded | Rejected
Event = Answered | LiteralChunk | Woken
