"""Host names, addresses with ports and listening endpoints, as the configuration writes them.

Promises   Purely textual: no name is looked up and no port is opened.
On failure ValueError that says what is wrong and what would be right, without repeating the key.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from mailserver.mail.address import AddressError, parse_domain

_LDH_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_HOST_PORT = re.compile(r"(?:\[(?P<literal>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")

# What an endpoint description may say beside its kind, and which of it may stand without `name=` (Twisted's own order).
_ARGUMENTS = {
    "tcp": (("port", "interface", "backlog"), "a port, as tcp:25"),
    "tcp6": (("port", "backlog", "interface"), "a port, as tcp6:25"),
    "unix": (("address", "mode", "backlog", "lockfile"), "a path, as unix:/run/mailserver/smtp"),
    "systemd": (("domain", "index", "name"), "an address family and a name, as systemd:domain=INET6:name=smtp"),
}
_ANY = {"tcp": "0.0.0.0", "tcp6": "::"}  # noqa: S104 - compared, not bound


def parse_hostname(text: str) -> str:
    """A host name of letters, digits and hyphens (RFC 1123 §2.1), in lower case."""
    try:
        name = parse_domain(text)
    except AddressError:
        name = ""
    if not name or not all(_LDH_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError('is not a host name; write letters, digits, hyphens and dots, as "mail.example.org"')
    return name


def is_loopback(host: str) -> bool:
    """What never leaves this machine, as far as the text tells."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def parse_server_name(text: str) -> str:
    """A host name, or `*.` and a host name for all names with one label more; in lower case."""
    wildcard = "*." if text.startswith("*.") else ""
    return wildcard + parse_hostname(text.removeprefix(wildcard))


def parse_own_hostname(text: str) -> str:
    """A fully qualified host name: what EHLO wants (RFC 5321 §2.3.5)."""
    name = parse_hostname(text)
    if "." not in name or name.rpartition(".")[2].isdigit():
        raise ValueError('must be a fully qualified name with an entry in the DNS, as "mail.example.org"')
    return name


def parse_domain_name(text: str) -> str:
    """A mail domain, in lower case and ASCII form."""
    if not text.isascii():
        raise ValueError(f"is not in ASCII form; {_ascii_form(text)}")
    if text.startswith("["):
        raise ValueError('is an address literal; write a domain name, as "example.org"')
    try:
        return parse_domain(text)
    except AddressError:
        raise ValueError('is not a domain name; write it as "example.org"') from None


def _ascii_form(domain: str) -> str:
    try:
        return f'write "{domain.encode("idna").decode("ascii")}"'
    except UnicodeError:
        return "only domain names can be written here"


def parse_host_port(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `ADDRESS:PORT` or `[IPv6]:PORT` taken apart."""
    match = _HOST_PORT.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ValueError('must be HOST:PORT, as "smtp.example.net:587" or "[2001:db8::1]:25"')
    if match["literal"] is not None:
        try:
            return str(ipaddress.IPv6Address(match["literal"])), int(match["port"])
        except ValueError:
            raise ValueError('has no IPv6 address in its brackets; write it as "[2001:db8::1]:25"') from None
    return parse_hostname(match["host"]), int(match["port"])


def parse_address_port(text: str) -> tuple[str, int]:
    """`ADDRESS:PORT` or `[IPv6]:PORT` taken apart; a name will not do."""
    try:
        host, port = parse_host_port(text)
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        raise ValueError('must be ADDRESS:PORT, as "127.0.0.1:53" or "[::1]:53"') from None


def parse_network(text: str) -> str:
    """An address, or a network as ADDRESS/LENGTH."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError('is no address and no network; write it as "192.0.2.10" or "2001:db8::/64"') from None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Twisted server endpoint description, taken apart. `port` is None for unix and systemd."""

    kind: str
    port: int | None
    where: str  # the interface, the path of the socket, or the name or index of systemd's

    @property
    def is_private(self) -> bool:
        """Reached from this machine alone; of systemd's sockets the text does not tell."""
        return self.port is None or is_loopback(self.where)

    def overlaps(self, other: Endpoint) -> bool:
        """Would the system refuse to listen on both? `tcp6` on all interfaces takes IPv4 in as well."""
        if self.port is None or other.port is None:
            return self == other
        if self.port != other.port or self.port == 0:
            return False
        if "::" in (self.where, other.where):
            return True
        return self.kind == other.kind and (self.where == other.where or _ANY[self.kind] in (self.where, other.where))


def parse_endpoint(text: str) -> Endpoint:
    """`tcp:PORT[:interface=ADDRESS]`, `tcp6:...`, `unix:PATH` or `systemd:domain=INET:name=NAME`."""
    kind, *fields = _split(text, ":")
    if kind in ("ssl", "tls"):
        raise ValueError('must not begin TLS by itself; write "tcp:PORT" here and tls = "implicit"')
    if kind not in _ARGUMENTS:
        raise ValueError(f'begins with none of {", ".join(_ARGUMENTS)}; write it as "tcp:25"')
    names, wanted = _ARGUMENTS[kind]
    given: dict[str, str] = {}
    for position, field in enumerate(fields):
        name, *value = _split(field, "=")
        if not value and position < len(names):
            name, value = names[position], [name]
        if name not in names or not value:
            known = ", ".join(names)
            raise ValueError(
                f"has {_unescape(field)!r}, which is none of {known}; a colon in a value needs a backslash"
            )
        given[name] = _unescape("=".join(value))
    if not re.fullmatch(r"[0-9]{0,9}", given.get("backlog", "")):
        raise ValueError(f"has {given['backlog']!r} for a backlog; write a number, or leave it out")
    if not re.fullmatch(r"[0-7]{0,4}", given.get("mode", "")):
        raise ValueError(f"has {given['mode']!r} for a mode; write it as 600, or leave it out")
    if kind == "systemd":
        if given.get("domain") not in ("INET", "INET6", "UNIX") or ("index" in given) == ("name" in given):
            raise ValueError(f"needs {wanted}")
        return Endpoint(kind, None, given.get("name", given.get("index", "")))
    if not given.get(names[0]):
        raise ValueError(f"needs {wanted}")
    if kind == "unix":
        return Endpoint(kind, None, given["address"])
    return Endpoint(kind, _port(given["port"]), _interface(kind, given.get("interface", "")))


def _split(text: str, separator: str) -> list[str]:
    """At each separator without a backslash before it; backslashes stay."""
    parts = [""]
    for piece in re.findall(r"\\.|.", text, re.DOTALL):
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError(f"has {text!r} for a port; write a number from 1 to 65535")
    return int(text)


def _interface(kind: str, text: str) -> str:
    if not text:
        return _ANY[kind]
    try:
        return str(ipaddress.IPv4Address(text) if kind == "tcp" else ipaddress.IPv6Address(text.partition("%")[0]))
    except ValueError:
        example = "interface=127.0.0.1" if kind == "tcp" else r"'tcp6:25:interface=\:\:1' in single quotes"
        raise ValueError(f"has {text!r} for an interface; write an address of this machine, as {example}") from None
