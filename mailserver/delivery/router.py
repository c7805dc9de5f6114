"""Where an address leads: into a mailbox here, out to another server, to several of both, or nowhere.

Promises   An address is routed by its domain alone, as the parser gave it. `%`, `!`, a second `@` in quotes and source
           routes have no meaning, so that none of them makes this server relay. In demo mode nothing leads outside.
           Aliases and forwarding are followed once each, to a bounded number of addresses; what leads in a circle ends
           in the mailbox that it came from.
On failure `Refused` with the reply that the sender deserves; a temporary one while the directory cannot be asked.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

from mailserver.accounts import Disabled, Mailbox, Members, NotLocal, Resolution, SourceDown, Unknown
from mailserver.delivery.routes import Refusal, Routes
from mailserver.mail import UNLIMITED, Address, Quota, Reply
from mailserver.mail.srs import SRS, SRSError
from mailserver.ports import Clock, Workers

log = logging.getLogger(__name__)

RELAYING_DENIED = Reply.of(550, "5.7.1", "This server relays for its own users only; log in first")
NO_SUCH_MAILBOX = Reply.of(550, "5.1.1", "There is no such mailbox here")
MAILBOX_DISABLED = Reply.of(550, "5.2.1", "The mailbox takes no mail now")
NOT_KNOWN_NOW = Reply.of(451, "4.3.0", "The address cannot be looked up now, try again later")
TOO_MANY = Reply.of(550, "5.4.6", "The address leads to too many others")
NO_REPORT = Reply.of(550, "5.7.1", "This address takes reports on forwarded mail only, for a few weeks")

EXPANSION_LIMIT = 1000
"""Addresses that one address may lead to, those on the way included."""


class Directory(Protocol):
    """The part of the directory that knows whose mailbox an address is. Raises SourceDown."""

    @property
    def blocking(self) -> bool: ...

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
class Leaf:
    """Where an alias or a forwarding account ends. `forwarder`: the address here that leads to it directly.

    None: it is the first sender of mail that was forwarded, who gets a report.
    """

    address: Address
    route: Local | Remote
    forwarder: Address | None


@dataclass(frozen=True, slots=True)
class Expanded:
    """Several mailboxes, or others' addresses in place of one of ours."""

    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    reply: Reply


Route = Local | Remote | Expanded


@dataclass(slots=True)
class _Walk:
    """What was found so far on the way from one address."""

    seen: set[tuple[str, str]] = field(default_factory=set)
    leaves: dict[tuple[str, str], Leaf] = field(default_factory=dict)
    passed: list[Leaf] = field(default_factory=list)
    """Mailboxes that forward all they get."""
    leads: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    """From an address to the next ones."""
    ends: set[tuple[str, str]] = field(default_factory=set)
    """Addresses of leaves."""
    disabled: bool = False

    def add(self, leaf: Leaf) -> None:
        end = leaf.route.account if isinstance(leaf.route, Local) else leaf.address
        self.leaves.setdefault(end.key, leaf)
        self.ends.add(leaf.address.key)

    def keep_what_leads_nowhere(self) -> None:
        """Mail that no forwarding brings to any leaf stays in the mailbox that it came through."""
        for leaf in self.passed:
            if not self._leads_to_a_leaf(leaf.address.key):
                self.add(leaf)

    def _leads_to_a_leaf(self, key: tuple[str, str]) -> bool:
        seen: set[tuple[str, str]] = set()
        waiting = [key]
        while waiting:
            at = waiting.pop()
            if at in self.ends:
                return True
            if at not in seen:
                seen.add(at)
                waiting += self.leads.get(at, ())
        return False


class Router:
    """`outbox`: the account that gets what would leave (demo mode). `srs`: lets reports on forwarded mail come back.

    `workers` look up in a directory that is `blocking`, and do nothing else, so that one which hangs holds up no mail.
    """

    def __init__(
        self,
        directory: Directory,
        hostname: str,
        outbox: Address | None = None,
        *,
        routes: Routes | None = None,
        srs: SRS | None = None,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._routes = routes if routes is not None else Routes()
        self._directory = directory
        self._hostname = hostname.lower()
        self._outbox = outbox
        self._srs = srs
        self.lookups = workers
        self._clock = clock

    @property
    def blocking(self) -> bool:
        """`route` may wait for a disk or another server."""
        return self._directory.blocking

    def route(self, address: Address, *, may_relay: bool, final: bool = False) -> Route | Refused:
        """`may_relay`: the sender is allowed to reach other servers. `final`: aliases were followed already."""
        try:
            found = self._resolve(address)
            if isinstance(found, NotLocal):
                return self._outside(address) if may_relay else Refused(RELAYING_DENIED)
            if self._srs is not None and SRS.is_rewritten(address) and (back := self._back(self._srs, address)):
                return back
            if isinstance(found, Unknown):
                return Refused(NO_SUCH_MAILBOX)
            if isinstance(found, Mailbox) and (final or not found.forward):
                return Local(found.account, address, found.quota)
            return Refused(MAILBOX_DISABLED) if isinstance(found, Disabled) else self._expanded(address)
        except SourceDown as error:
            log.error("<%s> cannot be looked up: %s", address, error)
        except Exception:
            log.exception("<%s> cannot be looked up", address)
        return Refused(NOT_KNOWN_NOW)

    async def find(self, address: Address, *, may_relay: bool, final: bool = False) -> Route | Refused:
        """As `route`, in a thread where that may wait."""
        if not self.blocking:
            return self.route(address, may_relay=may_relay, final=final)
        return await self.lookups.run(self.route, address, may_relay=may_relay, final=final)

    async def admit(self, address: Address, *, may_relay: bool, sender: Address | None) -> Route | Refused:
        """As `find`, for a message that is about to be taken: what the routing table sends back is refused now."""
        route = await self.find(address, may_relay=may_relay)
        if isinstance(route, Remote):
            way = self._routes.transport(address, sender)
            if isinstance(way, Refusal):
                return Refused(way.reply)
        if isinstance(route, Expanded) and sender is not None and any(leaf.forwarder is None for leaf in route.leaves):
            return Refused(NO_REPORT)
        return route

    async def rewritten(self, sender: Address | None, forwarder: Address) -> Address | None:
        """Under which address mail of `sender` goes on from `forwarder` to another server. Raises SourceDown.

        Its own, if that is one of ours: then we may send for it.
        """
        if sender is None or self._srs is None:
            return sender
        found = await self.lookups.run(self._resolve, sender) if self.blocking else self._resolve(sender)
        if not isinstance(found, NotLocal):
            return sender
        return self._srs.rewritten(sender, forwarder.domain or self._hostname, self._clock.wall())

    def _outside(self, address: Address) -> Local | Remote:
        return Local(self._outbox, address) if self._outbox is not None else Remote(address.domain)

    def _back(self, srs: SRS, address: Address) -> Expanded | None:
        """The way back of a report; None: it is no such address of ours."""
        try:
            original = srs.original(address, self._clock.wall())
        except SRSError as error:
            log.info("<%s> leads back to nobody: %s", address, error)
            return None
        match self._resolve(original):
            case Mailbox(account=account, quota=quota):
                return Expanded((Leaf(original, Local(account, original, quota), None),))
            case NotLocal():
                return Expanded((Leaf(original, self._outside(original), None),))
        return None

    def _expanded(self, start: Address) -> Route | Refused:
        walk = _Walk()
        waiting = [(start, start)]
        while waiting:
            address, forwarder = waiting.pop()
            if address.key in walk.seen:
                continue
            walk.seen.add(address.key)
            if len(walk.seen) > EXPANSION_LIMIT:
                log.error("<%s> leads to more than %d addresses", start, EXPANSION_LIMIT)
                return Refused(TOO_MANY)
            targets = self._step(walk, address, forwarder)
            walk.leads[address.key] = [target.key for target in targets]
            waiting += [(target, address) for target in reversed(targets)]
        walk.keep_what_leads_nowhere()
        leaves = tuple(walk.leaves.values())
        if not leaves:
            log.warning("<%s> leads to nobody who takes mail", start)
            return Refused(MAILBOX_DISABLED if walk.disabled else NO_SUCH_MAILBOX)
        if len(leaves) == 1 and isinstance(only := leaves[0].route, Local):
            return Local(only.account, start, only.quota)
        return Expanded(leaves)

    def _step(self, walk: _Walk, address: Address, forwarder: Address) -> tuple[Address, ...]:
        """Notes where an address ends; gives the addresses that it leads to."""
        match self._resolve(address):
            case Members(addresses=members):
                return members
            case Mailbox() as mailbox:
                leaf = Leaf(address, Local(mailbox.account, address, mailbox.quota), forwarder)
                if mailbox.forward and mailbox.account.key in walk.seen and address.key != mailbox.account.key:
                    return ()  # by another of its addresses
                walk.seen.add(mailbox.account.key)
                if mailbox.forward and not mailbox.keep_copy:
                    walk.passed.append(leaf)
                else:
                    walk.add(leaf)
                return mailbox.forward
            case NotLocal():
                walk.add(Leaf(address, self._outside(address), forwarder))
            case Disabled():
                walk.disabled = True
            case Unknown():
                log.warning("<%s> leads to <%s>, which is not there", forwarder, address)
        return ()

    def _resolve(self, address: Address) -> Resolution:
        """The server's own name is local: only its postmaster and abuse desk have mail there (RFC 5321 §4.5.1)."""
        found = self._directory.resolve(address)
        if not isinstance(found, NotLocal) or address.domain != self._hostname:
            return found
        if address.local.lower() in ("postmaster", "abuse"):
            return self._directory.resolve(Address("postmaster", ""))
        return Unknown()
