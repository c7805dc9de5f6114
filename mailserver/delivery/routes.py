"""How mail for others goes on: the routing table of `[[route]]` and `[relay]`, and the ways that there are.

Promises   The first rule that fits counts, whatever their number: a lookup takes a few questions to one table. Case
           does not count, and both forms of an internationalised domain are the same. Ways to go are equal when they
           are the same in all they say, so that mail can be gathered by them.
On failure `parse_transport` raises ValueError that tells what would be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path

from mailserver.config.network import parse_host_port
from mailserver.config.patterns import keys_of_address, parse_lmtp, parse_refusal
from mailserver.config.relay import Relay, Route
from mailserver.mail import Address, Reply

IMPLICIT_TLS_PORT = 465  # RFC 8314 §3.3

_ANYBODY = "*"  # no pattern and no key is written so


class Encryption(StrEnum):
    """What is asked of the connection to a smarthost."""

    OPPORTUNISTIC = "opportunistic"  # where it is offered and works
    REQUIRED = "required"  # with any certificate
    VERIFIED = "verified"  # with one that holds for the name


@dataclass(frozen=True, slots=True)
class ByMX:
    """To the exchangers of the recipient's domain."""

    def __str__(self) -> str:
        return "mx"


@dataclass(frozen=True, slots=True)
class Smarthost:
    """To this server by SMTP. With a user, `tls` is not opportunistic."""

    host: str
    port: int
    tls: Encryption = Encryption.OPPORTUNISTIC
    user: str | None = None
    password_file: Path | None = None

    @property
    def implicit_tls(self) -> bool:
        return self.port == IMPLICIT_TLS_PORT

    def __str__(self) -> str:
        return f"smarthost:{_host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class LMTPServer:
    """To this server by LMTP over TCP."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"lmtp:{_host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class LMTPSocket:
    """To the server behind this UNIX socket by LMTP."""

    path: str

    def __str__(self) -> str:
        return f"lmtp:unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Discard:
    """Nowhere; it counts as delivered."""

    def __str__(self) -> str:
        return "discard"


@dataclass(frozen=True, slots=True)
class Hold:
    """It stays in the queue until somebody releases it."""

    def __str__(self) -> str:
        return "hold"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Back to the sender with this reply; or it waits, when the reply is temporary."""

    reply: Reply

    def __str__(self) -> str:
        return f"error:{self.reply.lines()[0]}"


Transport = ByMX | Smarthost | LMTPServer | LMTPSocket | Discard | Hold | Refusal
"""The text of each is what `parse_transport` takes, but for the login at a smarthost: see `Routes.completed`."""

BY_MX, DISCARD, HOLD = ByMX(), Discard(), Hold()


def parse_transport(text: str) -> Transport:
    """What an administrator writes to send one message another way. Raises ValueError."""
    kind, colon, rest = text.partition(":")
    alone: dict[str, Transport] = {"mx": BY_MX, "discard": DISCARD, "hold": HOLD}
    if kind in alone:
        if colon:
            raise ValueError(f'"{text}": {kind} stands alone; write "{kind}"')
        return alone[kind]
    try:
        if kind in ("smarthost", "smtp"):
            return Smarthost(*parse_host_port(rest))
        if kind == "lmtp":
            return _lmtp(rest)
        if kind == "error":
            return Refusal(parse_refusal(rest))
    except ValueError as error:
        raise ValueError(f'"{text}": what follows {kind}: {error}') from None
    raise ValueError(
        f'"{text}" is no way to go; write mx, smarthost:HOST:PORT, lmtp:HOST:PORT, lmtp:unix:/path, discard, hold '
        "or error:TEXT"
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """For mail to `to` from `sender`, patterns of `config.patterns`; None: to or from anybody."""

    to: Sequence[str] | None
    sender: Sequence[str] | None
    transport: Transport


class Routes:
    """The table. What fits no rule goes by `default`."""

    def __init__(self, rules: Iterable[Rule] = (), default: Transport = BY_MX) -> None:
        self._transports: list[Transport] = []
        self._first: dict[tuple[str, str], int] = {}  # the first rule with both patterns, a recipient's and a sender's
        for number, rule in enumerate(rules):
            self._transports.append(rule.transport)
            for pair in product(_patterns(rule.to), _patterns(rule.sender)):
                self._first.setdefault(pair, number)
        self._transports.append(default)

    @property
    def default(self) -> Transport:
        return self._transports[-1]

    @classmethod
    def of(cls, routes: Iterable[Route], relay: Relay) -> Routes:
        """As the configuration has them: the smarthost of `[relay]` stands behind the last route."""
        return cls((Rule(route.to, route.sender, _transport(route)) for route in routes), _default(relay))

    def transport(self, recipient: Address, sender: Address | None) -> Transport:
        """None is the sender of reports."""
        pairs = product((*keys_of_address(recipient), _ANYBODY), (*keys_of_address(sender), _ANYBODY))
        return self._transports[min((self._first[pair] for pair in pairs if pair in self._first), default=-1)]

    def completed(self, transport: Transport) -> Transport:
        """A smarthost that was named by host and port alone, with what the configuration says of that server."""
        if not isinstance(transport, Smarthost):
            return transport
        same = (known for known in self._transports if str(known) == str(transport))
        return next(same, transport)


def _patterns(given: Sequence[str] | None) -> Sequence[str]:
    return (_ANYBODY,) if given is None else given


def _transport(route: Route) -> Transport:
    host, text = route.host or "", route.text or ""  # there where they are needed
    match route.via:
        case "mx":
            return BY_MX
        case "smarthost":
            return _smarthost(host, route.tls, route.user, route.password_file)
        case "lmtp":
            return _lmtp(host)
        case "discard":
            return DISCARD
        case "hold":
            return HOLD
        case "error":
            return Refusal(parse_refusal(text))


def _default(relay: Relay) -> Transport:
    if relay.smarthost is None:
        return BY_MX
    return _smarthost(relay.smarthost, None, relay.smarthost_user, relay.smarthost_password_file)


def _smarthost(host: str, tls: str | None, user: str | None, password_file: Path | None) -> Smarthost:
    usual = Encryption.OPPORTUNISTIC if user is None else Encryption.VERIFIED
    return Smarthost(*parse_host_port(host), Encryption(tls) if tls else usual, user, password_file)


def _lmtp(text: str) -> LMTPServer | LMTPSocket:
    where = parse_lmtp(text)
    return LMTPSocket(where) if isinstance(where, str) else LMTPServer(*where)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
