"""How mail leaves, as the configuration says it: `[relay]`, what differs for some domains, and the routes.

Promises   What the sections name is in its normal form: domains in lower case and A-labels, a leading dot kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from mailserver.config.fields import DAY, HOUR, MINUTE, Count, Duration, FilePath, Port, Section, like
from mailserver.config.network import parse_address_port, parse_host_port
from mailserver.config.patterns import (
    parse_domain_pattern,
    parse_lmtp,
    parse_recipient_pattern,
    parse_refusal,
    parse_reports_address,
    parse_sender_pattern,
)

T = TypeVar("T")


class RelayDomain(Section):
    """What differs for the mail of one domain, or of all domains below one: ".example.net". The nearest name counts."""

    retry_first: Duration | None = Field(default=None, description="as in [relay]")
    retry_max: Duration | None = Field(default=None, description="as in [relay]")
    lifetime: Duration | None = Field(default=None, description="as in [relay]")
    delay_warning: Duration | None = Field(default=None, description="as in [relay]")
    concurrency: Count | None = Field(default=None, description="in place of relay.concurrency_per_host")
    rate: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        default=None, description="in place of relay.rate_per_host"
    )


class Relay(Section):
    """Mail for the outside world: how it leaves, and how long it is tried."""

    resolver: tuple[Annotated[str, like(parse_address_port)], ...] = Field(
        default=(), description='DNS servers as "ADDRESS:PORT"; empty: those of the system'
    )
    smarthost: Annotated[str, like(parse_host_port)] | None = Field(
        default=None, description='send all outside mail there: "HOST:PORT"'
    )
    smarthost_user: str | None = Field(default=None, description="user name at the smarthost")
    smarthost_password_file: FilePath | None = Field(
        default=None, validate_default=True, description="file with the password at the smarthost"
    )
    port: Port = Field(default=25, description="port of next hops found by MX")
    retry_first: Duration = Field(
        default=5 * MINUTE, description="wait before the first retry; then doubling, with jitter"
    )
    retry_max: Duration = Field(default=4 * HOUR, description="longest wait between two attempts")
    lifetime: Duration = Field(default=5 * DAY, description="a message that is older is returned to its sender")
    delay_warning: Duration = Field(default=4 * HOUR, description="the sender is told once that mail is late")
    concurrency: Count = Field(default=500, description="deliveries at the same time, in all")
    concurrency_per_host: Count = Field(default=20, description="deliveries at the same time to one next hop")
    rate_per_host: Annotated[int, Field(ge=0, strict=True)] = Field(
        default=0, description="messages a minute to one next hop; 0: no limit"
    )
    connect_timeout: Duration = Field(default=30.0, description="for one address of a next hop")
    idle_connection: Duration = Field(
        default=5.0, description="an open connection waits this long for the next message to the same next hop"
    )
    messages_per_connection: Count = Field(default=100, description="messages before a connection is closed")
    double_bounces_to: Annotated[str, AfterValidator(parse_reports_address)] | None = Field(
        default=None, description="address that gets a copy of reports that cannot be delivered; absent: nobody does"
    )
    history: Duration = Field(
        default=14 * DAY, description="how long `mailserver why` can tell what became of a message"
    )
    domain: dict[Annotated[str, AfterValidator(parse_domain_pattern)], RelayDomain] = Field(default_factory=dict)

    # A key that was refused is missing from info.data: its own fault is told, not what follows from it.

    @field_validator("smarthost_user")
    @classmethod
    def _user_of_a_smarthost(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("smarthost", "") is None:
            raise ValueError("is given without smarthost; give relay.smarthost as well, or leave it out")
        return value

    @field_validator("smarthost_password_file")
    @classmethod
    def _password_and_user(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "smarthost_user" in info.data and (value is None) != (info.data["smarthost_user"] is None):
            missing, other = "smarthost_password_file", "smarthost_user"
            if value is not None:
                missing, other = other, missing
            raise ValueError(f"{other} is given without {missing}; give both or neither")
        return value

    @field_validator("domain", mode="before")
    @classmethod
    def _each_domain_once(cls, value: object) -> object:
        known: dict[str, str] = {}
        for name in value if isinstance(value, dict) else ():
            try:
                domain = parse_domain_pattern(name)
            except ValueError:
                continue  # is told of this name
            if domain in known:
                raise ValueError(f'has "{known[domain]}" and "{name}", which are the same domain; keep one')
            known[domain] = name
        return value


_TEXTS: Mapping[str, str] = {
    "host": 'where that server is, as "smtp.example.net:587"',
    "text": 'what the sender is told, as "5.1.1 This address has moved"',
}


class Route(Section):
    """Where mail for others goes: the first route that fits counts, and one without to and from fits all mail."""

    to: tuple[Annotated[str, AfterValidator(parse_recipient_pattern)], ...] | None = Field(
        default=None,
        min_length=1,
        description='recipients: addresses, domains, and ".example.net" for all domains below one; absent: any',
    )
    sender: tuple[Annotated[str, AfterValidator(parse_sender_pattern)], ...] | None = Field(
        default=None,
        min_length=1,
        alias="from",
        description='senders, written as in to; "<>" for reports, which have none; absent: any',
    )
    via: Literal["mx", "smarthost", "lmtp", "discard", "hold", "error"] = Field(
        description="to the servers that the DNS names, to one server, nowhere, into the queue to stay, or back"
    )
    host: str | None = Field(
        default=None,
        validate_default=True,
        description='the server: "HOST:PORT"; with lmtp also "unix:/path/to/socket"',
    )
    tls: Literal["opportunistic", "required", "verified"] | None = Field(
        default=None,
        description="smarthost: encrypted if it can be, always, or with a certificate that holds; "
        "absent: verified with a user, else opportunistic; port 465 begins with TLS",
    )
    user: str | None = Field(default=None, description="user name at the smarthost")
    password_file: FilePath | None = Field(
        default=None, validate_default=True, description="file with the password at the smarthost"
    )
    text: str | None = Field(
        default=None,
        validate_default=True,
        description='what error tells: permanent, or temporary when it begins with a code as "4.2.1"',
    )

    # As above: where `via` was refused nothing is said of what depends on it.

    @field_validator("host", "text")
    @classmethod
    def _named_where_needed(cls, value: str | None, info: ValidationInfo) -> str | None:
        via, key = info.data.get("via"), str(info.field_name)
        if via is None:
            return value
        parse = _PARSERS[key].get(via)
        if parse is None:
            return _only(value, via, *_PARSERS[key])
        if value is None:
            raise ValueError(f'is missing; with via = "{via}" write {_TEXTS[key]}')
        parse(value)
        return value

    @field_validator("tls", "user", "password_file")
    @classmethod
    def _of_a_smarthost(cls, value: T, info: ValidationInfo) -> T:
        via = info.data.get("via", "smarthost")
        return value if via == "smarthost" else _only(value, via, "smarthost")

    @field_validator("user")
    @classmethod
    def _password_not_in_clear(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("tls") == "opportunistic":
            raise ValueError('is given with tls = "opportunistic", and no password is sent in clear; write "verified"')
        return value

    @field_validator("password_file")
    @classmethod
    def _both_or_neither(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "user" in info.data and (value is None) != (info.data["user"] is None):
            missing, other = ("password_file", "user") if value is None else ("user", "password_file")
            raise ValueError(f"{other} is given without {missing}; give both or neither")
        return value

    @property
    def fits_all(self) -> bool:
        return self.to is None and self.sender is None


_PARSERS: Mapping[str, Mapping[str, Callable[[str], object]]] = {
    "host": {"smarthost": parse_host_port, "lmtp": parse_lmtp},
    "text": {"error": parse_refusal},
}


def _only(value: T, via: str, *kinds: str) -> T:
    """For a key that says nothing with this kind of route."""
    if value is not None:
        needed = " or ".join(f'"{kind}"' for kind in kinds)
        raise ValueError(f'says nothing with via = "{via}", only with {needed}; leave it out')
    return value
