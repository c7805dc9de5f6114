"""The section `[abuse]`: when an address is banned, who never is, and how much a minute is enough."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from mailserver.config.fields import DAY, HOUR, MINUTE, Count, Duration, Section, like
from mailserver.config.network import parse_network
from mailserver.config.units import format_duration

Rate = Annotated[int, Field(ge=0, strict=True)]


def _not_below_the_first(longest: float, info: ValidationInfo) -> float:
    first = info.data.get("ban_first")  # missing when it was refused: its own fault is told
    if first is not None and longest < first:
        raise ValueError(f"is shorter than abuse.ban_first; make it at least {format_duration(first)}")
    return longest


class Abuse(Section):
    """Failed logins, bans, and rates. An address is an IPv4 address, or the /64 network of an IPv6 address."""

    failures: Count = Field(
        default=20, description="failed logins of an address, to whatever accounts, until it is banned"
    )
    failures_per_account: Count = Field(
        default=10, description="failed logins of an address to one account until it is banned for that account"
    )
    window: Duration = Field(default=1 * HOUR, description="how long a failed login counts")
    ban_first: Duration = Field(default=10 * MINUTE, description="how long the first ban of an address lasts")
    ban_longest: Annotated[Duration, AfterValidator(_not_below_the_first)] = Field(
        default=1 * DAY, description="each ban lasts twice as long as the one before, up to this"
    )
    known: Duration = Field(
        default=30 * DAY,
        description="an address from which somebody logged in to an account is not banned for that account for so long",
    )
    allow: tuple[Annotated[str, like(parse_network)], ...] = Field(
        default=(),
        description='addresses and networks that are never refused, as "192.0.2.10" or "2001:db8::/64": '
        "no ban, no rate, no limits.connections_per_address",
    )
    exempt_loopback: bool = Field(
        default=True, strict=True, description="this machine is never banned, and no rate of an address holds for it"
    )
    connection_rate: Rate = Field(default=300, description="connections a minute of one address; 0: no limit")
    message_rate: Rate = Field(
        default=300, description="messages a minute that an address brings without a login; 0: no limit"
    )
    recipient_rate: Rate = Field(
        default=3000, description="recipients a minute of what an address brings without a login; 0: no limit"
    )
    account_message_rate: Rate = Field(default=100, description="messages a minute of one account; 0: no limit")
    account_recipient_rate: Rate = Field(default=2000, description="recipients a minute of one account; 0: no limit")
