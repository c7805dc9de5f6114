"""The resolver where the system has no DNS."""

import dns.resolver
import pytest

from mailserver.net.resolver import ThreadResolver
from mailserver.ports import DNSFailure
from tests.support.fakes import FakeWorkers, run


def test_without_a_dns_server_the_server_starts_and_lookups_fail_for_now(monkeypatch):
    def missing(self, path):
        raise dns.resolver.NoResolverConfiguration(f"cannot open {path}")

    monkeypatch.setattr(dns.resolver.Resolver, "read_resolv_conf", missing)
    resolver = ThreadResolver(FakeWorkers())
    with pytest.raises(DNSFailure):
        run(resolver.mx("example.net"))
