"""What routes and overrides name: a domain, all domains below one, a full address; and servers by kind.

Promises   A pattern and the keys of an address or a domain are texts of the same form: lower case, domains in A-labels.
           One fits when it is among the keys, so a lookup asks a table for each key and never walks the patterns.
On failure ValueError that says what is wrong and what would be right, without repeating the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailserver.config.network import parse_host_port
from mailserver.mail import Address, AddressError, Reply, parse_mailbox
from mailserver.mail.address import domain_in_ascii, parse_domain

NULL_SENDER = "<>"

_ENHANCED = re.compile(r"([0-9]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")


def parse_domain_pattern(text: str) -> str:
    """`example.net`, or `.example.net` for all domains below it."""
    if text.startswith("*."):
        raise ValueError(f'has a "*"; write "{text[1:]}" for all domains below "{text[2:]}"')
    dot = "." if text.startswith(".") else ""
    try:
        domain = parse_domain(text.removeprefix("."))
        if dot and domain.startswith("["):
            raise AddressError("nothing is below an address literal")
        return dot + _ascii(domain)
    except AddressError:
        raise ValueError('is not a domain; write it as "example.net", or ".example.net" for all below it') from None


def parse_recipient_pattern(text: str) -> str:
    """A domain pattern or an address."""
    if text == "*":
        raise ValueError('is no pattern; leave "to" or "from" out where any address fits')
    if text.startswith("@"):
        raise ValueError(f'has nothing before the @; write a domain without it, as "{text[1:]}"')
    if "@" not in text:
        return parse_domain_pattern(text)
    try:
        return _key(parse_mailbox(text))
    except AddressError as error:
        raise ValueError(f'is not an address: {error}; write it as "bob@example.net"') from None


def parse_sender_pattern(text: str) -> str:
    """As of a recipient, or `<>` for mail without a sender."""
    return text if text == NULL_SENDER else parse_recipient_pattern(text)


def parse_reports_address(text: str) -> str:
    """An address that reports go to."""
    try:
        return str(parse_mailbox(text))
    except AddressError as error:
        raise ValueError(f'is not an address: {error}; write it as "postmaster@example.org"') from None


def keys_of_domain(domain: str) -> Iterator[str]:
    """The patterns that a domain fits, the nearest first."""
    domain = _ascii(domain)
    yield domain
    if not domain.startswith("["):
        parent = domain.partition(".")[2]
        while parent:
            yield f".{parent}"
            parent = parent.partition(".")[2]


def keys_of_address(address: Address | None) -> Iterator[str]:
    """The patterns that an address fits, the nearest first; None is the null sender."""
    if address is None:
        yield NULL_SENDER
        return
    if address.domain:
        yield _key(address)
        yield from keys_of_domain(address.domain)


def _key(address: Address) -> str:
    return str(Address(address.local.casefold(), _ascii(address.domain)))


def _ascii(domain: str) -> str:
    domain = domain.lower()  # that of a literal as well
    return domain_in_ascii(domain) or domain


def parse_lmtp(text: str) -> str | tuple[str, int]:
    """`unix:/path` gives the path, `HOST:PORT` the host and the port."""
    if not text.startswith("unix:"):
        try:
            return parse_host_port(text)
        except ValueError as error:
            raise ValueError(f'{error}, or "unix:/path/to/socket"') from None
    path = text.removeprefix("unix:")
    if not path.startswith("/") or "\0" in path:
        raise ValueError('needs an absolute path, as "unix:/run/dovecot/lmtp"')
    return path


def parse_refusal(text: str) -> Reply:
    """`5.1.1 This address has moved`, `4.x.x` for mail that is to wait; permanent without a code."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("has characters that no reply can carry; write one line of printable ASCII")
    if re.match(r"[0-9]{3}(?![0-9.])", text):
        raise ValueError('begins with a reply code; only an enhanced one may stand there, as "5.1.1 This has moved"')
    match = _ENHANCED.match(text)
    words = (text[match.end() :] if match else text).strip()
    if match and match[1][0] not in "45":
        raise ValueError(f"begins with {match[1]}; the code of an error begins with 5, or with 4 while mail may wait")
    if not words:
        raise ValueError('says nothing; write what the sender is to be told, as "5.1.1 This address has moved"')
    if match is None:
        return Reply(550, words)
    return Reply.of(450 if match[1].startswith("4") else 550, match[1], words)
