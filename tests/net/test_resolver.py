"""The resolver against a small name server: what it remembers and for how long, aliases, and a DNS that is dead."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import dns.resolver
import pytest
from twisted.internet.defer import Deferred, gatherResults

from mailserver.net import resolver as resolver_module
from mailserver.net.resolver import FAILURE_HOLDS, LONGEST, LONGEST_NEGATIVE, ThreadResolver
from mailserver.net.workers import ThreadWorkers
from mailserver.ports import MX, DNSFailure, NoSuchDomain
from tests.support.dns import Fault, NameServer
from tests.support.fakes import FakeClock, FakeWorkers, run
from tests.support.reactor import in_reactor


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as server:
        server.ttl, server.soa = 300, (600, 600)
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def resolver(server: NameServer, clock: FakeClock) -> ThreadResolver:
    return ThreadResolver(FakeWorkers(), [server.address], monotonic=clock.monotonic)


def test_without_a_dns_server_the_server_starts_and_lookups_fail_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: object, path: str) -> None:
        raise dns.resolver.NoResolverConfiguration(f"cannot open {path}")

    monkeypatch.setattr(dns.resolver.Resolver, "read_resolv_conf", missing)
    resolver = ThreadResolver(FakeWorkers())
    with pytest.raises(DNSFailure):
        run(resolver.mx("example.net"))


# What is remembered


def test_an_answer_is_asked_for_again_when_its_ttl_is_over(
    server: NameServer, resolver: ThreadResolver, clock: FakeClock
) -> None:
    server.zone["example.net", "MX"] = ["10 MX.example.net."]
    assert run(resolver.mx("example.net")) == [MX(10, "mx.example.net")]
    server.zone["example.net", "MX"] = ["20 other.example.net."]
    clock.advance(299)
    assert run(resolver.mx("EXAMPLE.net")) == [MX(10, "mx.example.net")]
    assert len(server.questions) == 1
    clock.advance(1)
    assert run(resolver.mx("example.net")) == [MX(20, "other.example.net")]


def test_a_clock_that_is_set_back_keeps_nothing_for_longer(
    server: NameServer, resolver: ThreadResolver, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.zone["example.net", "MX"] = ["10 mx.example.net."]
    run(resolver.mx("example.net"))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86400)
    clock.advance(300)
    run(resolver.mx("example.net"))
    assert len(server.questions) == 2


def test_an_answer_with_a_ttl_of_none_is_not_remembered(server: NameServer, resolver: ThreadResolver) -> None:
    server.ttl = 0
    server.zone["example.net", "MX"] = ["10 mx.example.net."]
    run(resolver.mx("example.net"))
    run(resolver.mx("example.net"))
    assert len(server.questions) == 2


def test_no_answer_is_remembered_for_longer_than_a_day(
    server: NameServer, resolver: ThreadResolver, clock: FakeClock
) -> None:
    server.ttl = 2**31 - 1
    server.zone["example.net", "MX"] = ["10 mx.example.net."]
    run(resolver.mx("example.net"))
    clock.advance(LONGEST)
    run(resolver.mx("example.net"))
    assert len(server.questions) == 2


@pytest.mark.parametrize(
    ("soa", "holds"),
    [((600, 60), 60), ((60, 600), 60), ((10**6, 10**6), LONGEST_NEGATIVE), (None, FAILURE_HOLDS)],
    ids=["MINIMUM", "TTL", "an hour at most", "no SOA"],
)
@pytest.mark.parametrize("exists", [False, True])
def test_that_there_is_nothing_is_remembered_as_its_zone_allows(
    server: NameServer,
    resolver: ThreadResolver,
    clock: FakeClock,
    soa: tuple[int, int] | None,
    holds: float,
    exists: bool,
) -> None:
    server.soa = soa
    if exists:
        server.zone["example.net", "TXT"] = ['"x"']
    for count in (1, 1, 2):
        if exists:
            assert run(resolver.mx("example.net")) == []
        else:
            with pytest.raises(NoSuchDomain, match=r"^the domain example\.net does not exist$"):
                run(resolver.mx("example.net"))
        assert len(server.questions) == count
        clock.advance(holds / 2)


def test_the_cache_is_bounded(server: NameServer, resolver: ThreadResolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "CACHED_ANSWERS", 3)
    for name in "abc":
        server.zone[name, "MX"] = ["10 mx.example.net."]
        run(resolver.mx(name))
    run(resolver.mx("a"))
    with pytest.raises(NoSuchDomain):
        run(resolver.mx("d"))
    server.questions.clear()
    run(resolver.mx("a"))
    assert server.questions == []
    run(resolver.mx("b"))  # asked for longest ago
    assert server.questions == [("b", "MX")]


def test_a_broken_answer_or_a_refusal_holds_for_some_seconds(
    server: NameServer, resolver: ThreadResolver, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "LIFETIME", 1.0)
    for fault in (Fault.SERVFAIL, Fault.REFUSED, Fault.GARBAGE):
        server.faults["example.net"] = fault
        with pytest.raises(DNSFailure):
            run(resolver.mx("example.net"))
        questions = len(server.questions)
        with pytest.raises(DNSFailure):
            run(resolver.mx("example.net"))
        assert len(server.questions) == questions
        clock.advance(FAILURE_HOLDS)
    server.faults.clear()
    server.zone["example.net", "MX"] = ["10 mx.example.net."]
    assert run(resolver.mx("example.net")) == [MX(10, "mx.example.net")]


# Aliases


@pytest.mark.parametrize("follows", [True, False])
def test_aliases_are_followed_for_both(server: NameServer, resolver: ThreadResolver, follows: bool) -> None:
    server.follows = follows
    server.zone["www.example.net", "CNAME"] = ["a.example.net."]
    server.zone["a.example.net", "CNAME"] = ["B.example.com."]
    server.zone["b.example.com", "MX"] = ["10 mx.example.com."]
    server.zone["b.example.com", "A"] = ["192.0.2.1"]
    server.zone["b.example.com", "AAAA"] = ["2001:db8::1"]
    assert run(resolver.mx("www.example.net")) == [MX(10, "mx.example.com")]
    assert run(resolver.addresses("www.example.net")) == ["2001:db8::1", "192.0.2.1"]


def test_an_alias_holds_as_long_as_the_shortest_ttl_on_its_way(
    server: NameServer, resolver: ThreadResolver, clock: FakeClock
) -> None:
    server.follows = False  # so that each answer has its TTL
    server.zone["www.example.net", "CNAME"] = ["a.example.net."]
    server.zone["a.example.net", "MX"] = ["10 mx.example.com."]
    server.ttl = 5
    run(resolver.mx("www.example.net"))
    clock.advance(5)
    run(resolver.mx("www.example.net"))
    assert len(server.questions) == 4


def test_an_alias_of_nothing(server: NameServer, resolver: ThreadResolver) -> None:
    server.zone["www.example.net", "CNAME"] = ["nowhere.example.net."]
    with pytest.raises(NoSuchDomain):
        run(resolver.mx("www.example.net"))
    with pytest.raises(NoSuchDomain):
        run(resolver.addresses("www.example.net"))


@pytest.mark.parametrize("follows", [True, False])
def test_aliases_without_end_are_a_failure(server: NameServer, resolver: ThreadResolver, follows: bool) -> None:
    server.follows = follows
    server.zone["a.example.net", "CNAME"] = ["b.example.net."]
    server.zone["b.example.net", "CNAME"] = ["a.example.net."]
    with pytest.raises(DNSFailure):
        run(resolver.mx("a.example.net"))


# Both kinds of addresses


def test_a_host_with_addresses_of_one_kind(server: NameServer, resolver: ThreadResolver) -> None:
    server.zone["four.example.net", "A"] = ["192.0.2.1", "192.0.2.2"]
    server.zone["six.example.net", "AAAA"] = ["2001:db8::1"]
    server.zone["none.example.net", "TXT"] = ['"x"']
    assert run(resolver.addresses("four.example.net")) == ["192.0.2.1", "192.0.2.2"]
    assert run(resolver.addresses("six.example.net")) == ["2001:db8::1"]
    assert run(resolver.addresses("none.example.net")) == []
    with pytest.raises(NoSuchDomain):
        run(resolver.addresses("nowhere.example.net"))


class _Odd(NameServer):
    """Has other faults for AAAA than for A."""

    def __init__(self, fault: Fault) -> None:
        super().__init__({("example.net", "A"): ["192.0.2.1"]})
        self._fault = fault

    def _answer(self, packet: bytes) -> bytes | None:
        self.faults = {"example.net": self._fault} if b"\0\x1c\0\1" in packet else {}
        return super()._answer(packet)


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.NXDOMAIN])
def test_servers_that_do_not_know_of_aaaa_do_not_hide_the_others(fault: Fault) -> None:
    with _Odd(fault) as server:
        assert run(ThreadResolver(FakeWorkers(), [server.address]).addresses("example.net")) == ["192.0.2.1"]
        server.zone = {("example.net", "TXT"): ['"x"']}
        with pytest.raises(DNSFailure if fault is Fault.SERVFAIL else NoSuchDomain):
            run(ThreadResolver(FakeWorkers(), [server.address]).addresses("example.net"))


def use(server: str, what: Any, clock: FakeClock | None = None) -> Any:
    """Runs `what(resolver)` in the reactor with real threads."""
    now = time.monotonic if clock is None else clock.monotonic

    async def act(reactor: Any) -> Any:
        workers = ThreadWorkers(reactor, 3, "dns", abandon=True)
        workers.start()
        try:
            return await what(ThreadResolver(workers, [server], monotonic=now))
        finally:
            workers.stop()

    return in_reactor(act)


def test_both_kinds_are_asked_for_before_either_is_answered() -> None:
    zone = NameServer({("example.net", "A"): ["192.0.2.1"], ("example.net", "AAAA"): ["2001:db8::1"]})
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.settimeout(60)

    def serve() -> None:
        for packet, peer in [listener.recvfrom(4096), listener.recvfrom(4096)]:
            answer = zone._answer(packet)
            assert answer is not None
            listener.sendto(answer, peer)

    thread = threading.Thread(target=serve)
    thread.start()
    found = use(f"127.0.0.1:{listener.getsockname()[1]}", lambda resolver: resolver.addresses("example.net"))
    thread.join()
    listener.close()
    assert found == ["2001:db8::1", "192.0.2.1"]
    assert {kind for _, kind in zone.questions} == {"A", "AAAA"}


# A DNS that is dead


def test_many_who_ask_the_same_wait_for_one_answer(server: NameServer) -> None:
    server.ttl = 0
    server.zone["example.net", "MX"] = ["10 mx.example.net."]

    async def many(resolver: ThreadResolver) -> list[Any]:
        return await gatherResults([Deferred.fromCoroutine(resolver.mx("example.net")) for _ in range(50)])

    assert use(server.address, many) == [[MX(10, "mx.example.net")]] * 50
    assert len(server.questions) < 5, "again, where the answer is late"


def test_a_dead_dns_does_not_tie_up_the_threads(
    server: NameServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "LIFETIME", 0.2)
    monkeypatch.setattr(resolver_module, "SILENT_LIFETIME", 0.1)
    for name in ("a", "b", "c", "d", "e", "f", "g"):
        server.faults[name] = Fault.SILENCE
    waited: list[tuple[str, float]] = []

    async def ask(resolver: ThreadResolver, names: str) -> list[tuple[str, float]]:
        """Which were asked for in a thread, and how long that waits."""
        waited.clear()
        for answer in [Deferred.fromCoroutine(resolver.mx(name)) for name in names]:
            with pytest.raises(DNSFailure):
                await answer
        return sorted(waited)

    async def act(resolver: ThreadResolver) -> None:
        resolve = resolver._resolve

        def looked_up(name: str, kind: str, lifetime: float) -> Any:
            waited.append((name, lifetime))
            return resolve(name, kind, lifetime if name in server.faults else 60.0)

        monkeypatch.setattr(resolver, "_resolve", looked_up)
        server.zone["live", "MX"] = ["10 mx.example.net."]
        assert await ask(resolver, "aaaaaaaaab") == [("a", 0.2), ("b", 0.2)], "one wait for all who ask the same"
        assert await ask(resolver, "ab") == [], "remembered"
        assert await ask(resolver, "cdef") == [(name, 0.1) for name in "cdef"], "waited for briefly"
        assert await resolver.mx("live") == [MX(10, "mx.example.net")]
        assert await ask(resolver, "g") == [("g", 0.2)], "it has spoken, so this one may only be slow"

    use(server.address, act, clock)


def test_one_slow_name_is_no_silence(
    server: NameServer, resolver: ThreadResolver, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "LIFETIME", 0.2)
    asked: list[float] = []
    resolve = resolver._resolve

    def looked_up(name: str, kind: str, lifetime: float) -> Any:
        asked.append(lifetime)
        if name == "slow":
            resolver._heard = clock.monotonic() + 1  # somebody else was answered meanwhile
        return resolve(name, kind, lifetime)

    monkeypatch.setattr(resolver, "_resolve", looked_up)
    server.faults["slow"] = server.faults["slower"] = Fault.SILENCE
    for name in ("slow", "slower", "slow"):
        with pytest.raises(DNSFailure):
            run(resolver.mx(name))
    assert asked == [0.2, 0.2]
    clock.advance(FAILURE_HOLDS)
    with pytest.raises(DNSFailure):
        run(resolver.mx("slower"))
    assert asked == [0.2] * 3
