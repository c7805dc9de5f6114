"""Mail addresses and the paths of the SMTP envelope (RFC 5321 §4.1.2, RFC 6531 §3.3).

Promises   An `Address` holds the local part without quoting, its case kept, and the domain in lower case. `str` quotes
           the local part again where the grammar needs it, so that `parse_mailbox(str(a)) == a`.
           A domain that is not ASCII has a form in A-labels, so mail to it can go somewhere.
On failure AddressError (a ValueError) whose text can be shown to the one who sent the address.
Not done   Source routes are accepted and ignored (§4.1.1.3, appendix C). `%` and `!` are plain characters of a local
           part: nothing in this program gives them a meaning, so nothing can be relayed by them.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

import idna

# RFC 5321 §4.5.3.1: octets.
LOCAL_PART_LIMIT = 64
DOMAIN_LIMIT = 255
PATH_LIMIT = 256

KNOWN = 2048
"""Addresses whose forms are remembered: mail comes for the same ones again and again."""

_ATEXT = r"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~"
_UTF8 = r"\u0080-\U0010ffff"  # UTF8-non-ascii, RFC 6531 §3.3
_DOT_STRING = re.compile(rf"[{_ATEXT}{_UTF8}]+(?:\.[{_ATEXT}{_UTF8}]+)*")
_QUOTED_STRING = re.compile(rf'"(?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*"')
_SUB_DOMAIN = rf"[A-Za-z0-9{_UTF8}](?:[A-Za-z0-9\-_{_UTF8}]*[A-Za-z0-9{_UTF8}])?"
_DOMAIN = re.compile(rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*")
_ADDRESS_LITERAL = re.compile(r"\[[!-Z^-~]+\]")
_SOURCE_ROUTE = re.compile(rf"@{_DOMAIN.pattern}(?:,@{_DOMAIN.pattern})*:")
_QUOTED_PAIR = re.compile(r"\\(.)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class AddressError(ValueError):
    """An address is not of the grammar; the text says why, without repeating the address."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """`local@domain`. The domain is lower case; it is empty for the bare `<Postmaster>` of RFC 5321 §4.1.1.3."""

    local: str
    domain: str

    @property
    def key(self) -> tuple[str, str]:
        """What two addresses of the same local mailbox share: case of the local part does not count here."""
        return (self.local.casefold(), self.domain)

    @property
    def needs_smtputf8(self) -> bool:
        return not (self.local.isascii() and self.domain.isascii())

    def in_ascii(self) -> Address | None:
        """With its domain in A-labels (RFC 5890 §2.3.2.1); None: there is no such form."""
        if not self.local.isascii():
            return None
        if self.domain.isascii():
            return self
        domain = domain_in_ascii(self.domain)
        return Address(self.local, domain) if domain is not None else None

    def __str__(self) -> str:
        return _text(self.local, self.domain)


@lru_cache(maxsize=KNOWN)
def _text(local: str, domain: str) -> str:
    if not _DOT_STRING.fullmatch(local):
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    return f"{local}@{domain}" if domain else local


def parse_mailbox(text: str) -> Address:
    """`Mailbox = Local-part "@" ( Domain / address-literal )`; no angle brackets.

    Raises AddressError.
    """
    if _CONTROL.search(text):
        raise AddressError("the address has a control character")
    match = _QUOTED_STRING.match(text) if text.startswith('"') else _DOT_STRING.match(text)
    if match is None:
        raise AddressError("the local part is malformed")
    local, rest = match[0], text[match.end() :]
    if len(local.encode(errors="replace")) > LOCAL_PART_LIMIT:
        raise AddressError(f"the local part is longer than {LOCAL_PART_LIMIT} octets")
    if local.startswith('"'):
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    if not rest.startswith("@"):
        raise AddressError("the address has no domain" if not rest else "the local part is malformed")
    return Address(local, parse_domain(rest[1:]))


def domain_in_ascii(domain: str) -> str | None:
    """In A-labels; None for what is no internationalised domain name (RFC 5891)."""
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return None


def forms_of_domain(domain: str) -> set[str]:
    """The ways to write it: as it is, in A-labels and in U-labels, where there are such."""
    found = {domain, domain_in_ascii(domain) or domain}
    try:
        found.add(idna.decode(domain).lower())
    except idna.IDNAError:
        pass
    return found


def restored(text: str) -> Address:
    """The address that `str` was made of: what was taken once is not judged again, when it is read from the queue.

    Raises AddressError for what no address gives.
    """
    local, _, domain = text.rpartition("@")
    if text.lower() == "postmaster":
        return Address(text, "")
    if len(local) > 1 and local.startswith('"') and local.endswith('"'):
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    elif not _DOT_STRING.fullmatch(local):
        raise AddressError("the local part is malformed")
    if not domain or _CONTROL.search(text):
        raise AddressError("this is no address")
    return Address(local, domain)


def parse_domain(text: str) -> str:
    """A domain or address literal, in lower case. Raises AddressError."""
    if not text.startswith("["):
        text = text.lower()  # first: it may become longer
    if len(text.encode(errors="replace")) > DOMAIN_LIMIT:
        raise AddressError(f"the domain is longer than {DOMAIN_LIMIT} octets")
    if text.startswith("["):
        return _parse_literal(text)
    if not _DOMAIN.fullmatch(text):
        raise AddressError("the domain is malformed")
    if any(len(label) > 63 for label in text.split(".")):
        raise AddressError("a label of the domain is longer than 63 octets")
    if domain_in_ascii(text) is None:
        raise AddressError("the domain is no internationalised domain name")
    return text


def _parse_literal(text: str) -> str:
    if not _ADDRESS_LITERAL.fullmatch(text):
        raise AddressError("the address literal is malformed")
    inner = text[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            address = ipaddress.IPv6Address(inner[5:])
            if address.scope_id is not None:  # any text may stand there
                raise AddressError("the address literal has a zone")
            return f"[IPv6:{address}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        raise AddressError("the address literal is neither IPv4 nor IPv6") from None


def parse_reverse_path(text: str) -> Address | None:
    """`Reverse-path = Path / "<>"`; None is the null reverse-path. Raises AddressError."""
    return None if text == "<>" else _parse_path(text)


def parse_forward_path(text: str) -> Address:
    """`Path / "<Postmaster>"`. Raises AddressError."""
    if text.lower() == "<postmaster>":
        return Address(text[1:-1], "")
    return _parse_path(text)


@lru_cache(maxsize=KNOWN)
def _parse_path(text: str) -> Address:
    if len(text.encode(errors="replace")) > PATH_LIMIT + 64:  # the route is dropped, so it may pass the limit a little
        raise AddressError(f"the path is longer than {PATH_LIMIT} octets")
    if not (text.startswith("<") and text.endswith(">")):
        raise AddressError("the address must stand in angle brackets")
    inner = text[1:-1]
    if inner.startswith("@"):
        route = _SOURCE_ROUTE.match(inner)
        if route is None:
            raise AddressError("the source route is malformed")
        inner = inner[route.end() :]
    if not inner:
        raise AddressError("the path is empty")
    return parse_mailbox(inner)
