"""What holds for the mail of one domain: `[relay]`, and what `[relay.domain."..."]` says in its place.

Promises   The section of the domain itself counts, else that of the nearest domain above it (".example.net"); one
           section alone, and what it leaves out is as in `[relay]`. Both forms of an internationalised domain are
           the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.config.patterns import keys_of_domain
from mailserver.config.relay import Relay, RelayDomain


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """Times in seconds; `rate` is messages a minute to one next hop, 0 without a limit."""

    retry_first: float
    retry_max: float
    lifetime: float
    delay_warning: float
    concurrency: int
    rate: int


class Overrides:
    """One for the whole server."""

    def __init__(self, relay: Relay) -> None:
        self._usual = DomainSettings(
            retry_first=relay.retry_first,
            retry_max=relay.retry_max,
            lifetime=relay.lifetime,
            delay_warning=relay.delay_warning,
            concurrency=relay.concurrency_per_host,
            rate=relay.rate_per_host,
        )
        self._by_domain = {name: self._over(section) for name, section in relay.domain.items()}

    def of(self, domain: str) -> DomainSettings:
        """For a recipient's domain, or an address literal."""
        if not self._by_domain:
            return self._usual
        return next((self._by_domain[key] for key in keys_of_domain(domain) if key in self._by_domain), self._usual)

    def _over(self, section: RelayDomain) -> DomainSettings:
        usual = self._usual
        return DomainSettings(
            retry_first=section.retry_first or usual.retry_first,
            retry_max=section.retry_max or usual.retry_max,
            lifetime=section.lifetime or usual.lifetime,
            delay_warning=section.delay_warning or usual.delay_warning,
            concurrency=section.concurrency or usual.concurrency,
            rate=usual.rate if section.rate is None else section.rate,
        )
