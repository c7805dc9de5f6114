"""The configuration as plain, frozen data. Every key, its type, default and meaning; the reference page is made of it.

Promises   A model that exists is valid as a whole. Paths are absolute. Durations are seconds, sizes octets.
On failure pydantic.ValidationError with every fault at once; `config.loader` turns it into words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mailserver.config.units import parse_duration, parse_size

MINUTE, HOUR, DAY, MIB = 60.0, 3600.0, 86400.0, 2**20

Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerName(Section):
    """[[tls.sni]]"""

    names: tuple[str, ...] = Field(min_length=1, description="names that a client may ask for")
    certificate: Path = Field(description="PEM file: the certificate and its chain")
    private_key: Path = Field(description="PEM file: the private key")


class TLS(Section):
    """[tls]"""

    certificate: Path = Field(description="PEM file: the certificate and its chain")
    private_key: Path = Field(description="PEM file: the private key")
    sni: tuple[ServerName, ...] = Field(default=(), description="further certificates, by the name the client asks for")


class Listener(Section):
    """[[listener]]"""

    protocol: Literal["smtp", "submission", "pop3", "imap"] = Field(description="what is spoken")
    endpoint: str = Field(description='where: a Twisted server endpoint string, as "tcp:25"')
    tls: Literal["starttls", "implicit", "none"] = Field(default="starttls", description="how encryption begins")


class Auth(Section):
    """[auth]"""

    without_tls: Literal["never", "loopback"] = Field(
        default="never", description='"loopback": passwords in clear are taken from this machine only'
    )


class Relay(Section):
    """[relay]"""

    resolver: tuple[str, ...] = Field(
        default=(), description='DNS servers as "ADDRESS:PORT"; empty: those of the system'
    )
    smarthost: str | None = Field(default=None, description='send all outside mail there: "HOST:PORT"')
    smarthost_user: str | None = Field(default=None, description="user name at the smarthost")
    smarthost_password_file: Path | None = Field(default=None, description="file with the password at the smarthost")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default=25, description="port of next hops found by MX")
    retry_first: Duration = Field(
        default=5 * MINUTE, description="wait before the first retry; then doubling, with jitter"
    )
    retry_max: Duration = Field(default=4 * HOUR, description="longest wait between two attempts")
    lifetime: Duration = Field(default=5 * DAY, description="a message that is older is returned to its sender")
    delay_warning: Duration = Field(default=4 * HOUR, description="the sender is told once that mail is late")
    concurrency: Count = Field(default=20, description="deliveries at the same time, in all")
    concurrency_per_host: Count = Field(default=5, description="deliveries at the same time to one next hop")
    connect_timeout: Duration = Field(default=30.0, description="for one address of a next hop")


class Limits(Section):
    """[limits]"""

    message_size: Size = Field(
        default=50 * MIB, description="largest message taken by SMTP, submission and IMAP APPEND"
    )
    recipients: Count = Field(default=1000, description="recipients of one message")
    command_line: Annotated[int, Field(ge=512)] = Field(
        default=2048, description="octets of one SMTP or POP3 command line"
    )
    imap_line: Annotated[int, Field(ge=1024)] = Field(
        default=65536, description="octets of one IMAP command without literals"
    )
    imap_literal: Annotated[int, Field(ge=1024)] = Field(
        default=65536, description="octets of an IMAP literal but for APPEND"
    )
    errors: Count = Field(default=10, description="bad commands before a connection is closed")
    connections: Count = Field(default=2000, description="connections in all")
    connections_per_address: Count = Field(default=50, description="connections from one client address")
    login_timeout: Duration = Field(default=1 * MINUTE, description="time to log in, and to shake hands for TLS")
    smtp_timeout: Duration = Field(default=5 * MINUTE, description="idle time of SMTP and submission")
    pop3_timeout: Duration = Field(default=10 * MINUTE, description="idle time of POP3; RFC 1939 asks for 10 min")
    imap_timeout: Duration = Field(default=30 * MINUTE, description="idle time of IMAP; RFC 3501 asks for 30 min")


class Demo(Section):
    """[demo]: written by `--demo`, not meant for anything else."""

    outbox: str = Field(description="mail for the outside world is kept in this account")


class Configuration(Section):
    """mailserver.toml"""

    hostname: str = Field(description="the name of this server in greetings, trace fields and EHLO")
    data: Path = Field(description="mail/, queue/ and state lie there")
    accounts: Path = Field(default=Path("accounts.toml"), description="the file of domains, accounts and aliases")
    workers: Literal[1] = Field(default=1, description="processes; this version serves all from one")
    tls: TLS | None = Field(default=None, description="needed by listeners with starttls or implicit TLS")
    listener: tuple[Listener, ...] = Field(min_length=1, description="one for each port")
    auth: Auth = Auth()
    relay: Relay = Relay()
    limits: Limits = Limits()
    demo: Demo | None = None


class Domain(Section):
    """[domain."example.org"]"""

    catch_all: str | None = Field(default=None, description="mail for unknown local parts goes to this account")


class Account(Section):
    """[account."alice@example.org"]"""

    password: str = Field(description="an argon2id hash; `mailserver account passwd` writes it")
    aliases: tuple[str, ...] = Field(default=(), description="further addresses of the account")
    quota: Size | None = Field(default=None, description="octets that the account may keep; absent: no limit")


class Accounts(Section):
    """accounts.toml"""

    domain: dict[str, Domain] = Field(default_factory=dict)
    account: dict[str, Account] = Field(default_factory=dict)
