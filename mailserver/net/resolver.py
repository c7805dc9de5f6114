"""The domain name system through dnspython, in threads of its own.

Promises   An answer within `LIFETIME` seconds or DNSFailure. What is known is told at once, without a thread: answers
           for their TTL, and that a name or its records do not exist for as long as its zone allows (RFC 2308). A
           failure holds for some seconds, many who ask the same wait for one answer, and servers that say nothing are
           waited for more briefly the next time: a DNS that is dead does not tie up the threads.
On failure SERVFAIL, timeouts and broken answers are temporary (DNSFailure), NXDOMAIN is permanent (NoSuchDomain).
Threads    All methods belong to the reactor's thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.message
import dns.nameserver
import dns.rdatatype
import dns.resolver
from twisted.internet.defer import Deferred

from mailserver.ports import MX, DNSFailure, NoSuchDomain, Workers

log = logging.getLogger(__name__)

LIFETIME = 15.0
SILENT_LIFETIME = 3.0  # in place of it, while the servers say nothing
SILENCE_HOLDS = 60.0
CACHED_ANSWERS = 10_000
LONGEST = 86400.0  # whatever the TTL says
LONGEST_NEGATIVE = 3600.0
FAILURE_HOLDS = 10.0
ALIASES = 8  # that are followed by asking again

Key = tuple[str, str]


def parse_server(text: str) -> tuple[str, int]:
    """ "127.0.0.1:53" or "[::1]:53" as address and port."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class _Answer:
    """Good for `ttl` seconds. `heard`: a server said it."""

    records: Sequence[Any] = ()
    failure: DNSFailure | NoSuchDomain | None = None
    ttl: float = FAILURE_HOLDS
    heard: bool = True


class ThreadResolver:
    """The Resolver port. `servers` as "ADDRESS:PORT"; none: those of the system."""

    def __init__(
        self, workers: Workers, servers: Sequence[str] = (), *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._workers = workers
        self._monotonic = monotonic
        try:
            self._resolver = dns.resolver.Resolver(configure=not servers)
        except dns.resolver.NoResolverConfiguration as error:
            log.error("no DNS server is known, mail for other servers waits: %s", error)
            self._resolver = dns.resolver.Resolver(configure=False)
        if servers:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(*parse_server(server)) for server in servers]
        self._resolver.cache = None  # its own goes by the wall clock, and a thread is needed to ask it
        self._known: dict[Key, tuple[float, _Answer]] = {}  # until when; the one used last stands last
        self._asked: dict[Key, list[Deferred[_Answer]]] = {}  # those who wait for the one who asks
        self._heard = self._silent_until = -1.0

    async def mx(self, domain: str) -> Sequence[MX]:
        answer = await self._answer(domain, "MX")
        if answer.failure is not None:
            raise _anew(answer.failure)
        return [
            MX(int(r.preference), r.exchange.to_text(omit_final_dot=True).strip(".").lower()) for r in answer.records
        ]

    async def addresses(self, host: str) -> Sequence[str]:
        """Both kinds are asked for at the same time."""
        older = Deferred.fromCoroutine(self._answer(host, "A"))
        answers = [await self._answer(host, "AAAA"), await older]
        found = [record.address for answer in answers for record in answer.records]
        failures = [answer.failure for answer in answers if answer.failure is not None]
        # Some servers deny the name when they have no address of one kind, so one of them does not speak for the other.
        if not found and failures:
            raise _anew(next((failure for failure in failures if isinstance(failure, DNSFailure)), failures[0]))
        return found

    async def _answer(self, name: str, kind: str) -> _Answer:
        key = (name.lower(), kind)
        if (known := self._recall(key)) is not None:
            return known
        if key in self._asked:
            waiting: Deferred[_Answer] = Deferred()
            self._asked[key].append(waiting)
            return await waiting
        self._asked[key] = []
        answer = _Answer(failure=DNSFailure(f"{kind} of {name} was not looked up to the end"))
        try:
            begun = self._monotonic()
            lifetime = SILENT_LIFETIME if begun < self._silent_until else LIFETIME
            answer = await self._workers.run(self._look_up, name, kind, lifetime)
            self._listen(answer, begun)
            self._remember(key, answer)
        finally:
            for waiting in self._asked.pop(key):
                waiting.callback(answer)
        return answer

    # What is known

    def _recall(self, key: Key) -> _Answer | None:
        until, answer = self._known.pop(key, (0.0, None))
        if answer is None or until <= self._monotonic():
            return None
        self._known[key] = until, answer
        return answer

    def _remember(self, key: Key, answer: _Answer) -> None:
        if answer.ttl <= 0:
            return
        self._known[key] = self._monotonic() + answer.ttl, answer
        if len(self._known) > CACHED_ANSWERS:
            del self._known[next(iter(self._known))]

    def _listen(self, answer: _Answer, begun: float) -> None:
        """The servers are silent when none of them said a word to anybody while somebody waited in vain."""
        now = self._monotonic()
        if answer.heard:
            self._heard, self._silent_until = now, -1.0
        elif self._heard < begun:
            self._silent_until = now + SILENCE_HOLDS

    # In a thread

    def _look_up(self, name: str, kind: str, lifetime: float) -> _Answer:
        try:
            return self._resolve(name, kind, lifetime)
        except dns.resolver.NXDOMAIN as error:
            response = next(iter(error.responses().values()))  # type: ignore[no-untyped-call]
            return _Answer(failure=NoSuchDomain(f"the domain {name} does not exist"), ttl=_negative_ttl(response))
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            failure = DNSFailure(f"{kind} of {name} cannot be looked up now ({type(error).__name__})")
            return _Answer(failure=failure, heard=not isinstance(error, dns.exception.Timeout))

    def _resolve(self, name: str, kind: str, lifetime: float) -> _Answer:
        asked: Any = name
        ttl, deadline = LONGEST, time.monotonic() + lifetime
        for _ in range(ALIASES):
            left = max(deadline - time.monotonic(), 0.0)
            answer = self._resolver.resolve(asked, kind, search=False, raise_on_no_answer=False, lifetime=left)
            ttl = min(ttl, answer.chaining_result.minimum_ttl)
            if answer.rrset is not None:
                return _Answer(list(answer), ttl=ttl)
            if answer.canonical_name == answer.qname or _has_soa(answer.response):
                return _Answer(ttl=min(ttl, _negative_ttl(answer.response)))
            asked = answer.canonical_name  # the server says that it is an alias, and no more
        return _Answer(failure=DNSFailure(f"{kind} of {name} cannot be looked up: its aliases have no end"))


def _anew(failure: DNSFailure | NoSuchDomain) -> Exception:
    """One that is remembered is not raised itself: it would gather tracebacks."""
    return type(failure)(*failure.args)


def _has_soa(response: dns.message.Message) -> bool:
    return any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)


def _negative_ttl(response: dns.message.QueryMessage) -> float:
    """By the SOA record (RFC 2308 §5); without one it is good for a moment only."""
    if not _has_soa(response):
        return FAILURE_HOLDS
    return min(response.resolve_chaining().minimum_ttl, LONGEST_NEGATIVE)
