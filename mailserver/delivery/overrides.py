"""What holds for the mail of one domain: `[relay]`, and what `[relay.domain."..."]` says in its place.

Promises   The section of the domain itself counts, else that of the nearest domain above it (".example.net"); one
           section alone, and what it leaves out is as in `[relay]`. Both forms of an internationalised domain are
           the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.config.patterns import keys_of_domain
from mailserver.config.relay import Relay, RelayDomain
from mailserver.delivery.retry import RetryPolicy
from mailserver.delivery.schedule import DEAD_FIRST, DEAD_LONGEST, Limits


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """`limits` are those of the site that takes the domain's mail."""

    retry: RetryPolicy
    limits: Limits


class Overrides:
    """One for the whole server."""

    def __init__(self, relay: Relay) -> None:
        self._usual = _settings(relay, RelayDomain())
        self._by_domain = {name: _settings(relay, section) for name, section in relay.domain.items()}

    @property
    def horizon(self) -> float:
        """No attempt at any domain is planned further ahead, in seconds."""
        return max(each.retry.horizon for each in (self._usual, *self._by_domain.values()))

    def of(self, domain: str) -> DomainSettings:
        """For a recipient's domain, or an address literal."""
        if not self._by_domain:
            return self._usual
        return next((self._by_domain[key] for key in keys_of_domain(domain) if key in self._by_domain), self._usual)


def _settings(usual: Relay, section: RelayDomain) -> DomainSettings:
    retry = RetryPolicy(
        first=section.retry_first or usual.retry_first,
        longest=section.retry_max or usual.retry_max,
        warning=section.delay_warning or usual.delay_warning,
        lifetime=section.lifetime or usual.lifetime,
    )
    limits = Limits(
        section.concurrency or usual.concurrency_per_host,
        usual.rate_per_host if section.rate is None else section.rate,
        probe_first=min(DEAD_FIRST, retry.first / 2),
        probe_longest=min(DEAD_LONGEST, retry.longest / 2),
    )
    return DomainSettings(retry, limits)
