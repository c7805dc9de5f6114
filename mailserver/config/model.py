"""The configuration as plain, frozen data. Every key, its type, default and meaning; the reference page is made of it.

Promises   Each section that exists is sound in itself. Paths are absolute: relative ones are taken from the directory
           named by the validation context. Durations are seconds, sizes octets, host names and domains in lower case.
           What must fit across sections, and the files that are named, `config.loader` checks.
On failure pydantic.ValidationError with every fault at once; `config.loader` turns it into words.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from mailserver.config.abuse import Abuse
from mailserver.config.apppasswords import AppPassword
from mailserver.config.directory import DirectorySource
from mailserver.config.fields import DAY, HOUR, MIB, MINUTE, Count, Duration, FilePath, Section, Size, like
from mailserver.config.network import (
    parse_domain_name,
    parse_endpoint,
    parse_network,
    parse_own_hostname,
    parse_server_name,
)
from mailserver.config.relay import Relay as Relay
from mailserver.config.relay import Route
from mailserver.mail import AddressError, Quota, UniqueIds, parse_mailbox
from mailserver.sasl import CLEAR, SchemeError, ScramKeys, parse_hash

T = TypeVar("T")


def _this_version(value: T, info: ValidationInfo) -> T:
    """What the design has a word for and this version does not do deserves a clear answer."""
    if info.field_name == "protocol" and value in ("managesieve", "http"):
        raise ValueError('is not served by this version; write "smtp", "submission", "lmtp", "pop3" or "imap"')
    return value


def _number_of_workers(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= 64):
        return value
    raise ValueError('is no number of processes; write a number from 1 to 64, or "auto" for one on each processor')


def _none_or_a_thousand(value: int) -> int:
    if value and value < 1000:  # RFC 9738 §3
        raise ValueError("is too few for clients to work with; write 1000 or more, or 0 for any number")
    return value


def _seldom(seconds: float) -> float:
    if seconds < MINUTE:
        raise ValueError('is too often to look through all mailboxes; write "1 min" or more')
    return seconds


def _patient(seconds: float) -> float:
    if seconds < 10:
        raise ValueError('is too short to tell one that hangs from one that works; write "10 s" or more')
    return seconds


def _stored_password(text: str) -> str:
    hashed, _, scram = (text, "", "") if text.startswith("{") else text.partition(" ")
    try:
        if parse_hash(hashed).scheme in CLEAR:
            raise SchemeError("is a password in clear; let that be hashed")
    except SchemeError as error:
        if text.startswith("{"):
            raise ValueError(f"{error} with `mailserver account passwd ADDRESS`") from None
        raise ValueError("is not an argon2id hash; let `mailserver account passwd ADDRESS` write it") from None
    if scram:
        try:
            ScramKeys.parse(scram)
        except ValueError as error:
            raise ValueError(
                f"has {error} behind its hash; let `mailserver account passwd ADDRESS` write it"
            ) from error
    return text


class ServerName(Section):
    """A further certificate. One section for each."""

    names: tuple[Annotated[str, AfterValidator(parse_server_name)], ...] = Field(
        min_length=1, description='names that a client may ask for; "*.example.net" for all just below that name'
    )
    certificate: FilePath = Field(description="PEM file: the certificate and its chain")
    private_key: FilePath = Field(description="PEM file: the private key")


class TLS(Section):
    """Encryption. Needed as soon as one listener begins TLS."""

    certificate: FilePath = Field(description="PEM file: the certificate and its chain")
    private_key: FilePath = Field(description="PEM file: the private key")
    client_ca: FilePath | None = Field(
        default=None,
        description="PEM file: authorities whose certificates clients of submission, POP3 and IMAP may show; "
        "absent: none are asked for",
    )
    sni: tuple[ServerName, ...] = Field(default=(), description="further certificates, by the name the client asks for")


class Listener(Section):
    """A port and what is spoken there. One section for each."""

    protocol: Annotated[Literal["smtp", "submission", "lmtp", "pop3", "imap"], BeforeValidator(_this_version)] = Field(
        description="what is spoken"
    )
    endpoint: Annotated[str, like(parse_endpoint)] = Field(
        description='where: a Twisted server endpoint string, as "tcp:25"'
    )
    tls: Literal["starttls", "implicit", "none"] = Field(default="starttls", description="how encryption begins")
    proxy: bool = Field(
        default=False,
        strict=True,
        description="each connection comes from one of proxies.networks, and begins with a PROXY header (version 1, 2)",
    )


class OAuth(Section):
    """Tokens of one issuer, for OAUTHBEARER and XOAUTH2. Needs `pip install 'mailserver[oauth]'`."""

    issuer: str = Field(min_length=1, description="who issues the tokens: their `iss`")
    audience: str = Field(min_length=1, description="for whom they are issued: their `aud`")
    keys: FilePath = Field(description="file with the issuer's public keys, as it publishes them (JSON Web Key Set)")
    address_claim: str = Field(
        default="email",
        min_length=1,
        description="what in a token tells the account: an address of it that users cannot set themselves",
    )
    configuration: str | None = Field(
        default=None, description="URL that clients with a bad token are told: the issuer's openid-configuration"
    )


class Proxies(Section):
    """Who may speak for other clients: load balancers by PROXY (see listener.proxy), filters by XCLIENT in SMTP."""

    networks: tuple[Annotated[str, like(parse_network)], ...] = Field(
        default=(), description='addresses and networks, as "192.0.2.10" or "2001:db8::/64"'
    )


class Auth(Section):
    """Logging in."""

    without_tls: Literal["never", "loopback"] = Field(
        default="never", description='"loopback": passwords in clear are taken from this machine only'
    )
    scram: bool = Field(
        default=False,
        strict=True,
        description="new passwords are kept for SCRAM-SHA-256 too; it is offered once all accounts have such keys, "
        "and none has app passwords",
    )
    oauth: OAuth | None = None


class Limits(Section):
    """What one client, or all together, may ask of the server."""

    message_size: Annotated[Size, Field(ge=65536)] = Field(
        default=50 * MIB, description="largest message taken by SMTP, submission and IMAP APPEND"
    )
    recipients: Count = Field(default=1000, description="recipients of one message")
    transactions: Count = Field(default=1000, description="messages in one SMTP connection")
    header: Annotated[Size, Field(ge=65536)] = Field(
        default=256 * 1024, description="largest header of a message taken by SMTP and submission"
    )
    command_line: Annotated[int, Field(ge=512, strict=True)] = Field(
        default=2048, description="octets of one SMTP or POP3 command line"
    )
    imap_line: Annotated[int, Field(ge=1024, strict=True)] = Field(
        default=65536, description="octets of one IMAP command without literals"
    )
    imap_literal: Annotated[int, Field(ge=1024, strict=True)] = Field(
        default=65536, description="octets of an IMAP literal but for APPEND"
    )
    imap_messages: Annotated[int, Field(ge=0, strict=True), AfterValidator(_none_or_a_thousand)] = Field(
        default=0,
        description="messages of one IMAP command, at least 1000 (MESSAGELIMIT); 0: any number. Who does not know "
        "of it misses the older messages of larger mailboxes",
    )
    imap_saved: Annotated[int, Field(ge=0, strict=True), AfterValidator(_none_or_a_thousand)] = Field(
        default=0, description="as imap_messages, for COPY and APPEND alone (SAVELIMIT)"
    )
    errors: Count = Field(default=10, description="bad commands before a connection is closed")
    connections: Count = Field(default=2000, description="connections in all")
    connections_per_address: Count = Field(default=50, description="connections from one client address")
    login_timeout: Duration = Field(default=1 * MINUTE, description="time to log in, and to shake hands for TLS")
    smtp_timeout: Duration = Field(
        default=5 * MINUTE,
        description="idle time of SMTP and submission; one message may take three of them, and its content more",
    )
    pop3_timeout: Duration = Field(default=10 * MINUTE, description="idle time of POP3; RFC 1939 asks for 10 min")
    imap_timeout: Duration = Field(default=30 * MINUTE, description="idle time of IMAP; RFC 3501 asks for 30 min")


def parse_account(text: str) -> str:
    """An address."""
    try:
        parse_mailbox(text)
    except AddressError as error:
        raise ValueError(f"is not an address: {error}") from None
    return text


class IMAP(Section):
    """What IMAP clients see."""

    separator: Literal["/", ".", "\\", "|", "^"] = Field(
        default="/",
        description="stands between the parts of a mailbox name, which have no `.`; `/` and another one change places",
    )
    unauthenticate: bool = Field(
        default=True,
        strict=True,
        description="clients may log out and keep the connection (RFC 8437); `false` where a proxy before this server "
        "looks at nothing but the first login",
    )
    utf8_only_when_enabled: bool = Field(
        default=False,
        strict=True,
        description="messages with octets beyond ASCII in their header are refused to clients that append them and did "
        "not ENABLE UTF8=ACCEPT or IMAP4rev2 (RFC 6855)",
    )
    submission_servers: tuple[Annotated[str, AfterValidator(parse_account)], ...] = Field(
        default=(),
        description="accounts that submission servers log in to: to them URLs are open that are authorised for "
        "submission (RFC 4467)",
    )


class SMTP(Section):
    """What SMTP clients must keep to."""

    greeting_pause: Duration | None = Field(
        default=None,
        description="how long clients of port 25 wait for the greeting; who speaks before is sent away; absent: none",
    )
    subaddress: Literal["+", "-", "_", "=", ""] = Field(
        default="+",
        description="what stands between a local part and its detail, as in user+detail (RFC 5233); empty: none does",
    )
    etrn: tuple[Annotated[str, AfterValidator(parse_domain_name)], ...] = Field(
        default=(), description="domains whose queued mail is sent at once when a client asks with ETRN (RFC 1985)"
    )
    future_release: Duration = Field(
        default=30 * DAY, description="how long a submitted message may be held for later delivery (RFC 4865)"
    )
    highest_priority: Annotated[int, Field(ge=0, le=9, strict=True)] = Field(
        default=9, description="how urgent users may make a message, from 0 to 9 (RFC 6710); strangers never above 0"
    )
    bare_lf: Literal["normalize", "refuse"] = Field(
        default="normalize", description="line feeds without a carriage return: made line ends, or refused with 550"
    )
    bare_cr_and_nul: Literal["refuse", "accept"] = Field(
        default="refuse", description="carriage returns without a line feed, and NUL: refused with 554, or kept"
    )
    long_lines: Literal["accept", "refuse"] = Field(
        default="accept", description="lines of more than 998 octets: kept, or refused with 554"
    )


class POP3(Section):
    """What POP3 clients see."""

    unique_id: Annotated[str, like(UniqueIds.parse)] = Field(
        default="%08Xu%08Xv",
        description="how UIDL names messages, in the notation of Dovecot's `pop3_uidl_format`: "
        "%u UID, %v UIDVALIDITY, %f name of the file; 08X for eight hexadecimal digits",
    )
    mark_seen: bool = Field(
        default=True, strict=True, description=r"messages that were retrieved become `\Seen` for IMAP"
    )
    exclusive: bool = Field(
        default=False, strict=True, description="one session for each mailbox at a time; further ones are told IN-USE"
    )
    login_delay: Duration | None = Field(
        default=None, description="from one login of an account to the next; absent: none is asked for"
    )
    utf8_only_when_asked: bool = Field(
        default=False,
        strict=True,
        description="messages with UTF-8 in their header are refused to clients that did not send UTF8 (RFC 6856)",
    )


class Indexing(Section):
    """Mail is made ready for FETCH and SEARCH by one process, at low priority, before anybody opens its mailbox."""

    background: bool = Field(
        default=True,
        strict=True,
        description="`false`: mail is made ready when its mailbox is opened, which takes seconds for a large one",
    )
    round: Annotated[Duration, AfterValidator(_seldom)] = Field(
        default=6 * HOUR,
        description="how often all mailboxes are looked through, as at each start, for what other programs put there",
    )


class Metrics(Section):
    """Counts for Prometheus, of all processes together. Needs `pip install 'mailserver[metrics]'`."""

    endpoint: Annotated[str, like(parse_endpoint)] = Field(
        description='where GET /metrics is answered, to anybody: a server endpoint, as "tcp:9155:interface=127.0.0.1"'
    )


class Log(Section):
    """What the server writes to standard output, or to twistd's --logfile."""

    format: Literal["text", "json"] = Field(
        default="text", description='"json": one object a line, with the ids of sessions and messages as its members'
    )


class Demo(Section):
    """Written by `--demo`, not meant for anything else."""

    outbox: str = Field(description="mail for the outside world is kept in this account")


class Configuration(Section):
    """The server: read once, at its start."""

    hostname: Annotated[str, AfterValidator(parse_own_hostname)] = Field(
        description="the name of this server in greetings, trace fields and EHLO"
    )
    data: FilePath = Field(description="mail/, queue/ and state lie there")
    accounts: FilePath = Field(
        default=Path("accounts.toml"),
        validate_default=True,
        description="the file of domains, accounts and aliases",
    )
    workers: Annotated[int | Literal["auto"], BeforeValidator(_number_of_workers)] = Field(
        default=1, description='processes that serve; "auto": one for each processor'
    )
    worker_timeout: Annotated[Duration, AfterValidator(_patient)] = Field(
        default=2 * MINUTE,
        description="one of several workers that gives no sign of life for so long is killed and started again",
    )
    tls: TLS | None = Field(default=None, description="needed by listeners with starttls or implicit TLS")
    listener: tuple[Listener, ...] = Field(min_length=1, description="one for each port")
    proxies: Proxies = Proxies()
    directory: tuple[DirectorySource, ...] = ()
    auth: Auth = Auth()
    relay: Relay = Relay()
    route: tuple[Route, ...] = ()
    limits: Limits = Limits()
    abuse: Abuse = Abuse()
    imap: IMAP = IMAP()
    smtp: SMTP = SMTP()
    pop3: POP3 = POP3()
    indexing: Indexing = Indexing()
    metrics: Metrics | None = None
    log: Log = Log()
    demo: Demo | None = None


def parse_allowance(text: str) -> str:
    """An address, or `*@` and a domain."""
    try:
        parse_mailbox(text)
    except AddressError as error:
        raise ValueError(f'is neither an address nor "*@" and a domain: {error}') from None
    return text


def parse_fingerprint(text: str) -> str:
    """In lower case and without colons. Raises ValueError."""
    bare = text.rpartition("=")[2].replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", bare):
        raise ValueError("is no SHA-256 fingerprint: that has 64 hexadecimal digits, with or without colons")
    return bare


class Domain(Section):
    """A domain whose mail is taken here. It needs no key; the header alone declares it."""

    catch_all: str | None = Field(
        default=None, description="mail for unknown local parts goes to this account or alias"
    )


class Account(Section):
    """A mailbox and who may open it."""

    password: Annotated[str, AfterValidator(_stored_password)] = Field(
        description="an argon2id hash, perhaps with keys for SCRAM behind it; `mailserver account passwd` writes it. "
        "A hash of another server, as `{SHA512-CRYPT}$6$...`, is taken as well and becomes argon2id at the next login"
    )
    aliases: tuple[str, ...] = Field(default=(), description="further addresses of the account")
    send_as: tuple[Annotated[str, AfterValidator(parse_allowance)], ...] = Field(
        default=(),
        description='addresses that do not lead to it but that it may send from; "*@example.net" for all of a domain',
    )
    forward: tuple[str, ...] = Field(default=(), description="addresses, here or elsewhere, that get its mail")
    keep_copy: bool = Field(
        default=True, strict=True, description="mail that is forwarded stays in the mailbox too; false: it does not"
    )
    disabled: Literal["refuse", "keep"] | None = Field(
        default=None, description="nobody logs in, and mail is refused, or kept and not forwarded; absent: it is in use"
    )
    quota: Size | None = Field(default=None, description="octets that the account may keep; absent: no limit")
    quota_messages: Count | None = Field(
        default=None, description="messages that the account may keep; absent: no limit"
    )
    messages_per_day: Count | None = Field(
        default=None, description="messages that it may send in a day; absent: no limit"
    )
    recipients: Count | None = Field(
        default=None, description="recipients of one message that it sends; absent: as limits.recipients has it"
    )

    certificates: tuple[Annotated[str, AfterValidator(parse_fingerprint)], ...] = Field(
        default=(),
        description="client certificates that open the account by EXTERNAL beside those with an address of it: "
        "their SHA-256, as `openssl x509 -noout -fingerprint -sha256` prints it",
    )
    app_password: tuple[AppPassword, ...] = ()
    app_passwords_only: bool = Field(
        default=False, strict=True, description="nobody logs in with the account's own password, only with the others"
    )

    @property
    def limits(self) -> Quota:
        return Quota(self.quota, self.quota_messages)


class Alias(Section):
    """An address that leads to one or more others: a group."""

    members: tuple[str, ...] = Field(
        min_length=1, description="addresses, here or elsewhere; those here may be aliases themselves"
    )


class Accounts(Section):
    """Domains, accounts and aliases: read again whenever it changes."""

    domain: dict[str, Domain] = Field(default_factory=dict)
    account: dict[str, Account] = Field(default_factory=dict)
    alias: dict[str, Alias] = Field(default_factory=dict)
