"""What a POP3 client asks for: one event a command (RFC 1939 §9, RFC 2449 §5, RFC 2595 §4, RFC 5034 §4, RFC 6856).

Promises   Plain data. A message number is as the client wrote it: not negative, else unchecked.
On failure What is not of the grammar, or not of its state, is a `Rejected`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class Event:
    """The base of all events; each of them awaits one answer."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class User(Event):
    name: str


@dataclass(frozen=True, slots=True)
class Pass(Event):
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Auth(Event):
    """`mechanism` in upper case; `initial` is the decoded initial response, None when there was none."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mechanisms(Event):
    """AUTH alone. No RFC has it, yet it is how Outlook and Thunderbird ask which mechanisms there are."""


@dataclass(frozen=True, slots=True)
class AuthResponse(Event):
    """The client's decoded answer to a challenge."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartTLS(Event):
    """STLS."""


@dataclass(frozen=True, slots=True)
class Capa(Event):
    pass


@dataclass(frozen=True, slots=True)
class UTF8(Event):
    """RFC 6856 §2.1."""


@dataclass(frozen=True, slots=True)
class Lang(Event):
    """RFC 6856 §3. `wanted` is a language range or "*"; None asks which languages there are."""

    wanted: str | None


@dataclass(frozen=True, slots=True)
class Stat(Event):
    pass


@dataclass(frozen=True, slots=True)
class List(Event):
    number: int | None


@dataclass(frozen=True, slots=True)
class Uidl(Event):
    number: int | None


@dataclass(frozen=True, slots=True)
class Retr(Event):
    number: int


@dataclass(frozen=True, slots=True)
class Top(Event):
    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Dele(Event):
    number: int


@dataclass(frozen=True, slots=True)
class Noop(Event):
    pass


@dataclass(frozen=True, slots=True)
class Rset(Event):
    pass


@dataclass(frozen=True, slots=True)
class Quit(Event):
    pass


@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """Nothing that could be done; `text` says why and is to be the text of the negative answer."""

    text: str
