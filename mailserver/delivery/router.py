"""Where an address leads: into a mailbox here, out to another server, or nowhere.

Promises   An address is routed by its domain alone, as the parser gave it. `%`, `!`, a second `@` in quotes and source
           routes have no meaning, so that none of them makes this server relay. In demo mode nothing leads outside.
On failure `Refused` with the reply that the sender deserves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mailserver.accounts import Mailbox, Resolution, Unknown
from mailserver.delivery.routes import Refusal, Routes
from mailserver.mail import UNLIMITED, Address, Quota, Reply

RELAYING_DENIED = Reply.of(550, "5.7.1", "This server relays for its own users only; log in first")
NO_SUCH_MAILBOX = Reply.of(550, "5.1.1", "There is no such mailbox here")


class Directory(Protocol):
    """The part of the directory that knows whose mailbox an address is."""

    def resolve(self, address: Address) -> Resolution: ...


@dataclass(frozen=True, slots=True)
class Local:
    """A mailbox here. `recipient` is the address as it was sent to."""

    account: Address
    recipient: Address
    quota: Quota = UNLIMITED


@dataclass(frozen=True, slots=True)
class Remote:
    """Another server: a domain, or an address literal in brackets."""

    domain: str


@dataclass(frozen=True, slots=True)
class Refused:
    reply: Reply


Route = Local | Remote


class Router:
    """`outbox`: the account that gets what would leave (demo mode)."""

    def __init__(
        self, directory: Directory, hostname: str, outbox: Address | None = None, *, routes: Routes | None = None
    ) -> None:
        self._routes = routes if routes is not None else Routes()
        self._directory = directory
        self._hostname = hostname.lower()
        self._outbox = outbox

    def route(self, address: Address, *, may_relay: bool) -> Route | Refused:
        """`may_relay`: the sender is allowed to reach other servers."""
        match self._resolve(address):
            case Mailbox(account=account, quota=quota):
                return Local(account, address, quota)
            case Unknown():
                return Refused(NO_SUCH_MAILBOX)
        if not may_relay:
            return Refused(RELAYING_DENIED)
        if self._outbox is not None:
            return Local(self._outbox, address)
        return Remote(address.domain)

    def admit(self, address: Address, *, may_relay: bool, sender: Address | None) -> Route | Refused:
        """As `route`, for a message that is about to be taken: what the routing table sends back is refused now."""
        route = self.route(address, may_relay=may_relay)
        if isinstance(route, Remote):
            way = self._routes.transport(address, sender)
            if isinstance(way, Refusal):
                return Refused(way.reply)
        return route

    def _resolve(self, address: Address) -> Resolution:
        """The server's own name is always local: only its postmaster has mail there (RFC 5321 §4.5.1)."""
        found = self._directory.resolve(address)
        if isinstance(found, Mailbox | Unknown) or address.domain != self._hostname:
            return found
        if address.local.lower() == "postmaster":
            return self._directory.resolve(Address("postmaster", ""))
        return Unknown()
